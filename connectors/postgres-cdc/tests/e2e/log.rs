//! What capture believes of the end of its log, and what it does when records are gone.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fluvio::consumer::ConsumerConfigExtBuilder;
use fluvio::metadata::topic::{TopicSpec, TopicStorageConfig};
use fluvio::Offset;
use futures_util::StreamExt;
use millrace_postgres_cdc::State;
use sqlx::Executor;

use crate::forgetful::Memory;
use crate::model::Model;
use crate::rig::{Rig, Running, PATIENCE};
use crate::writers::{SETUP, TABLES, USERS};

/// Ends all of capture's sessions with Postgres, so that it begins another.
async fn disturb(rig: &Rig) {
    let application = format!("millrace-{}", rig.config.slot);
    rig.sql(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{application}'"
    ))
    .await;
}

async fn insert(rig: &Rig, id: i32) {
    rig.sql(&format!(
        "INSERT INTO source.users VALUES ({id}, 'x', NULL)"
    ))
    .await;
}

/// One more row of which Postgres knows that the log has it.
async fn settled(rig: &Rig, running: &mut Running, id: i32) {
    insert(rig, id).await;
    let end = rig.end().await;
    running.reaches(end).await;
    rig.confirms(end).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_just_restarted_is_no_lost_log() {
    let (mut rig, server) = Rig::forgetful(SETUP, &TABLES).await;
    rig.config.acknowledge_timeout = Duration::from_secs(3);
    let mut running = rig.start();
    let sessions = running.streaming().await.sessions;
    settled(&rig, &mut running, 1001).await;
    server.restart(Memory::None);
    insert(&rig, 1002).await;
    disturb(&rig).await;
    running.until(|s| s.sessions >= sessions + 3).await;
    assert!(running.handle.status().failing_since.is_some());
    server.remember();
    running.reaches(rig.end().await).await;
    assert_eq!(running.handle.status().failing_since, None);
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "users", USERS).await;
    assert_eq!(model.baselines, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_seems_empty_is_read_behind_a_record_of_our_own() {
    let (rig, server) = Rig::forgetful(SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    settled(&rig, &mut running, 1001).await;
    running.stop().await;
    server.restart(Memory::NoOffsets);
    let mut running = rig.start();
    running.streaming().await;
    // The kept scan stands at the baseline, Postgres further on.
    settled(&rig, &mut running, 1002).await;
    disturb(&rig).await;
    running
        .until(|s| s.epoch.0 >= 3 && s.state == State::Streaming)
        .await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    server.remember();
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "users", USERS).await;
    assert_eq!(model.baselines, 1);
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_set_back_behind_a_running_capture_is_noticed_by_its_next_record() {
    let mut rig = Rig::durable(SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    settled(&rig, &mut running, 1001).await;
    let folder = rig.broker_folder();
    let older = folder.with_extension("older");
    let addresses = rig.stop_broker().await;
    copy(&folder, &older);
    rig.start_broker(addresses).await;
    settled(&rig, &mut running, 1002).await;
    let addresses = rig.stop_broker().await;
    copy(&older, &folder);
    rig.start_broker(addresses).await;
    insert(&rig, 1003).await;
    let error = running.failure().await;
    assert_eq!(error.code(), Some("capture-log-lost-records"), "{error}");
}

/// A topic that keeps a few large records, in segments that hold a batch each.
pub(crate) async fn small_topic(rig: &Rig) {
    let mut spec = TopicSpec::new_computed(1, 1, None);
    spec.set_storage(TopicStorageConfig {
        segment_size: Some(13_000_000),
        max_partition_size: Some(26_000_000),
    });
    let admin = rig.fluvio().await.admin().await;
    let name = rig.config.topic_changes.clone();
    admin.create(name, false, spec).await.unwrap();
}

/// The first offset that the topic still has.
pub(crate) async fn first_offset(rig: &Rig, topic: &str) -> i64 {
    let fluvio = rig.fluvio().await;
    let config = ConsumerConfigExtBuilder::default()
        .topic(topic)
        .partition(0)
        .offset_start(Offset::beginning())
        .build()
        .unwrap();
    let mut stream = fluvio.consumer_with_config(config).await.unwrap();
    stream.next().await.unwrap().unwrap().offset
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_retention_removed_unread_are_lost_records() {
    let rig = Rig::new(SETUP, &TABLES).await;
    small_topic(&rig).await;
    let mut running = rig.start();
    running.streaming().await;
    let mut connection = rig.connect().await;
    let gone = async {
        while first_offset(&rig, &rig.config.topic_changes).await < 6 {
            let fill = "UPDATE source.users SET note = repeat('n', 1500000) WHERE user_id <= 4";
            connection.execute(fill).await.unwrap();
            running.reaches(rig.end().await).await;
        }
    };
    let gone = tokio::time::timeout(PATIENCE, gone).await;
    gone.unwrap_or_else(|_| panic!("nothing is removed: {:?}", running.handle.status()));
    disturb(&rig).await;
    let error = running.failure().await;
    assert_eq!(error.code(), Some("capture-log-lost-records"), "{error}");
    assert!(error.to_string().contains("retention"), "{error}");
}
