//! Measures how long capture takes to stream again, by what its log holds. `RECORDS=5000000 cargo run --release -p
//! millrace-postgres-cdc --example restart_bench`

#![allow(clippy::unwrap_used, dead_code, missing_docs, unreachable_pub)]

#[path = "../tests/e2e/postgres.rs"]
mod postgres;

use std::time::{Duration, Instant};

use chrono::Utc;
use millrace_broker::{Broker, Storage};
use millrace_events::{
    Chain, Change, Checkpoint, Lsn, Op, PartHeader, PartWriter, Progress, Record, Row, SchemaId,
    TableId, Value, Xid,
};
use millrace_postgres_cdc::{Capture, Config, State, TableState};
use millrace_topic::{AppendLimits, Appender, Cluster, Read};
use sqlx::{Connection, Executor, PgConnection};
use tokio_util::sync::CancellationToken;

const SETUP: &str = "
    CREATE SCHEMA source;
    CREATE TABLE source.orders (order_id bigint PRIMARY KEY, note text);
    INSERT INTO source.orders SELECT i, 'new' FROM generate_series(1, 1000) i;";
/// As capture does it.
const CHECKPOINT_EVERY_RECORDS: u64 = 16_384;
const CHECKPOINT_EVERY_BYTES: usize = 4 << 20;

#[tokio::main]
async fn main() {
    let records = std::env::var("RECORDS").map_or(5_000_000, |text| text.parse().unwrap());
    let server = postgres::Postgres::shared();
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::Directory(folder.path().join("broker"));
    let broker = millrace_broker::Config::on_loopback(storage);
    let broker = Broker::open(broker).await.unwrap();
    let mut connection = PgConnection::connect(&server.url("postgres"))
        .await
        .unwrap();
    sqlx::raw_sql(SETUP).execute(&mut connection).await.unwrap();
    let config = Config::new(
        server.url("postgres"),
        broker.sc_addr().to_string(),
        "source.*".parse().unwrap(),
    );
    start(&config).await;
    let short = start(&config).await;
    let bytes = fill(&config, &mut connection, records).await;
    let long = start(&config).await;
    let read = read_all(&config).await;
    println!("a short log: streaming after {:.2} s", short.as_secs_f64());
    println!(
        "{records} records ({:.2} GB): streaming after {:.2} s; reading all of them takes {:.1} s, {:.0} times as long",
        bytes as f64 / 1e9,
        long.as_secs_f64(),
        read.as_secs_f64(),
        read.as_secs_f64() / long.as_secs_f64()
    );
}

/// How long it takes until capture streams, with all tables copied.
async fn start(config: &Config) -> Duration {
    let capture = Capture::new(config.clone()).unwrap();
    let mut handle = capture.handle();
    let shutdown = CancellationToken::new();
    let started = Instant::now();
    let task = tokio::spawn(capture.run(shutdown.clone()));
    let streams = handle.wait_for(|s| s.state == State::Streaming).await;
    let took = started.elapsed();
    streams.unwrap();
    let copied = handle.wait_for(|s| {
        let mut tables = s.tables.iter();
        !s.tables.is_empty() && tables.all(|table| table.state == TableState::Captured)
    });
    copied.await.unwrap();
    shutdown.cancel();
    task.await.unwrap().unwrap();
    took
}

/// Makes a log of so many transactions, with checkpoints as capture writes them, and a WAL that is long enough for them.
async fn fill(config: &Config, connection: &mut PgConnection, records: u64) -> usize {
    let cluster = Cluster::new(config.fluvio_endpoint.as_str());
    let (checkpoint, mut position) = end_of(&cluster, &config.topic_changes).await;
    let limits = AppendLimits::default();
    let mut log: Appender = cluster
        .appender(&config.topic_changes, limits)
        .await
        .unwrap();
    let (mut bytes, mut since) = (0, 0);
    for n in 0..records {
        if n % CHECKPOINT_EVERY_RECORDS == 0 || since >= CHECKPOINT_EVERY_BYTES {
            let lsn = position;
            let at = Utc::now();
            let next = Checkpoint {
                lsn,
                at,
                ..checkpoint.clone()
            };
            log.append(Record::Checkpoint(Box::new(next)).encode())
                .await
                .unwrap();
            since = 0;
        }
        let value = transaction(&checkpoint, position, n);
        position.0 += 1;
        (bytes, since) = (bytes + value.len(), since + value.len());
        log.append(value).await.unwrap();
    }
    let emit = "SELECT pg_logical_emit_message(false, 'other', repeat('x', 1000000)) FROM generate_series(1, $1)";
    let messages = records as i64 / 1_000_000 + 2;
    sqlx::query(emit)
        .bind(messages)
        .execute(&mut *connection)
        .await
        .unwrap();
    connection.execute("SELECT pg_switch_wal()").await.unwrap();
    let end: String = sqlx::query_scalar("SELECT pg_current_wal_flush_lsn()::text")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    let progress = Progress {
        epoch: checkpoint.epoch,
        prev: position,
        end_lsn: end.parse().unwrap(),
        gap: false,
        at: Utc::now(),
    };
    log.append(Record::Progress(progress).encode())
        .await
        .unwrap();
    log.settle().await.unwrap();
    confirm(config, connection, &end).await;
    bytes
}

/// Postgres knows that the log has all of it: the transactions are not its own.
async fn confirm(config: &Config, connection: &mut PgConnection, end: &str) {
    let advance = format!(
        "SELECT pg_replication_slot_advance('{}', '{end}')",
        config.slot
    );
    for _ in 0..100 {
        if connection.execute(advance.as_str()).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the slot is not given up");
}

fn transaction(checkpoint: &Checkpoint, position: Lsn, n: u64) -> Vec<u8> {
    let mut writer = PartWriter::new(PartHeader {
        epoch: checkpoint.epoch,
        prev: position,
        commit_lsn: position,
        xid: Xid(checkpoint.unseen.len() as u32 + 3),
        at: Utc::now(),
    });
    let row = vec![
        ("order_id".to_owned(), Value::Int((n % 1_000) as i64)),
        ("note".to_owned(), Value::Text(format!("changed {n} times"))),
    ];
    writer.push(&Change {
        table: TableId::new("source", "orders"),
        op: Op::Update,
        schema: SchemaId(1),
        before: None,
        after: Some(Row(row)),
    });
    writer.finish(Lsn(position.0 + 1))
}

/// The last checkpoint of a log, and where the log ends.
async fn end_of(cluster: &Cluster, topic: &str) -> (Checkpoint, Lsn) {
    let (mut chain, mut checkpoint) = (Chain::unanchored(), None);
    let mut reading = cluster.read(Read::new(topic).until_now()).await.unwrap();
    while let Some(record) = reading.next().await.unwrap() {
        let record = Record::decode(&record.value).unwrap();
        chain.offer(&record);
        if let Record::Checkpoint(found) = record {
            checkpoint = Some(*found);
        }
    }
    (checkpoint.unwrap(), chain.position().unwrap())
}

/// How long it takes to read a log as a start without checkpoints would.
async fn read_all(config: &Config) -> Duration {
    let started = Instant::now();
    let cluster = Cluster::new(config.fluvio_endpoint.as_str());
    end_of(&cluster, &config.topic_changes).await;
    started.elapsed()
}
