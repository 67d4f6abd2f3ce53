//! `up --demo --once`: trade for a while, let MySQL catch up, prove that all is equal, show it, stop.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use millrace_events::Lsn;
use millrace_projections::marts::Mart;
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
    let marts = marts(settings, &endpoints.mysql).await?;
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

/// The first rows of every mart.
async fn marts(settings: &Settings, url: &str) -> anyhow::Result<String> {
    let mut target = mysql::connect(url, Purpose::Look).await?;
    let mut text = String::new();
    for mart in crate::services::marts(settings)?.iter() {
        let rows = sqlx::raw_sql(&first_rows(mart))
            .fetch_all(&mut target)
            .await?;
        text += &format!("\n{}\n{}", mart.name(), draw(&rows));
    }
    target.close().await;
    Ok(text)
}

fn first_rows(mart: &Mart) -> String {
    let order: Vec<String> = mart
        .identity()
        .iter()
        .map(|column| format!("`{column}`"))
        .collect();
    format!(
        "SELECT * FROM `{}` ORDER BY {} LIMIT {ROWS_SHOWN}",
        mart.name(),
        order.join(", ")
    )
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
