//! Consistent points: what belongs to one, and what happens where there is none or a table is gone from it.

use std::time::Duration;

use millrace_projections::marts::Marts;
use millrace_projections::verify::{verify, Error, Exit};
use sqlx::Executor;
use tokio_util::sync::CancellationToken;

use crate::differences;
use crate::stage::{id, Stage, TABLES};

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
        matches!(&error, Error::Rewritten(names) if names == &[id("orderdetails").to_string()]),
        "{error}"
    );
    assert!(!stage.projector.lock().expect("a lock").held);
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
    // Also if the projector had not answered yet that it holds.
    let released = async {
        while stage.projector.lock().expect("a lock").held {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let released = tokio::time::timeout(Duration::from_secs(20), released).await;
    released.expect("nothing is held");
    let projector = stage.projector.lock().expect("a lock");
    assert_eq!(projector.calls.last().map(String::as_str), Some("release"));
}
