//! Copies that cannot be completed, because what they need is gone: they begin again by themselves.

use std::time::Duration;

use millrace_events::TableId;
use millrace_postgres_cdc::{Status, TableRequest, TableState};

use crate::log::{first_offset, small_topic};
use crate::model::Model;
use crate::rig::{Rig, Running, PATIENCE};
use crate::storm::{LINES, SETUP, TABLES, USERS};

async fn until_first_offset(rig: &Rig, topic: &str, wanted: i64) {
    let gone = async {
        while first_offset(rig, topic).await < wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let gone = tokio::time::timeout(PATIENCE, gone).await;
    gone.expect("retention removes something");
}

/// Waits until some chunks of `users` are copied, and not all.
async fn copying(running: &mut Running, chunks: u32) {
    let users = TableId::new("source", "users");
    let status = running
        .until(|status: &Status| {
            let mut tables = status.tables.iter();
            tables.any(|found| found.table == users && found.chunks >= chunks)
        })
        .await;
    let mut tables = status.tables.iter();
    assert!(tables.all(|found| found.state != TableState::Captured));
}

/// A capture that was killed while it copied, whose slot somebody has dropped before rows were changed.
async fn without_a_slot() -> Rig {
    let more = "INSERT INTO source.lines SELECT 'more', i, 'x' FROM generate_series(1, 5000) i;
                INSERT INTO source.users SELECT i, 'more', 'x' FROM generate_series(1001, 6000) i;";
    let mut rig = Rig::new(&format!("{SETUP} {more}"), &TABLES).await;
    let chunk_rows = std::mem::replace(&mut rig.config.chunk_rows_max, 1);
    rig.config.snapshot_readers = 1;
    let mut running = rig.start();
    // Of either table: it is not said which one is copied first.
    let chunks = |status: &Status| status.tables.iter().any(|found| found.chunks >= 20);
    running.until(chunks).await;
    // From here on both wait: nothing is copied to the end.
    let mut holder = rig.connect().await;
    let lock = "BEGIN; LOCK TABLE source.lines, source.users IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut holder).await.unwrap();
    running.kill().await;
    drop(holder);
    rig.config.chunk_rows_max = chunk_rows;
    drop_slot(&rig).await;
    // Of rows that were copied, of some that were not, and new ones: no slot brings these.
    rig.sql(
        "DELETE FROM source.lines WHERE line % 7 = 0;
         UPDATE source.users SET name = 'in the gap' WHERE user_id % 5 = 0;
         INSERT INTO source.users VALUES (9000, 'in the gap', NULL)",
    )
    .await;
    rig
}

async fn drop_slot(rig: &Rig) {
    let slot = &rig.config.slot;
    rig.sql(&format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active"
    ))
    .await;
    let dropped = async {
        let drop = format!(
            "SELECT count(pg_drop_replication_slot(slot_name))::text FROM pg_replication_slots WHERE slot_name = '{slot}' AND NOT active"
        );
        while rig.text(&drop).await != "1" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, dropped)
        .await
        .expect("the slot goes");
}

/// Both tables are copied anew, in the first session of this capture, and end as the database does.
async fn copies_all_again(rig: &Rig) {
    let mut running = rig.start();
    running.streaming().await;
    rig.sql("UPDATE source.users SET name = 'behind it' WHERE user_id % 11 = 0")
        .await;
    running.reaches(rig.end().await).await;
    let status = running.handle.status();
    assert_eq!((status.copies_begun_again, status.sessions), (2, 1));
    running.stop().await;
    let model = Model::read_newest(rig).await;
    model.assert_equals(rig, "users", USERS).await;
    model.assert_equals(rig, "lines", LINES).await;
}

/// As Postgres 15 demands it after "could not map filenode", and as anybody may do by hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_gone_before_any_table_was_copied_is_made_again() {
    let rig = without_a_slot().await;
    copies_all_again(&rig).await;
}

/// The log has the record over the gap, and no other copies yet. The old ones do not contain what is in the gap.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_ended_behind_another_slot_leaves_no_copy_from_before_it() {
    let rig = without_a_slot().await;
    let mut config = rig.config.clone();
    // It finds out that it may not go on when it has made the slot.
    config.tables = "source.users".parse().unwrap();
    let error = rig.failure(config).await;
    assert_eq!(error.code(), Some("capture-publication-differs"), "{error}");
    copies_all_again(&rig).await;
}

/// A start made another slot and did not come to tell the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_ahead_of_a_log_without_any_copied_table_is_made_again() {
    let rig = without_a_slot().await;
    let slot = &rig.config.slot;
    rig.sql(&format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ))
    .await;
    copies_all_again(&rig).await;
}

/// Readers keep the rows of the copy before until the next one is complete, and would miss what is in the gap.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_gone_while_all_tables_are_copied_again_is_not_made_again() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    let mut writer = rig.connect().await;
    let write =
        "BEGIN; UPDATE source.users SET name = 'open'; UPDATE source.lines SET note = 'open'";
    sqlx::raw_sql(write).execute(&mut writer).await.unwrap();
    // Their copies wait for the writer.
    let publication = "ALTER PUBLICATION millrace";
    rig.sql(&format!(
        "{publication} DROP TABLE source.users, source.lines; {publication} ADD TABLE ONLY source.users, ONLY source.lines"
    ))
    .await;
    let tables = TABLES.map(|name| TableId::new("source", name)).to_vec();
    let again = TableRequest::Resnapshot(tables);
    running.handle.request(again).await.unwrap();
    running.kill().await;
    drop_slot(&rig).await;
    let mut running = rig.start();
    let named = |status: &Status| {
        let error = status.last_error.as_deref().unwrap_or_default();
        error.starts_with("capture-slot-missing")
    };
    running.until(named).await;
}

/// The log does not tell any more which keys were changed since the copy began.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_beginning_retention_removed_from_the_log_begins_again() {
    let rig = Rig::new(SETUP, &TABLES).await;
    small_topic(&rig).await;
    let mut running = rig.start();
    running.streaming().await;
    let lines = || vec![TableId::new("source", "lines")];
    let ask = |what| running.handle.request(what);
    ask(TableRequest::Remove(lines())).await.unwrap();
    let mut writer = rig.connect().await;
    let write = "BEGIN; INSERT INTO source.lines VALUES ('open', 1, 'for long')";
    sqlx::raw_sql(write).execute(&mut writer).await.unwrap();
    ask(TableRequest::Add(lines())).await.unwrap();
    let behind = rig.log().await.len() as i64;
    let log = rig.config.topic_changes.clone();
    let gone = async {
        while first_offset(&rig, &log).await < behind {
            let fill = "UPDATE source.users SET note = repeat('n', 1500000) WHERE user_id <= 4";
            rig.sql(fill).await;
            running.reaches(rig.end().await).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone)
        .await
        .expect("it is removed");
    running.kill().await;
    let mut running = rig.start();
    let begun = |status: &Status| status.copies_begun_again > 0;
    running.until(begun).await;
    sqlx::raw_sql("COMMIT").execute(&mut writer).await.unwrap();
    let status = running.streaming().await;
    assert_eq!((status.copies_begun_again, status.last_error), (1, None));
    running.stop().await;
}

/// Plans that are gone would be made anew under the numbers of chunks that are there, and rows be missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_topic_lost_its_beginning_begins_again() {
    let rows = "INSERT INTO source.users SELECT i, 'u', repeat('y', 4000) FROM generate_series(1000, 25000) i; ANALYZE";
    let mut rig = Rig::new(&format!("{SETUP} {rows}"), &["users"]).await;
    rig.config.chunk_rows_max = 200;
    rig.config.snapshot_readers = 1;
    rig.config.retention_of_snapshots.bytes = 16_000_000;
    let mut running = rig.start();
    copying(&mut running, 10).await;
    until_first_offset(&rig, "millrace-snapshot-1", 1).await;
    // It waits now, and is not complete.
    let mut holder = rig.connect().await;
    let lock = "BEGIN; LOCK TABLE source.users IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut holder).await.unwrap();
    let named = |status: &Status| {
        let notice = status.tables[0].notice.as_deref().unwrap_or_default();
        notice.contains("MILLRACE_RETENTION_HARD_SIZE")
    };
    let status = running.until(named).await;
    assert_eq!(status.tables[0].state, TableState::Copying);
    running.kill().await;
    drop(holder);
    let mut running = rig.start();
    let status = running.streaming().await;
    assert_eq!((status.copies_begun_again, status.last_error), (1, None));
    let copy = status.tables[0].copy;
    assert_eq!((copy.0, status.tables[0].rows), (2, 24_301));
    running.stop().await;
}
