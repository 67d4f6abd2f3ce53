//! Tables that are copied, for the first time and again, while everything else goes on.

use std::collections::{BTreeMap, BTreeSet};

use millrace_events::{CopyId, Op, Row as SourceRow, Value};
use millrace_projections::engine::{DropError, MartState, Point, Status, TableState};
use millrace_projections::marts::Marts;
use millrace_sessions::mysql::Session;
use rand::RngExt;
use sqlx::{Executor, Row};

use super::source::{self, text};
use super::support::Server;
use super::world::{Running, World, PATIENCE};
use super::{filled, filled_on, thing};

pub(super) const MART: &str = "pairs_of_things";
const MART_SQL: &str = "SELECT d.id, d.name, COUNT(*) AS pair_count, SUM(f.free) AS free_sum \
    FROM things d JOIN far__pairs f ON f.number = d.id GROUP BY d.id, d.name";
const MART_JSON: &str = r#"{
    "fact": {"table": "far__pairs", "key": ["kind", "number"], "join": "number", "value": "free"},
    "dimension": {"table": "things", "key": "id"},
    "columns": [{"dimension": "id"}, {"dimension": "name"}, {"count": "pair_count"}, {"sum": "free_sum"}]
}"#;

/// A world with a mart over both of its tables.
async fn with_a_mart() -> World {
    with_a_mart_on(Server::shared().await).await
}

pub(super) async fn with_a_mart_on(server: &Server) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    for (end, content) in [("sql", MART_SQL), ("json", MART_JSON)] {
        let path = folder.path().join(format!("{MART}.{end}"));
        std::fs::write(path, content).expect("a mart");
    }
    let mut world = filled_on(server).await;
    world.marts = Marts::read(folder.path()).expect("a mart");
    world
}

async fn rows(conn: &mut Session, sql: &str) -> BTreeMap<i64, (String, i64, Option<String>)> {
    let sql = format!(
        "SELECT id, COALESCE(name, 'NULL'), pair_count, CAST(free_sum AS CHAR) FROM ({sql}) AS r"
    );
    let rows = conn.fetch_all(sql.as_str()).await.expect("rows");
    let row = |row: &sqlx::mysql::MySqlRow| {
        let rest = (row.get_unchecked(1), row.get(2), row.get_unchecked(3));
        (row.get(0), rest)
    };
    rows.iter().map(row).collect()
}

/// The mart is its SQL over the replica.
pub(super) async fn the_mart_is_right(world: &mut World) {
    let found = rows(&mut world.conn, &format!("SELECT * FROM {MART}")).await;
    assert_eq!(found, rows(&mut world.conn, MART_SQL).await);
}

pub(super) fn state_of(status: &Status, table: &str) -> Option<TableState> {
    let found = status
        .tables
        .iter()
        .find(|status| status.table.name == table);
    found.map(|status| status.state)
}

pub(super) fn reason_of(status: &Status, name: &str) -> String {
    let found = status.not_live().find(|(known, _)| known.ends_with(name));
    found
        .and_then(|(_, reason)| reason.map(str::to_owned))
        .unwrap_or_default()
}

/// Waits until the copy of a table has become the table.
pub(super) async fn joined(running: &Running, table: &str, copy: CopyId) {
    let there = |status: &Status| {
        let found = status
            .tables
            .iter()
            .find(|status| status.table.name == table);
        found
            .is_some_and(|it| (it.newest_copy, it.state, it.copy) == (copy, TableState::Live, None))
    };
    running.until(there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_in_any_order_and_twice_under_traffic_give_the_table_as_it_is() {
    let mut world = with_a_mart().await;
    world.limits.transactions = 5;
    world.limits.part_bytes = 2_000;
    world.source.log.be_faulty();
    let running = world.start();
    world.caught_up(&running).await;
    for _ in 0..12 {
        let table = ["things", "pairs"][world.source.rng.random_range(0..2)];
        let copy = world.source.copy_under_traffic(table);
        world.source.random_transaction();
        joined(&running, table, copy).await;
        world.caught_up(&running).await;
        the_mart_is_right(&mut world).await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_killed_after_any_step_goes_on_where_it_was() {
    let mut world = with_a_mart().await;
    world.limits.part_bytes = 2_000;
    let (mut killed_at, mut newest) = (BTreeSet::new(), BTreeMap::new());
    for round in 0..40 {
        let mut points = world.watch_copying();
        if round > 0 {
            let table = ["things", "pairs"][round % 2];
            newest.insert(table, world.source.copy_under_traffic(table));
        }
        let running = world.start();
        let (mut passed, mut joined) = (0, false);
        loop {
            let wait = tokio::time::timeout(PATIENCE, points.recv()).await;
            let (point, go_on) = wait.expect("in time").expect("it runs");
            passed += 1;
            let ripe = point > Point::CaughtUp || passed > round % 5;
            if ripe && killed_at.insert(point) {
                break;
            }
            go_on.send(()).expect("it waits");
            joined |= point == Point::Joined;
            if joined && point == Point::Cleared {
                break;
            }
        }
        running.kill().await;
        if killed_at.len() == 8 {
            break;
        }
    }
    assert_eq!(killed_at.len(), 8, "{killed_at:?}");
    world.hooks.while_copying = None;
    let running = world.start();
    for (table, copy) in newest {
        joined(&running, table, copy).await;
    }
    world.caught_up(&running).await;
    the_mart_is_right(&mut world).await;
    running.stop().await;
    // Whatever the last one was about to drop is dropped at the start.
    let running = world.start();
    running.live().await;
    running.stop().await;
    let left: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() \
         AND (table_name LIKE '%\\_\\_shadow' OR table_name LIKE '%\\_\\_retired')",
    )
    .fetch_one(&mut world.conn)
    .await
    .expect("a count");
    assert_eq!(left, 0, "tables on their way");
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_while_tables_are_copied_lose_nothing() {
    let mut world = with_a_mart().await;
    world.limits.transactions = 3;
    world.limits.part_bytes = 1_000;
    for round in 0..20 {
        let table = ["things", "pairs"][round % 2];
        world.source.copy_under_traffic(table);
        let running = world.start();
        let pause = world.source.rng.random_range(0..150);
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        running.kill().await;
    }
    let running = world.start();
    world.caught_up(&running).await;
    the_mart_is_right(&mut world).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drifted_table_is_repaired_to_the_last_row_while_it_stays_live() {
    let mut world = with_a_mart().await;
    let running = world.start();
    world.caught_up(&running).await;
    for sql in [
        "INSERT INTO things (id, name) VALUES (4711, 'drifted')",
        "UPDATE things SET name = 'drifted' LIMIT 1",
    ] {
        world.conn.execute(sql).await.expect("a drift");
    }
    let mut commits = world.watch_commits();
    running.kill().await;
    let running = world.start();
    let handle = running.handle.clone();
    let watcher = tokio::spawn(async move {
        let mut lost = Vec::new();
        while let Some((lsn, go_on)) = commits.recv().await {
            let status = handle.status();
            lost.extend(
                status
                    .not_live()
                    .map(|(name, _)| format!("{name} at {lsn}")),
            );
            let _ = go_on.send(());
        }
        lost
    });
    running.live().await;
    let copy = world.source.copy_under_traffic("things");
    joined(&running, "things", copy).await;
    world.caught_up(&running).await;
    the_mart_is_right(&mut world).await;
    running.stop().await;
    world.hooks.after_commit = None;
    assert_eq!(watcher.await.expect("no panic"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_copy_takes_the_place_of_one_that_is_under_way() {
    let mut world = filled().await;
    let running = world.start();
    world.caught_up(&running).await;
    let first = world.source.begin_copy(&["things"]);
    world.source.chunk(first, "things", 1, 2);
    world.source.random_transaction();
    let second = world.source.copy_under_traffic("things");
    // What still comes of the old one is void.
    world.source.chunk(first, "things", 2, 2);
    world.source.copied(first, "things", 2);
    assert!(second > first);
    joined(&running, "things", second).await;
    world.caught_up(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mart_that_fails_is_set_aside_alone_and_built_again_on_request() {
    let mut world = with_a_mart().await;
    let running = world.start();
    world.caught_up(&running).await;
    let alter = format!("ALTER TABLE millrace_{MART}_groups DROP COLUMN millrace_sum");
    world.conn.execute(alter.as_str()).await.expect("altered");
    let change = world.source.put("things", thing(1, "changed"));
    world.source.commit(&[change], 10);
    let aside = |status: &Status| status.marts[0].state == MartState::SetAside;
    let status = running.until(aside).await;
    assert!(reason_of(&status, MART).contains("MR-P017"), "{status:?}");
    for table in ["things", "pairs"] {
        assert_eq!(state_of(&status, table), Some(TableState::Live));
    }
    for _ in 0..10 {
        world.source.random_transaction();
    }
    let lsn = world.the_rest_goes_on(&running).await;
    world.compare(lsn).await;
    running.handle.rebuild(MART).expect("there is such a mart");
    let live = |status: &Status| status.marts[0].state == MartState::Live;
    running.until(live).await;
    world.caught_up(&running).await;
    the_mart_is_right(&mut world).await;
    running.stop().await;
}

/// Nothing of `things` is infinite any more, whatever its key has become.
fn mend(world: &mut World) {
    let rows = world.source.state.get(&source::id("things"));
    let infinite = rows
        .into_iter()
        .flatten()
        .filter(|(_, row)| row[4] == text("infinity"));
    let mut rows: Vec<Vec<Value>> = infinite.map(|(_, row)| row.clone()).collect();
    rows.iter_mut().for_each(|row| row[4] = Value::Null);
    let changes: Vec<_> = rows
        .into_iter()
        .map(|row| world.source.put("things", row))
        .collect();
    world.source.commit(&changes, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_without_a_form_in_mysql_takes_its_table_and_its_marts_out_and_nothing_else() {
    let mut world = with_a_mart().await;
    let running = world.start();
    world.caught_up(&running).await;
    let mut row = thing(5, "x");
    row[4] = text("infinity");
    let change = world.source.put("things", row);
    world.source.commit(&[change], 10);
    let aside = |status: &Status| state_of(status, "things") == Some(TableState::SetAside);
    let status = running.until(aside).await;
    let reason = reason_of(&status, "things");
    for part in ["MR-P005", "source.things", "id=5", "made"] {
        assert!(reason.contains(part), "{reason}");
    }
    assert!(!reason.contains("infinity:"), "{reason}");
    assert_eq!(status.marts[0].state, MartState::SetAside);
    for _ in 0..10 {
        world.source.random_transaction();
    }
    let lsn = world.the_rest_goes_on(&running).await;
    world.compare_one("pairs", lsn).await;
    running.kill().await;
    // It stays aside over a restart, until a copy without the value takes its place.
    let running = world.start();
    running.live().await;
    assert_eq!(
        state_of(&running.handle.status(), "things"),
        Some(TableState::SetAside)
    );
    mend(&mut world);
    world.source.copy_under_traffic("things");
    world.caught_up(&running).await;
    the_mart_is_right(&mut world).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_cannot_be_loaded_fails_the_copy_and_leaves_the_live_table() {
    let mut world = filled().await;
    let running = world.start();
    world.caught_up(&running).await;
    let before = world.source.state.clone();
    let copy = world.source.begin_copy(&["things"]);
    let mut row = thing(7, "x");
    row[4] = text("infinity");
    let _ = world.source.put("things", row);
    world.source.chunk(copy, "things", 1, 1);
    world.source.state = before;
    let failed = |status: &Status| {
        let things = status
            .tables
            .iter()
            .find(|status| status.table.name == "things");
        things.is_some_and(|things| things.reason.is_some() && things.copy.is_none())
    };
    let status = running.until(failed).await;
    assert_eq!(state_of(&status, "things"), Some(TableState::Live));
    world.source.random_transaction();
    world.caught_up(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_with_a_value_that_mysql_lacks_begins_again_without_its_table() {
    let mut world = filled().await;
    world.limits.part_bytes = 1_000;
    let running = world.start();
    world.caught_up(&running).await;
    let mut changes: Vec<_> = (100..300)
        .map(|id| world.source.put("things", thing(id, "large")))
        .collect();
    let mut row = thing(300, "x");
    row[4] = text("infinity");
    changes.push(world.source.put("things", row));
    let values = vec![
        text("k"),
        Value::Int(1),
        text("\\x00"),
        text("1"),
        text("1"),
        text("2000-01-01"),
    ];
    changes.push(world.source.put("pairs", values));
    world.source.commit(&changes, 10);
    let lsn = world.the_rest_goes_on(&running).await;
    let status = running.handle.status();
    assert!(
        reason_of(&status, "things").contains("id=300"),
        "{status:?}"
    );
    world.compare_one("pairs", lsn).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_captured_no_longer_is_left_and_comes_back_with_a_copy() {
    let mut world = filled().await;
    let running = world.start();
    world.caught_up(&running).await;
    world.source.remove_table("things");
    world.source.random_transaction();
    let removed = |status: &Status| state_of(status, "things") == Some(TableState::Removed);
    let status = running.until(removed).await;
    assert_eq!(status.not_live().count(), 0, "{status:?}");
    // Changes of a table of which nothing is known any more would set it aside.
    world.the_rest_goes_on(&running).await;
    let drop_table = |name| running.handle.drop_removed(source::id(name), PATIENCE);
    let captured = DropError::Captured(source::id("pairs"));
    assert_eq!(drop_table("pairs").await, Err(captured));
    drop_table("things").await.expect("it is dropped");
    let unknown = DropError::Unknown(source::id("things"));
    assert_eq!(drop_table("things").await, Err(unknown));
    assert_eq!(state_of(&running.handle.status(), "things"), None);
    let copy = world.source.copy_under_traffic("things");
    joined(&running, "things", copy).await;
    world.caught_up(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_one_table_takes_that_table_out_and_nothing_else() {
    type Make = fn(&mut World);
    let cases: [(&str, &str, Make); 5] = [
        ("MR-P010", "things", |world| {
            let column = &mut world.source.schemas[0].columns[1];
            (column.type_name, column.oid) = ("bigint".into(), 20);
            world.source.commit(&[], 10);
        }),
        ("MR-P011", "unheard_of", |world| {
            let mut change = world.source.put("things", thing(1, "x"));
            let put = change.clone();
            change.table = source::id("unheard_of");
            world.source.commit(&[change, put], 10);
        }),
        ("MR-P014", "things", |world| {
            let key = SourceRow(vec![("id".into(), Value::Int(4711))]);
            let change = world.source.change("things", Op::Update, None, Some(key));
            world.source.commit(&[change], 10);
        }),
        ("MR-P015", "things", |world| {
            let mut row = thing(5, "x");
            row[3] = text("long ".repeat(8 * 1024 * 1024));
            world.source.slices = false;
            let change = world.source.put("things", row);
            world.source.commit(&[change], 10);
        }),
        ("MR-P016", "things", |world| {
            let change = world.source.put("things", thing(1, "x"));
            world.source.commit(&[change], 10);
        }),
    ];
    for (code, table, make) in cases {
        let mut world = filled().await;
        let running = world.start();
        world.caught_up(&running).await;
        if code == "MR-P016" {
            let drop = world.conn.execute("DROP TABLE things").await;
            drop.expect("somebody dropped it");
        }
        make(&mut world);
        let aside = |status: &Status| status.not_live().next().is_some();
        let status = running.until(aside).await;
        let found: Vec<_> = status.not_live().collect();
        assert_eq!(found.len(), 1, "{code}: {found:?}");
        assert_eq!(found[0].0, format!("source.{table}"));
        let reason = found[0].1.unwrap_or_default();
        assert!(reason.contains(code), "{code}: {reason}");
        let pair = vec![
            text("k"),
            Value::Int(1),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
        ];
        let change = world.source.put("pairs", pair);
        world.source.commit(&[change], 10);
        let lsn = world.the_rest_goes_on(&running).await;
        world.compare_one("pairs", lsn).await;
        running.stop().await;
    }
}
