//! `up --demo --once`: trade for a while, let MySQL catch up, prove that all is equal, show it, stop.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use millrace_projections::verify;
use sqlx::{Column, Connection, MySqlConnection, Row};
use tokio_util::sync::CancellationToken;

use super::{Deployment, Services};
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

/// Success only if everything is equal.
pub(super) async fn run(
    settings: &Settings,
    deployment: &mut Deployment,
    services: &mut Services,
    terminal: &mut Terminal,
) -> anyhow::Result<ExitCode> {
    let endpoints = deployment.endpoints.clone();
    let seconds = settings.number("MILLRACE_TRADE_SECONDS_ONCE")?;
    let started = terminal.elapsed();
    trade(seconds, services, terminal).await?;
    let traded = services
        .trader
        .as_ref()
        .map_or(0, |trader| trader.status().transactions);
    let arrived = services
        .user_events
        .as_ref()
        .map_or(0, |users| users.status().sent);
    services.stop_trading().await?;
    terminal.step(format!(
        "{traded} transactions traded, {arrived} users arrived"
    ));

    let began = Instant::now();
    let lsn = wait_for::marker(&endpoints).await?;
    wait_for::reached(&endpoints, lsn, CATCH_UP_WITHIN).await?;
    let caught_up = began.elapsed();
    terminal.step(format!("MySQL has everything up to {lsn}"));

    let began = Instant::now();
    let report = verify::verify(
        &crate::services::verify(settings, &endpoints)?,
        &CancellationToken::new(),
    )
    .await?;
    let verified = began.elapsed();
    print!("{}", crate::verify::text(&report));
    print!("{}", marts(&endpoints.mysql).await?);
    println!(
        "\nlive after {:.1} s; caught up {:.2} s after the last transaction; verify took {:.2} s",
        started.as_secs_f64(),
        caught_up.as_secs_f64(),
        verified.as_secs_f64()
    );
    Ok(crate::verify::exit_code(&report))
}

async fn trade(
    seconds: u64,
    services: &mut Services,
    terminal: &mut Terminal,
) -> anyhow::Result<()> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        tokio::select! {
            ended = services.ended() => {
                ended?;
                anyhow::bail!("interrupted");
            }
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
        terminal.bar("trading", began.elapsed().as_secs(), seconds, began);
    }
    Ok(())
}

async fn marts(url: &str) -> anyhow::Result<String> {
    let mut target = MySqlConnection::connect(url).await?;
    let mut text = String::new();
    for query in MARTS {
        let name = query.split(' ').nth(3).unwrap_or_default();
        let rows = sqlx::raw_sql(&format!("{query} LIMIT {ROWS_SHOWN}"))
            .fetch_all(&mut target)
            .await?;
        text += &format!("\n{name}\n{}", draw(&rows));
    }
    target.close().await?;
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
