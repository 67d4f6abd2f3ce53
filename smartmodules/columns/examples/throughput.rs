//! How fast `columns` cuts, on the host and in the broker's engine:
//! `cargo run --release -p millrace-sm-columns --example throughput`, after `make smartmodules`.

use std::time::{Duration, Instant};

use chrono::DateTime;
use fluvio_smartengine::{SmartEngine, SmartModuleChainBuilder, SmartModuleConfig};
use fluvio_smartmodule::dataplane::smartmodule::SmartModuleInput;
use fluvio_smartmodule::Record;
use millrace_events::{Change, Epoch, Lsn, Op, PartHeader, PartWriter, Row, SchemaId, Value, Xid};
use millrace_sm_columns::{apply, Plan};

fn main() {
    let records: Vec<Vec<u8>> = (0..2000).map(transaction).collect();
    let bytes: usize = records.iter().map(Vec::len).sum();
    println!(
        "{} records of {} bytes",
        records.len(),
        bytes / records.len()
    );
    for (what, plan) in [
        (
            "nothing falls, all columns",
            r#"{"users":"*","orders":"*","reviews":"*"}"#,
        ),
        (
            "nothing falls, by column",
            r#"{"users":["user_id","first_name","last_name","email","phone","registration_date","loyalty_status"],"orders":["order_id","user_id","order_date","total_amount","status","delivery_date"],"reviews":["review_id","user_id","product_id","rating","review_text","created_at"]}"#,
        ),
        (
            "columns fall",
            r#"{"users":["user_id","loyalty_status"],"orders":["order_id","user_id","order_date","total_amount","status"],"reviews":["review_id","product_id","rating"]}"#,
        ),
        (
            "tables fall",
            r#"{"orders":["order_id","user_id","order_date","total_amount","status"]}"#,
        ),
    ] {
        measure(what, &Plan::parse(plan).expect("plan"), &records, bytes);
        match std::fs::read(WASM) {
            Ok(wasm) => measure_in_engine(what, Some(plan), &wasm, &records),
            Err(error) => println!("{WASM}: {error}"),
        }
    }
    // What the engine costs by itself: without a plan the module hands its input back.
    if let Ok(wasm) = std::fs::read(WASM) {
        measure_in_engine("no plan", None, &wasm, &records);
    }
}

const WASM: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../target/smartmodules/columns.wasm"
);
/// Records of one produced batch, about half a megabyte.
const BATCH_RECORDS: usize = 500;

/// With everything that the engine does around the module: copying records in and out.
fn measure_in_engine(what: &str, plan: Option<&str>, wasm: &[u8], records: &[Vec<u8>]) {
    let mut config = SmartModuleConfig::builder();
    config.smartmodule_names(vec!["columns".to_owned()]);
    if let Some(plan) = plan {
        config.param("plan", plan);
    }
    let mut chain = SmartModuleChainBuilder::default();
    chain.add_smart_module(config.build().expect("configuration"), wasm.to_vec());
    let mut chain = chain
        .initialize(&SmartEngine::new())
        .expect("columns starts");
    let (mut bytes, mut count, mut seconds) = (0, 0, 0.0);
    // The interface leaks what comes out; a chain must not run for long.
    while bytes < 300_000_000 {
        for batch in records.chunks(BATCH_RECORDS) {
            let input = batch
                .iter()
                .map(|value| Record::new(value.as_slice()))
                .collect();
            let input = SmartModuleInput::try_from_records(input, 22).expect("input");
            let start = Instant::now();
            let output = chain.process(input).expect("the module runs");
            seconds += start.elapsed().as_secs_f64();
            assert_eq!(output.successes.len(), batch.len());
            bytes += batch.iter().map(Vec::len).sum::<usize>();
            count += batch.len();
        }
    }
    print_line(
        &format!("{what} (engine)"),
        bytes as f64 / seconds,
        count as f64 / seconds,
    );
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
        "users",
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
        "orders",
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
        writer.push(&change("reviews", Op::Insert, &[
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
        table: table.to_owned(),
        op,
        schema: SchemaId(1),
        before: None,
        after: Some(Row(row.collect())),
    }
}
