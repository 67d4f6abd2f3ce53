//! The projector against a real MySQL or MariaDB, over a log in memory that misbehaves.

mod attack;
mod begun_again;
mod checkpoints;
mod copies;
mod hand;
mod memory_log;
mod names;
mod outage;
mod pause;
mod periodic;
mod pool;
mod quarantine;
mod refusals;
mod settings;
mod shop;
mod source;
#[path = "../support/mod.rs"]
mod support;
mod trips;
mod wide;
mod world;

use std::time::Duration;

use millrace_events::{Baseline, Lsn, Record, Value};
use millrace_projections::engine::{HoldError, State, Status};
use millrace_projections::verify::By;
use millrace_topic::SmartModule;
use rand::RngExt;
use sqlx::Executor;

use source::{text, CHANGES, MAIN_SCHEMA, SNAPSHOT};
use world::{World, PATIENCE};

const TRANSACTIONS: usize = 150;

pub(crate) async fn filled() -> World {
    filled_on(support::Server::shared().await).await
}

pub(crate) async fn filled_on(server: &support::Server) -> World {
    fill(World::on(server).await)
}

/// Rows and a copy of them, and nothing else in the log.
pub(crate) fn fill(mut world: World) -> World {
    for _ in 0..30 {
        world.source.random_transaction();
    }
    // What went before is only in the snapshot.
    world.source.log.truncate(CHANGES, 0);
    world.source.history.clear();
    world.source.snapshot(5);
    world
}

pub(crate) fn thing(id: i64, name: &str) -> Vec<Value> {
    let time = "2024-01-01 00:00:00+00";
    vec![
        Value::Int(id),
        text(name),
        text("1.00"),
        text("n"),
        text(time),
        Value::Bool(true),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_commit_shows_the_source_at_its_lsn() {
    for (transactions, part_bytes) in [(1, 1 << 20), (7, 2_000), (1_000, 500)] {
        let mut world = filled().await;
        world.limits.transactions = transactions;
        world.limits.part_bytes = part_bytes;
        world.source.log.be_faulty();
        let mut commits = world.watch_commits();
        let running = world.start();
        while running.handle.status().state != State::Live {
            let (_, go_on) = tokio::select! {
                commit = commits.recv() => commit.expect("it runs"),
                () = running.live() => break,
            };
            go_on.send(()).expect("it waits");
        }
        for _ in 0..TRANSACTIONS {
            world.source.random_transaction();
        }
        loop {
            let commit = tokio::time::timeout(PATIENCE, commits.recv()).await;
            let commit = commit.unwrap_or_else(|_| panic!("stuck: {:?}", running.handle.status()));
            let (lsn, go_on) = commit.expect("it runs");
            world.compare(lsn).await;
            go_on.send(()).expect("it waits");
            if lsn == world.source.lsn {
                break;
            }
        }
        let status = running.handle.status();
        assert!(
            status.batches <= status.transactions + TRANSACTIONS as u64,
            "{status:?}"
        );
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_any_instant_lose_nothing_and_repeat_nothing() {
    let mut world = filled().await;
    world.limits.transactions = 3;
    world.limits.part_bytes = 1_000;
    for round in 0..25 {
        for _ in 0..20 {
            world.source.random_transaction();
        }
        let running = world.start();
        let pause = world.source.rng.random_range(0..120 + round);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        running.kill().await;
    }
    let running = world.start();
    world.caught_up(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_die_are_replaced() {
    let mut world = filled().await;
    world.limits.transactions = 2;
    let running = world.start();
    running.live().await;
    for _ in 0..12 {
        for _ in 0..20 {
            world.source.random_transaction();
        }
        world.end_connections().await;
        let pause = world.source.rng.random_range(0..150);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    world.caught_up(&running).await;
    assert!(running.handle.status().retries > 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_of_others_are_waited_for_and_the_batch_is_repeated() {
    let mut world = filled().await;
    let change = world.source.put("things", thing(1, "free"));
    world.source.commit(&[change], 10);
    let running = world.start();
    world.caught_up(&running).await;
    let change = world.source.put("things", thing(1, "locked"));
    world.conn.execute("BEGIN").await.expect("begin");
    world
        .conn
        .execute("SELECT * FROM things FOR UPDATE")
        .await
        .expect("locks");
    world.source.commit(&[change], 10);
    // Beyond the session's own limit for locks.
    tokio::time::sleep(Duration::from_secs(22)).await;
    world.conn.execute("ROLLBACK").await.expect("rollback");
    world.caught_up(&running).await;
    assert!(running.handle.status().retries > 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_is_invisible_until_it_is_whole_and_leaves_nothing_when_void() {
    let mut world = filled().await;
    world.limits.part_bytes = 3_000;
    let running = world.start();
    world.caught_up(&running).await;
    let before = world.source.state.clone();
    let changes: Vec<_> = (100..400)
        .map(|id| world.source.put("things", thing(id, "large")))
        .collect();
    let parts = world.source.parts(&changes, 10);
    for part in &parts[..parts.len() / 2] {
        world.source.log.append(CHANGES, part.clone());
    }
    let mut status = running.handle.watch();
    let applied = status.wait_for(|status| status.changes >= 100);
    tokio::time::timeout(PATIENCE, applied)
        .await
        .expect("in time")
        .expect("alive");
    world.compare(world.source.lsn).await;

    world.source.start();
    world.source.state = before;
    let small = world.source.put("things", thing(3, "small"));
    world.source.commit(&[small], 10);
    world.caught_up(&running).await;

    let changes: Vec<_> = (100..400)
        .map(|id| world.source.put("things", thing(id, "again")))
        .collect();
    world.source.commit(&changes, 10);
    world.caught_up(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_projector_takes_over_and_the_first_leaves() {
    let mut world = filled().await;
    let first = world.start();
    first.live().await;
    let second = world.start();
    second.live().await;
    world.source.random_transaction();
    assert_eq!(first.error().await.code(), "MR-P013");
    world.caught_up(&second).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_not_ours_are_named_and_not_touched() {
    let mut world = filled().await;
    world
        .conn
        .execute("CREATE TABLE far__pairs (x INT)")
        .await
        .expect("a foreign table");
    world
        .conn
        .execute("INSERT INTO far__pairs VALUES (7)")
        .await
        .expect("its row");
    let error = world.start().error().await;
    assert_eq!(error.code(), "MR-P003");
    assert!(error.to_string().contains("far__pairs"), "{error}");
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM far__pairs WHERE x = 7")
        .fetch_one(&mut world.conn)
        .await
        .expect("it is still there");
    assert_eq!(rows, 1);
    let things = sqlx::query("SELECT 1 FROM things")
        .fetch_all(&mut world.conn)
        .await;
    assert!(things.is_err(), "nothing was created");
    world
        .conn
        .execute("DROP TABLE far__pairs")
        .await
        .expect("the owner makes room");
    let running = world.start();
    world.caught_up(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_keep_the_names_they_were_loaded_under_whatever_schema_is_the_main_one_later() {
    let mut world = filled().await;
    for main_schema in [Some(MAIN_SCHEMA), Some("far"), None] {
        world.main_schema = main_schema.map(str::to_owned);
        world.source.random_transaction();
        let running = world.start();
        world.caught_up(&running).await;
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_does_not_fit_the_replica_is_refused() {
    let mut world = filled().await;
    for _ in 0..5 {
        let change = world.source.put("things", thing(1, "x"));
        world.source.commit(&[change], 10);
    }
    let running = world.start();
    world.caught_up(&running).await;
    let end = running.handle.status().offset.expect("a position").0;
    running.stop().await;

    let log = world.source.log.clone();
    log.truncate(CHANGES, end as usize);
    assert_eq!(world.start().error().await.code(), "MR-P007");
    world.source.progress();
    assert_eq!(world.start().error().await.code(), "MR-P007");

    log.evict(CHANGES, end + 1);
    let evicted = world.start();
    let handle = evicted.handle.clone();
    assert_eq!(evicted.error().await.code(), "MR-P009");
    let status = handle.status();
    assert_eq!(status.state, State::Stopped);
    assert!(status.error.is_some_and(|error| error.contains("MR-P009")));
    log.evict(CHANGES, 0);
    log.truncate(CHANGES, 0);
    log.truncate(SNAPSHOT, 0);
    world.source.incarnation = "second".into();
    world.source.snapshot(5);
    assert_eq!(world.start().error().await.code(), "MR-P006");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_baseline_of_a_fenced_capture_is_not_followed() {
    let mut world = World::new().await;
    world.source.random_transaction();
    world.source.log.truncate(CHANGES, 0);
    world.source.history.clear();
    world.source.start();
    let late = Baseline {
        epoch: world.source.epoch,
        incarnation: "fenced".into(),
        lsn: Lsn(world.source.lsn.0 - 10),
        system: "1".into(),
        database: "db".into(),
        at: source::at(),
        again: None,
    };
    world.source.start();
    let late = Record::Baseline(late).encode();
    world.source.log.append(CHANGES, late);
    world.source.snapshot(5);
    world.source.random_transaction();
    for _ in 0..2 {
        let running = world.start();
        world.caught_up(&running).await;
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_smartmodule_than_that_of_the_tables_is_refused() {
    let mut world = filled().await;
    let running = world.start();
    world.caught_up(&running).await;
    running.stop().await;
    world.smartmodule = Some(SmartModule {
        name: "columns".into(),
        params: [("plan".into(), "{}".into())].into(),
    });
    assert_eq!(world.start().error().await.code(), "MR-P022");
    world.smartmodule = None;
    let running = world.start();
    world.caught_up(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_begins_late_is_waited_for_longer_at_each_attempt() {
    let mut world = filled().await;
    world.limits.silence = Duration::from_millis(500);
    // Beyond what the first attempts wait for.
    world.source.log.begin_after(Duration::from_millis(1_800));
    let running = world.start();
    let said = |status: &Status| {
        let error = status.log_error.as_ref();
        error.is_some_and(|error| error.contains("did not begin within"))
    };
    running.until(said).await;
    world.caught_up(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_in_the_log_stops_with_a_code() {
    let world = filled().await;
    let running = world.start();
    running.live().await;
    world.source.log.append(CHANGES, b"{}".to_vec());
    let error = running.error().await;
    assert_eq!(error.code(), "MR-P008");
    assert!(error.to_string().contains("MR-P008"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_stops_before_a_commit_and_ends_by_itself() {
    let mut world = filled().await;
    world.limits.hold = Duration::from_secs(5);
    let running = world.start();
    world.caught_up(&running).await;
    let held = running
        .handle
        .hold(By::Person, PATIENCE)
        .await
        .expect("it holds");
    let busy = running.handle.hold(By::Person, PATIENCE).await;
    assert_eq!(busy, Err(HoldError::Busy(held)));
    let start = world.source.lsn;
    for n in 0..6 {
        let change = world.source.put("things", thing(n, "held"));
        world.source.commit(&[change], 10);
    }
    assert_eq!(running.handle.status().end_lsn, Some(start));
    // Just behind the third commit, and before the fourth.
    let fence = Lsn(start.0 + 3 * 50 + 5);
    running
        .handle
        .stop_before(held, fence, PATIENCE)
        .await
        .expect("it stops");
    let at = running.handle.status().end_lsn.expect("a position");
    assert_eq!(at, Lsn(start.0 + 150));
    world.compare(at).await;
    running.handle.release(held).expect("it was held until now");
    world.caught_up(&running).await;

    let held = running
        .handle
        .hold(By::Person, PATIENCE)
        .await
        .expect("it holds");
    let change = world.source.put("things", thing(1, "after"));
    world.source.commit(&[change], 10);
    world.caught_up(&running).await;
    assert_eq!(running.handle.release(held), Err(HoldError::Lost));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_follows_another_at_once_is_not_misled_by_it() {
    let mut world = filled().await;
    let running = world.start();
    world.caught_up(&running).await;
    for round in 0..40 {
        let held = running
            .handle
            .hold(By::Person, PATIENCE)
            .await
            .expect("it holds");
        let start = world.source.lsn;
        for n in 0..4 {
            let change = world.source.put("things", thing(n, &round.to_string()));
            world.source.commit(&[change], 10);
        }
        let first = Lsn(start.0 + 55);
        running
            .handle
            .stop_before(held, first, PATIENCE)
            .await
            .expect("it stops");
        running.handle.release(held).expect("it was held");
        let held = running
            .handle
            .hold(By::Person, PATIENCE)
            .await
            .expect("it holds");
        let second = Lsn(start.0 + 155);
        match running.handle.stop_before(held, second, PATIENCE).await {
            Ok(()) => assert_eq!(running.handle.status().end_lsn, Some(Lsn(start.0 + 150))),
            // It was faster than the second hold.
            Err(error) => assert!(matches!(error, HoldError::Passed(_)), "{error}"),
        }
        running.handle.release(held).expect("it was held");
        world.caught_up(&running).await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_source_moves_the_position_within_two_seconds() {
    let mut world = filled().await;
    let running = world.start();
    world.caught_up(&running).await;
    for idle in [true, false] {
        match idle {
            true => world.source.progress(),
            false => world.source.commit(&[], 1),
        }
        let waited = running
            .handle
            .wait_for(world.source.lsn, Duration::from_secs(2))
            .await;
        waited.expect("in time");
    }
    let mut status = running.handle.watch();
    let caught_up = status.wait_for(|status| status.lag_records == Some(0));
    tokio::time::timeout(PATIENCE, caught_up)
        .await
        .expect("in time")
        .expect("alive");
    assert_eq!(running.handle.status().state, State::Live);
    running.stop().await;
}
