//! How fast `columns` cuts, natively: `cargo run --release -p millrace-sm-columns --example throughput`.

use std::time::{Duration, Instant};

use chrono::DateTime;
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
    }
}

fn measure(what: &str, plan: &Plan, records: &[Vec<u8>], bytes: usize) {
    let (mut rounds, mut kept) = (0_usize, 0);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        kept = records
            .iter()
            .map(|record| {
                apply(plan, record)
                    .expect("record")
                    .map_or(record.len(), |cut| cut.len())
            })
            .sum();
        rounds += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    let megabytes = (rounds * bytes) as f64 / 1e6 / seconds;
    let per_second = (rounds * records.len()) as f64 / seconds;
    let share = kept * 100 / bytes;
    println!("{what:28} {megabytes:6.0} MB/s in, {per_second:9.0} records/s, {share:3} % of the bytes stay");
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
