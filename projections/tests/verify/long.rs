//! Values that are too long to be read: digests are compared and shown.

use millrace_projections::marts::Marts;
use millrace_projections::verify::{Exit, Method};

use crate::stage::Stage;

const SCRIPT: &str = "
    CREATE TABLE papers (id integer PRIMARY KEY, title text, body text, data jsonb, scan bytea);
    INSERT INTO papers SELECT n, 'title ' || n, repeat('ä', 700000), jsonb_build_object('a', repeat('x', 1500000)),
        decode(repeat('00ff', 600000), 'hex') FROM generate_series(1, 2) n;
    INSERT INTO papers VALUES (3, 'short', 'short', '{}', '\\x00'), (4, 'none', NULL, NULL, NULL);";

#[tokio::test]
async fn long_values_are_compared_and_shown_by_their_digests() {
    let mut stage = Stage::of(&[SCRIPT], &["papers"], Marts::none()).await;
    for method in [Method::Sums, Method::Rows] {
        stage.config.method = method;
        let report = stage.report().await;
        assert_eq!(report.exit(), Exit::Equal, "{report:?}");
    }
    for sql in [
        "UPDATE papers SET title = 'other', body = CONCAT(LEFT(body, 699999), 'b') WHERE id = 1",
        "UPDATE papers SET data = REPLACE(data, 'x', 'y'), scan = 'short' WHERE id = 2",
        "UPDATE papers SET body = REPEAT('z', 2000000) WHERE id IN (3, 4)",
    ] {
        assert!(stage.change(sql).await > 0, "{sql}");
    }
    for method in [Method::Sums, Method::Rows] {
        stage.config.method = method;
        let report = stage.report().await;
        let differences = &report.tables[0].differences;
        let found: Vec<_> = differences
            .iter()
            .map(|it| format!("{} {}", it.key["id"].as_str().unwrap_or("?"), it.column))
            .collect();
        let wanted = ["1 title", "1 body", "2 data", "2 scan", "3 body", "4 body"];
        assert_eq!(found, wanted, "{method:?}");
        for difference in differences {
            let shown = format!("{} {}", difference.expected, difference.found);
            assert!(shown.len() < 400, "{} bytes are shown", shown.len());
            assert!(!shown.contains("\\u0000"), "{shown}");
        }
    }
}
