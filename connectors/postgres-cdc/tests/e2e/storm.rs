//! Load that is hard on copies: sixteen writers on few keys, with savepoints, aborts, two-phase commits, changed keys with values
//! out of line, and TRUNCATEs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{Connection, Executor, PgConnection};
use tokio::task::JoinSet;

use crate::rig::Rig;

pub const SETUP: &str = "
    CREATE TABLE source.users (user_id int PRIMARY KEY, name text, note text);
    ALTER TABLE source.users ALTER note SET STORAGE EXTERNAL;
    CREATE TABLE source.lines (tag text, line int, note text, PRIMARY KEY (tag, line));
    ALTER TABLE source.lines ALTER note SET STORAGE EXTERNAL;
    ALTER TABLE source.lines REPLICA IDENTITY FULL;
    INSERT INTO source.users SELECT i, 'user ' || i, repeat(md5(i::text), 90) FROM generate_series(1, 300) i;
    INSERT INTO source.lines SELECT chr(65 + i % 7) || '''\\', i, repeat(md5(i::text), 90) FROM generate_series(1, 300) i;";
pub const TABLES: [&str; 2] = ["users", "lines"];
pub const USERS: &str = "user_id::text, name::text, note::text";
pub const LINES: &str = "tag::text, line::text, note::text";

const WRITERS: usize = 16;

/// Writers at work until stopped.
pub struct Storm {
    stop: Arc<AtomicBool>,
    truncates: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Storm {
    pub async fn start(rig: &Rig, seed: u64) -> Storm {
        println!("storm: seed {seed}");
        let stop = Arc::new(AtomicBool::new(false));
        let truncates = Arc::new(AtomicBool::new(false));
        let committed = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for number in 0..WRITERS {
            let writer = Writer {
                connection: rig.connect().await,
                rng: StdRng::seed_from_u64(seed + number as u64),
                number,
                prepared: 0,
                truncates: truncates.clone(),
            };
            tasks.spawn(writer.run(stop.clone(), committed.clone()));
        }
        Storm {
            stop,
            truncates,
            committed,
            tasks,
        }
    }

    /// From now on tables are truncated too. Not before there is a slot: PostgreSQL 15 may fail for ever to decode a TRUNCATE that
    /// ran while the slot was created ("could not map filenode to relation OID").
    pub fn truncate(&self) {
        self.truncates.store(true, Ordering::Relaxed);
    }

    /// Transactions that committed so far.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    pub async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        self.committed.load(Ordering::Relaxed)
    }
}

struct Writer {
    connection: PgConnection,
    rng: StdRng,
    number: usize,
    prepared: u32,
    truncates: Arc<AtomicBool>,
}

impl Writer {
    async fn run(mut self, stop: Arc<AtomicBool>, committed: Arc<AtomicU64>) {
        let lock_timeout = "SET lock_timeout = '2s'";
        self.connection.execute(lock_timeout).await.unwrap();
        while !stop.load(Ordering::Relaxed) {
            match self.transaction().await {
                Ok(true) => _ = committed.fetch_add(1, Ordering::Relaxed),
                Ok(false) => {}
                // A key was taken, or two waited for each other.
                Err(_) => _ = self.connection.execute("ROLLBACK").await.unwrap(),
            }
        }
        self.connection.close().await.unwrap();
    }

    /// True if it committed.
    async fn transaction(&mut self) -> Result<bool, sqlx::Error> {
        self.run_sql("BEGIN").await?;
        for _ in 0..self.rng.random_range(1..4) {
            let sql = self.statement();
            self.run_sql(&sql).await?;
        }
        if self.rng.random_bool(0.3) {
            let (kept, undone) = (self.statement(), self.statement());
            for sql in [
                "SAVEPOINT a",
                &kept,
                "SAVEPOINT b",
                &undone,
                "ROLLBACK TO b",
                "RELEASE a",
            ] {
                self.run_sql(sql).await?;
            }
        }
        match self.rng.random_range(0..10) {
            0 => self.run_sql("ROLLBACK").await.map(|()| false),
            1 | 2 => self.two_phases().await,
            _ => self.run_sql("COMMIT").await.map(|()| true),
        }
    }

    async fn two_phases(&mut self) -> Result<bool, sqlx::Error> {
        self.prepared += 1;
        let name = format!("{}_{}_{}", std::process::id(), self.number, self.prepared);
        self.run_sql(&format!("PREPARE TRANSACTION '{name}'"))
            .await?;
        let commits = self.rng.random_bool(0.7);
        let end = if commits { "COMMIT" } else { "ROLLBACK" };
        self.run_sql(&format!("{end} PREPARED '{name}'")).await?;
        Ok(commits)
    }

    async fn run_sql(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        self.connection.execute(sql).await.map(drop)
    }

    fn statement(&mut self) -> String {
        let rng = &mut self.rng;
        let (id, other) = (rng.random_range(1..400), rng.random_range(1..400));
        let (tag, tag2) = (tag(rng), tag(rng));
        let text = format!(
            "repeat(md5('{}'), {})",
            rng.random::<u32>(),
            rng.random_range(60..120)
        );
        let kinds = if self.truncates.load(Ordering::Relaxed) {
            100
        } else {
            98
        };
        match rng.random_range(0..kinds) {
            0..15 => format!("INSERT INTO source.users VALUES ({id}, 'new', {text}) ON CONFLICT (user_id) DO UPDATE SET name = excluded.name"),
            15..30 => format!("UPDATE source.users SET name = 'n{other}' WHERE user_id = {id}"),
            30..45 => format!("UPDATE source.users SET user_id = {other} WHERE user_id = {id}"),
            45..55 => format!("DELETE FROM source.users WHERE user_id = {id}"),
            55..65 => format!("INSERT INTO source.lines VALUES ('{tag}', {id}, {text}) ON CONFLICT DO NOTHING"),
            65..80 => format!("UPDATE source.lines SET tag = '{tag2}', line = {other} WHERE tag = '{tag}' AND line BETWEEN {id} AND {id} + 7"),
            80..88 => format!("DELETE FROM source.lines WHERE tag = '{tag}' AND line = {id}"),
            88..98 => format!("UPDATE source.users SET note = {text} WHERE user_id = {id}"),
            98 => format!("TRUNCATE source.users; INSERT INTO source.users SELECT i, 'again', {text} FROM generate_series(1, 200) i"),
            _ => format!("TRUNCATE source.lines; INSERT INTO source.lines SELECT '{tag}', i, {text} FROM generate_series(1, 200) i"),
        }
    }
}

fn tag(rng: &mut StdRng) -> String {
    format!("{}''\\", char::from(b'A' + rng.random_range(0..7)))
}
