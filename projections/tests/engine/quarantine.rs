//! Values that MySQL cannot hold, under each policy: in copies and in the stream, whatever is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millrace_events::{CopyId, Value};
use millrace_projections::engine::{Point, State, Status, TableState};
use rand::RngExt;

use super::source::text;
use super::world::{quarantined, Running, World, PATIENCE};
use super::{fill, thing};

const POLICIES: [&str; 3] = [
    "null",
    "text",
    "*=null,far.pairs.free=text,far.pairs.r*=text",
];

/// A world that makes up values that fit into no column.
async fn unfit(policies: &str) -> World {
    let mut world = World::new().await;
    world.source.unfit = true;
    world.values = policies.parse().expect(policies);
    fill(world)
}

/// A row of `things` with one value.
fn thing_with(id: i64, column: usize, value: &str) -> Vec<Value> {
    let mut row = thing(id, "x");
    row[column] = text(value);
    row
}

/// A row of `pairs` with one value.
pub(crate) fn pair_with(kind: &str, column: usize, value: &str) -> Vec<Value> {
    let mut row = vec![text(kind), Value::Int(1)];
    row.extend([const { Value::Null }; 4]);
    row[column] = text(value);
    row
}

fn values_of(status: &Status, table: &str) -> u64 {
    let tables = status.tables.iter();
    let found = tables.filter(|status| status.table.name == table);
    found.map(|status| status.quarantined).sum()
}

async fn joined(running: &Running, table: &str, copy: CopyId) {
    let there = |status: &Status| {
        let mut tables = status.tables.iter();
        let found = tables.find(|status| status.table.name == table);
        found
            .is_some_and(|it| (it.newest_copy, it.state, it.copy) == (copy, TableState::Live, None))
    };
    running.until(there).await;
}

pub(crate) async fn commit(world: &mut World, table: &str, row: Vec<Value>) {
    let change = world.source.put(table, row);
    world.source.commit(&[change], 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_every_commit_what_does_not_fit_is_in_quarantine_and_nothing_else() {
    for (policies, (transactions, part_bytes)) in
        POLICIES
            .iter()
            .zip([(1, 1 << 20), (7, 2_000), (1_000, 500)])
    {
        let mut world = unfit(policies).await;
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
        for _ in 0..super::TRANSACTIONS {
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
        counts_are_right(&mut world, &running).await;
        running.stop().await;
    }
}

/// The status says how many values stand in quarantine.
async fn counts_are_right(world: &mut World, running: &Running) {
    for (table, name) in [("things", "things"), ("pairs", "far__pairs")] {
        let found = quarantined(&mut world.conn, name).await.len() as u64;
        let counted = |status: &Status| values_of(status, table) == found;
        running.until(counted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_any_instant_leave_no_value_behind_and_none_out() {
    let mut world = unfit("*=null,source.things.*=text").await;
    world.limits.transactions = 3;
    world.limits.part_bytes = 1_000;
    let mut newest = BTreeMap::new();
    for round in 0..25 {
        match round % 3 {
            0 => {
                let table = ["things", "pairs"][round / 3 % 2];
                newest.insert(table, world.source.copy_under_traffic(table));
            }
            _ => (0..20).for_each(|_| world.source.random_transaction()),
        }
        let running = world.start();
        let pause = world.source.rng.random_range(0..150);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        running.kill().await;
    }
    let running = world.start();
    for (table, copy) in newest {
        joined(&running, table, copy).await;
    }
    world.caught_up(&running).await;
    counts_are_right(&mut world, &running).await;
    running.stop().await;
    assert!(quarantined(&mut world.conn, "things__shadow")
        .await
        .is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_after_any_step_of_a_copy_leave_the_quarantine_of_the_table_that_is_there() {
    let mut world = unfit("null").await;
    let running = world.start();
    world.caught_up(&running).await;
    running.stop().await;
    for fatal in [
        Point::Loaded,
        Point::CaughtUp,
        Point::Indexed,
        Point::Built,
        Point::Stamped,
        Point::Renamed,
        Point::Joined,
        Point::Cleared,
    ] {
        let mut points = world.watch_copying();
        let copy = world.source.copy_under_traffic("things");
        let running = world.start();
        let mut passed = BTreeSet::new();
        loop {
            let wait = tokio::time::timeout(PATIENCE, points.recv()).await;
            let (point, go_on) = wait.expect("in time").expect("it runs");
            // Each start clears, too.
            let begun = fatal < Point::Cleared || passed.contains(&Point::Joined);
            if point == fatal && begun {
                break;
            }
            passed.insert(point);
            go_on.send(()).expect("it waits");
        }
        running.kill().await;
        world.hooks.while_copying = None;
        let running = world.start();
        joined(&running, "things", copy).await;
        world.caught_up(&running).await;
        counts_are_right(&mut world, &running).await;
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_value_follows_its_policy_in_the_stream_and_in_a_copy_and_back() {
    let long = format!("1{}", "0".repeat(120_000));
    let things = [
        (2, "NaN"),
        (2, "-Infinity"),
        (2, "99999999999.99"),
        (4, "infinity"),
        (4, "0044-03-15 12:00:00+00 BC"),
        (4, "294276-12-31 23:59:59.999999+00"),
    ];
    let pairs = [
        (3, "Infinity"),
        (3, "NaN"),
        (4, "NaN"),
        (4, "0.0000000000000000000000000000001"),
        (4, long.as_str()),
        (5, "-infinity"),
        (5, "4713-01-01 BC"),
        (5, "5874897-12-31"),
    ];
    for policies in ["null", "text"] {
        let mut world = unfit(policies).await;
        let running = world.start();
        world.caught_up(&running).await;
        for (column, value) in things {
            commit(&mut world, "things", thing_with(500, column, value)).await;
            world.caught_up(&running).await;
        }
        for (column, value) in pairs {
            commit(&mut world, "pairs", pair_with("unfit", column, value)).await;
            world.caught_up(&running).await;
        }
        let found = quarantined(&mut world.conn, "far__pairs").await;
        let key = (
            r#"{"kind":"unfit","number":"1"}"#.to_owned(),
            "born".to_owned(),
        );
        assert_eq!(found.get(&key).map(String::as_str), Some("5874897-12-31"));
        for (n, (column, value)) in things.into_iter().enumerate() {
            commit(
                &mut world,
                "things",
                thing_with(600 + n as i64, column, value),
            )
            .await;
        }
        for (n, (column, value)) in pairs.into_iter().enumerate() {
            commit(
                &mut world,
                "pairs",
                pair_with(&format!("u{n}"), column, value),
            )
            .await;
        }
        world.caught_up(&running).await;
        for table in ["things", "pairs"] {
            let copy = world.source.copy_under_traffic(table);
            joined(&running, table, copy).await;
            world.caught_up(&running).await;
        }
        counts_are_right(&mut world, &running).await;
        for n in 0..things.len() as i64 {
            commit(&mut world, "things", thing(600 + n, "mended")).await;
        }
        commit(&mut world, "things", thing(500, "mended")).await;
        world.caught_up(&running).await;
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_leaves_such_a_value_unsent_keeps_it_also_at_another_key() {
    for policies in ["null", "text"] {
        let mut world = unfit(policies).await;
        let running = world.start();
        world.caught_up(&running).await;
        let long = format!("1{}", "0".repeat(20_000));
        commit(&mut world, "pairs", pair_with("one", 4, &long)).await;
        world.caught_up(&running).await;
        // In the column alone that is not sent, and in one of those that are.
        for (from, to, column) in [("one", "one", 3), ("one", "two", 3), ("two", "two", 5)] {
            let value = ["NaN", "0.5"][usize::from(from == to && column == 3)];
            let mut row = pair_with(to, column, if column == 5 { "infinity" } else { value });
            row[4] = text(&long);
            let change = world.source.change_unsent("pairs", from, row, "free");
            world.source.commit(&[change], 10);
            world.caught_up(&running).await;
        }
        counts_are_right(&mut world, &running).await;
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_mysql_cannot_hold_stops_its_table_under_every_policy() {
    for policies in ["stop", "null", "text"] {
        let mut world = World::new().await;
        world.values = policies.parse().expect(policies);
        let mut world = fill(world);
        let running = world.start();
        world.caught_up(&running).await;
        commit(&mut world, "pairs", pair_with(&"k".repeat(800), 4, "1")).await;
        let aside = |status: &Status| status.not_live().next().is_some();
        let status = running.until(aside).await;
        let found: Vec<_> = status.not_live().collect();
        assert_eq!(found.len(), 1, "{found:?}");
        let reason = found[0].1.unwrap_or_default();
        for part in ["MR-P005", "far.pairs", "kind", "longer than a MySQL key"] {
            assert!(reason.contains(part), "{reason}");
        }
        commit(&mut world, "things", thing(7, "others")).await;
        let lsn = world.the_rest_goes_on(&running).await;
        world.compare_one("things", lsn).await;
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_policy_counts_from_the_next_copy_on() {
    let mut world = fill(World::new().await);
    let running = world.start();
    world.caught_up(&running).await;
    commit(&mut world, "things", thing_with(7, 2, "NaN")).await;
    let aside = |status: &Status| status.not_live().next().is_some();
    running.until(aside).await;
    running.stop().await;
    for policy in ["null", "text", "stop"] {
        let policies = format!("source.things.*={policy}");
        world.values = policies.parse().expect("policies");
        if policy == "stop" {
            commit(&mut world, "things", thing(7, "mended")).await;
        }
        let running = world.start();
        let copy = world.source.copy_under_traffic("things");
        joined(&running, "things", copy).await;
        world.caught_up(&running).await;
        counts_are_right(&mut world, &running).await;
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_captured_no_longer_has_nothing_in_quarantine() {
    let mut world = unfit("null").await;
    let running = world.start();
    world.caught_up(&running).await;
    commit(&mut world, "things", thing_with(7, 2, "NaN")).await;
    world.caught_up(&running).await;
    world.source.remove_table("things");
    commit(&mut world, "pairs", pair_with("others", 4, "NaN")).await;
    let lsn = world.source.lsn;
    running
        .handle
        .wait_for(lsn, PATIENCE)
        .await
        .expect("it goes on");
    assert!(quarantined(&mut world.conn, "things").await.is_empty());
    world.compare_one("pairs", lsn).await;
    let copy = world.source.copy_under_traffic("things");
    joined(&running, "things", copy).await;
    world.caught_up(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_at_the_limits_of_a_double_are_held_exactly_or_are_in_quarantine() {
    let mut world = World::new().await;
    world.values = "null".parse().expect("policies");
    let mut world = fill(world);
    let running = world.start();
    world.caught_up(&running).await;
    let numbers = [
        "5e-324",
        "2.2250738585072014e-308",
        "1.7976931348623157e+308",
        "-0",
    ];
    for (n, number) in numbers.into_iter().enumerate() {
        commit(&mut world, "pairs", pair_with(&format!("d{n}"), 3, number)).await;
        world.caught_up(&running).await;
    }
    running.stop().await;
}
