//! The one way back from whatever voids the log: it is begun again in its topic, and all tables are copied once more.

use std::sync::Arc;
use std::time::Duration;

use millrace_events::Lsn;
use millrace_postgres_cdc::{RequestError, Selection, State, Status, TableRequest};

use sqlx::{Connection, PgConnection};

use crate::model::Model;
use crate::postgres::Postgres;
use crate::rig::{Rig, Running};
use crate::writers::{Writers, ORDERS, SETUP, TABLES, USERS};

const SECOND: Duration = Duration::from_secs(1);

async fn own_server() -> (Arc<Postgres>, Rig) {
    let postgres = tokio::task::spawn_blocking(Postgres::own).await.unwrap();
    let mut rig = Rig::on(postgres.clone(), SETUP, &TABLES).await;
    rig.config.backoff_max = SECOND;
    (postgres, rig)
}

async fn shared_server() -> Rig {
    let mut rig = Rig::new(SETUP, &TABLES).await;
    rig.config.backoff_max = SECOND;
    rig
}

/// Lets capture follow some load.
async fn followed(rig: &Rig) -> Running {
    let writers = Writers::start(rig, 2, rand::random()).await;
    let mut running = rig.start();
    running.streaming().await;
    let before = running.handle.status().transactions;
    running.until(|now| now.transactions >= before + 20).await;
    writers.stop().await;
    running
}

/// Waits until capture says this, and does what it says, under load. In the end the log has everything.
async fn mended(rig: &Rig, mut running: Running, code: &str) {
    let says_how = |status: &Status| {
        let reason = status.last_error.as_deref().unwrap_or_default();
        reason.contains("`millrace tables begin-again`")
    };
    let void = running
        .until(|status| status.state == State::Void && says_how(status))
        .await;
    let reason = void.last_error.unwrap();
    assert!(reason.starts_with(code), "{reason}");
    let writers = Writers::start(rig, 2, rand::random()).await;
    running.begin_again().await;
    running.streaming().await;
    assert_eq!(
        running.handle.request(TableRequest::BeginAgain).await,
        Err(RequestError::Refused(
            "the log goes on, so that it need not be begun again; `millrace tables resnapshot` copies single tables".into()
        ))
    );
    writers.stop().await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    // The next start finds a log that goes on.
    let mut running = rig.start();
    running.streaming().await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read_newest(rig).await;
    assert_eq!(model.begun_again, 1);
    model.assert_equals(rig, "users", USERS).await;
    model.assert_equals(rig, "orders", ORDERS).await;
}

async fn drop_slot(rig: &Rig) {
    let slot = &rig.config.slot;
    let drop = format!(
        "SELECT count(pg_drop_replication_slot(slot_name))::text FROM pg_replication_slots WHERE slot_name = '{slot}' AND NOT active"
    );
    let dropped = async {
        while rig.text(&drop).await != "1" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let dropped = tokio::time::timeout(crate::rig::PATIENCE, dropped).await;
    dropped.expect("the slot goes");
}

const UNSEEN: &str =
    "UPDATE source.users SET name = 'unseen'; DELETE FROM source.orders WHERE order_id % 3 = 0;
    INSERT INTO source.users VALUES (100000, 'unseen', NULL)";

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_dropped() {
    let rig = shared_server().await;
    followed(&rig).await.stop().await;
    drop_slot(&rig).await;
    rig.sql(UNSEEN).await;
    mended(&rig, rig.start(), "capture-slot-missing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_advanced_by_somebody_else() {
    let rig = shared_server().await;
    followed(&rig).await.stop().await;
    rig.sql(UNSEEN).await;
    let slot = &rig.config.slot;
    let advance = format!(
        "SELECT count(pg_replication_slot_advance(slot_name, pg_current_wal_lsn()))::text
           FROM pg_replication_slots WHERE slot_name = '{slot}' AND NOT active"
    );
    let advanced = async {
        while rig.text(&advance).await != "1" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let advanced = tokio::time::timeout(crate::rig::PATIENCE, advanced).await;
    advanced.expect("the slot is free, and moves");
    mended(&rig, rig.start(), "capture-log-lost-records").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_whose_wal_postgres_has_removed() {
    let (_postgres, rig) = own_server().await;
    followed(&rig).await.stop().await;
    rig.sql(UNSEEN).await;
    let limit = "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'; SELECT pg_reload_conf()";
    for statement in limit.split("; ") {
        rig.sql(statement).await;
    }
    let status = format!(
        "SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{}'",
        rig.config.slot
    );
    while rig.text(&status).await != "lost" {
        rig.sql("INSERT INTO source.unseen SELECT generate_series(1, 10000)")
            .await;
        rig.sql("SELECT pg_switch_wal()").await;
        rig.sql("CHECKPOINT").await;
    }
    rig.sql("ALTER SYSTEM RESET max_slot_wal_keep_size").await;
    rig.sql("SELECT pg_reload_conf()").await;
    mended(&rig, rig.start(), "capture-slot-lost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_was_dropped_under_a_running_capture() {
    let rig = shared_server().await;
    let running = followed(&rig).await;
    rig.sql("DROP PUBLICATION millrace").await;
    rig.sql(UNSEEN).await;
    mended(&rig, running, "capture-publication-gone").await;
}

/// What stops that, too, is said and changes nothing; the log is begun again when it is out of the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_was_put_back_with_a_filter() {
    let rig = shared_server().await;
    followed(&rig).await.stop().await;
    rig.sql("DROP PUBLICATION millrace").await;
    rig.sql(UNSEEN).await;
    rig.sql(
        "CREATE PUBLICATION millrace FOR TABLE source.users WHERE (user_id > 7), source.orders \
         WITH (publish_via_partition_root = true)",
    )
    .await;
    let mut running = rig.start();
    running.until(|status| status.state == State::Void).await;
    let refused = running.handle.request(TableRequest::BeginAgain).await;
    let Err(RequestError::NotNow(reason)) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("row filters"), "{reason}");
    rig.sql("DROP PUBLICATION millrace").await;
    mended(&rig, running, "capture-").await;
}

/// A data directory as it was at some moment before.
enum Copy {
    /// While capture followed.
    Followed,
    /// Before capture ever came: without slot and publication.
    Before,
}

/// Restores it, and has the server write more than it did before, or not.
async fn restored(copy: Copy, beyond: bool, promoted: bool) -> (Rig, Running) {
    let (postgres, rig) = own_server().await;
    if let Copy::Before = copy {
        postgres.stop();
        postgres.keep();
        postgres.start_again();
    }
    let mut running = followed(&rig).await;
    if let Copy::Followed = copy {
        postgres.stop();
        postgres.keep();
        postgres.start_again();
    }
    rig.sql(UNSEEN).await;
    running.reaches(rig.end().await).await;
    let running = match beyond {
        true => {
            running.stop().await;
            None
        }
        false => Some(running),
    };
    let position = Model::position(&rig).await;
    postgres.stop();
    postgres.restore();
    if promoted {
        postgres.promote_at_start();
    }
    postgres.start_again();
    if promoted {
        primary(&rig).await;
    }
    if beyond {
        write_beyond(&rig, position).await;
    }
    let running = running.unwrap_or_else(|| rig.start());
    (rig, running)
}

/// Waits until the recovery is over.
async fn primary(rig: &Rig) {
    let promoted = async {
        while PgConnection::connect(&rig.config.postgres_url)
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let promoted = tokio::time::timeout(crate::rig::PATIENCE, promoted).await;
    promoted.expect("it becomes a primary");
}

async fn write_beyond(rig: &Rig, position: Lsn) {
    while rig.lsn("SELECT pg_current_wal_flush_lsn()::text").await <= position {
        rig.sql("UPDATE source.users SET note = repeat('m', 3000) WHERE user_id < 100")
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_restored_under_a_running_capture() {
    let (rig, running) = restored(Copy::Followed, false, false).await;
    mended(&rig, running, "capture-log-ahead").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_restored_and_written_to() {
    let (rig, running) = restored(Copy::Followed, true, false).await;
    mended(&rig, running, "capture-history-differs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_restored_and_promoted() {
    let (rig, running) = restored(Copy::Followed, true, true).await;
    mended(&rig, running, "capture-history-differs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_restored_to_before_capture_came() {
    let (rig, running) = restored(Copy::Before, false, false).await;
    mended(&rig, running, "capture-log-ahead").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_restored_to_before_capture_came_and_written_to() {
    let (rig, running) = restored(Copy::Before, true, false).await;
    mended(&rig, running, "capture-").await;
}

/// The log says that it is captured no longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_restored_to_before_a_table_was_added() {
    let (postgres, mut rig) = own_server().await;
    let both: Selection = "source.users,source.orders,source.late*".parse().unwrap();
    rig.config.tables = both;
    let running = followed(&rig).await;
    postgres.stop();
    postgres.keep();
    postgres.start_again();
    rig.sql("CREATE TABLE source.later (id int PRIMARY KEY); INSERT INTO source.later VALUES (1)")
        .await;
    let mut running = running;
    let later = vec!["source.later".parse().unwrap()];
    let added = async {
        loop {
            let added = running.handle.request(TableRequest::Add(later.clone()));
            match added.await {
                // It has not connected again.
                Err(RequestError::NotNow(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                other => break other.unwrap(),
            }
        }
    };
    let added = tokio::time::timeout(crate::rig::PATIENCE, added).await;
    added.expect("it connects again");
    running.streaming().await;
    running.reaches(rig.end().await).await;
    postgres.stop();
    postgres.restore();
    postgres.start_again();
    running.begin_again().await;
    running.streaming().await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read_newest(&rig).await;
    model.assert_equals(&rig, "users", USERS).await;
    model.assert_equals(&rig, "orders", ORDERS).await;
    assert_eq!(model.removed, ["source.later".parse().unwrap()]);
}
