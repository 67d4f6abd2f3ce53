//! How fast `columns` cuts, on the host and in the broker:
//! `make smartmodules && cargo run --release -p millrace-sm-columns --example columns_bench`.
//!
//! In the broker the same records are read to the end with and without the module, side by side; the
//! difference is what the module costs a reader.

use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::DateTime;
use fluvio::consumer::{ConsumerConfigExtBuilder, RetryMode};
use fluvio::metadata::topic::TopicSpec;
use fluvio::{
    Fluvio, FluvioAdmin, FluvioClusterConfig, Offset, RecordKey, SmartModuleContextData,
    SmartModuleInvocation, SmartModuleInvocationWasm, SmartModuleKind, TopicProducerConfigBuilder,
};
use futures_util::StreamExt;
use millrace_broker::{Broker, Config, Storage};
use millrace_events::{Change, Epoch, Lsn, Op, PartHeader, PartWriter, Row, SchemaId, Value, Xid};
use millrace_sm_columns::{apply, Plan};

const WASM: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../target/smartmodules/columns.wasm"
);
const TOPIC: &str = "changes";
/// The records are written so often into the topic.
const COPIES: usize = 50;
const PLANS: [(&str, &str); 4] = [
    (
        "nothing falls, all columns",
        r#"{"source.users":"*","source.orders":"*","source.reviews":"*"}"#,
    ),
    (
        "nothing falls, by column",
        r#"{"source.users":["user_id","first_name","last_name","email","phone","registration_date","loyalty_status"],"source.orders":["order_id","user_id","order_date","total_amount","status","delivery_date"],"source.reviews":["review_id","user_id","product_id","rating","review_text","created_at"]}"#,
    ),
    (
        "columns fall",
        r#"{"source.users":["user_id","loyalty_status"],"source.orders":["order_id","user_id","order_date","total_amount","status"],"source.reviews":["review_id","product_id","rating"]}"#,
    ),
    (
        "tables fall",
        r#"{"source.orders":["order_id","user_id","order_date","total_amount","status"]}"#,
    ),
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let records: Vec<Vec<u8>> = (0..2000).map(transaction).collect();
    let bytes: usize = records.iter().map(Vec::len).sum();
    println!(
        "{} records of {} bytes",
        records.len(),
        bytes / records.len()
    );
    for (what, plan) in PLANS {
        measure(what, &Plan::parse(plan)?, &records, bytes);
    }
    let broker = Broker::open(Config::on_loopback(Storage::Temporary)).await?;
    let cluster = FluvioClusterConfig::new(broker.sc_addr().to_string());
    let client = fill(&cluster, &records).await?;
    let wasm = std::fs::read(WASM).with_context(|| format!("{WASM}; run `make smartmodules`"))?;
    // The first read is for the caches.
    read(&client, &[]).await?;
    let plain = read(&client, &[]).await?;
    report("read, no module", bytes, records.len(), plain);
    let without_plan = read(&client, &[invocation(&wasm, None)?]).await?;
    report(
        "read, columns without a plan",
        bytes,
        records.len(),
        without_plan,
    );
    for (what, plan) in PLANS {
        let time = read(&client, &[invocation(&wasm, Some(plan))?]).await?;
        report(&format!("read, {what}"), bytes, records.len(), time);
    }
    broker.shutdown().await;
    Ok(())
}

async fn fill(cluster: &FluvioClusterConfig, records: &[Vec<u8>]) -> anyhow::Result<Fluvio> {
    let spec = TopicSpec::new_computed(1, 1, None);
    let admin = FluvioAdmin::connect_with_config(cluster).await?;
    admin.create(TOPIC.to_owned(), false, spec).await?;
    let client = Fluvio::connect_with_config(cluster).await?;
    let config = TopicProducerConfigBuilder::default()
        .batch_size(512 * 1024)
        .build()?;
    let producer = client.topic_producer_with_config(TOPIC, config).await?;
    for _ in 0..COPIES {
        for record in records {
            producer.send(RecordKey::NULL, record.as_slice()).await?;
        }
    }
    producer.flush().await?;
    Ok(client)
}

fn invocation(wasm: &[u8], plan: Option<&str>) -> anyhow::Result<SmartModuleInvocation> {
    let params: std::collections::BTreeMap<_, _> = plan
        .map(|plan| ("plan".to_owned(), plan.to_owned()))
        .into_iter()
        .collect();
    Ok(SmartModuleInvocation {
        wasm: SmartModuleInvocationWasm::adhoc_from_bytes(wasm)?,
        kind: SmartModuleKind::Generic(SmartModuleContextData::None),
        params: params.into(),
        name: None,
    })
}

/// Reads the topic to its end.
async fn read(client: &Fluvio, modules: &[SmartModuleInvocation]) -> anyhow::Result<Duration> {
    let config = ConsumerConfigExtBuilder::default()
        .topic(TOPIC)
        .partition(0)
        .offset_start(Offset::beginning())
        .retry_mode(RetryMode::Disabled)
        .max_bytes(1024 * 1024)
        .smartmodule(modules.to_vec())
        .disable_continuous(true)
        .build()?;
    let start = Instant::now();
    let mut stream = client.consumer_with_config(config).await?;
    while let Some(record) = stream.next().await {
        record.map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    Ok(start.elapsed())
}

fn report(what: &str, bytes: usize, records: usize, time: Duration) {
    let per_second = COPIES as f64 / time.as_secs_f64();
    print_line(what, bytes as f64 * per_second, records as f64 * per_second);
}

fn print_line(what: &str, bytes_per_second: f64, records_per_second: f64) {
    let megabytes = bytes_per_second / 1e6;
    println!("{what:36} {megabytes:6.0} MB/s in, {records_per_second:9.0} records/s");
}

fn measure(what: &str, plan: &Plan, records: &[Vec<u8>], bytes: usize) {
    let (mut rounds, mut kept) = (0_usize, 0);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        let cut = |record: &Vec<u8>| {
            apply(plan, record)
                .expect("record")
                .map_or(record.len(), |cut| cut.len())
        };
        kept = records.iter().map(cut).sum();
        rounds += 1;
    }
    let rounds_per_second = rounds as f64 / start.elapsed().as_secs_f64();
    let (bytes, count) = (bytes as f64, records.len() as f64);
    print_line(what, bytes * rounds_per_second, count * rounds_per_second);
    println!(
        "{:36} {:6.0} % of the bytes stay",
        "",
        kept as f64 * 100.0 / bytes
    );
}

/// A user, an order and two reviews, as the shop writes them.
fn transaction(n: u32) -> Vec<u8> {
    let at = DateTime::from_timestamp(1_700_000_000 + i64::from(n), 0).expect("in range");
    let lsn = u64::from(n) * 1000;
    let mut writer = PartWriter::new(PartHeader {
        epoch: Epoch(1),
        prev: Lsn(lsn),
        commit_lsn: Lsn(lsn),
        xid: Xid(n),
        at,
    });
    let (id, text) = (Value::Int(i64::from(n)), |text: &str| {
        Value::Text(text.to_owned())
    });
    let time = text("2026-01-02 03:04:05.678901");
    writer.push(&change(
        "source.users",
        Op::Update,
        &[
            ("user_id", id.clone()),
            ("first_name", text("Ada")),
            ("last_name", text("Lovelace")),
            ("email", text("ada.lovelace@example.org")),
            ("phone", text("+44 20 7946 0000")),
            ("registration_date", time.clone()),
            ("loyalty_status", text("Gold")),
        ],
    ));
    writer.push(&change(
        "source.orders",
        Op::Insert,
        &[
            ("order_id", id.clone()),
            ("user_id", id.clone()),
            ("order_date", time.clone()),
            ("total_amount", text("1234.56")),
            ("status", text("Pending")),
            ("delivery_date", Value::Null),
        ],
    ));
    for _ in 0..2 {
        writer.push(&change("source.reviews", Op::Insert, &[
            ("review_id", id.clone()), ("user_id", id.clone()), ("product_id", id.clone()), ("rating", Value::Int(5)),
            ("review_text", text("It does what it says, and it says it \"plainly\". Delivered in two days; would buy again.")),
            ("created_at", time.clone()),
        ]));
    }
    writer.finish(Lsn(lsn + 500))
}

fn change(table: &str, op: Op, columns: &[(&str, Value)]) -> Change {
    let row = columns
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    Change {
        table: table.parse().expect("a table"),
        op,
        schema: SchemaId(1),
        before: None,
        after: Some(Row(row.collect())),
    }
}
