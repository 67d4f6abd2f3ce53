//! Capture is killed at random instants.

use std::time::Duration;

use millrace_postgres_cdc::State;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::model::Model;
use crate::rig::Rig;
use crate::writers::{Writers, ORDERS, SETUP, TABLES, USERS};

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_instants_the_log_stays_whole() {
    let mut rig = Rig::new(SETUP, &TABLES).await;
    // Small parts, so that a kill often falls between two of them.
    rig.config.part_bytes = 2_000;
    let seed = rand::random();
    let mut rng = StdRng::seed_from_u64(seed);
    let writers = Writers::start(&rig, 3, seed).await;
    let oracle = format!("oracle_{}", rig.config.slot);
    rig.sql(&format!(
        "SELECT pg_create_logical_replication_slot('{oracle}', 'test_decoding')"
    ))
    .await;
    for _ in 0..15 {
        let running = rig.start();
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..900))).await;
        running.kill().await;
    }
    let mut running = rig.start();
    running.streaming().await;
    running.until(|s| s.transactions >= 50).await;
    writers.stop().await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "users", USERS).await;
    model.assert_equals(&rig, "orders", ORDERS).await;
    assert_eq!(model.baselines, 1);
    let expected = rig.decoded(&oracle).await;
    let common = model.transactions.len().min(expected.len());
    assert!(common > 50, "{common} transactions");
    assert_eq!(
        model.transactions[model.transactions.len() - common..],
        expected[expected.len() - common..]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_capture_waits_for_the_first() {
    let mut rig = Rig::new(SETUP, &TABLES).await;
    rig.config.lock_timeout = Duration::from_millis(200);
    let mut first = rig.start();
    first.streaming().await;
    let mut second = rig.start();
    let waiting = second.until(|s| s.last_error.is_some()).await;
    let error = waiting.last_error.unwrap();
    assert!(
        error.starts_with("capture-locked: another capture") && error.contains("Postgres pid "),
        "{error}"
    );
    first.kill().await;
    assert_eq!(second.streaming().await.epoch.0, 2);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_to_postgres_is_made_again() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    rig.sql("INSERT INTO source.users VALUES (1001, 'one', NULL)")
        .await;
    let application = format!("millrace-{}", rig.config.slot);
    rig.sql(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{application}'")).await;
    rig.sql("INSERT INTO source.users VALUES (1002, 'two', NULL)")
        .await;
    running
        .until(|s| s.epoch.0 >= 2 && s.state == State::Streaming)
        .await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "users", USERS).await;
    assert!(model.starts >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_restarts_under_load() {
    let mut rig = Rig::durable(SETUP, &TABLES).await;
    rig.config.acknowledge_timeout = Duration::from_secs(3);
    let writers = Writers::start(&rig, 2, rand::random()).await;
    let mut running = rig.start();
    running.streaming().await;
    for _ in 0..2 {
        rig.restart_broker().await;
        // A clean restart may go unnoticed: the client then sends its next batch to the new one.
        let before = running.handle.status().transactions;
        running.until(|s| s.transactions >= before + 20).await;
    }
    writers.stop().await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "users", USERS).await;
    model.assert_equals(&rig, "orders", ORDERS).await;
    assert_eq!(model.baselines, 1);
}
