//! Measures capture: transactions a second and bytes a second into the topic, rows a second of the
//! snapshot. `cargo run --release -p millrace-postgres-cdc --example capture_bench`

#![allow(clippy::unwrap_used, dead_code, missing_docs, unreachable_pub)]

#[path = "../tests/e2e/postgres.rs"]
mod postgres;

use std::time::{Duration, Instant};

use millrace_broker::{Broker, Storage};
use millrace_events::Lsn;
use millrace_postgres_cdc::{Capture, Config, State};
use sqlx::{Connection, Executor, PgConnection};
use tokio_util::sync::CancellationToken;

const SETUP: &str = "
    CREATE SCHEMA source;
    CREATE TABLE source.orders (order_id bigint PRIMARY KEY, user_id int, status text, total numeric(12,2), at timestamptz DEFAULT now());
    CREATE TABLE source.notes (id bigint PRIMARY KEY, note text);
    INSERT INTO source.orders SELECT i, i % 500, 'delivered', i * 0.25, now() FROM generate_series(1, 1000000) i;";
const SINGLE: &str = "DO $$ BEGIN FOR i IN 1..200000 LOOP
    UPDATE source.orders SET status = 'paid', total = i WHERE order_id = i; COMMIT; END LOOP; END $$";
const LARGE: &str =
    "INSERT INTO source.notes SELECT i, repeat('x', 1000) FROM generate_series(1, 300000) i";

#[tokio::main]
async fn main() {
    let server = postgres::Postgres::shared();
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::Directory(folder.path().join("broker"));
    let broker = Broker::open(millrace_broker::Config::on_loopback(storage))
        .await
        .unwrap();
    let mut connection = PgConnection::connect(&server.url("postgres"))
        .await
        .unwrap();
    sqlx::raw_sql(SETUP).execute(&mut connection).await.unwrap();
    let config = Config::new(
        server.url("postgres"),
        broker.sc_addr().to_string(),
        "source.*".parse().unwrap(),
    );

    let (seconds, cpu) = follow(&config, Lsn::ZERO).await;
    println!(
        "snapshot: 1000000 rows, {:.0}/s, {:.0} per second of CPU",
        1e6 / seconds,
        1e6 / cpu
    );
    backlog(
        &mut connection,
        &config,
        SINGLE,
        200_000.0,
        "single-row transactions",
    )
    .await;
    backlog(
        &mut connection,
        &config,
        LARGE,
        300_000.0,
        "rows of 1 kB in one transaction",
    )
    .await;
    live(&server, &mut connection, &config).await;
}

/// What has piled up while capture was away.
async fn backlog(
    connection: &mut PgConnection,
    config: &Config,
    sql: &str,
    count: f64,
    what: &str,
) {
    connection.execute(sql).await.unwrap();
    let end = end(connection).await;
    let before = wal(connection, config).await;
    let (seconds, cpu) = follow(config, end).await;
    let bytes = end.0 - before.0;
    println!(
        "backlog: {count} {what}, {:.0}/s, {:.1} MB/s of WAL; {:.0} per second of CPU (capture and broker)",
        count / seconds,
        bytes as f64 / 1e6 / seconds,
        count / cpu
    );
}

/// From commit to acknowledgement, one transaction at a time.
async fn live(server: &postgres::Postgres, connection: &mut PgConnection, config: &Config) {
    let capture = Capture::new(config.clone()).unwrap();
    let mut handle = capture.handle();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(capture.run(shutdown.clone()));
    handle
        .wait_for(|s| s.state == State::Streaming)
        .await
        .unwrap();
    let mut writer = PgConnection::connect(&server.url("postgres"))
        .await
        .unwrap();
    let mut delays = Vec::new();
    for i in 0..200 {
        let update = format!("UPDATE source.orders SET total = {i} WHERE order_id = {i}");
        writer.execute(update.as_str()).await.unwrap();
        let committed = Instant::now();
        let end = end(connection).await;
        handle.wait_for(|s| s.last_lsn >= end).await.unwrap();
        delays.push(committed.elapsed());
    }
    delays.sort();
    println!(
        "live: commit to acknowledgement, median {:?}, 99 % {:?}",
        delays[100], delays[197]
    );
    shutdown.cancel();
    task.await.unwrap().unwrap();
}

/// Seconds until the log has reached `end`, and the seconds of CPU that this process used for it.
async fn follow(config: &Config, end: Lsn) -> (f64, f64) {
    let capture = Capture::new(config.clone()).unwrap();
    let mut handle = capture.handle();
    let shutdown = CancellationToken::new();
    let (mut started, mut cpu) = (Instant::now(), cpu_seconds());
    let task = tokio::spawn(capture.run(shutdown.clone()));
    handle
        .wait_for(|s| s.state == State::Streaming)
        .await
        .unwrap();
    if end > Lsn::ZERO {
        println!(
            "         (log read and slot taken in {:.2} s)",
            started.elapsed().as_secs_f64()
        );
        (started, cpu) = (Instant::now(), cpu_seconds());
    }
    handle.wait_for(|s| s.last_lsn >= end).await.unwrap();
    let used = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    tokio::time::sleep(Duration::from_secs(2)).await;
    shutdown.cancel();
    task.await.unwrap().unwrap();
    used
}

/// User and system time of this process; Linux counts it in hundredths of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .skip(11)
        .take(2);
    fields
        .map(|ticks| ticks.parse::<f64>().unwrap() / 100.0)
        .sum()
}

async fn end(connection: &mut PgConnection) -> Lsn {
    let sql = "SELECT pg_logical_emit_message(true, 'millrace', 'mark')::text";
    let lsn: String = sqlx::query_scalar(sql).fetch_one(connection).await.unwrap();
    lsn.parse().unwrap()
}

async fn wal(connection: &mut PgConnection, config: &Config) -> Lsn {
    let sql = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1";
    let lsn: String = sqlx::query_scalar(sql)
        .bind(&config.slot)
        .fetch_one(connection)
        .await
        .unwrap();
    lsn.parse().unwrap()
}
