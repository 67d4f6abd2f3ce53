//! A database whose history is not the one that the log tells.

use std::sync::Arc;

use millrace_postgres_cdc::TableRequest;

use crate::model::Model;
use crate::postgres::Postgres;
use crate::rig::{Rig, Running};
use crate::writers::{SETUP, TABLES, USERS};

async fn insert(rig: &Rig, ids: std::ops::Range<i32>) {
    for id in ids {
        rig.sql(&format!(
            "INSERT INTO source.users VALUES ({id}, 'x', NULL)"
        ))
        .await;
    }
}

/// A server of its own, and a capture that has followed it for a while.
async fn begun() -> (Arc<Postgres>, Rig, Running) {
    let postgres = tokio::task::spawn_blocking(Postgres::own).await.unwrap();
    let rig = Rig::on(postgres.clone(), SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    insert(&rig, 1000..1010).await;
    running.reaches(rig.end().await).await;
    (postgres, rig, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_restored_from_an_older_copy_and_written_to() {
    let (postgres, rig, mut running) = begun().await;
    postgres.stop();
    postgres.keep();
    postgres.start_again();
    insert(&rig, 1010..1020).await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let position = Model::position(&rig).await;
    postgres.stop();
    postgres.restore();
    postgres.start_again();
    // More than was lost: nothing of the log lies ahead of the WAL.
    while rig.lsn("SELECT pg_current_wal_flush_lsn()::text").await <= position {
        insert(&rig, 2000..2001).await;
        rig.sql("UPDATE source.users SET note = repeat('n', 3000) WHERE user_id < 100; DELETE FROM source.users WHERE user_id = 2000")
            .await;
    }
    // However often it is started: what proves it is not taken back by looking at it.
    for _ in 0..3 {
        let error = rig.failure(rig.config.clone()).await;
        assert_eq!(error.code(), Some("capture-history-differs"), "{error}");
        assert!(error.to_string().contains("tables begin-again"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_restored_from_an_older_copy_under_a_running_capture() {
    let (postgres, rig, mut running) = begun().await;
    postgres.stop();
    postgres.keep();
    postgres.start_again();
    insert(&rig, 1010..1020).await;
    running.reaches(rig.end().await).await;
    postgres.stop();
    postgres.restore();
    postgres.start_again();
    let error = running.failure().await;
    assert_eq!(error.code(), Some("capture-log-ahead"), "{error}");
}

/// Nobody commits anything but us, and a table was copied again, so that no earlier transaction proves anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_restored_from_an_older_copy_while_nobody_writes() {
    let (postgres, rig, mut running) = begun().await;
    running.stop().await;
    postgres.stop();
    postgres.keep();
    postgres.start_again();
    running = rig.start();
    let before = running.streaming().await;
    let users = vec!["source.users".parse().unwrap()];
    let again = running.handle.request(TableRequest::Resnapshot(users));
    again.await.unwrap();
    running.streaming().await;
    running
        .until(|now| now.transactions > before.transactions)
        .await;
    running.stop().await;
    let position = Model::position(&rig).await;
    postgres.stop();
    postgres.restore();
    postgres.start_again();
    while rig.lsn("SELECT pg_current_wal_flush_lsn()::text").await <= position {
        rig.sql("UPDATE source.users SET note = repeat('n', 3000) WHERE user_id < 100")
            .await;
    }
    let error = rig.failure(rig.config.clone()).await;
    assert_eq!(error.code(), Some("capture-history-differs"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashed_has_the_same_history() {
    let (postgres, rig, mut running) = begun().await;
    postgres.stop();
    postgres.start_again();
    insert(&rig, 1010..1020).await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let mut running = rig.start();
    running.streaming().await;
    insert(&rig, 1020..1021).await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "users", USERS).await;
    assert_eq!(model.baselines, 1);
}
