//! What MySQL refuses although we expected it to fit, because somebody has altered a table.

use std::collections::BTreeMap;

use millrace_projections::engine::Status;
use sqlx::Executor;

use super::quarantine::{commit, pair_with};
use super::source::text;
use super::world::{quarantined, read, World, PATIENCE};
use super::{fill, thing};

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_only_the_server_refuses_is_found_among_the_others() {
    let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let mut world = World::new().await;
    world.values = "text".parse().expect("policies");
    let mut world = fill(world);
    world.source.slices = false;
    let running = world.start();
    world.caught_up(&running).await;
    // As somebody may have altered it.
    for sql in [
        "UPDATE things SET notes = '{}', name = 'short'",
        "ALTER TABLE things MODIFY name VARCHAR(20) NULL, ADD CHECK (CHAR_LENGTH(notes) < 300)",
    ] {
        world.conn.execute(sql).await.expect(sql);
    }
    let changes: Vec<_> = (1_000..1_400)
        .map(|id| {
            let mut row = thing(
                id,
                if id == 1_234 {
                    "a name that is too long"
                } else {
                    "n"
                },
            );
            row[3] = text(if id == 1_234 || id == 1_301 {
                deep(150)
            } else {
                deep(3)
            });
            world.source.put("things", row)
        })
        .collect();
    world.source.commit(&changes, 10);
    let lsn = world.source.lsn;
    running
        .handle
        .wait_for(lsn, PATIENCE)
        .await
        .expect("it goes on");
    let found = quarantined(&mut world.conn, "things").await;
    let key = |id: i64, column: &str| (format!("{{\"id\":\"{id}\"}}"), column.to_owned());
    let wanted = BTreeMap::from([
        (key(1_234, "name"), "a name that is too long".to_owned()),
        (key(1_234, "notes"), deep(150)),
        (key(1_301, "notes"), deep(150)),
    ]);
    assert_eq!(found, wanted);
    let table = world.replica(&world.source.schemas[0]);
    let rows = read(&mut world.conn, &table, "").await;
    let row = &rows[&vec![Some("1301".to_owned())]];
    assert_eq!(
        (&row[1], &row[3]),
        (&Some("n".to_owned()), &None),
        "{row:?}"
    );
    assert!(row[6..].contains(&Some(deep(150))), "{row:?}");
    let of_range = (1_000..1_400).filter(|id| rows.contains_key(&vec![Some(format!("{id}"))]));
    assert_eq!(of_range.count(), 400);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_stops_its_table_and_nothing_else_by_default() {
    for (alter, row) in [
        (
            "ALTER TABLE things MODIFY name VARCHAR(3) NULL",
            thing(7, "too long"),
        ),
        (
            "ALTER TABLE things ADD CHECK (price < 1)",
            thing(7, "checked"),
        ),
        (
            "ALTER TABLE things ADD added INT NOT NULL",
            thing(7, "no default"),
        ),
        (
            "CREATE TRIGGER again AFTER INSERT ON things FOR EACH ROW DELETE FROM things WHERE id = 0",
            thing(7, "a table that its trigger changes"),
        ),
        (
            "CREATE DEFINER = 'nobody'@'nowhere' TRIGGER left_behind AFTER INSERT ON things FOR EACH ROW SET @x = 1",
            thing(7, "a trigger whose definer is gone"),
        ),
    ] {
        let mut world = World::new().await;
        let running = {
            world.source.snapshot(5);
            world.start()
        };
        world.caught_up(&running).await;
        world.conn.execute(alter).await.expect(alter);
        let others: Vec<_> = [thing(6, "x"), row]
            .into_iter()
            .map(|row| world.source.put("things", row))
            .collect();
        world.source.commit(&others, 10);
        let aside = |status: &Status| status.not_live().next().is_some();
        let status = running.until(aside).await;
        let found: Vec<_> = status.not_live().collect();
        assert_eq!(found.len(), 1, "{alter}: {found:?}");
        assert!(found[0].0.contains("things"), "{alter}: {found:?}");
        commit(&mut world, "pairs", pair_with("others", 4, "1")).await;
        let lsn = world.the_rest_goes_on(&running).await;
        world.compare_one("pairs", lsn).await;
        running.stop().await;
    }
}
