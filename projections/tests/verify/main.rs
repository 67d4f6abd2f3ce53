//! `verify` against real servers, with a projector that only says that it holds.

mod quarantine;
mod stage;
mod sums;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use millrace_projections::marts::Marts;
use millrace_projections::verify::{verify, Difference, DifferenceKind, Error, Exit, Report};
use serde_json::json;
use sqlx::mysql::MySqlRow;
use sqlx::{Executor, Row};
use stage::{id, shop_marts, Stage, MARTS, ODD_TABLES, TABLES};
use tokio_util::sync::CancellationToken;

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

/// One cell, one row less, one row more: in each replica table, each mart and each mart's state.
/// Replica tables and the others take turns, because a mart also differs when its inputs do.
#[tokio::test]
async fn every_tampering_is_found_and_named() {
    let mut stage = Stage::shop().await;
    let replica: Vec<String> = TABLES.iter().map(|table| table.to_string()).collect();
    for tables in [replica, shop_marts().tables()] {
        changed_cells_are_found(&mut stage, &tables).await;
        deleted_rows_are_found(&mut stage, &tables).await;
        added_rows_are_found(&mut stage, &tables).await;
    }
    assert_eq!(stage.report().await.exit(), Exit::Equal);
}

/// In turn, the first column of each table, the second of each table, …
async fn changed_cells_are_found(stage: &mut Stage, tables: &[String]) {
    for number in 0.. {
        let mut changed = Vec::new();
        for table in tables {
            let Some((column, data_type)) = columns(stage, table).await.into_iter().nth(number)
            else {
                continue;
            };
            let value = other_value(&column, &data_type);
            keep(stage, table).await;
            let rows = stage
                .change(&format!(
                    "UPDATE `{table}` SET `{column}` = {value} LIMIT 1"
                ))
                .await;
            assert_eq!(rows, 1, "{table}.{column}");
            changed.push((table, column));
        }
        if changed.is_empty() {
            return;
        }
        let report = stage.report().await;
        assert_eq!(report.exit(), Exit::Different);
        for (table, column) in changed {
            assert_named(&report, table, &column);
            restore(stage, table).await;
        }
    }
}

/// Table, key, column and both values are there. A changed key is a row less and a row more.
fn assert_named(report: &Report, table: &str, column: &str) {
    let differences = differences(report, table);
    let here = |difference: &&Difference| difference.column == column || difference.column == "*";
    assert!(
        differences.iter().any(|difference| here(&difference)),
        "{table}.{column}: {report:#?}"
    );
    for difference in &differences {
        assert!(!difference.key.is_empty(), "{difference:?}");
        assert_ne!(difference.expected, difference.found, "{difference:?}");
    }
}

fn other_value(column: &str, data_type: &str) -> String {
    let value = match data_type.to_lowercase().as_str() {
        "bigint" | "int" | "decimal" => "COALESCE(`{}`, 0) + 100000",
        "datetime" => "COALESCE(`{}`, '2001-01-01') + INTERVAL 1 MICROSECOND",
        "binary" => "REPEAT('x', 32)",
        _ => "CONCAT(LEFT(COALESCE(`{}`, ''), 4), ' ')",
    };
    value.replace("{}", column)
}

async fn deleted_rows_are_found(stage: &mut Stage, tables: &[String]) {
    for table in tables {
        keep(stage, table).await;
        assert_eq!(
            stage
                .change(&format!("DELETE FROM `{table}` LIMIT 1"))
                .await,
            1
        );
    }
    let report = stage.report().await;
    for table in tables {
        let found = differences(&report, table);
        assert_eq!(found.len(), 1, "{table}: {report:#?}");
        assert_eq!(found[0].kind, DifferenceKind::Missing);
        assert!(
            found[0].expected.is_object() && found[0].found.is_null() && !found[0].key.is_empty()
        );
        restore(stage, table).await;
    }
}

async fn added_rows_are_found(stage: &mut Stage, tables: &[String]) {
    for table in tables {
        keep(stage, table).await;
        let mut fresh = false;
        let mut values = Vec::new();
        for (column, data_type) in columns(stage, table).await {
            values.push(match data_type.to_lowercase().as_str() {
                "binary" => "REPEAT('x', 32)".to_owned(),
                "bigint" | "varchar" if !fresh => {
                    fresh = true;
                    "'987654'".to_owned()
                }
                _ => format!("`{column}`"),
            });
        }
        let (names, values) = (names(stage, table).await, values.join(", "));
        let insert =
            format!("INSERT INTO `{table}` ({names}) SELECT {values} FROM `kept_{table}` LIMIT 1");
        assert_eq!(stage.change(&insert).await, 1);
    }
    let report = stage.report().await;
    for table in tables {
        let found = differences(&report, table);
        assert_eq!(found.len(), 1, "{table}: {report:#?}");
        assert_eq!(found[0].kind, DifferenceKind::Unexpected);
        assert!(
            found[0].found.is_object() && found[0].expected.is_null() && !found[0].key.is_empty()
        );
        restore(stage, table).await;
    }
}

fn differences(report: &Report, table: &str) -> Vec<Difference> {
    let subjects = report.tables.iter().chain(&report.marts);
    let all = subjects.flat_map(|subject| &subject.differences);
    let source = id(table).to_string();
    all.filter(|difference| [table, &source].contains(&difference.table.as_str()))
        .cloned()
        .collect()
}

async fn keep(stage: &mut Stage, table: &str) {
    let names = names(stage, table).await;
    stage
        .change(&format!(
            "CREATE TABLE `kept_{table}` AS SELECT {names} FROM `{table}`"
        ))
        .await;
}

async fn restore(stage: &mut Stage, table: &str) {
    let names = names(stage, table).await;
    stage.change(&format!("DELETE FROM `{table}`")).await;
    stage
        .change(&format!(
            "INSERT INTO `{table}` ({names}) SELECT {names} FROM `kept_{table}`"
        ))
        .await;
    stage.change(&format!("DROP TABLE `kept_{table}`")).await;
}

/// All columns as SQL lists them, those too that `SELECT *` leaves out.
async fn names(stage: &mut Stage, table: &str) -> String {
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

#[tokio::test]
async fn a_row_that_occurs_twice_in_a_mart_is_unexpected() {
    let mut stage = Stage::shop().await;
    stage
        .change("INSERT INTO mart_average_check SELECT * FROM mart_average_check LIMIT 1")
        .await;
    let report = stage.report().await;
    let found = differences(&report, "mart_average_check");
    // The copy has no key of its own: of the two, which are alike in what the mart shows, one may be told by its key.
    let (unexpected, keys): (Vec<_>, Vec<_>) = found
        .iter()
        .partition(|difference| difference.kind == DifferenceKind::Unexpected);
    assert_eq!(unexpected.len(), 1, "{found:#?}");
    assert!(
        keys.iter()
            .all(|difference| difference.column == "millrace_key"),
        "{keys:#?}"
    );
}

#[tokio::test]
async fn differences_beyond_the_limit_are_counted() {
    let mut stage = Stage::shop().await;
    stage.config.differences_max = 3;
    stage
        .change("UPDATE orderdetails SET quantity = quantity + 1")
        .await;
    let report = stage.report().await;
    let details = report
        .tables
        .iter()
        .find(|table| table.name == "source.orderdetails")
        .expect("reported");
    assert_eq!(
        (details.differences.len(), details.differences_total),
        (3, 900)
    );
}

#[tokio::test]
async fn commits_before_the_consistent_point_are_compared_and_later_ones_are_not() {
    let mut stage = Stage::shop().await;
    stage
        .postgres
        .execute("UPDATE users SET phone = 'before' WHERE user_id = 1")
        .await
        .expect("an update");
    let later = "UPDATE source.users SET phone = 'later' WHERE user_id < 3";
    stage.meanwhile(&[stage.in_source(later)]);
    let report = stage.report().await;
    let found = differences(&report, "users");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(
        (found[0].column.as_str(), found[0].expected.as_str()),
        ("phone", Some("before"))
    );
    let now: String = sqlx::query_scalar("SELECT phone FROM users WHERE user_id = 1")
        .fetch_one(&mut stage.postgres)
        .await
        .expect("a phone");
    assert_eq!(now, "later");
    let slots: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()",
    )
    .fetch_one(&mut stage.postgres)
    .await
    .expect("slots");
    assert_eq!(slots, 0, "no slot is left");
}

#[tokio::test]
async fn a_table_truncated_before_its_turn_is_compared_at_a_point_of_its_own() {
    let mut stage = Stage::new(&TABLES, Marts::none()).await;
    stage.meanwhile(&[
        stage.in_source("TRUNCATE source.orderdetails"),
        stage.in_replica("DELETE FROM orderdetails"),
    ]);
    let report = stage.report().await;
    assert_eq!(report.exit(), Exit::Equal, "{report:#?}");
    let rows = |name: &str| {
        let found: Vec<_> = report
            .tables
            .iter()
            .filter(|t| t.name == id(name).to_string())
            .collect();
        assert_eq!(found.len(), 1, "{name} is reported once");
        found[0].rows
    };
    assert_eq!((rows("orderdetails"), rows("orders")), (0, 300));
    // A difference in such a table is one.
    stage
        .postgres
        .execute("INSERT INTO orderdetails SELECT 1, order_id, 1, 1, 1, 1 FROM orders LIMIT 1")
        .await
        .expect("a row");
    stage.meanwhile(&[stage.in_source(
        "ALTER TABLE source.orderdetails ALTER quantity TYPE integer USING quantity + 0",
    )]);
    let report = stage.report().await;
    assert_eq!(report.exit(), Exit::Different);
    assert_eq!(differences(&report, "orderdetails").len(), 1);
}

#[tokio::test]
async fn a_table_that_is_truncated_each_time_gives_no_answer() {
    let stage = Stage::new(&TABLES, Marts::none()).await;
    let truncate = || stage.in_source("TRUNCATE source.orderdetails");
    stage.meanwhile(&std::array::from_fn::<_, 5, _>(|_| truncate()));
    let error = stage.verify().await.expect_err("no answer");
    assert!(
        matches!(&error, Error::Rewritten(tables) if tables == &[id("orderdetails")]),
        "{error}"
    );
    assert!(!stage.projector.lock().expect("a lock").held);
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
async fn a_transaction_in_the_way_is_named_and_the_projector_released() {
    let mut stage = Stage::shop().await;
    stage.config.slot_timeout = Duration::from_secs(1);
    stage
        .postgres
        .execute("BEGIN; UPDATE users SET phone = 'x' WHERE user_id = 1")
        .await
        .expect("an open transaction");
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut stage.postgres)
        .await
        .expect("a pid");
    let error = stage.verify().await.expect_err("no slot");
    assert!(
        matches!(&error, Error::SlotBlocked { blocker, .. } if blocker.contains(&format!("pid {pid} "))),
        "{error}"
    );
    assert!(!stage.projector.lock().expect("a lock").held);
    stage.postgres.execute("ROLLBACK").await.expect("rollback");
    assert_eq!(stage.report().await.exit(), Exit::Equal);
}

#[tokio::test]
async fn a_hold_that_ended_by_itself_gives_no_answer() {
    let stage = Stage::shop().await;
    stage.projector.lock().expect("a lock").loses_holds = true;
    let error = stage.verify().await.expect_err("no answer");
    assert!(
        matches!(&error, Error::Projector(reason) if reason.contains("the hold is over")),
        "{error}"
    );
}

#[tokio::test]
async fn an_interrupted_verify_releases_the_projector() {
    let mut stage = Stage::shop().await;
    stage
        .postgres
        .execute("BEGIN; UPDATE users SET phone = 'x' WHERE user_id = 1")
        .await
        .expect("an open transaction");
    let shutdown = CancellationToken::new();
    let canceller = async {
        while !stage.projector.lock().expect("a lock").held {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        shutdown.cancel();
    };
    let (result, ()) = tokio::join!(verify(&stage.config, &shutdown), canceller);
    assert!(matches!(result, Err(Error::Interrupted)));
    let projector = stage.projector.lock().expect("a lock");
    assert!(!projector.held);
    assert_eq!(projector.calls.last().map(String::as_str), Some("release"));
}

#[tokio::test]
async fn a_projector_that_does_not_answer_is_an_error() {
    let mut stage = Stage::shop().await;
    stage.config.control_url = format!("http://127.0.0.1:{}", support::free_port());
    assert!(matches!(stage.verify().await, Err(Error::Projector(_))));
    let _ = stage.mysql.close().await;
}
