//! `verify` against real servers, with a projector that only says that it holds.

mod between;
mod long;
mod points;
mod quarantine;
mod stage;
mod sums;
#[path = "../support/mod.rs"]
mod support;
mod tampering;

use millrace_projections::marts::Marts;
use millrace_projections::verify::{Difference, DifferenceKind, Error, Exit, Report};
use serde_json::json;
use sqlx::mysql::MySqlRow;
use sqlx::{Executor, Row};
use stage::{id, Stage, MARTS, ODD_TABLES, TABLES};

#[tokio::test]
async fn an_untouched_shop_is_equal_and_every_row_was_counted() {
    let stage = Stage::shop().await;
    let report = stage.report().await;
    assert_eq!(report.exit(), Exit::Equal, "{report:#?}");
    let counts: Vec<(&str, u64)> = report
        .tables
        .iter()
        .map(|table| (table.name.as_str(), table.rows))
        .collect();
    let expected = [50, 20, 80, 300, 900, 200, 300];
    let names = TABLES.map(|name| id(name).to_string());
    let mut wanted: Vec<_> = names.iter().map(String::as_str).zip(expected).collect();
    wanted.sort_unstable();
    assert_eq!(counts, wanted);
    let marts: Vec<&str> = report.marts.iter().map(|mart| mart.name.as_str()).collect();
    assert_eq!(marts, MARTS);
    let calls = stage.projector.lock().expect("a lock").calls.clone();
    assert_eq!(
        calls,
        [
            "hold".to_owned(),
            format!("stop-before {}", report.lsn),
            "release".to_owned()
        ]
    );
    let json = serde_json::to_value(&report).expect("JSON");
    assert_eq!(json["equal"], true);
    assert_eq!(json["not_live"], json!([]));
}

#[tokio::test]
async fn keys_and_values_of_every_type_are_equal_in_both_orders() {
    let stage = Stage::new(&ODD_TABLES, Marts::none()).await;
    let report = stage.report().await;
    assert_eq!(report.exit(), Exit::Equal, "{report:#?}");
    let rows: u64 = report.tables.iter().map(|table| table.rows).sum();
    assert_eq!(rows, 22 * 3 + 200 + 101 + 201);
}

#[tokio::test]
async fn rows_of_a_table_that_inherits_are_not_rows_of_its_parent() {
    let mut stage = Stage::new(&TABLES, Marts::none()).await;
    stage
        .postgres
        .execute(sqlx::raw_sql(
            "CREATE TABLE orders_archive (PRIMARY KEY (order_id)) INHERITS (orders);
             INSERT INTO orders_archive SELECT order_id + 10000, user_id, order_date, total_amount, status, delivery_date
                 FROM ONLY orders LIMIT 3",
        ))
        .await
        .expect("a child");
    let report = stage.report().await;
    assert_eq!(report.exit(), Exit::Equal, "{report:#?}");
}

#[tokio::test]
async fn a_table_that_the_projector_lacks_and_a_mart_that_is_gone_are_not_live() {
    let mut stage = Stage::shop().await;
    stage.config.tables = vec![id("users"), id("nowhere")];
    stage.change("DROP TABLE mart_average_check").await;
    let report = stage.report().await;
    assert_eq!(report.not_live, ["source.nowhere", "mart_average_check"]);
    assert_eq!(report.exit(), Exit::NotLive);
    assert!(!report.equal);
    stage
        .change("UPDATE millrace_tables SET state = 'loading'")
        .await;
    let report = stage.report().await;
    assert_eq!(report.exit(), Exit::NotLive);
    assert_eq!(report.not_live.len(), 6);
}

#[tokio::test]
async fn a_table_that_capture_has_set_aside_is_not_live_although_all_its_rows_are_equal() {
    let mut stage = Stage::new(&TABLES, Marts::none()).await;
    stage.config.capture_url = Some(stage.config.control_url.clone());
    let aside = json!({ "not_live": [{ "table": id("users"), "code": "capture-table-filtered" }] });
    stage.projector.lock().expect("a lock").capture = Some(aside);
    let report = stage.report().await;
    assert_eq!(report.not_live, ["source.users"]);
    assert_eq!(report.exit(), Exit::NotLive, "{report:#?}");
    assert!(report.tables.iter().all(|table| table.equal));
    stage.config.tables = vec![id("orders")];
    assert_eq!(stage.report().await.exit(), Exit::Equal);
}

#[tokio::test]
async fn without_an_answer_of_capture_nothing_is_said_to_be_equal() {
    let mut stage = Stage::new(&["users"], Marts::none()).await;
    stage.config.capture_url = Some(stage.config.control_url.clone());
    let outcome = stage.verify().await;
    assert!(matches!(outcome, Err(Error::Capture(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_mart_that_the_projector_keeps_and_the_caller_does_not_know_is_named() {
    let mut stage = Stage::shop().await;
    stage.config.marts = Marts::none();
    let report = stage.report().await;
    assert_eq!(report.not_compared, MARTS);
    assert_eq!(report.exit(), Exit::NotLive, "{report:#?}");
}

#[tokio::test]
async fn a_column_that_only_one_side_has_is_a_difference() {
    let mut stage = Stage::shop().await;
    stage
        .postgres
        .execute("ALTER TABLE users ADD COLUMN birthday date")
        .await
        .expect("a column");
    let report = stage.report().await;
    let found = differences(&report, "users");
    assert_eq!(found[0].kind, DifferenceKind::Definition);
}

#[tokio::test]
async fn a_column_that_the_plan_leaves_out_is_not_compared_and_the_others_are() {
    let mut stage = Stage::new(&TABLES, Marts::none()).await;
    stage.change("ALTER TABLE users DROP COLUMN phone").await;
    assert_eq!(stage.report().await.exit(), Exit::Different);
    let kept = [
        "user_id",
        "first_name",
        "last_name",
        "email",
        "registration_date",
        "loyalty_status",
    ];
    stage.config.columns = [("source.users".to_owned(), json!(kept))]
        .into_iter()
        .collect();
    let tables = "UPDATE millrace_tables SET definition = JSON_REMOVE(definition, '$.columns[4]') \
        WHERE source = 'source.users'";
    assert_eq!(stage.change(tables).await, 1);
    let report = stage.report().await;
    assert_eq!(report.exit(), Exit::Equal, "{report:#?}");
    let users = report
        .tables
        .iter()
        .find(|table| table.name == "source.users");
    assert_eq!(users.map(|users| users.rows), Some(50));
    stage
        .change("UPDATE users SET last_name = 'x' WHERE user_id = 1")
        .await;
    assert_eq!(differences(&stage.report().await, "users").len(), 1);
}

#[tokio::test]
async fn a_position_beyond_the_end_of_the_source_is_a_difference() {
    let mut stage = Stage::shop().await;
    stage
        .change("UPDATE millrace_position SET end_lsn = 18446744073709551615")
        .await;
    let report = stage.report().await;
    assert_eq!(report.exit(), Exit::Different);
    assert_eq!(
        differences(&report, "millrace_position")[0].column,
        "end_lsn"
    );
}

#[tokio::test]
async fn a_projector_that_does_not_answer_is_an_error() {
    let mut stage = Stage::shop().await;
    stage.config.control_url = format!("http://127.0.0.1:{}", support::free_port());
    assert!(matches!(stage.verify().await, Err(Error::Projector(_))));
    let _ = stage.mysql.close().await;
}

pub(crate) fn differences(report: &Report, table: &str) -> Vec<Difference> {
    let subjects = report.tables.iter().chain(&report.marts);
    let all = subjects.flat_map(|subject| &subject.differences);
    let source = id(table).to_string();
    all.filter(|difference| [table, &source].contains(&difference.table.as_str()))
        .cloned()
        .collect()
}

/// All columns as SQL lists them, those too that `SELECT *` leaves out.
pub(crate) async fn names(stage: &mut Stage, table: &str) -> String {
    let columns = columns(stage, table).await;
    let quoted = columns.iter().map(|(name, _)| format!("`{name}`"));
    quoted.collect::<Vec<_>>().join(", ")
}

/// Names and types.
pub(crate) async fn columns(stage: &mut Stage, table: &str) -> Vec<(String, String)> {
    let rows = sqlx::query(
        "SELECT column_name, data_type FROM information_schema.columns \
         WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position",
    )
    .bind(table)
    .fetch_all(&mut stage.mysql)
    .await
    .expect("columns");
    rows.iter()
        .map(|row| (text(row, 0), text(row, 1)))
        .collect()
}

/// Unchecked: sqlx takes text of a binary collation for bytes.
fn text(row: &MySqlRow, column: usize) -> String {
    row.try_get_unchecked(column).expect("text")
}
