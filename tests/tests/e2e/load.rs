//! Random writers over the tables of the shop, on servers of one's own, and an `up` that follows them with its marts.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context};
use millrace_cli::endpoints::Endpoints;
use millrace_tests::harness::{marts_folder, Servers};
use millrace_tests::workload::{Workload, SCHEMA};
use serde_json::Value;
use sqlx::{Connection, Executor, MySqlConnection, PgConnection};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::binary::{said, Demo};

/// Of one writer between two transactions: tables are truncated every few seconds then, and not all the time.
const PACE: Duration = Duration::from_millis(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What was asked for is there by then, on a busy machine too.
const SOON: Duration = Duration::from_secs(120);

/// Commits that were counted, and the tasks that make them.
struct Writers {
    commits: Arc<AtomicU64>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Writers {
    fn start(url: &str, count: u64, seed: u64) -> Writers {
        println!("{count} writers, seed {seed}");
        let (commits, stop) = (Arc::<AtomicU64>::default(), CancellationToken::new());
        let task = |number| {
            tokio::spawn(write(
                url.to_owned(),
                seed.wrapping_add(number),
                commits.clone(),
                stop.clone(),
            ))
        };
        Writers {
            tasks: (0..count).map(task).collect(),
            commits,
            stop,
        }
    }
}

async fn write(
    url: String,
    seed: u64,
    commits: Arc<AtomicU64>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(&url).await?;
    let mut workload = Workload::new(seed);
    let mut pace = tokio::time::interval(PACE);
    while !stop.is_cancelled() {
        pace.tick().await;
        match workload.run(&mut connection).await {
            Ok(committed) => _ = commits.fetch_add(committed.into(), Relaxed),
            Err(error) if is_away(&error) => {
                connection = match PgConnection::connect(&url).await {
                    Ok(again) => again,
                    Err(_) => continue,
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(connection.close().await?)
}

/// The server was stopped, or comes up.
fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P")),
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        _ => false,
    }
}

/// A shop under load that `up` keeps in MySQL.
pub(crate) struct Loaded {
    servers: Servers,
    pub(crate) source: PgConnection,
    pub(crate) demo: Demo,
    mysql: String,
    writers: Writers,
}

impl Loaded {
    /// The tables of the shop, those that `more` makes, and all marts of the shop.
    pub(crate) async fn open(name: &str, more: &str, writers: u64) -> anyhow::Result<Loaded> {
        let servers = Servers::start(name).await?;
        let mut source = servers.source().await?;
        source.execute(sqlx::raw_sql(SCHEMA)).await?;
        source.execute(sqlx::raw_sql(more)).await?;
        drop(servers.target("loaded").await?);
        let (postgres, mysql) = (servers.postgres.url(), servers.mysql_url("loaded"));
        let mut demo = Demo::new(name)?;
        start(&mut demo, &postgres, &mysql)?;
        let deadline = Instant::now() + SOON;
        while Endpoints::read(&demo.data_dir()).is_err() {
            ensure!(Instant::now() < deadline, "{}", demo.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let writers = Writers::start(&postgres, writers, rand::random());
        let demo = tokio::task::spawn_blocking(move || demo.wait_for().map(|()| demo)).await??;
        let loaded = Loaded {
            servers,
            source,
            demo,
            mysql,
            writers,
        };
        loaded.all_live().await?;
        loaded.marts_live().await?;
        Ok(loaded)
    }

    /// Starts `up` after it was stopped.
    pub(crate) fn start_again(&mut self) -> anyhow::Result<()> {
        start(&mut self.demo, &self.servers.postgres.url(), &self.mysql)
    }

    /// Stops Postgres, does something to its folder, and starts it again.
    pub(crate) async fn with_postgres_down(
        self,
        change: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Loaded> {
        drop(self.source);
        let servers = self.servers.with_postgres_down(change).await?;
        Ok(Loaded {
            source: servers.source().await?,
            servers,
            demo: self.demo,
            mysql: self.mysql,
            writers: self.writers,
        })
    }

    /// Marts join when all their tables have.
    pub(crate) async fn marts_live(&self) -> anyhow::Result<()> {
        const NOT_LIVE: Option<i32> = Some(2);
        let deadline = Instant::now() + SOON;
        loop {
            let (code, report) = self.answer(&[]).await?;
            if code != NOT_LIVE {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{report:#}\n{}", self.demo.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(crate) async fn target(&self) -> anyhow::Result<MySqlConnection> {
        Ok(MySqlConnection::connect(&self.mysql).await?)
    }

    /// Transactions that the writers have committed.
    pub(crate) fn commits(&self) -> u64 {
        self.writers.commits.load(Relaxed)
    }

    /// Executes SQL in the source, again if it met a writer in a lock.
    pub(crate) async fn in_source(&mut self, sql: &str) -> anyhow::Result<()> {
        const DEADLOCK: &str = "40P01";
        loop {
            let done = self.source.execute(sqlx::raw_sql(sql)).await;
            match done {
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(DEADLOCK) => {
                    self.source.execute("ROLLBACK").await?;
                }
                other => return other.map(drop).with_context(|| sql.to_owned()),
            }
        }
    }

    /// Runs a command to its end while the writers go on.
    pub(crate) async fn run(&self, arguments: &[&str]) -> anyhow::Result<std::process::Output> {
        tokio::task::block_in_place(|| self.demo.run(arguments))
    }

    /// Exit code and report of `verify`; what it says where there is no report.
    pub(crate) async fn verify(&self, more: &[&str]) -> anyhow::Result<(Option<i32>, Value)> {
        let output = self.run(&[&["verify", "--json"], more].concat()).await?;
        let report = serde_json::from_slice(&output.stdout);
        Ok((
            output.status.code(),
            report.unwrap_or_else(|_| said(&output).into()),
        ))
    }

    /// An answer of `verify`. None is had while a table is truncated each time before its turn comes.
    pub(crate) async fn answer(&self, more: &[&str]) -> anyhow::Result<(Option<i32>, Value)> {
        loop {
            let (code, report) = self.verify(more).await?;
            match report.as_str() {
                Some(said) if said.contains("MR-V008") => println!("truncated again and again"),
                _ => return Ok((code, report)),
            }
        }
    }

    /// Everything is live and equal.
    pub(crate) async fn is_equal(&self) -> anyhow::Result<()> {
        let (code, report) = self.answer(&[]).await?;
        ensure!(code == Some(0), "{report:#}\n{}", self.demo.log());
        Ok(())
    }

    /// What `tables list` says of all tables.
    pub(crate) async fn tables(&self) -> anyhow::Result<Vec<Value>> {
        let listed = self.run(&["tables", "list", "--json"]).await?;
        let answer: Value =
            serde_json::from_slice(&listed.stdout).with_context(|| said(&listed))?;
        Ok(answer["tables"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until a table is as it should be.
    pub(crate) async fn until(
        &self,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let deadline = Instant::now() + SOON;
        loop {
            let tables = self.tables().await?;
            match tables.iter().find(|table| table["name"] == name) {
                Some(table) if wanted(table) => return Ok(table.clone()),
                _ => {}
            }
            ensure!(
                Instant::now() < deadline,
                "{name}: {tables:#?}\n{}",
                self.demo.log()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until all tables are live and no copy is under way.
    pub(crate) async fn all_live(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + SOON;
        loop {
            let tables = self.tables().await?;
            if !tables.is_empty() && tables.iter().all(is_live) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{tables:#?}\n{}",
                self.demo.log()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends the writers, and with them everything: all is equal to the last row.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        self.writers.stop.cancel();
        for task in std::mem::take(&mut self.writers.tasks) {
            task.await??;
        }
        println!("{} commits", self.commits());
        tokio::task::block_in_place(|| self.demo.wait_for())?;
        self.is_equal().await?;
        let (_, well) = self.demo.interrupt()?;
        ensure!(well, "{}", self.demo.log());
        self.servers.stop().await
    }
}

fn start(demo: &mut Demo, postgres: &str, mysql: &str) -> anyhow::Result<()> {
    let marts = marts_folder().display().to_string();
    let flags = [
        "--name", "loaded", "--tables", "source.*", "--marts", &marts,
    ];
    demo.start_on(postgres, mysql, &flags)
}

pub(crate) fn is_live(table: &Value) -> bool {
    table["state"] == "live" && table["copy"].is_null()
}
