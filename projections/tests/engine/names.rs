//! Tables whose names a server might take for others, from the first copy to the second.

use millrace_events::Value;
use sqlx::Executor;

use super::copies::joined;
use super::source::{schema, text, Rows};
use super::support::Server;
use super::world::World;

/// One of them is in a schema whose name is as odd.
const NAMES: [&str; 6] = [
    "Orders",
    "of `1` \"2\" '3'; --",
    "a.b/c\\d%_",
    "Straße",
    "select",
    " blank first",
];

async fn world(server: &Server) -> World {
    let mut world = World::on(server).await;
    let columns = [
        ("id", "bigint", true),
        ("Größe `1` '2'", "character varying(20)", false),
        ("notes", "text", false),
    ];
    world.source.schemas = (1..)
        .zip(NAMES)
        .map(|(number, name)| schema(number, name, &columns))
        .collect();
    world.source.state = (world.source.schemas.iter())
        .map(|schema| (schema.table.clone(), Rows::new()))
        .collect();
    world
}

fn write(world: &mut World, word: &str) {
    let mut changes = Vec::new();
    for name in NAMES {
        for id in 1..4 {
            let row = vec![Value::Int(id), text(word), text("notes")];
            changes.push(world.source.put(name, row));
        }
    }
    world.source.commit(&changes, 10);
}

/// Rows that move to other keys and leave a column unsent: each table needs tables beside it.
fn move_rows(world: &mut World, to: i64) {
    let changes: Vec<_> = NAMES
        .iter()
        .map(|name| {
            let (from, to) = ([Value::Int(1)], [Value::Int(to)]);
            world.source.rekey(name, &from, &to)
        })
        .collect();
    world.source.commit(&changes, 10);
}

/// Copied, changed, restarted, dropped by hand, and copied again.
async fn live_through_it(server: &Server) {
    let mut world = world(server).await;
    write(&mut world, "first");
    world.source.snapshot(2);
    let running = world.start();
    world.caught_up(&running).await;
    write(&mut world, "second");
    move_rows(&mut world, 7);
    world.caught_up(&running).await;
    running.stop().await;
    let running = world.start();
    write(&mut world, "third");
    move_rows(&mut world, 8);
    world.caught_up(&running).await;
    for name in NAMES {
        let copy = world.source.begin_copy(&[name]);
        world.source.chunk(copy, name, 1, 1);
        world.source.copied(copy, name, 1);
        joined(&running, name, copy).await;
    }
    write(&mut world, "fourth");
    world.caught_up(&running).await;
    let left = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() \
                AND (table_name LIKE '%shadow' OR table_name LIKE '%retired')";
    let left = world.conn.fetch_all(left).await.expect("tables");
    assert_eq!(left.len(), 0, "nothing is left of the copies");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_of_tables_schemas_and_columns() {
    live_through_it(Server::shared().await).await;
}

/// As on Windows and macOS, and as some hosters have it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_keeps_the_names_of_tables_in_lower_case() {
    let server = Server::start_with(&["--lower-case-table-names=1"]).await;
    live_through_it(&server).await;
}
