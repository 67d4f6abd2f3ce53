//! Snapshot and stream meet without gap and overlap.

use millrace_events::Record;

use crate::model::Model;
use crate::rig::Rig;
use crate::writers::{Writers, ORDERS, SETUP, TABLES, USERS};

async fn assert_same(rig: &Rig) -> Model {
    let model = Model::read(rig).await;
    model.assert_equals(rig, "users", USERS).await;
    model.assert_equals(rig, "orders", ORDERS).await;
    model
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_and_stream_meet_under_concurrent_writers() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let writers = Writers::start(&rig, 4, rand::random()).await;
    let mut running = rig.start();
    let copying = running.until(|s| !s.tables.is_empty()).await;
    assert!(copying.tables.iter().all(|table| table.rows_estimated > 0));
    let streaming = running.streaming().await;
    assert_eq!(streaming.epoch.0, 1);
    let enough = |s: &millrace_postgres_cdc::Status| s.transactions >= 300;
    running.until(enough).await;
    assert!(writers.stop().await > 0);
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = assert_same(&rig).await;
    assert_eq!((model.baselines, model.starts), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_the_sequence_that_another_decoder_sees() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let writers = Writers::start(&rig, 3, rand::random()).await;
    let mut running = rig.start();
    running.streaming().await;
    let oracle = format!("oracle_{}", rig.config.slot);
    rig.sql(&format!(
        "SELECT pg_create_logical_replication_slot('{oracle}', 'test_decoding')"
    ))
    .await;
    // What was still on its way from before the other slot does not count.
    running.reaches(rig.end().await).await;
    let before = running.handle.status().transactions;
    running.until(|s| s.transactions >= before + 200).await;
    writers.stop().await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let expected = rig.decoded(&oracle).await;
    let found = Model::read(&rig).await.transactions;
    assert!(expected.len() > 50);
    let tail = &found[found.len() - expected.len()..];
    assert_eq!(tail, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_continues_without_a_new_snapshot() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    rig.sql("INSERT INTO source.users VALUES (1001, 'one', NULL)")
        .await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    rig.sql("INSERT INTO source.users VALUES (1002, 'two', NULL); DELETE FROM source.users WHERE user_id = 1001").await;
    let mut running = rig.start();
    assert_eq!(running.streaming().await.epoch.0, 2);
    rig.sql("INSERT INTO source.users VALUES (1003, 'three', NULL)")
        .await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = assert_same(&rig).await;
    assert_eq!((model.baselines, model.starts), (1, 2));
    assert_eq!(rig.topics().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_of_an_idle_source_moves_the_slot() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    // The messages at the ends of copies are counted by then.
    running.reaches(rig.end().await).await;
    let before = running.handle.status().transactions;
    // WAL that concerns none of the captured tables.
    rig.sql("INSERT INTO source.unseen SELECT generate_series(1, 10000)")
        .await;
    let end = rig.lsn("SELECT pg_current_wal_lsn()::text").await;
    running.reaches(end).await;
    while rig.confirmed().await < end {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let status = running.handle.status();
    assert_eq!(status.transactions, before);
    assert!(rig.confirmed().await <= running.handle.status().last_lsn);
    running.stop().await;
    let progress = rig
        .log()
        .await
        .into_iter()
        .filter(|r| matches!(r, Record::Progress(_)))
        .count();
    assert!((1..50).contains(&progress), "{progress} progress records");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_told_only_what_the_log_has() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let writers = Writers::start(&rig, 2, rand::random()).await;
    let mut running = rig.start();
    running.streaming().await;
    for _ in 0..100 {
        let told = rig.confirmed().await;
        let acknowledged = running.handle.status().last_lsn;
        assert!(told <= acknowledged, "{told} {acknowledged}");
    }
    writers.stop().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_comes_through_an_idle_source() {
    let mut rig = Rig::new(SETUP, &TABLES).await;
    rig.config.heartbeat_period = Some(std::time::Duration::from_millis(100));
    let mut running = rig.start();
    let before = running.streaming().await.transactions;
    running.until(|s| s.transactions >= before + 3).await;
    running.stop().await;
    let model = assert_same(&rig).await;
    assert!(model
        .transactions
        .iter()
        .all(|(_, changes)| changes.is_empty()));
}
