//! How fast rows get into MySQL: three ways of writing them, and the whole projector, at last with the marts of the example.
//!
//! `cargo run --release -p millrace-projections --example write_bench -- [rows [URL]]`, with a MariaDB
//! of its own, or with the server of the URL, such as `mysql://root@127.0.0.1:3306`: there it makes a
//! database `millrace_write_rate` and drops it again.

#[path = "../tests/engine/memory_log.rs"]
#[allow(dead_code)]
mod memory_log;
#[path = "../tests/engine/shop.rs"]
mod shop;
#[path = "../tests/engine/source.rs"]
#[allow(dead_code)]
mod source;
#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_events::{Change, Column, Op, SchemaId, TableSchema, Value};
use millrace_projections::engine::{Config, Hooks, Limits, Service};
use millrace_projections::marts::Marts;
use millrace_projections::replica::{ddl, upsert, Policies, Table, TablePolicies};
use millrace_projections::script::Script;
use millrace_sessions::mysql::{connect, Purpose, Session};
use rand::SeedableRng;
use source::Source;
use sqlx::Executor;
use tokio_util::sync::CancellationToken;

const DATABASE: &str = "millrace_write_rate";
const ROWS_PER_COMMIT: usize = 5_000;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let rows: i64 = arguments.next().map_or(Ok(100_000), |rows| rows.parse())?;
    let url = match arguments.next() {
        Some(url) => url,
        None => support::Server::shared()
            .await
            .url("")
            .trim_end_matches('/')
            .to_owned(),
    };
    let mut conn = connect(&url, Purpose::Project).await?;
    conn.execute(format!("CREATE DATABASE {DATABASE}").as_str())
        .await?;
    conn.execute(format!("USE {DATABASE}").as_str()).await?;
    println!(
        "{}, {rows} rows of bills, {ROWS_PER_COMMIT} in a commit",
        conn.server().version
    );
    let measured = measure(&mut conn, &format!("{url}/{DATABASE}"), rows).await;
    conn.execute(format!("DROP DATABASE {DATABASE}").as_str())
        .await?;
    conn.close().await;
    measured
}

async fn measure(conn: &mut Session, url: &str, rows: i64) -> Result<(), Failure> {
    let table = Table::of(&bills(), "bills", &TablePolicies::default())?;
    let rows: Vec<Vec<Value>> = (0..rows).map(bill).collect();
    for (name, shape) in [
        ("literals", 0),
        ("placeholders, 500 rows", 1),
        ("JSON_TABLE", 2),
    ] {
        ddl::recreate(conn, &table, "").await?;
        // The second pass meets every row again.
        for pass in ["insert", "update"] {
            let start = Instant::now();
            for chunk in rows.chunks(ROWS_PER_COMMIT) {
                conn.execute("BEGIN").await?;
                match shape {
                    0 => {
                        let rows: Vec<&[Value]> = chunk.iter().map(Vec::as_slice).collect();
                        let mut script = Script::on(conn);
                        upsert(&mut script, &table, &rows).await?;
                        script.send().await?;
                    }
                    1 => placeholders(conn, chunk).await?,
                    _ => json_table(conn, chunk).await?,
                }
                conn.execute("COMMIT").await?;
            }
            report(&format!("{name}, {pass}"), rows.len(), start.elapsed());
        }
    }
    ddl::drop_table(conn, "bills").await?;
    for (name, per_transaction) in [("1 row", 1), ("10 rows", 10), ("all rows", rows.len())] {
        anew(conn).await?;
        let (source, marts) = (bills_of(&rows, per_transaction), Marts::none());
        let start = Instant::now();
        project(url, source, marts).await?;
        report(
            &format!("projector, transactions of {name}"),
            rows.len(),
            start.elapsed(),
        );
    }
    // One after the other, as they come while the shop is open, and as many at once as a turn takes.
    for (name, transactions) in [("alone", 1), ("together", Limits::default().transactions)] {
        anew(conn).await?;
        let orders = rows.len() as i64 / 10;
        let source = orders_of_the_shop(orders);
        let start = Instant::now();
        project_by(url, source, shop::marts(), transactions).await?;
        report(
            &format!("projector, orders and marts, {name}"),
            orders as usize,
            start.elapsed(),
        );
    }
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find(|line| line.starts_with("VmHWM"));
        println!("{}", peak.unwrap_or_default());
    }
    Ok(())
}

fn report(what: &str, rows: usize, time: Duration) {
    let rate = rows as f64 / time.as_secs_f64();
    println!("{what:38} {rate:9.0} rows/s  ({:.2} s)", time.as_secs_f64());
}

async fn placeholders(conn: &mut Session, rows: &[Vec<Value>]) -> Result<(), Failure> {
    for rows in rows.chunks(500) {
        let tuples = vec!["(?,?,?,?,?,?)"; rows.len()].join(",");
        let sql = format!("INSERT INTO bills VALUES {tuples} {TAIL}");
        let mut query = sqlx::query(&sql);
        for value in rows.iter().flatten() {
            query = match value {
                Value::Int(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::Bool(value) => query.bind(value),
                // None of these rows is large.
                Value::Null | Value::Sliced(_) => query.bind(None::<String>),
            };
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

async fn json_table(conn: &mut Session, rows: &[Vec<Value>]) -> Result<(), Failure> {
    let sql = format!(
        "INSERT INTO bills SELECT * FROM JSON_TABLE(?, '$[*]' COLUMNS (a BIGINT PATH '$[0]', \
         b BIGINT PATH '$[1]', c DATETIME(6) PATH '$[2]', d DECIMAL(12,2) PATH '$[3]', \
         e VARCHAR(20) PATH '$[4]', f DATETIME(6) PATH '$[5]')) AS t {TAIL}"
    );
    for rows in rows.chunks(2_000) {
        let json = serde_json::to_string(rows)?;
        sqlx::query(&sql).bind(json).execute(&mut *conn).await?;
    }
    Ok(())
}

const TAIL: &str =
    "ON DUPLICATE KEY UPDATE account_id=VALUES(account_id), made_at=VALUES(made_at), \
     amount=VALUES(amount), state=VALUES(state), sent_at=VALUES(sent_at)";

/// An empty database.
async fn anew(conn: &mut Session) -> Result<(), Failure> {
    conn.execute(format!("DROP DATABASE {DATABASE}").as_str())
        .await?;
    conn.execute(format!("CREATE DATABASE {DATABASE}").as_str())
        .await?;
    conn.execute(format!("USE {DATABASE}").as_str()).await?;
    Ok(())
}

fn new_source() -> Source {
    let rng = rand::rngs::StdRng::seed_from_u64(1);
    let mut source = Source::new(memory_log::MemoryLog::new(), rng);
    source.slices = false;
    source
}

/// A log with these orders, each in a transaction of its own.
fn orders_of_the_shop(orders: i64) -> Source {
    let mut source = new_source();
    shop::open(&mut source);
    source.snapshot(1);
    for number in 1..=orders {
        let changes = shop::order(&mut source, number);
        append(&mut source, &changes);
    }
    source
}

/// A log with all rows as inserts.
fn bills_of(rows: &[Vec<Value>], per_transaction: usize) -> Source {
    let mut source = new_source();
    source.schemas = vec![bills()];
    source.state.entry(source::id("bills")).or_default();
    source.snapshot(1);
    for rows in rows.chunks(per_transaction) {
        let changes: Vec<Change> = rows.iter().map(|row| insert(row)).collect();
        append(&mut source, &changes);
    }
    source
}

/// A transaction, without the history that tests compare with.
fn append(source: &mut Source, changes: &[Change]) {
    for value in source.parts(changes, 3_000) {
        source.log.append(source::CHANGES, value);
    }
    source.lsn = millrace_events::Lsn(source.lsn.0 + 50);
}

async fn project(url: &str, source: Source, marts: Marts) -> Result<(), Failure> {
    project_by(url, source, marts, Limits::default().transactions).await
}

/// Runs a projector over a log, that many transactions to a turn at most.
async fn project_by(
    url: &str,
    source: Source,
    marts: Marts,
    transactions: u64,
) -> Result<(), Failure> {
    let config = Config {
        mysql_url: url.to_owned(),
        fluvio: String::new(),
        changes_topic: source::CHANGES.into(),
        smartmodule: None,
        main_schema: Some(source::MAIN_SCHEMA.into()),
        values: Policies::default(),
        marts,
        limits: Limits {
            transactions,
            ..Limits::default()
        },
        hooks: Hooks::default(),
    };
    let service = Service::over(config, Arc::new(source.log.clone()));
    let handle = service.handle();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(service.run(shutdown.clone()));
    handle
        .wait_for(source.lsn, Duration::from_secs(600))
        .await?;
    shutdown.cancel();
    task.await??;
    Ok(())
}

fn insert(row: &[Value]) -> Change {
    let columns = bills().columns;
    let pairs = columns.into_iter().zip(row);
    Change {
        table: source::id("bills"),
        op: Op::Insert,
        schema: SchemaId(1),
        before: None,
        after: Some(millrace_events::Row(
            pairs
                .map(|(column, value)| (column.name, value.clone()))
                .collect(),
        )),
    }
}

fn bills() -> TableSchema {
    let column = |(name, type_name, key): (&str, &str, bool)| Column {
        name: name.into(),
        type_name: type_name.into(),
        oid: 0,
        type_mod: -1,
        key,
    };
    TableSchema {
        id: SchemaId(1),
        table: source::id("bills"),
        columns: [
            ("bill_id", "bigint", true),
            ("account_id", "bigint", false),
            ("made_at", "timestamp without time zone", false),
            ("amount", "numeric(12,2)", false),
            ("state", "character varying(20)", false),
            ("sent_at", "timestamp without time zone", false),
        ]
        .map(column)
        .to_vec(),
    }
}

fn bill(id: i64) -> Vec<Value> {
    let text = |text: String| Value::Text(text);
    vec![
        Value::Int(id),
        Value::Int(id % 500),
        text(format!(
            "2024-01-01 00:{:02}:{:02}.5",
            id / 60 % 60,
            id % 60
        )),
        text(format!("{}.{:02}", id % 10_000, id % 100)),
        text("Completed".into()),
        Value::Null,
    ]
}
