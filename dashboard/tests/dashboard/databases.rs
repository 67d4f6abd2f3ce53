//! Against a private Postgres and a private MySQL or MariaDB.

use millrace_dashboard::status::{Answer, Status};
use millrace_dashboard::{Chart, Mart};
use millrace_sessions::mysql::Session;
use serde_json::{json, Value};
use sqlx::Executor;

use crate::rig::Rig;
use crate::support::postgres::Postgres;
use crate::support::Server;

const MARTS: [&str; 4] = [
    "mart_average_check",
    "mart_user_activity",
    "mart_product_rating",
    "mart_user_loyalty_points",
];

const TABLES: [&str; 10] = [
    "CREATE TABLE millrace_position (id INT PRIMARY KEY, end_lsn BIGINT UNSIGNED NOT NULL)",
    "INSERT INTO millrace_position VALUES (1, 4096)",
    "CREATE TABLE mart_average_check (status VARCHAR(20), loyalty_status VARCHAR(20), \
     average_check DECIMAL(20,6))",
    "INSERT INTO mart_average_check VALUES ('new', 'gold', 10.5), ('new', NULL, NULL), \
     ('paid', 'gold', 100), ('50%', 'b_c', 9)",
    "CREATE TABLE mart_user_activity (user_id INT, status VARCHAR(20), order_count BIGINT)",
    "INSERT INTO mart_user_activity VALUES (1, 'new', 2), (2, 'new', 3), (2, 'paid', 4)",
    "CREATE TABLE mart_product_rating (product_id INT, name VARCHAR(200), rating DECIMAL(14,4))",
    "INSERT INTO mart_product_rating VALUES (1, '<script>', 4.2), (2, 'b', 4.4999), (3, 'c', 5), \
     (4, 'd', NULL)",
    "CREATE TABLE mart_user_loyalty_points (user_id INT, loyalty_status VARCHAR(20), \
     total_loyalty_points DECIMAL(32,0))",
    "INSERT INTO mart_user_loyalty_points VALUES (1, 'gold', 7), (2, 'gold', 5), (3, NULL, NULL)",
];

async fn rig_with_marts() -> (Rig, Session) {
    let server = Server::shared().await;
    let database = server.database().await;
    let mut conn = server.connect(&database).await;
    for statement in TABLES {
        conn.execute(statement).await.unwrap();
    }
    let rig = Rig::start(|config| {
        config.sources.mysql = server.url(&database);
        let mart = |name: &str| Mart {
            name: name.to_owned(),
            sql: String::new(),
            reads: Vec::new(),
            chart: Some(chart(name)),
        };
        config.marts = MARTS.map(mart).to_vec();
    })
    .await;
    (rig, conn)
}

/// As the mart's description has it.
fn chart(mart: &str) -> Chart {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../projections/marts");
    let text = std::fs::read_to_string(format!("{folder}/{mart}.json")).expect("a description");
    let description: Value = serde_json::from_str(&text).expect("JSON");
    let text = |field: &str| {
        description["chart"][field]
            .as_str()
            .expect(field)
            .to_owned()
    };
    Chart {
        title: text("title"),
        unit: text("unit"),
        sql: text("sql"),
    }
}

fn column(page: &Value, index: usize) -> Vec<Value> {
    let rows = page["rows"].as_array().expect("rows");
    rows.iter().map(|row| row[index].clone()).collect()
}

#[tokio::test]
async fn a_mart_is_browsed_as_mysql_prints_it() {
    let (rig, _conn) = rig_with_marts().await;
    let listed = rig.json("/api/marts").await;
    assert_eq!(listed[0]["rows"], 4);
    assert_eq!(
        listed[2]["columns"][2],
        json!({"name": "rating", "numeric": true})
    );
    let page = rig
        .json("/api/marts/mart_average_check?sort=average_check&dir=desc&limit=2")
        .await;
    assert_eq!(column(&page, 2), [json!("100.000000"), json!("10.500000")]);
    assert_eq!(
        (&page["total"], &page["lsn"]),
        (&json!(4), &json!("0/1000"))
    );
    let next = "/api/marts/mart_average_check?sort=average_check&dir=desc&limit=2&offset=2";
    assert_eq!(
        column(&rig.json(next).await, 2),
        [json!("9.000000"), Value::Null]
    );
    for (search, found) in [
        ("GOLD", 2),
        ("%25", 1),
        ("_", 1),
        ("10.5", 1),
        ("'", 0),
        ("!", 0),
    ] {
        let path = format!("/api/marts/mart_average_check?search={search}");
        assert_eq!(rig.json(&path).await["total"], found, "{search}");
    }
    let bad = "/api/marts/mart_average_check?sort=status%60";
    assert_eq!(rig.get(bad).await.status(), 400);
    let hostile = rig
        .json("/api/marts/mart_product_rating?search=%3Cscript")
        .await;
    assert_eq!(column(&hostile, 1), [json!("<script>")]);
    rig.stop().await;
}

#[tokio::test]
async fn each_mart_is_drawn_as_its_description_says() {
    let (rig, _conn) = rig_with_marts().await;
    let expected = [
        (json!(["50%", "new", "paid"]), json!([null, 10.5, 100.0])),
        (json!(["new", "paid"]), json!([5.0, 4.0])),
        (json!(["4.0 – 4.5", "4.5 – 5.0"]), json!([2.0, 1.0])),
        (json!(["(none)", "gold"]), json!([null, 12.0])),
    ];
    for (mart, (categories, values)) in MARTS.iter().zip(expected) {
        let chart = rig.json(&format!("/api/marts/{mart}/chart")).await;
        assert_eq!(chart["categories"], categories, "{mart}: {chart}");
        let series = chart["series"].as_array().expect("series");
        assert!(
            series.iter().any(|series| series["values"] == values),
            "{chart}"
        );
        assert_eq!(chart["lsn"], "0/1000");
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_heartbeat_is_outstanding_until_mysql_has_it_and_then_a_sample() {
    let (mysql, postgres) = (Server::shared().await, Postgres::shared().await);
    let database = mysql.database().await;
    let mut target = mysql.connect(&database).await;
    for statement in &TABLES[..2] {
        target.execute(*statement).await.unwrap();
    }
    let mut source = postgres.connect("postgres").await;
    source
        .execute("SELECT pg_create_logical_replication_slot('hearts', 'pgoutput')")
        .await
        .unwrap();
    let rig = Rig::start(|config| {
        config.sources.postgres = postgres.url("postgres");
        config.sources.slot = "hearts".into();
        config.sources.mysql = mysql.url(&database);
        config.heartbeat_period = std::time::Duration::from_millis(100);
    })
    .await;
    // Before the log has passed the first heartbeat, older transactions may wait. Nothing is known of them at first, and
    // with the next tick that they are no older than it: in no case that nothing waits.
    let inherited = |status: &Status| status.projections[0].lag.inherited_ms;
    let first = rig.status_where(|status| outstanding(status) >= 1).await;
    assert_ne!(inherited(&first), Some(0));
    source
        .execute("SELECT pg_replication_slot_advance('hearts', pg_current_wal_lsn())")
        .await
        .unwrap();
    // Nobody reads the slot: what Postgres has is not in the log, and the lag says since when.
    let waiting = rig
        .status_where(|status| outstanding(status) >= 3 && inherited(status) >= Some(200))
        .await;
    assert_eq!(waiting.latency.samples, 0);
    let Answer::Known(known) = &waiting.source else {
        panic!("{:?}", waiting.source)
    };
    let slot = known.slot.as_ref().expect("the slot");
    assert!(!slot.active && slot.retained_bytes.is_some());
    assert!(known.server.starts_with("PostgreSQL 1"), "{}", known.server);
    // Nobody reads the slot: what Postgres has is not in the log, and the lag says since when.
    assert!(waiting.projections[0]
        .lag
        .inherited_ms
        .is_some_and(|ms| ms >= 200));
    target
        .execute("UPDATE millrace_position SET end_lsn = 1 << 62")
        .await
        .unwrap();
    let seen = rig.status_where(|status| status.latency.samples >= 3).await;
    assert!(seen.latency.p50_ms.is_some());
    rig.stop().await;
    source
        .execute("SELECT pg_drop_replication_slot('hearts')")
        .await
        .unwrap();
}

fn outstanding(status: &Status) -> u64 {
    let source = status.source.known();
    let heartbeat = source.and_then(|source| source.heartbeat.as_ref());
    heartbeat.map_or(0, |heartbeat| heartbeat.outstanding)
}
