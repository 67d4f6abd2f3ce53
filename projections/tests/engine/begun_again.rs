//! A log that was begun again in its topic: what is in MySQL stays as it is until new copies take its place.

use millrace_projections::engine::{MartState, Status, TableState};
use sqlx::Executor;

use super::copies::{reason_of, state_of, the_mart_is_right, with_a_mart_on, MART};
use super::memory_log::MemoryLog;
use super::source::{CHANGES, SNAPSHOT};
use super::support::Server;
use super::world::{read, Running, World};

/// Caught up, with some load behind it.
async fn followed() -> (World, Running) {
    let mut world = with_a_mart_on(Server::shared().await).await;
    let running = world.start();
    for _ in 0..20 {
        world.source.random_transaction();
    }
    world.caught_up(&running).await;
    (world, running)
}

/// The database is another one from here on: its positions are lower, and nobody was told of some of its changes.
fn begin_again(world: &mut World) {
    let log = std::mem::replace(&mut world.source.log, MemoryLog::new());
    for _ in 0..20 {
        world.source.random_transaction();
    }
    world.source.log = log;
    world.source.begin_again();
}

async fn heard(world: &World, running: &Running) -> Status {
    let own = Some(world.source.incarnation.clone());
    running.until(|status| status.incarnation == own).await
}

/// All is copied again, and goes on.
async fn copied(world: &mut World, running: &Running) {
    world.source.copy_all();
    for _ in 0..10 {
        world.source.random_transaction();
    }
    heard(world, running).await;
    world.caught_up(running).await;
    the_mart_is_right(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_stays_readable_and_is_not_live_until_it_was_copied_again() {
    let (mut world, running) = followed().await;
    let things = world.source.schemas[0].clone();
    let table = world.replica(&things);
    let before = read(&mut world.conn, &table, "").await;
    begin_again(&mut world);
    // As capture does, before anything else.
    world.source.checkpoint();
    world.source.random_transaction();
    heard(&world, &running).await;
    let status = running
        .until(|status| state_of(status, "things") == Some(TableState::SetAside))
        .await;
    assert_eq!(state_of(&status, "pairs"), Some(TableState::SetAside));
    let reason = reason_of(&status, "things");
    assert!(reason.contains("MR-P024"), "{reason}");
    assert_eq!(status.marts[0].state, MartState::SetAside);
    assert_eq!(read(&mut world.conn, &table, "").await, before);
    the_mart_is_right(&mut world).await;
    // The rest of the log goes on over a restart, too.
    running.kill().await;
    let running = world.start();
    running
        .until(|status| status.end_lsn == Some(world.source.lsn))
        .await;
    copied(&mut world, &running).await;
    running.stop().await;
}

/// Its copy from before it is void, however far it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_under_way_comes_to_nothing() {
    let (mut world, running) = followed().await;
    let copy = world.source.begin_copy(&["things"]);
    world.source.chunk(copy, "things", 1, 2);
    let loading = |status: &Status| status.tables.iter().any(|table| table.copy.is_some());
    running.until(loading).await;
    begin_again(&mut world);
    copied(&mut world, &running).await;
    running.stop().await;
}

/// Whatever has become of the records that it stood at.
#[tokio::test(flavor = "multi_thread")]
async fn a_projector_that_was_away_begins_at_the_checkpoint() {
    let (mut world, running) = followed().await;
    running.stop().await;
    begin_again(&mut world);
    world.source.checkpoint();
    let end = world.source.log.values(CHANGES).len() as u64;
    world.source.log.evict(CHANGES, end - 1);
    let running = world.start();
    copied(&mut world, &running).await;
    // Once more, over one that it has never heard of.
    running.stop().await;
    begin_again(&mut world);
    begin_again(&mut world);
    world.source.checkpoint();
    let running = world.start();
    copied(&mut world, &running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_lost_with_its_copies_is_begun_again_with_their_numbers() {
    let (mut world, running) = followed().await;
    running.stop().await;
    world.source.log.truncate(CHANGES, 0);
    world.source.log.truncate(SNAPSHOT, 0);
    world.source.copies = 0;
    world.source.begin_again();
    world.source.checkpoint();
    let running = world.start();
    copied(&mut world, &running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_that_is_killed_where_the_log_begins_again_goes_on_there() {
    let (mut world, running) = followed().await;
    world.source.checkpoint();
    begin_again(&mut world);
    heard(&world, &running).await;
    // The newest checkpoint is still that of the log before.
    running.kill().await;
    let running = world.start();
    running.until(|status| status.end_lsn.is_some()).await;
    copied(&mut world, &running).await;
    running.stop().await;
}

/// Of a table that the source does not have any more there is no new copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_not_captured_any_more_is_removed() {
    let (mut world, running) = followed().await;
    begin_again(&mut world);
    let things = world.source.begin_copy(&["things"]);
    world.source.chunk(things, "things", 1, 1);
    world.source.copied(things, "things", 1);
    world.source.remove_table("pairs");
    world.source.random_transaction();
    let status = running
        .until(|status| state_of(status, "pairs") == Some(TableState::Removed))
        .await;
    assert!(reason_of(&status, MART).contains("far.pairs"), "{status:?}");
    world
        .conn
        .execute("SELECT 1 FROM far__pairs")
        .await
        .expect("it stays");
    running.stop().await;
}
