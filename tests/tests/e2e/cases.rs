//! What happened to others: a table is changed behind the log's back while writers go on. It is noticed and named,
//! everything else stays live, and what is printed mends it to the last row.

use anyhow::{ensure, Context};
use serde_json::Value;

use crate::binary::said;
use crate::load::{is_live, Loaded};

const WRITERS: u64 = 4;

/// What to do, as it is printed: statements for Postgres, and a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Remedy {
    statements: Vec<String>,
    command: Vec<String>,
}

impl Remedy {
    /// From the end of a reason: `…; in Postgres, A; B; then `millrace …``.
    pub(crate) fn printed(reason: &str) -> anyhow::Result<Remedy> {
        let (before, rest) = reason.split_once('`').context(reason.to_owned())?;
        let (command, _) = rest.split_once('`').context(reason.to_owned())?;
        let statements = match before.split_once("in Postgres, ") {
            Some((_, sql)) => sql.trim_end().trim_end_matches("then").trim_end(),
            None => "",
        };
        let statements = statements.split("; ").map(|sql| sql.trim_end_matches(';'));
        let words = command.split(' ').map(str::to_owned);
        Ok(Remedy {
            statements: statements
                .filter(|sql| !sql.is_empty())
                .map(str::to_owned)
                .collect(),
            command: words.skip(1).collect(),
        })
    }

    pub(crate) async fn apply(&self, loaded: &mut Loaded) -> anyhow::Result<()> {
        for statement in &self.statements {
            loaded.in_source(statement).await?;
        }
        let words: Vec<&str> = self.command.iter().map(String::as_str).collect();
        let done = loaded.run(&words).await?;
        ensure!(done.status.success(), "{self:?}: {}", said(&done));
        Ok(())
    }
}

#[test]
fn a_remedy_is_read_as_it_is_printed() {
    let remedy = Remedy::printed(
        "code: it was dropped; in Postgres, A \"b\"; C; then `millrace tables add t`",
    );
    let Remedy {
        statements,
        command,
    } = remedy.expect("a remedy");
    assert_eq!(
        (statements, command),
        (
            vec!["A \"b\"".into(), "C".into()],
            vec!["tables".into(), "add".into(), "t".into()]
        )
    );
    let plain = Remedy::printed("code: it was rewritten; `millrace tables resnapshot t`")
        .expect("a remedy");
    assert!(plain.statements.is_empty());
}

/// Waits until it is said that a table is not live, for this reason.
async fn noticed(loaded: &Loaded, table: &str, code: &str) -> anyhow::Result<Remedy> {
    let said_so = |table: &Value| {
        let reason = table["reason"].as_str().unwrap_or_default();
        table["state"] != "live" && reason.contains(code)
    };
    let found = loaded.until(table, said_so).await?;
    let reason = found["reason"].as_str().unwrap_or_default();
    println!("{table}: {reason}");
    Remedy::printed(reason)
}

/// All tables but these are live, and move.
async fn others_live(loaded: &Loaded, but: &[&str]) -> anyhow::Result<()> {
    for table in loaded.tables().await? {
        let name = table["name"].as_str().unwrap_or_default();
        ensure!(but.contains(&name) || is_live(&table), "{table:#}");
    }
    let moved = loaded.run(&["wait-for", "--timeout", "60"]).await?;
    ensure!(moved.status.success(), "{}", said(&moved));
    Ok(())
}

/// A table that the writers leave alone, so that what happens to it is not undone by one of them.
const THINGS: &str = "CREATE TABLE source.things (id int PRIMARY KEY, name varchar(200));
    INSERT INTO source.things SELECT n, 'thing ' || n FROM generate_series(1, 100) n;";

/// One table suffers; the others live; the printed remedy mends it.
async fn case(name: &str, sql: &str, code: &str) -> anyhow::Result<()> {
    let mut loaded = Loaded::open(name, THINGS, WRITERS).await?;
    loaded.in_source(sql).await?;
    let remedy = noticed(&loaded, "source.things", code).await?;
    others_live(&loaded, &["source.things"]).await?;
    let (code, report) = loaded.answer(&[]).await?;
    ensure!(
        code != Some(0),
        "verify calls equal what is not: {report:#}"
    );
    remedy.apply(&mut loaded).await?;
    loaded.all_live().await?;
    loaded.is_equal().await?;
    loaded.close().await
}

/// Case 10.
#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_to_the_same_type() -> anyhow::Result<()> {
    let sql = "ALTER TABLE source.things ALTER name TYPE varchar(200) USING upper(name)";
    case("case-10", sql, "capture-table-rewritten").await
}

/// Case 12.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_another_one_replaces() -> anyhow::Result<()> {
    let sql = "SET search_path = source;
        BEGIN;
        CREATE TABLE things_new (LIKE things INCLUDING ALL);
        INSERT INTO things_new SELECT id, 'reloaded' FROM things;
        ALTER TABLE things RENAME TO things_old; ALTER TABLE things_new RENAME TO things; DROP TABLE things_old;
        COMMIT;
        INSERT INTO things SELECT 1000 + n, 'after the swap' FROM generate_series(1, 5) n";
    case("case-12", sql, "capture-table-replaced").await
}

/// Case 15. The value is mended at the source a moment later.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_mysql_does_not_know() -> anyhow::Result<()> {
    let mut loaded = Loaded::open("case-15", "", WRITERS).await?;
    loaded
        .in_source("INSERT INTO source.orders (order_id, total_amount) VALUES (990001, 'NaN')")
        .await?;
    let remedy = noticed(&loaded, "source.orders", "MR-P").await?;
    others_live(&loaded, &["source.orders"]).await?;
    loaded
        .in_source("UPDATE source.orders SET total_amount = 1 WHERE total_amount = 'NaN'")
        .await?;
    remedy.apply(&mut loaded).await?;
    loaded.all_live().await?;
    loaded.is_equal().await?;
    loaded.close().await
}

/// Case 16: rows of a child are rows of the child, for the log and for verify alike.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_of_a_captured_table() -> anyhow::Result<()> {
    let mut loaded = Loaded::open("case-16", "", WRITERS).await?;
    let sql =
        "CREATE TABLE source.orders_archive (PRIMARY KEY (order_id)) INHERITS (source.orders);
        INSERT INTO source.orders_archive (order_id, user_id, order_date, total_amount, status)
            SELECT 16000000 + n, 1, '2020-01-01', 1, 'Completed' FROM generate_series(1, 3) n;
        UPDATE source.orders SET status = 'Returned' WHERE order_id = 16000001";
    loaded.in_source(sql).await?;
    let child = "source.orders_archive";
    let tables = loaded.tables().await?;
    let captured = |table: &&Value| table["state"] != "not_captured";
    let names = tables.iter().filter(captured).map(|table| &table["name"]);
    ensure!(!names.clone().any(|name| name == child), "{tables:#?}");
    loaded.is_equal().await?;
    loaded.close().await
}

/// Case 11: the publication is filtered, then narrowed to inserts, which concerns all tables.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_is_filtered_and_narrowed() -> anyhow::Result<()> {
    let mut loaded = Loaded::open("case-11", "", WRITERS).await?;
    let publication: String = sqlx::query_scalar("SELECT pubname::text FROM pg_publication")
        .fetch_one(&mut loaded.source)
        .await?;
    let filtered = format!(
        "ALTER PUBLICATION {publication} SET TABLE source.users WHERE (user_id > 100000000), source.productcategories,
            source.products, source.orders, source.orderdetails, source.reviews, source.loyaltypoints;
         UPDATE source.users SET loyalty_status = 'Gold' WHERE user_id < 1000"
    );
    loaded.in_source(&filtered).await?;
    noticed(&loaded, "source.users", "capture-table-filtered").await?;
    others_live(&loaded, &["source.users"]).await?;
    let narrowed = format!(
        "ALTER PUBLICATION {publication} SET (publish = 'insert'); DELETE FROM source.reviews"
    );
    loaded.in_source(&narrowed).await?;
    let mut remedies = Vec::new();
    for table in loaded.tables().await? {
        let name = table["name"].as_str().unwrap_or_default();
        remedies.push(noticed(&loaded, name, "capture-table-filtered").await?);
    }
    // The statements of all first, each once: they concern one publication.
    let mut done: Vec<&String> = Vec::new();
    for statement in remedies.iter().flat_map(|remedy| &remedy.statements) {
        if !done.contains(&statement) {
            loaded.in_source(statement).await?;
            done.push(statement);
        }
    }
    for Remedy { command, .. } in &remedies {
        let statements = Vec::new();
        let command = command.clone();
        Remedy {
            statements,
            command,
        }
        .apply(&mut loaded)
        .await?;
    }
    loaded.all_live().await?;
    loaded.is_equal().await?;
    loaded.close().await
}
