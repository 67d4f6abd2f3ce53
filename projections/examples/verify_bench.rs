//! What a verification by sums costs, beside one that reads all rows, of one table.
//!
//! `cargo run --release -p millrace-projections --example verify_bench -- [rows]`, with a Postgres and a MariaDB (or
//! `MILLRACE_MYSQL_BIN`) of its own. The table has the columns of the shop's orders and a text.

#[path = "../tests/verify/stage.rs"]
#[allow(dead_code)]
mod stage;
#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use millrace_projections::marts::Marts;
use millrace_projections::verify::{Method, Pace, Report};
use stage::Stage;

const ROWS: u64 = 1_000_000;
/// Each is measured so often, in turns; the shortest counts.
const TURNS: usize = 3;

#[tokio::main]
async fn main() {
    let rows = std::env::args().nth(1).and_then(|rows| rows.parse().ok());
    let rows: u64 = rows.unwrap_or(ROWS);
    let mut stage = Stage::of(&[&table(rows)], &["big"], Marts::none()).await;
    println!("{rows} rows of seven columns, {TURNS} turns, the shortest of each:");
    let mut best = [Duration::MAX; 2];
    for _ in 0..TURNS {
        for (best, method) in best.iter_mut().zip([Method::Sums, Method::Rows]) {
            stage.config.method = method;
            *best = (*best).min(timed(&stage).await.0);
        }
    }
    let [sums, all] = best.map(|time| time.as_secs_f64());
    println!(
        "  by sums {sums:.2} s, row by row {all:.2} s: {:.2} times",
        all / sums
    );
    stage.config.method = Method::Sums;
    stage
        .change("UPDATE big SET note = 'other' WHERE order_id = 77777")
        .await;
    let (time, report) = timed(&stage).await;
    let table = &report.tables[0];
    let seconds = time.as_secs_f64();
    println!(
        "  one value differs: {seconds:.2} s, {} of {} ranges differ, {} rows read, {} difference",
        table.rows_read.div_ceil(20_000),
        table.ranges,
        table.rows_read,
        table.differences_total
    );
    stage.config.pace = Pace::Quarter;
    println!(
        "  with rests, as by itself: {:.2} s",
        timed(&stage).await.0.as_secs_f64()
    );
}

async fn timed(stage: &Stage) -> (Duration, Report) {
    let began = Instant::now();
    let report = stage.report().await;
    (began.elapsed(), report)
}

fn table(rows: u64) -> String {
    format!(
        "CREATE TABLE big (order_id bigint PRIMARY KEY, user_id integer, order_date timestamp, total_amount numeric(10,2), \
         status varchar(20), delivery_date timestamp, note text); \
         INSERT INTO big SELECT n, n % 1000, '2024-01-01'::timestamp + n * interval '1.000001 s', n % 100000 * 3.33, \
         (ARRAY['Pending', 'Completed', 'Shipped', 'Delivered'])[1 + n % 4], \
         CASE WHEN n % 4 = 3 THEN '2025-06-01'::timestamp END, 'note ' || n FROM generate_series(1, {rows}) n; ANALYZE big"
    )
}
