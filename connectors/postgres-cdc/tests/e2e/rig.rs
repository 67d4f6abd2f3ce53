//! A database, a broker and a capture between them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::Duration;

use fluvio::consumer::ConsumerConfig;
use fluvio::{Fluvio, FluvioClusterConfig, Offset};
use futures_util::{pin_mut, StreamExt};
use millrace_broker::{Broker, Handle as BrokerHandle, Storage};
use millrace_events::{Lsn, Op, Record, TableId};
use millrace_postgres_cdc::{
    Capture, Config, Error, Handle, Selection, State, Status, TableRequest, TableState, TableStatus,
};
use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::forgetful::Forgetful;
use crate::postgres::Postgres;

/// No wait of a test may take longer.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Rig {
    postgres: Arc<Postgres>,
    broker: Option<BrokerHandle>,
    folder: Option<TempDir>,
    pub config: Config,
    database: String,
}

fn broker_config(folder: Option<&TempDir>) -> millrace_broker::Config {
    let mut config = millrace_broker::Config::on_loopback(match folder {
        Some(folder) => Storage::Directory(folder.path().join("broker")),
        None => Storage::Temporary,
    });
    config.limits.retention_interval = Duration::from_millis(500);
    config
}

/// These tables of schema `source`; all of it if there are none.
fn selection(tables: &[&str]) -> Selection {
    if tables.is_empty() {
        return "source.*".parse().unwrap();
    }
    let names: Vec<_> = tables
        .iter()
        .map(|table| format!("source.{table}"))
        .collect();
    names.join(",").parse().unwrap()
}

/// Where clients find the data plane of [`Rig::forgetful`].
const FRONT: &str = "127.0.0.2";

/// A capture at work.
pub struct Running {
    pub handle: Handle,
    pub task: JoinHandle<Result<(), Error>>,
    pub shutdown: CancellationToken,
}

impl Rig {
    /// A fresh database in which `setup` has run, and a fresh broker.
    pub async fn new(setup: &str, tables: &[&str]) -> Rig {
        let postgres = tokio::task::spawn_blocking(Postgres::shared).await.unwrap();
        Rig::on(postgres, setup, tables).await
    }

    /// The same on a server of the test's own.
    pub async fn on(postgres: Arc<Postgres>, setup: &str, tables: &[&str]) -> Rig {
        Rig::with(postgres, broker_config(None), None, setup, tables).await
    }

    /// The same behind a data plane that can forget.
    pub async fn forgetful(setup: &str, tables: &[&str]) -> (Rig, Forgetful) {
        let mut config = broker_config(None);
        config.advertised = Some((FRONT.into(), 0));
        let postgres = tokio::task::spawn_blocking(Postgres::shared).await.unwrap();
        let rig = Rig::with(postgres, config, None, setup, tables).await;
        let back = rig.broker.as_ref().unwrap().spu_addr();
        let front = SocketAddr::new(FRONT.parse().unwrap(), back.port());
        (rig, Forgetful::start(front, back).await)
    }

    /// The same with a broker that can be restarted.
    pub async fn durable(setup: &str, tables: &[&str]) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let postgres = tokio::task::spawn_blocking(Postgres::shared).await.unwrap();
        let broker = broker_config(Some(&folder));
        Rig::with(postgres, broker, Some(folder), setup, tables).await
    }

    async fn with(
        postgres: Arc<Postgres>,
        broker: millrace_broker::Config,
        folder: Option<TempDir>,
        setup: &str,
        tables: &[&str],
    ) -> Rig {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let database = format!("db_{}_{number}", std::process::id());
        let mut admin = PgConnection::connect(&postgres.url("postgres"))
            .await
            .unwrap();
        admin
            .execute(format!("CREATE DATABASE {database}").as_str())
            .await
            .unwrap();
        let mut connection = PgConnection::connect(&postgres.url(&database))
            .await
            .unwrap();
        connection.execute("CREATE SCHEMA source").await.unwrap();
        sqlx::raw_sql(setup).execute(&mut connection).await.unwrap();
        let broker = Broker::open(broker).await.unwrap();
        let mut config = Config::new(
            postgres.url(&database),
            broker.sc_addr().to_string(),
            selection(tables),
        );
        // Slots belong to the cluster, not to the database.
        config.slot = format!("slot_{number}");
        config.progress_period = Duration::from_millis(200);
        config.feedback_period = Duration::from_millis(200);
        config.watch_period = Duration::from_millis(200);
        config.lock_timeout = Duration::from_secs(3);
        config.slot_timeout = Duration::from_secs(20);
        config.backoff_min = Duration::from_millis(50);
        Rig {
            postgres,
            broker: Some(broker),
            folder,
            config,
            database,
        }
    }

    pub async fn restart_broker(&mut self) {
        let addresses = self.stop_broker().await;
        self.start_broker(addresses).await;
    }

    /// Returns where it listened.
    pub async fn stop_broker(&mut self) -> (SocketAddr, SocketAddr) {
        let running = self.broker.take().unwrap();
        let addresses = (running.sc_addr(), running.spu_addr());
        running.shutdown().await;
        addresses
    }

    pub async fn start_broker(&mut self, addresses: (SocketAddr, SocketAddr)) {
        let mut config = broker_config(self.folder.as_ref());
        (config.sc_bind, config.spu_bind) = addresses;
        self.broker = Some(Broker::open(config).await.unwrap());
    }

    /// Where a durable broker keeps its data. Nobody writes there while it is stopped.
    pub fn broker_folder(&self) -> PathBuf {
        self.folder.as_ref().unwrap().path().join("broker")
    }

    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.postgres.url(&self.database))
            .await
            .unwrap()
    }

    pub async fn sql(&self, sql: &str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }

    pub async fn text(&self, sql: &str) -> String {
        let mut connection = self.connect().await;
        let text: Option<String> = sqlx::query_scalar(sql)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        text.unwrap_or_default()
    }

    pub async fn lsn(&self, sql: &str) -> Lsn {
        self.text(sql).await.parse().unwrap()
    }

    /// Where WAL ends now: a capture that has reached this has everything committed before.
    pub async fn end(&self) -> Lsn {
        self.text("SELECT pg_logical_emit_message(true, 'millrace', 'mark')::text")
            .await
            .parse()
            .unwrap()
    }

    /// Waits until Postgres knows that everything before `lsn` is safe.
    pub async fn confirms(&self, lsn: Lsn) {
        let confirmed = async {
            while self.confirmed().await < lsn {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let confirmed = tokio::time::timeout(PATIENCE, confirmed).await;
        confirmed.expect("Postgres is told");
    }

    pub async fn confirmed(&self) -> Lsn {
        let slot = &self.config.slot;
        self.lsn(&format!(
            "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = '{slot}'"
        ))
        .await
    }

    pub fn start(&self) -> Running {
        self.start_with(self.config.clone())
    }

    pub fn start_with(&self, config: Config) -> Running {
        let capture = Capture::new(config).unwrap();
        let handle = capture.handle();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(capture.run(shutdown.clone()));
        Running {
            handle,
            task,
            shutdown,
        }
    }

    /// Runs a capture that is expected to give up.
    pub async fn failure(&self, config: Config) -> Failure {
        self.start_with(config).failure().await
    }

    pub async fn fluvio(&self) -> Fluvio {
        let cluster = FluvioClusterConfig::new(&self.config.fluvio_endpoint);
        Fluvio::connect_with_config(&cluster).await.unwrap()
    }

    /// All records of a topic.
    pub async fn records(&self, topic: &str) -> Vec<Record> {
        let config = ConsumerConfig::builder()
            .max_bytes(32 << 20)
            .disable_continuous(true)
            .build()
            .unwrap();
        #[allow(deprecated)]
        let consumer = self
            .fluvio()
            .await
            .partition_consumer(topic, 0)
            .await
            .unwrap();
        let batches = consumer
            .stream_batches_with_config(Offset::beginning(), config)
            .await
            .unwrap();
        pin_mut!(batches);
        let mut records = Vec::new();
        while let Some(batch) = batches.next().await {
            for record in batch.unwrap().records() {
                records.push(Record::decode(record.value().as_ref()).unwrap());
            }
        }
        records
    }

    /// The transactions of a `test_decoding` slot: xid and the changes as (table, op).
    pub async fn decoded(&self, slot: &str) -> Vec<(u32, Vec<(TableId, Op)>)> {
        let mut connection = self.connect().await;
        let sql =
            "SELECT data FROM pg_logical_slot_get_changes($1, NULL, NULL, 'include-xids', '1')";
        let lines: Vec<String> = sqlx::query_scalar(sql)
            .bind(slot)
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let mut transactions: Vec<(u32, Vec<(TableId, Op)>)> = Vec::new();
        let mut ours: Vec<u32> = Vec::new();
        for line in lines {
            let words: Vec<_> = line.splitn(4, ' ').collect();
            match words[..] {
                ["BEGIN", xid] => transactions.push((xid.parse().unwrap(), Vec::new())),
                ["table", table, op, ..] if table != "source.unseen:" => {
                    let table = table.trim_end_matches(':');
                    let op = match op {
                        "INSERT:" => Op::Insert,
                        "UPDATE:" => Op::Update,
                        "DELETE:" => Op::Delete,
                        _ => Op::Truncate,
                    };
                    let changes = &mut transactions.last_mut().unwrap().1;
                    changes.push((table.parse().unwrap(), op));
                }
                // Our own messages make a transaction of the log although they change nothing.
                ["message:", ..] if line.contains("prefix: millrace,") => {
                    ours.push(transactions.last().unwrap().0);
                }
                _ => {}
            }
        }
        transactions.retain(|(xid, changes)| !changes.is_empty() || ours.contains(xid));
        transactions
    }

    pub async fn log(&self) -> Vec<Record> {
        self.records(&self.config.topic_changes).await
    }

    pub async fn topics(&self) -> Vec<String> {
        let admin = self.fluvio().await.admin().await;
        let topics = admin
            .all::<fluvio::metadata::topic::TopicSpec>()
            .await
            .unwrap();
        topics
            .into_iter()
            .map(|topic| topic.name)
            .filter(|name| name.starts_with("millrace-"))
            .collect()
    }
}

/// Why a capture does not go on, with its code.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    pub fn code(&self) -> Option<&str> {
        let (code, _) = self.0.split_once(": ")?;
        code.starts_with("capture-").then_some(code)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Running {
    pub async fn until(&mut self, wanted: impl FnMut(&Status) -> bool) -> Status {
        let found = tokio::time::timeout(PATIENCE, self.handle.wait_for(wanted)).await;
        match found {
            Ok(Some(status)) => status,
            _ => panic!("capture does not get there: {:?}", self.handle.status()),
        }
    }

    /// Waits until it follows the stream and has copied all tables.
    pub async fn streaming(&mut self) -> Status {
        let captured = |table: &TableStatus| table.state == TableState::Captured;
        self.until(|status| {
            let copied = !status.tables.is_empty() && status.tables.iter().all(captured);
            status.state == State::Streaming && copied
        })
        .await
    }

    /// Waits until the log is acknowledged up to `lsn`.
    pub async fn reaches(&mut self, lsn: Lsn) {
        self.until(|status| status.last_lsn >= lsn).await;
    }

    /// Why it has ended, or waits for a person. Ends it.
    pub async fn failure(mut self) -> Failure {
        let failed = |status: &Status| matches!(status.state, State::Void | State::Stopped);
        let status = self.until(failed).await;
        self.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        drop(ended.expect("it ends").unwrap());
        Failure(status.last_error.expect("a reason"))
    }

    /// Has a log that cannot go on begun again.
    pub async fn begin_again(&mut self) {
        self.until(|status| status.state == State::Void).await;
        let asked = self.handle.request(TableRequest::BeginAgain).await;
        asked.expect("the log is begun again");
    }

    /// As a crash would end it: nothing is finished, nothing is said to Postgres.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        let result = tokio::time::timeout(PATIENCE, self.task).await;
        result
            .expect("it stops")
            .unwrap()
            .expect("without an error");
    }
}
