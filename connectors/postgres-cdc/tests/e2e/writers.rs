//! Load: transactions of many kinds on `source.users` and `source.orders`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{Connection, Executor, PgConnection};
use tokio::task::JoinSet;

use crate::rig::Rig;

pub const SETUP: &str = "
    CREATE TABLE source.users (user_id int PRIMARY KEY, name text, note text);
    CREATE TABLE source.orders (order_id int, user_id int, total numeric(12,2), open bool, PRIMARY KEY (order_id));
    ALTER TABLE source.orders REPLICA IDENTITY FULL;
    ALTER TABLE source.users ALTER note SET STORAGE EXTERNAL;
    CREATE TABLE source.unseen (id int);
    INSERT INTO source.users SELECT i, 'user ' || i, repeat('n', i % 3 * 3000) FROM generate_series(1, 400) i;
    INSERT INTO source.orders SELECT i, i % 400, i * 1.25, i % 2 = 0 FROM generate_series(1, 2000) i;";

pub const TABLES: [&str; 2] = ["users", "orders"];
pub const USERS: &str = "user_id::text, name::text, note::text";
pub const ORDERS: &str = "order_id::text, user_id::text, total::text, open::text";

/// Writers at work until stopped; each owns the keys with its remainder.
pub struct Writers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<u64>,
}

impl Writers {
    pub async fn start(rig: &Rig, count: i32, seed: u64) -> Writers {
        println!("writers: seed {seed}");
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for writer in 0..count {
            let connection = rig.connect().await;
            let rng = StdRng::seed_from_u64(seed + writer as u64);
            tasks.spawn(write(connection, rng, writer, count, stop.clone()));
        }
        Writers { stop, tasks }
    }

    /// Transactions that committed.
    pub async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.into_iter().sum()
    }
}

async fn write(
    mut connection: PgConnection,
    mut rng: StdRng,
    writer: i32,
    writers: i32,
    stop: Arc<AtomicBool>,
) -> u64 {
    let mut committed = 0;
    while !stop.load(Ordering::Relaxed) {
        match transact(&mut connection, &mut rng, writer, writers).await {
            Ok(whole) => committed += u64::from(whole),
            // A test that changes rows of all writers may lock them in another order.
            Err(error) if is_deadlock(&error) => {}
            Err(error) => panic!("{error}"),
        }
    }
    committed
}

fn is_deadlock(error: &sqlx::Error) -> bool {
    let error = error.as_database_error();
    error.and_then(|error| error.code()).as_deref() == Some("40P01")
}

/// True if it was committed.
async fn transact(
    connection: &mut PgConnection,
    rng: &mut StdRng,
    writer: i32,
    writers: i32,
) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    for _ in 0..rng.random_range(1..5) {
        let sql = statement(rng, writer, writers);
        transaction.execute(sql.as_str()).await?;
    }
    if rng.random_bool(0.2) {
        let sql = statement(rng, writer, writers);
        transaction.execute("SAVEPOINT s").await?;
        transaction.execute(sql.as_str()).await?;
        transaction.execute("ROLLBACK TO s").await?;
    }
    if rng.random_bool(0.1) {
        transaction.rollback().await?;
        return Ok(false);
    }
    transaction.commit().await?;
    Ok(true)
}

fn statement(rng: &mut StdRng, writer: i32, writers: i32) -> String {
    let mut own = |max: i32| rng.random_range(0..max / writers) * writers + writer;
    let (user, other, order) = (own(600), own(600), own(3000));
    match rng.random_range(0..9) {
        0 | 1 => format!("INSERT INTO source.users VALUES ({user}, 'new\t{user}', repeat('x', {})) ON CONFLICT DO NOTHING", rng.random_range(0..4000)),
        2 => format!("UPDATE source.users SET name = 'ü\\\"{}' WHERE user_id = {user}", rng.random::<u16>()),
        3 => format!("UPDATE source.users SET user_id = {other} WHERE user_id = {user} AND NOT EXISTS (SELECT FROM source.users WHERE user_id = {other})"),
        4 => format!("DELETE FROM source.users WHERE user_id = {user}"),
        5 => format!("INSERT INTO source.orders VALUES ({order}, {user}, {}.5, NULL) ON CONFLICT (order_id) DO UPDATE SET total = excluded.total", rng.random_range(0..1000)),
        6 => format!("UPDATE source.orders SET open = NOT coalesce(open, false) WHERE order_id = {order}"),
        7 => format!("DELETE FROM source.orders WHERE order_id = {order}"),
        _ => "INSERT INTO source.unseen VALUES (1)".into(),
    }
}
