//! Rows of all kinds arrive as they are.

use millrace_events::{Op, Record, Row, Value};

use crate::model::Model;
use crate::rig::Rig;
use crate::writers::{ORDERS, SETUP, TABLES, USERS};

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_comes_in_parts() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    rig.sql("INSERT INTO source.users SELECT i, 'u' || i, repeat('x', 100) FROM generate_series(1000, 30000) i").await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    assert!(model.parts_max > 5, "{} parts", model.parts_max);
    model.assert_equals(&rig, "users", USERS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncate_key_changes_and_toast() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    rig.sql("BEGIN; TRUNCATE source.orders; INSERT INTO source.orders VALUES (1, 1, 2.50, true); COMMIT").await;
    // User 2 has a note of 6000 characters, stored outside of the row.
    rig.sql("UPDATE source.users SET user_id = 9002 WHERE user_id = 2")
        .await;
    rig.sql("BEGIN; UPDATE source.users SET user_id = -1 WHERE user_id = 3; UPDATE source.users SET user_id = 3 WHERE user_id = 4; UPDATE source.users SET user_id = 4 WHERE user_id = -1; COMMIT").await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "users", USERS).await;
    model.assert_equals(&rig, "orders", ORDERS).await;
    let changes: Vec<_> = rig
        .log()
        .await
        .into_iter()
        .filter_map(|record| match record {
            Record::Transaction(part) => Some(part.changes),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(changes[0].op, Op::Truncate);
    let moved = &changes[2];
    assert_eq!(
        moved.before,
        Some(Row(vec![("user_id".into(), Value::Int(2))]))
    );
    let after = moved.after.as_ref().unwrap();
    assert_eq!(after.get("user_id"), Some(&Value::Int(9002)));
    assert_eq!(after.get("note"), None, "unchanged, and not sent");
}

const TYPES: &str = "
    CREATE TYPE source.mood AS ENUM ('glad', 'so so');
    CREATE DOMAIN source.cents AS int CHECK (VALUE >= 0);
    CREATE TABLE source.kinds (
        id bigint, b bool, i2 smallint, i4 int, i8 bigint, r real, d double precision, n numeric, n2 numeric(10,2),
        t text, vc varchar(40), c char(5), by bytea, dt date, tm time, ttz timetz, ts timestamp, tz timestamptz, iv interval,
        u uuid, j json, jb jsonb, arr int[], tarr text[], m source.mood, dom source.cents, inet inet, rng int4range, mon money,
        gen int GENERATED ALWAYS AS (i4 / 2) STORED, PRIMARY KEY (id) INCLUDE (b));";

const ROW: &str = r#"true, -32768, 2147483647, -9223372036854775808, 'NaN', 0.1::float8 + 0.2, 'Infinity', 1234.50,
    E'tab\t nl\n cr\r bs\\ quote" \u00e9 \U0001F600 \x01', 'x', 'ab', '\x00ff10', '0044-03-15 BC', '23:59:59.999999', '04:05:06+02',
    '294276-12-31 23:59:59.999999', '2024-06-30 23:59:59.5+05:30', '1 year -2 mons 3 days 04:05:06.7', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11',
    '{"a" :  1}', '{"b": [1, 2]}', '{1,NULL,3}', '{"a,b",NULL,"c\"d"}', 'so so', 7, '10.0.0.0/8', '[1,5)', 12.5"#;

/// The text of `COPY` and that of the stream must be the same, whatever the server's defaults.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_looks_the_same_in_snapshot_and_stream() {
    let setup = format!(
        "{TYPES} INSERT INTO source.kinds VALUES (1, {ROW}), (2, {})",
        vec!["NULL"; 28].join(",")
    );
    let rig = Rig::new(&setup, &["kinds"]).await;
    rig.sql("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''Asia/Kolkata''', current_database()); \
             EXECUTE format('ALTER DATABASE %I SET datestyle = ''SQL, DMY''', current_database()); \
             EXECUTE format('ALTER DATABASE %I SET bytea_output = ''escape''', current_database()); \
             EXECUTE format('ALTER DATABASE %I SET intervalstyle = ''sql_standard''', current_database()); \
             EXECUTE format('ALTER DATABASE %I SET extra_float_digits = 0', current_database()); END $$").await;
    let mut running = rig.start();
    running.streaming().await;
    rig.sql(&format!(
        "INSERT INTO source.kinds VALUES (3, {ROW}), (4, {})",
        vec!["NULL"; 28].join(",")
    ))
    .await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    let row = |id: i64| {
        let mut row = model.rows("kinds")[&vec![Value::Int(id)]].clone();
        row.remove("id");
        row
    };
    assert_eq!(row(1), row(3));
    assert_eq!(row(2), row(4));
    let word = |text: &str| Value::Text(text.into());
    let first = row(1);
    assert_eq!(first["b"], Value::Bool(true));
    assert_eq!(first["i8"], Value::Int(i64::MIN));
    assert_eq!(first["d"], word("0.30000000000000004"));
    assert_eq!(first["n"], word("Infinity"));
    assert_eq!(first["by"], word("\\x00ff10"));
    assert_eq!(first["tz"], word("2024-06-30 18:29:59.5+00"));
    assert_eq!(first["iv"], word("10 mons 3 days 04:05:06.7"));
    assert_eq!(first["dom"], Value::Int(7));
    assert_eq!(first["c"], word("ab   "));
    assert!(
        !first.contains_key("gen"),
        "stored generated columns are not in the stream"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_captured_each_as_a_table() {
    let setup = "
        CREATE TABLE source.visits (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE source.visits_1 PARTITION OF source.visits FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
        CREATE TABLE source.visits_2 PARTITION OF source.visits FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
        INSERT INTO source.visits VALUES (1, '2024-01-10'), (2, '2024-02-10');";
    let rig = Rig::new(setup, &["visits_1", "visits_2"]).await;
    let mut running = rig.start();
    running.streaming().await;
    rig.sql("INSERT INTO source.visits VALUES (3, '2024-01-11'); UPDATE source.visits SET day = '2024-02-20' WHERE id = 1").await;
    rig.sql("TRUNCATE source.visits_1; INSERT INTO source.visits VALUES (4, '2024-01-12')")
        .await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    for table in ["visits_1", "visits_2"] {
        model
            .assert_equals(&rig, table, "id::text, day::text")
            .await;
    }
    assert_eq!(model.tables.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes_gets_a_new_definition() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    rig.sql("INSERT INTO source.users VALUES (1001, 'a', NULL)")
        .await;
    rig.sql("ALTER TABLE source.users ADD age int").await;
    rig.sql("INSERT INTO source.users VALUES (1002, 'b', NULL, 30)")
        .await;
    rig.sql("ALTER TABLE source.users RENAME age TO years")
        .await;
    rig.sql("INSERT INTO source.users VALUES (1003, 'c', NULL, 31)")
        .await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let mut shapes = Vec::new();
    for record in rig.log().await {
        if let Record::Transaction(part) = record {
            shapes.extend(part.schemas.into_iter().map(|schema| {
                let columns: Vec<_> = schema.columns.iter().map(|c| c.name.clone()).collect();
                columns.join(",")
            }));
        }
    }
    assert_eq!(
        shapes,
        [
            "user_id,name,note",
            "user_id,name,note,age",
            "user_id,name,note,years"
        ]
    );
}
