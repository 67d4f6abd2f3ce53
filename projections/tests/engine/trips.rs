//! How often a turn goes to the server, and with how many statements: counted by a proxy and by the server.

use millrace_events::{Change, Value};
use millrace_projections::marts::Marts;
use sqlx::{Executor, Row};

use super::copies::with_a_mart_on;
use super::shop;
use super::source::text;
use super::support::proxy::Proxy;
use super::support::Server;
use super::thing;
use super::world::{Running, World, PATIENCE};

/// What a transaction costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    trips: u64,
    statements: u64,
}

/// A world whose projector is the only client that is counted.
struct Counted {
    world: World,
    proxy: Proxy,
    running: Running,
}

impl Counted {
    /// On a server of its own, whose counters nobody else moves.
    async fn new() -> (Counted, Server) {
        let server = Server::start_with(&[]).await;
        let world = with_a_mart_on(&server).await;
        (Counted::of(world, &server).await, server)
    }

    async fn of(mut world: World, server: &Server) -> Counted {
        // A large value costs trips of its own.
        world.source.slices = false;
        let proxy = Proxy::start(server.port()).await;
        let (direct, counted) = (format!(":{}", server.port()), format!(":{}", proxy.port));
        world.url = world.url.replace(&direct, &counted);
        let running = world.start();
        world.caught_up(&running).await;
        Counted {
            world,
            proxy,
            running,
        }
    }

    async fn questions(&mut self) -> u64 {
        let sql = "SHOW GLOBAL STATUS LIKE 'Questions'";
        let row = self.world.conn.fetch_one(sql).await.expect("a counter");
        let count: String = row.get_unchecked(1);
        count.parse().expect("a number")
    }

    /// The least of a few transactions that are made alike: now and then a sign of life is asked for in between.
    async fn least(&mut self, mut make: impl FnMut(&mut World) -> Vec<Change>) -> Cost {
        let mut least = Cost {
            trips: u64::MAX,
            statements: u64::MAX,
        };
        for _ in 0..5 {
            let (trips, questions) = (self.proxy.trips(), self.questions().await);
            let changes = make(&mut self.world);
            self.world.source.commit(&changes, 1_000);
            let lsn = self.world.source.lsn;
            let reached = self.running.handle.wait_for(lsn, PATIENCE).await;
            reached.expect("it gets there");
            // The second question is one as well.
            let statements = self.questions().await - questions - 1;
            least.statements = least.statements.min(statements);
            least.trips = least.trips.min(self.proxy.trips() - trips);
        }
        least
    }
}

fn pair(number: i64, free: &str) -> Vec<Value> {
    let rest = ["\\x00", "1", free, "2000-01-01"].map(text);
    let mut row = vec![text("k"), Value::Int(number)];
    row.extend(rest);
    row
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_takes_two_trips_whatever_it_changes() {
    let (mut counted, _server) = Counted::new().await;
    let mut free = 0;
    let one = counted
        .least(|world| {
            free += 1;
            vec![world.source.put("pairs", pair(1, &free.to_string()))]
        })
        .await;
    let both = counted
        .least(|world| {
            free += 1;
            let name = free.to_string();
            vec![
                world.source.put("things", thing(1, &name)),
                world.source.put("pairs", pair(1, &name)),
            ]
        })
        .await;
    println!("one row of a fact: {one:?}; one of a dimension as well: {both:?}");
    assert_eq!((one.trips, both.trips), (2, 2));
    assert!(one.statements <= 24, "{one:?}");
    let Counted {
        mut world, running, ..
    } = counted;
    world.caught_up(&running).await;
    super::copies::the_mart_is_right(&mut world).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_no_mart_reads_takes_four_statements() {
    let (mut counted, _server) = Counted::new().await;
    counted.running.stop().await;
    counted.world.marts = Marts::none();
    counted.running = counted.world.start();
    counted.world.caught_up(&counted.running).await;
    let mut name = 0;
    let cost = counted
        .least(|world| {
            name += 1;
            vec![world.source.put("things", thing(1, &name.to_string()))]
        })
        .await;
    println!("one row of a table alone: {cost:?}");
    // BEGIN, the position, the row, COMMIT.
    let wanted = Cost {
        trips: 2,
        statements: 4,
    };
    assert_eq!(cost, wanted);
    counted.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_values_cost_one_more_trip_for_any_number_of_rows() {
    let (mut counted, _server) = Counted::new().await;
    let rows: Vec<Change> = (1_000..1_500)
        .map(|id| counted.world.source.put("things", thing(id, "many")))
        .collect();
    counted.world.source.commit(&rows, 1_000);
    counted.world.caught_up(&counted.running).await;
    let mut costs = Vec::new();
    for count in [1, 500] {
        let cost = counted
            .least(|world| {
                let touch = |id| world.source.touch("things", &[Value::Int(id)]);
                (1_000..1_000 + count).map(touch).collect()
            })
            .await;
        costs.push(cost);
    }
    println!("1 row with unchanged values, and 500: {costs:?}");
    assert_eq!(costs[0], costs[1]);
    assert_eq!(costs[0].trips, 3);
    let mut shift = 0;
    let moved = counted
        .least(|world| {
            shift += 1;
            let (from, to) = (999 + shift, 9_000 + shift);
            let (from, to) = (Value::Int(from), Value::Int(to));
            vec![world.source.rekey("things", &[from], &[to])]
        })
        .await;
    println!("1 row that changes its key: {moved:?}");
    assert_eq!(moved.trips, 3);
    let Counted {
        mut world, running, ..
    } = counted;
    world.caught_up(&running).await;
    running.stop().await;
}

/// Five tables, three of them under four marts.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_the_shop_with_its_lines_its_user_and_four_marts_takes_two_trips() {
    let server = Server::start_with(&[]).await;
    let mut world = World::on(&server).await;
    shop::open(&mut world.source);
    world.source.snapshot(5);
    world.marts = shop::marts();
    let mut counted = Counted::of(world, &server).await;
    let mut number = 0;
    let cost = counted
        .least(|world| {
            number += 1;
            shop::order(&mut world.source, number)
        })
        .await;
    println!("one order of the shop: {cost:?}");
    assert_eq!(cost.trips, 2);
    assert!(cost.statements <= 98, "{cost:?}");
    let Counted {
        mut world, running, ..
    } = counted;
    world.caught_up(&running).await;
    for mart in world.marts.iter() {
        let wrong = [
            format!("{} EXCEPT SELECT * FROM {}", mart.definition(), mart.name()),
            format!("SELECT * FROM {} EXCEPT {}", mart.name(), mart.definition()),
        ];
        for sql in wrong {
            let rows = world.conn.fetch_all(sql.as_str()).await;
            assert_eq!(rows.expect("a comparison").len(), 0, "{sql}");
        }
    }
    running.stop().await;
}
