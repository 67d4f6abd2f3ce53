//! What stands in the way of a copy: locks, another table in its place, a server that crashes, rights that are missing.

use std::collections::BTreeSet;
use std::time::Duration;

use millrace_events::TableId;
use millrace_postgres_cdc::{Status, TableRequest, TableState, TableStatus};
use sqlx::Executor;

use crate::model::Model;
use crate::postgres::Postgres;
use crate::rig::{Rig, Running, PATIENCE};
use crate::storm::{LINES, SETUP, TABLES, USERS};

/// Rows enough that a copy of one row a chunk lasts as long as a test needs.
const MANY: &str =
    "INSERT INTO source.users SELECT i, 'many', 'x' FROM generate_series(1001, 21000) i;";

fn table(name: &str) -> TableId {
    TableId::new("source", name)
}

fn of<'a>(status: &'a Status, name: &str) -> Option<&'a TableStatus> {
    let name = table(name);
    status.tables.iter().find(|found| found.table == name)
}

fn is_captured(status: &Status, name: &str) -> bool {
    of(status, name).is_some_and(|found| found.state == TableState::Captured)
}

/// Waits until so many more chunks of `users` are copied.
async fn more_chunks(running: &mut Running, wanted: u32) {
    let chunks = |status: &Status| of(status, "users").map_or(0, |found| found.chunks);
    let before = chunks(&running.handle.status());
    running
        .until(|status| chunks(status) >= before + wanted)
        .await;
}

/// Waits until the copy of a table says this.
async fn notice(running: &mut Running, name: &str, words: &str) {
    let says = |status: &Status| {
        let notice = of(status, name).and_then(|found| found.notice.as_deref());
        notice.is_some_and(|notice| notice.contains(words))
    };
    running.until(says).await;
}

/// Slow enough that something can happen to `users` while it is copied.
async fn slow(rows: &str, tables: &[&str]) -> Rig {
    let mut rig = Rig::new(&format!("{SETUP} {rows}"), tables).await;
    rig.config.chunk_rows_max = 1;
    rig.config.snapshot_readers = 1;
    rig
}

/// Between two looks at the catalog, so that nothing but the copy itself could notice.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_table_that_had_the_name_for_a_moment_do_not_belong_to_the_copy() {
    let mut rig = slow(MANY, &["users"]).await;
    rig.config.watch_period = 10 * PATIENCE;
    rig.sql(
        "CREATE TABLE source.others (LIKE source.users INCLUDING ALL); \
         INSERT INTO source.others SELECT user_id, 'another table', note FROM source.users",
    )
    .await;
    let mut running = rig.start();
    more_chunks(&mut running, 20).await;
    let swap = |from: &str, to: &str| {
        format!(
            "ALTER TABLE source.users RENAME TO {to}; ALTER TABLE source.{from} RENAME TO users;"
        )
    };
    rig.sql(&format!("BEGIN; {} COMMIT", swap("others", "mine")))
        .await;
    notice(&mut running, "users", "another table").await;
    rig.sql(&format!("BEGIN; {} COMMIT", swap("mine", "others")))
        .await;
    more_chunks(&mut running, 20).await;
    running.kill().await;
    rig.config.chunk_rows_max = 50_000;
    let mut running = rig.start();
    running.streaming().await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "users", USERS).await;
}

/// Chunks show a commit that is not on disk yet. The server crashes, and never had it.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_a_crash_takes_back_is_in_no_chunk() {
    let postgres = tokio::task::spawn_blocking(Postgres::own).await.unwrap();
    let mut rig = Rig::on(postgres.clone(), &format!("{SETUP} {MANY}"), &["users"]).await;
    // What is committed asynchronously stays in memory.
    for setting in ["wal_writer_delay = '10s'", "wal_writer_flush_after = '1GB'"] {
        rig.sql(&format!("ALTER SYSTEM SET {setting}")).await;
    }
    postgres.stop();
    postgres.start_again();
    (rig.config.chunk_rows_max, rig.config.snapshot_readers) = (1, 1);
    let mut running = rig.start();
    more_chunks(&mut running, 20).await;
    rig.sql("SET synchronous_commit = off; UPDATE source.users SET name = 'perhaps never' WHERE user_id < 300").await;
    more_chunks(&mut running, 50).await;
    assert!(!is_captured(&running.handle.status(), "users"));
    postgres.stop();
    running.kill().await;
    postgres.start_again();
    rig.config.chunk_rows_max = 50_000;
    let mut running = rig.start();
    running.streaming().await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "users", USERS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_has_locked_keeps_no_other_one_from_being_copied() {
    let mut rig = Rig::new(SETUP, &TABLES).await;
    rig.config.lock_timeout = Duration::from_millis(500);
    let mut running = rig.start();
    running.streaming().await;
    let publication = "ALTER PUBLICATION millrace";
    rig.sql(&format!(
        "{publication} DROP TABLE source.lines; {publication} ADD TABLE ONLY source.lines"
    ))
    .await;
    let mut writer = rig.connect().await;
    let write = "BEGIN; UPDATE source.lines SET note = 'open' WHERE line = 1";
    sqlx::raw_sql(write).execute(&mut writer).await.unwrap();
    let copies = |name| TableRequest::Resnapshot(vec![table(name)]);
    running.handle.request(copies("lines")).await.unwrap();
    notice(&mut running, "lines", "waits for a transaction").await;
    // It is the next one to have the table, before the copy.
    let mut holder = rig.connect().await;
    let lock = tokio::spawn(async move {
        let lock = "BEGIN; LOCK TABLE source.lines IN ACCESS EXCLUSIVE MODE";
        holder.execute(lock).await.unwrap();
        holder
    });
    let queued = async {
        let queued = "SELECT count(*)::text FROM pg_locks WHERE relation = 'source.lines'::regclass AND NOT granted";
        while rig.text(queued).await != "1" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, queued)
        .await
        .expect("it waits");
    sqlx::raw_sql("COMMIT").execute(&mut writer).await.unwrap();
    let mut holder = lock.await.unwrap();
    notice(&mut running, "lines", "tried again").await;
    let first = of(&running.handle.status(), "users").unwrap().copy;
    running.handle.request(copies("users")).await.unwrap();
    let anew = |status: &Status| of(status, "users").is_some_and(|found| found.copy > first);
    running
        .until(|status| anew(status) && is_captured(status, "users"))
        .await;
    assert!(!is_captured(&running.handle.status(), "lines"));
    sqlx::raw_sql("COMMIT").execute(&mut holder).await.unwrap();
    running.streaming().await;
    assert_eq!(running.handle.status().sessions, 1);
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "users", USERS).await;
    model.assert_equals(&rig, "lines", LINES).await;
}

/// Only who owns a publication may take tables out of it. What is still sent of them is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_removed_by_whoever_may_not_alter_the_publication() {
    let mut rig = Rig::new(SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    running.stop().await;
    let reader = format!("reader_of_{}", rig.config.slot);
    rig.sql(&format!(
        "CREATE ROLE {reader} LOGIN REPLICATION; GRANT pg_signal_backend TO {reader}; GRANT USAGE ON SCHEMA source TO {reader}; \
         GRANT SELECT ON ALL TABLES IN SCHEMA source TO {reader}"
    ))
    .await;
    let url = &mut rig.config.postgres_url;
    *url = url.replace("postgres@", &format!("{reader}@"));
    let mut running = rig.start();
    running.streaming().await;
    let remove = TableRequest::Remove(vec![table("lines")]);
    running.handle.request(remove).await.unwrap();
    running.stop().await;
    let mut running = rig.start();
    let status = running.streaming().await;
    let names: Vec<_> = status.tables.iter().map(|found| &found.table).collect();
    assert_eq!(names, [&table("users")]);
    rig.sql("DELETE FROM source.lines; DELETE FROM source.users WHERE user_id < 10")
        .await;
    running.reaches(rig.end().await).await;
    // Described to nobody while it was removed, it comes again with another shape.
    rig.sql("ALTER TABLE source.lines ADD COLUMN more int; INSERT INTO source.lines VALUES ('gone', 1, 'by')").await;
    running.reaches(rig.end().await).await;
    let add = TableRequest::Add(vec![table("lines")]);
    running.handle.request(add).await.unwrap();
    rig.sql("INSERT INTO source.lines VALUES ('new', 1, 'comes', 7)")
        .await;
    running.streaming().await;
    running.reaches(rig.end().await).await;
    assert_eq!(running.handle.status().sessions, 1);
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "users", USERS).await;
    model.assert_equals(&rig, "lines", LINES).await;
}

/// Retention would remove its beginning in between.
#[tokio::test(flavor = "multi_thread")]
async fn the_topic_of_a_copy_is_needed_without_a_break_from_session_to_session() {
    let rig = slow(MANY, &["users"]).await;
    let mut running = rig.start();
    more_chunks(&mut running, 20).await;
    let mut watched = running.handle.watch();
    let watching = tokio::spawn(async move {
        let topics = |status: &Status| -> Option<BTreeSet<String>> {
            Some(status.needed.as_ref()?.keys().cloned().collect())
        };
        let mut seen = BTreeSet::new();
        while !is_captured(&watched.borrow_and_update(), "users") {
            seen.insert(topics(&watched.borrow()));
            if watched.changed().await.is_err() {
                break;
            }
        }
        seen
    });
    let sessions = format!("millrace-{}", rig.config.slot);
    rig.sql(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{sessions}'"
    ))
    .await;
    running.until(|status| status.sessions >= 2).await;
    more_chunks(&mut running, 20).await;
    running.kill().await;
    let both = ["millrace-changes", "millrace-snapshot-1"].map(str::to_owned);
    let seen = watching.await.unwrap();
    assert_eq!(seen, BTreeSet::from([Some(BTreeSet::from(both))]));
}
