//! Blows of every kind, at random: to the projector, its connection, its locks and its server.

use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::RngExt;
use sqlx::Executor;

use super::copies::{the_mart_is_right, with_a_mart_on};
use super::support::Server;
use super::world::{Running, World};

#[derive(Clone, Copy, Debug)]
enum Blow {
    /// The projector is killed, and started again.
    Projector,
    /// The server ends its connection.
    Connection,
    /// The server ends what it is doing.
    Statement,
    /// Somebody locks rows, and then what the projector has locked.
    Deadlock,
    /// The server takes no writes for a while.
    ReadOnly,
    /// The server is killed by force, and with it what it had not flushed: commits of the last second.
    Server,
}

const BLOWS: [Blow; 6] = [
    Blow::Projector,
    Blow::Connection,
    Blow::Statement,
    Blow::Deadlock,
    Blow::ReadOnly,
    Blow::Server,
];
const ROUNDS: usize = 30;

struct Attack {
    world: World,
    server: Server,
    database: String,
    running: Running,
}

impl Attack {
    async fn begin() -> Attack {
        let server = Server::start_again_and_again().await;
        let mut world = with_a_mart_on(&server).await;
        world.source.unfit = true;
        world.values = "*=null,source.things.*=text".parse().expect("policies");
        world.limits.transactions = 3;
        world.limits.part_bytes = 1_500;
        let database = world.url.rsplit('/').next().expect("a database").to_owned();
        // Whom read_only keeps from writing.
        world.user("plain").await;
        let running = world.start();
        world.caught_up(&running).await;
        Attack {
            world,
            server,
            database,
            running,
        }
    }

    /// What a person does in a session of their own. It may fail.
    async fn by_hand(&mut self, statements: &[&str]) {
        for sql in statements {
            let _ = self.world.conn.execute(*sql).await;
        }
    }

    async fn strike(&mut self, blow: Blow) {
        match blow {
            Blow::Projector => {
                let next = self.world.start();
                std::mem::replace(&mut self.running, next).kill().await;
            }
            Blow::Connection => self.world.end_connections().await,
            Blow::Statement => {
                let ids: Vec<i64> = sqlx::query_scalar(
                    "SELECT CAST(id AS SIGNED) FROM information_schema.processlist \
                     WHERE db = DATABASE() AND id <> CONNECTION_ID()",
                )
                .fetch_all(&mut self.world.conn)
                .await
                .expect("a process list");
                for id in ids {
                    self.by_hand(&[&format!("KILL QUERY {id}")]).await;
                }
            }
            Blow::Deadlock => {
                let rows = "SELECT * FROM things ORDER BY id DESC LIMIT 5 FOR UPDATE";
                let lock = "SELECT * FROM millrace_position FOR UPDATE";
                let limit = "SET innodb_lock_wait_timeout = 1";
                self.by_hand(&[limit, "BEGIN", rows]).await;
                self.pause(40).await;
                self.by_hand(&[lock, "ROLLBACK"]).await;
            }
            Blow::ReadOnly => {
                self.by_hand(&["SET GLOBAL read_only = 1"]).await;
                self.pause(300).await;
                self.by_hand(&["SET GLOBAL read_only = 0"]).await;
            }
            Blow::Server => {
                self.server.kill().await;
                self.world.conn = self.server.connect(&self.database).await;
            }
        }
    }

    async fn pause(&mut self, at_most_ms: u64) {
        let pause = self.world.source.rng.random_range(0..at_most_ms);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transaction_counts_once_whatever_happens_to_projector_connection_and_server() {
    let mut attack = Attack::begin().await;
    let mut blows = Vec::new();
    for round in 0..ROUNDS {
        if round % 3 == 0 {
            let table = ["things", "pairs"][attack.world.source.rng.random_range(0..2)];
            attack.world.source.copy_under_traffic(table);
        }
        for _ in 0..15 {
            attack.world.source.random_transaction();
        }
        attack.pause(150).await;
        let blow = *BLOWS.choose(&mut attack.world.source.rng).expect("blows");
        blows.push(blow);
        attack.strike(blow).await;
    }
    println!("{blows:?}");
    let Attack {
        mut world, running, ..
    } = attack;
    world.caught_up(&running).await;
    the_mart_is_right(&mut world).await;
    running.stop().await;
}
