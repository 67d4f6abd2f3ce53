//! Somebody works by hand in the database of the projector.

use millrace_events::Value;
use millrace_projections::engine::{MartState, Status, TableState};
use millrace_projections::marts::Marts;
use sqlx::Executor;

use super::copies::{joined, reason_of, state_of, the_mart_is_right, with_a_mart_on, MART};
use super::source::text;
use super::support::Server;
use super::thing;
use super::world::{Running, World, PATIENCE};

async fn run(world: &mut World, sql: &str) {
    let done = world.conn.execute(sql).await;
    done.unwrap_or_else(|error| panic!("{error}: {sql}"));
}

async fn world() -> World {
    with_a_mart_on(Server::shared().await).await
}

/// Tables of the database by that pattern.
async fn tables(world: &mut World, like: &str) -> i64 {
    sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE ?",
    )
    .bind(like)
    .fetch_one(&mut world.conn)
    .await
    .expect("a count")
}

fn pair(kind: &str, free: &str) -> Vec<Value> {
    let rest = ["\\x00", "1", free, "2000-01-01"].map(text);
    let mut row = vec![text(kind), Value::Int(1)];
    row.extend(rest);
    row
}

fn mart_is(state: MartState) -> impl Fn(&Status) -> bool {
    move |status| status.marts.iter().any(|mart| mart.state == state)
}

/// Waits until the mart has been built anew.
async fn built_since(running: &Running, before: &Status) {
    let since = before.marts[0].since;
    let built = |status: &Status| mart_is(MartState::Live)(status) && status.marts[0].since > since;
    running.until(built).await;
}

async fn drop_table(world: &mut World, table: &str) {
    run(world, &format!("DROP TABLE {table}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mart_whose_table_is_dropped_is_built_again_by_itself_idle_busy_or_stopped() {
    let mut world = world().await;
    let mut running = world.start();
    world.caught_up(&running).await;
    for table in [
        MART.to_owned(),
        format!("millrace_{MART}_groups"),
        format!("millrace_{MART}_subtotals"),
    ] {
        // Nothing is written: it is missed all the same.
        let before = running.handle.status();
        drop_table(&mut world, &table).await;
        built_since(&running, &before).await;
        the_mart_is_right(&mut world).await;

        let before = running.handle.status();
        drop_table(&mut world, &table).await;
        for id in 0..5 {
            let change = world.source.put("things", thing(id, &table));
            world.source.commit(&[change], 10);
        }
        built_since(&running, &before).await;
        world.caught_up(&running).await;
        the_mart_is_right(&mut world).await;

        running.stop().await;
        drop_table(&mut world, &table).await;
        running = world.start();
        built_since(&running, &before).await;
        world.caught_up(&running).await;
        assert_eq!(tables(&mut world, &table).await, 1);
        the_mart_is_right(&mut world).await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_table_that_is_dropped_is_missed_while_idle_and_comes_back_with_a_copy() {
    let mut world = world().await;
    let running = world.start();
    world.caught_up(&running).await;
    run(&mut world, "DROP TABLE things").await;
    let aside = |status: &Status| state_of(status, "things") == Some(TableState::SetAside);
    let status = running.until(aside).await;
    let reason = reason_of(&status, "things");
    for part in [
        "MR-P014",
        "is gone",
        "millrace tables resnapshot source.things",
    ] {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(state_of(&status, "pairs"), Some(TableState::Live));
    let copy = world.source.copy_under_traffic("things");
    joined(&running, "things", copy).await;
    world.caught_up(&running).await;
    the_mart_is_right(&mut world).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_table_that_is_emptied_is_set_aside_by_the_first_update_that_builds_upon_it() {
    let mut world = world().await;
    let change = world.source.put("things", thing(1, "x"));
    world.source.commit(&[change], 10);
    let running = world.start();
    world.caught_up(&running).await;
    run(&mut world, "TRUNCATE TABLE things").await;
    let change = world.source.touch("things", &[Value::Int(1)]);
    world.source.commit(&[change], 10);
    let aside = |status: &Status| state_of(status, "things") == Some(TableState::SetAside);
    let status = running.until(aside).await;
    assert!(reason_of(&status, "things").contains("id=1"), "{status:?}");
    world.source.random_transaction();
    let lsn = world.source.lsn;
    let reached = running.handle.wait_for(lsn, PATIENCE).await;
    reached.expect("the rest goes on");
    world.compare_one("pairs", lsn).await;
    running.stop().await;
}

/// Rows that must not be taken for one another are, by what somebody has done to the table.
#[tokio::test(flavor = "multi_thread")]
async fn a_unique_key_or_a_collation_that_somebody_has_put_on_a_table_never_changes_another_row() {
    for (alter, table) in [
        ("ALTER TABLE things ADD UNIQUE (name)", "things"),
        (
            "ALTER TABLE far__pairs MODIFY kind VARCHAR(60) COLLATE utf8mb4_general_ci NOT NULL",
            "pairs",
        ),
    ] {
        let mut world = World::new().await;
        world.source.snapshot(5);
        let rows = [
            world.source.put("things", thing(1, "a")),
            world.source.put("pairs", pair("a", "1")),
        ];
        world.source.commit(&rows, 10);
        let running = world.start();
        world.caught_up(&running).await;
        let before = world.source.lsn;
        run(&mut world, alter).await;
        // In one transaction with a row that is welcome.
        let other = match table {
            "things" => [thing(7, "b"), thing(8, "a")].map(|row| world.source.put(table, row)),
            _ => [pair("b", "2"), pair("A", "2")].map(|row| world.source.put(table, row)),
        };
        world.source.commit(&other, 10);
        let aside = |status: &Status| state_of(status, table) == Some(TableState::SetAside);
        let status = running.until(aside).await;
        let reason = reason_of(&status, table);
        let command = format!("millrace tables resnapshot {}", super::source::id(table));
        for part in ["MR-P016", "a unique key, a collation", command.as_str()] {
            assert!(reason.contains(part), "{alter}: {reason}");
        }
        // No row has become another one.
        world.compare_one(table, before).await;
        let copy = world.source.copy_under_traffic(table);
        joined(&running, table, copy).await;
        world.caught_up(&running).await;
        running.stop().await;
    }
}

/// What the server takes without a word, and stores something else or more than we wrote.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_altered_so_that_it_may_differ_without_a_word_is_set_aside() {
    let mut world = world().await;
    let mut running = world.start();
    world.caught_up(&running).await;
    run(&mut world, "CREATE TABLE theirs (id BIGINT PRIMARY KEY)").await;
    for (number, (alter, table, how)) in [
        (
            "CREATE TRIGGER louder BEFORE INSERT ON things FOR EACH ROW SET NEW.name = UPPER(NEW.name)",
            "things",
            "its trigger louder",
        ),
        ("ALTER TABLE things ENGINE = MyISAM", "things", "its engine is MyISAM"),
        (
            "ALTER TABLE things DROP PRIMARY KEY",
            "things",
            "its primary key",
        ),
        (
            "ALTER TABLE things ADD theirs BIGINT NULL, ADD CONSTRAINT cascading FOREIGN KEY (theirs) \
             REFERENCES theirs (id) ON DELETE CASCADE",
            "things",
            "its foreign key cascading",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        // Altered while it runs, and while it does not.
        if number == 0 {
            run(&mut world, alter).await;
        } else {
            running.stop().await;
            run(&mut world, alter).await;
            running = world.start();
        }
        let aside = |status: &Status| state_of(status, table) == Some(TableState::SetAside);
        let status = running.until(aside).await;
        let reason = reason_of(&status, table);
        let command = format!("millrace tables resnapshot {}", super::source::id(table));
        for part in ["MR-P014", how, command.as_str()] {
            assert!(reason.contains(part), "{alter}: {reason}");
        }
        world.source.random_transaction();
        let copy = world.source.copy_under_traffic(table);
        joined(&running, table, copy).await;
        world.caught_up(&running).await;
        the_mart_is_right(&mut world).await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_table_that_is_dropped_fails_its_copy_and_never_passes_for_one_that_has_joined() {
    let mut world = world().await;
    let running = world.start();
    world.caught_up(&running).await;
    run(&mut world, "UPDATE things SET name = 'drifted' LIMIT 1").await;
    running.kill().await;
    let mut points = world.watch_copying();
    let running = world.start();
    let copy = world.source.begin_copy(&["things"]);
    world.source.chunk(copy, "things", 1, 1);
    world.source.copied(copy, "things", 1);
    let (handle, mut dropped) = (running.handle.clone(), false);
    let failed = |status: &Status| {
        let things = status.tables.iter().find(|it| it.table.name == "things");
        things.is_some_and(|it| it.newest_copy == copy && it.copy.is_none() && it.reason.is_some())
    };
    while !failed(&handle.status()) {
        let next = tokio::time::timeout(PATIENCE, points.recv()).await;
        let (point, go_on) = next.expect("in time").expect("it runs");
        if point == millrace_projections::engine::Point::CaughtUp && !dropped {
            run(&mut world, "DROP TABLE things__shadow").await;
            dropped = true;
        }
        let _ = go_on.send(());
    }
    drop(points);
    let status = handle.status();
    assert_eq!(state_of(&status, "things"), Some(TableState::Live));
    let things = status.tables.iter().find(|it| it.table.name == "things");
    let reason = things.and_then(|it| it.reason.clone()).unwrap_or_default();
    assert!(reason.contains("shadow"), "{reason}");
    let copy = world.source.copy_under_traffic("things");
    joined(&running, "things", copy).await;
    world.caught_up(&running).await;
    the_mart_is_right(&mut world).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_its_transaction_open_delays_a_copy_and_nothing_else() {
    let mut world = world().await;
    let running = world.start();
    world.caught_up(&running).await;
    run(&mut world, "BEGIN").await;
    run(
        &mut world,
        &format!("SELECT COUNT(*) FROM things JOIN {MART} USING (id)"),
    )
    .await;
    let copy = world.source.begin_copy(&["things"]);
    world.source.chunk(copy, "things", 1, 1);
    world.source.copied(copy, "things", 1);
    let retries = running.handle.status().retries;
    // Longer than the session waits for locks otherwise.
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(25);
    let mut slowest = std::time::Duration::ZERO;
    while tokio::time::Instant::now() < until {
        let started = tokio::time::Instant::now();
        world.source.random_transaction();
        let reached = running.handle.wait_for(world.source.lsn, PATIENCE).await;
        reached.expect("everything goes on");
        slowest = slowest.max(started.elapsed());
    }
    println!("the slowest commit meanwhile took {slowest:?}");
    let status = running.handle.status();
    assert_eq!(status.retries, retries, "no connection was lost");
    assert!(
        status.tables.iter().any(|it| it.copy.is_some()),
        "{status:?}"
    );
    assert_eq!(status.not_live().count(), 0, "{status:?}");
    assert!(slowest < std::time::Duration::from_secs(15), "{slowest:?}");
    run(&mut world, "COMMIT").await;
    joined(&running, "things", copy).await;
    world.caught_up(&running).await;
    the_mart_is_right(&mut world).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_of_a_mart_that_is_no_longer_configured_are_dropped_and_no_others() {
    let mut world = world().await;
    run(&mut world, "CREATE TABLE theirs (x INT)").await;
    let running = world.start();
    world.caught_up(&running).await;
    running.stop().await;
    let marts = std::mem::replace(&mut world.marts, Marts::none());
    let running = world.start();
    world.caught_up(&running).await;
    running.stop().await;
    assert_eq!(tables(&mut world, &format!("%{MART}%")).await, 0);
    assert_eq!(tables(&mut world, "theirs").await, 1);
    // The name is free again.
    run(&mut world, &format!("CREATE TABLE {MART} (x INT)")).await;
    world.marts = marts;
    let running = world.start();
    let status = running.until(mart_is(MartState::SetAside)).await;
    assert!(reason_of(&status, MART).contains("MR-P003"), "{status:?}");
    running.stop().await;
    // It is theirs, also when the mart is configured no longer.
    world.marts = Marts::none();
    let running = world.start();
    world.caught_up(&running).await;
    running.stop().await;
    assert_eq!(tables(&mut world, MART).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_removed_and_comes_back_stays_over_a_restart_of_an_idle_source() {
    let mut world = world().await;
    let running = world.start();
    world.caught_up(&running).await;
    world.source.remove_table("things");
    let copy = world.source.begin_copy(&["things"]);
    let announced = |status: &Status| {
        let things = status.tables.iter().find(|it| it.table.name == "things");
        things.is_some_and(|it| it.newest_copy == copy && it.state == TableState::Loading)
    };
    running.until(announced).await;
    running.kill().await;
    // The position has not moved since: what the log said of the table is read once more.
    let running = world.start();
    world.source.chunk(copy, "things", 1, 1);
    world.source.copied(copy, "things", 1);
    joined(&running, "things", copy).await;
    world.caught_up(&running).await;
    running.stop().await;
}
