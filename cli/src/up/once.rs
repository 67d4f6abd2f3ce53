//! `up --demo --once`: trade for a while, let MySQL catch up, prove that all is equal, show it, stop.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use millrace_events::Lsn;
use millrace_projections::verify;
use millrace_sessions::mysql::{self, Purpose};
use sqlx::{Column, Row};

use super::{Deployment, Services};
use crate::endpoints::Endpoints;
use crate::output;
use crate::settings::table::MILLRACE_TRADE_SECONDS_ONCE;
use crate::settings::Settings;
use crate::terminal::{table, Terminal};
use crate::wait_for;

const CATCH_UP_WITHIN: Duration = Duration::from_secs(120);
const ROWS_SHOWN: usize = 5;

const MARTS: [&str; 4] = [
    "SELECT * FROM mart_user_activity ORDER BY user_id, status",
    "SELECT * FROM mart_product_rating ORDER BY product_id",
    "SELECT * FROM mart_user_loyalty_points ORDER BY user_id",
    "SELECT * FROM mart_average_check ORDER BY status, loyalty_status",
];

/// Success only if something was traded and everything is equal.
pub(super) async fn run(
    settings: &Settings,
    deployment: &Deployment,
    services: &mut Services,
    terminal: &mut Terminal,
) -> anyhow::Result<ExitCode> {
    let endpoints = deployment.endpoints.clone();
    let seconds = settings.get(MILLRACE_TRADE_SECONDS_ONCE).get().as_secs();
    let started = terminal.elapsed();
    trade(seconds, services, terminal).await?;
    services.stop_trading().await;
    terminal.step(traded(services)?);

    let began = Instant::now();
    let lsn = services.meanwhile(catch_up(&endpoints)).await?;
    let caught_up = began.elapsed();
    terminal.step(format!("MySQL has everything up to {lsn}"));

    let began = Instant::now();
    let config = crate::services::verify(settings, &endpoints)?;
    let shutdown = services.shutdown();
    let comparison = async { Ok(verify::verify(&config, &shutdown).await?) };
    let report = services.meanwhile(comparison).await?;
    let verified = began.elapsed();
    let marts = marts(&endpoints.mysql).await?;
    let times = format!(
        "\nlive after {:.1} s; caught up {:.2} s after the last transaction; verify took {:.2} s\n",
        started.as_secs_f64(),
        caught_up.as_secs_f64(),
        verified.as_secs_f64()
    );
    output::stdout().put(&(crate::verify::text(&report) + &marts + &times));
    let down = services.down();
    if !down.is_empty() {
        bail!(
            "both sides were compared, but not everything runs: {}",
            down.join("; ")
        );
    }
    Ok(crate::verify::exit_code(&report))
}

async fn trade(
    seconds: u64,
    services: &mut Services,
    terminal: &mut Terminal,
) -> anyhow::Result<()> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        let pause = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Ok(())
        };
        services.meanwhile(pause).await?;
        terminal.bar("trading", began.elapsed().as_secs(), seconds, began);
    }
    Ok(())
}

/// What came of the trade. Nothing is a failure: two sides that did not move prove nothing by being equal.
fn traded(services: &Services) -> anyhow::Result<String> {
    let trader = services.trader.get();
    let trade = trader.map(|trader| trader.status()).unwrap_or_default();
    let users = services.user_events.get();
    let arrived = users.map_or(0, |users| users.status().sent);
    if trade.transactions == 0 {
        let hint = "look at MILLRACE_TRADES_PER_SECOND and MILLRACE_TRADE_SECONDS_ONCE";
        let reason = trade.last_error.as_deref().unwrap_or(hint);
        bail!("not one transaction was traded: {reason}");
    }
    Ok(format!(
        "{} transactions traded, {arrived} users arrived",
        trade.transactions
    ))
}

/// Waits until MySQL has what Postgres has committed by now, and says how far that is.
async fn catch_up(endpoints: &Endpoints) -> anyhow::Result<Lsn> {
    let lsn = wait_for::marker(endpoints).await?;
    wait_for::reached(endpoints, lsn, CATCH_UP_WITHIN).await?;
    Ok(lsn)
}

async fn marts(url: &str) -> anyhow::Result<String> {
    let mut target = mysql::connect(url, Purpose::Look).await?;
    let mut text = String::new();
    for query in MARTS {
        let name = query.split(' ').nth(3).unwrap_or_default();
        let rows = sqlx::raw_sql(&format!("{query} LIMIT {ROWS_SHOWN}"))
            .fetch_all(&mut target)
            .await?;
        text += &format!("\n{name}\n{}", draw(&rows));
    }
    target.close().await;
    Ok(text)
}

/// Any rows as a table; types are shown as MySQL's text.
fn draw(rows: &[sqlx::mysql::MySqlRow]) -> String {
    let Some(first) = rows.first() else {
        return "(no rows)\n".to_owned();
    };
    let header: Vec<&str> = first.columns().iter().map(|column| column.name()).collect();
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            (0..header.len())
                .map(|column| crate::verify::cell(row, column))
                .collect()
        })
        .collect();
    table(&header, &cells)
}
