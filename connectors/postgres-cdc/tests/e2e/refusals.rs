//! What capture refuses, and what it says then.

use std::time::Duration;

use millrace_events::{Epoch, Lsn, Progress, Record};
use millrace_postgres_cdc::Config;
use sqlx::Executor;

use crate::model::Model;
use crate::rig::{Failure, Rig};
use crate::writers::{SETUP, TABLES};

async fn refused(rig: &Rig, code: &str, words: &[&str]) -> Failure {
    refused_with(rig, rig.config.clone(), code, words).await
}

async fn refused_with(rig: &Rig, config: Config, code: &str, words: &[&str]) -> Failure {
    let error = rig.failure(config).await;
    assert_eq!(error.code(), Some(code), "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error}");
    }
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tables_whose_rows_cannot_be_told_apart_are_named_at_once() {
    let setup = "
        CREATE TABLE source.bare (id int);
        CREATE TABLE source.late (id int PRIMARY KEY DEFERRABLE);
        CREATE TABLE source.nothing (id int PRIMARY KEY);
        ALTER TABLE source.nothing REPLICA IDENTITY NOTHING;
        CREATE UNLOGGED TABLE source.fast (id int PRIMARY KEY);
        CREATE TABLE source.visits (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE VIEW source.look AS SELECT 1 AS id;";
    let mut rig = Rig::new(setup, &[]).await;
    rig.config.tables = "source.*,source.gone,source.visits,source.look"
        .parse()
        .unwrap();
    let words = [
        "source.bare has no primary key",
        "source.late has a deferrable",
        "source.nothing has neither",
        "REPLICA IDENTITY DEFAULT",
        "source.fast is unlogged",
        "source.look is a view",
        "source.visits is a partitioned table",
        "select the partitions themselves",
        "source.gone does not exist",
        "!source.gone",
    ];
    refused(&rig, "capture-table-unsuitable", &words).await;
    rig.config.tables = "sauce.*".parse().unwrap();
    refused(&rig, "capture-nothing-selected", &["sauce.*"]).await;
    let left = "SELECT count(*)::text FROM pg_publication";
    assert_eq!(rig.text(left).await, "0", "nothing was created");
    assert_eq!(rig.topics().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_is_not_ours() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let variants = [
        ("FOR ALL TABLES", "all tables"),
        ("WITH (publish_via_partition_root = true)", "no table"),
        ("FOR TABLE source.users, source.orders", "partition root"),
        ("FOR TABLE source.users, source.unseen WITH (publish_via_partition_root = true)", "publishes source.unseen, which source.users,source.orders does not select"),
        ("FOR TABLE source.users, source.orders WITH (publish = 'insert', publish_via_partition_root = true)", "inserts, updates"),
        ("FOR TABLE source.users (user_id), source.orders WITH (publish_via_partition_root = true)", "column lists"),
        ("FOR TABLE source.users WHERE (user_id > 1), source.orders WITH (publish_via_partition_root = true)", "row filters"),
    ];
    for (definition, words) in variants {
        rig.sql(&format!(
            "DROP PUBLICATION IF EXISTS millrace; CREATE PUBLICATION millrace {definition}"
        ))
        .await;
        refused(&rig, "capture-publication-differs", &[words]).await;
    }
    let slots = format!(
        "SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = '{}'",
        rig.config.slot
    );
    assert_eq!(rig.text(&slots).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_not_ours() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let slot = &rig.config.slot;
    rig.sql(&format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')"
    ))
    .await;
    refused(&rig, "capture-slot-foreign", &["test_decoding"]).await;
    rig.sql(&format!("SELECT pg_drop_replication_slot('{slot}')"))
        .await;
    rig.sql(&format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ))
    .await;
    refused(
        &rig,
        "capture-slot-without-log",
        &["is empty", "tables begin-again"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_vanished_or_was_made_anew() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    running.stop().await;
    let slot = &rig.config.slot;
    let mut connection = rig.connect().await;
    let drop = format!("SELECT pg_drop_replication_slot('{slot}')");
    while connection.execute(drop.as_str()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    refused(&rig, "capture-slot-missing", &[slot, "tables begin-again"]).await;
    rig.sql("INSERT INTO source.users VALUES (1001, 'lost', NULL)")
        .await;
    rig.sql(&format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ))
    .await;
    refused(&rig, "capture-log-lost-records", &[slot]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_another_database() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    running.stop().await;
    let other = Rig::new(SETUP, &TABLES).await;
    let mut config = other.config.clone();
    config.fluvio_endpoint = rig.config.fluvio_endpoint.clone();
    refused_with(&other, config, "capture-other-database", &["cluster"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_holds_something_else() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let fluvio = rig.fluvio().await;
    let admin = fluvio.admin().await;
    let one = fluvio::metadata::topic::TopicSpec::new_computed(1, 1, None);
    let two = fluvio::metadata::topic::TopicSpec::new_computed(2, 1, None);
    admin
        .create("other-things".into(), false, one.clone())
        .await
        .unwrap();
    admin.create("two-halves".into(), false, two).await.unwrap();
    let mut narrow = one.clone();
    narrow.set_storage(fluvio::metadata::topic::TopicStorageConfig {
        segment_size: Some(1 << 20),
        max_partition_size: None,
    });
    admin.create("narrow".into(), false, narrow).await.unwrap();
    let producer = rig
        .fluvio()
        .await
        .topic_producer("other-things")
        .await
        .unwrap();
    producer
        .send("key", "value")
        .await
        .unwrap()
        .wait()
        .await
        .unwrap();
    let mut config = rig.config.clone();
    config.topic_changes = "other-things".into();
    refused_with(&rig, config.clone(), "capture-log-foreign", &["offset 0"]).await;
    config.topic_changes = "two-halves".into();
    refused_with(
        &rig,
        config.clone(),
        "capture-topic-shape",
        &["2 partitions"],
    )
    .await;
    config.topic_changes = "narrow".into();
    let segments = ["segments of 1048576 bytes"];
    refused_with(&rig, config, "capture-topic-shape", &segments).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_transaction_that_blocks_the_slot_is_named() {
    let mut rig = Rig::new(SETUP, &TABLES).await;
    rig.config.slot_timeout = Duration::from_millis(500);
    let mut old = rig.connect().await;
    old.execute("BEGIN").await.unwrap();
    old.execute("INSERT INTO source.unseen VALUES (1)")
        .await
        .unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut old)
        .await
        .unwrap();
    let mut running = rig.start();
    let failed = running.until(|s| s.last_error.is_some()).await;
    let error = failed.last_error.unwrap();
    assert!(error.starts_with("capture-slot-blocked"), "{error}");
    assert!(error.contains(&format!("pid {pid} ")), "{error}");
    old.execute("COMMIT").await.unwrap();
    running.streaming().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_ahead_of_its_database() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    running.stop().await;
    let ahead = Record::Progress(Progress {
        epoch: Epoch(1),
        prev: Model::position(&rig).await,
        end_lsn: Lsn(u64::MAX / 4),
        gap: false,
        at: Default::default(),
    });
    let producer = rig
        .fluvio()
        .await
        .topic_producer(&rig.config.topic_changes)
        .await
        .unwrap();
    producer
        .send("", ahead.encode())
        .await
        .unwrap()
        .wait()
        .await
        .unwrap();
    refused(&rig, "capture-log-ahead", &["backup"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_the_right_to_replicate() {
    let rig = Rig::new(SETUP, &TABLES).await;
    rig.sql("DO $$ BEGIN CREATE ROLE plain LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$; GRANT USAGE ON SCHEMA source TO plain").await;
    let mut config = rig.config.clone();
    config.postgres_url = config.postgres_url.replace("postgres@", "plain@");
    refused_with(
        &rig,
        config,
        "capture-privilege",
        &["ALTER ROLE \"plain\" REPLICATION"],
    )
    .await;
    rig.sql("ALTER ROLE plain REPLICATION").await;
    let mut config = rig.config.clone();
    config.postgres_url = config.postgres_url.replace("postgres@", "plain@");
    refused_with(
        &rig,
        config,
        "capture-publication-denied",
        &["CREATE PUBLICATION"],
    )
    .await;
}
