//! `millrace wait-for`: returns when MySQL has what Postgres has committed.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, Context};
use millrace_control::in_words;
use millrace_events::Lsn;
use millrace_sessions::postgres::{Server, Work};
use tokio::time::{sleep, timeout_at, Instant};

use crate::answer;
use crate::args;
use crate::control;
use crate::endpoints::Endpoints;
use crate::output;
use crate::settings::Settings;

const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Tries until the time is up: everything may still be starting.
pub(crate) async fn run(args: &args::WaitFor, settings: &Settings) -> anyhow::Result<ExitCode> {
    let timeout = Duration::try_from_secs_f64(args.timeout)
        .with_context(|| format!("--timeout {}: expected seconds", args.timeout))?;
    let deadline = Instant::now() + timeout;
    let mut reason = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let attempt = attempt(args, settings, left);
        let failed = match timeout_at(deadline, attempt).await {
            Ok(Ok(lsn)) => {
                answer::print(&format!("{lsn}\n"))?;
                return Ok(ExitCode::SUCCESS);
            }
            Ok(Err(error)) => error,
            // What was said before tells more than that the time is up.
            Err(_) => reason.unwrap_or_else(|| anyhow::anyhow!("MySQL was not there in time")),
        };
        if Instant::now() + RETRY_PAUSE >= deadline {
            let failed = in_words(failed.as_ref());
            output::tell(format!("gave up after {} s: {failed}", args.timeout));
            return Ok(ExitCode::from(1));
        }
        reason = Some(failed);
        sleep(RETRY_PAUSE).await;
    }
}

async fn attempt(args: &args::WaitFor, settings: &Settings, left: Duration) -> anyhow::Result<Lsn> {
    let endpoints = Endpoints::find(&args.target, settings)?;
    let lsn = match args.lsn {
        Some(lsn) => lsn,
        None => marker(&endpoints).await?,
    };
    reached(&endpoints, lsn, left).await?;
    Ok(lsn)
}

/// Writes a transactional message into the WAL. Everything committed before it has a smaller LSN, and
/// its own commit carries the log past it on an idle source.
pub(crate) async fn marker(endpoints: &Endpoints) -> anyhow::Result<Lsn> {
    let mut source = Server::parse(&endpoints.postgres)?
        .connect("millrace wait-for", Work::Ask)
        .await
        .context("Postgres does not answer")?;
    let lsn: String =
        sqlx::query_scalar("SELECT pg_logical_emit_message(true, 'millrace', 'wait-for')::text")
            .fetch_one(&mut source)
            .await?;
    source.close().await?;
    Ok(lsn.parse()?)
}

/// Waits until MySQL has everything up to `lsn`.
pub(crate) async fn reached(
    endpoints: &Endpoints,
    lsn: Lsn,
    timeout: Duration,
) -> anyhow::Result<()> {
    match control::wait(endpoints, lsn, timeout).await? {
        None => Ok(()),
        Some(reason) => bail!("MySQL had not reached {lsn}: {reason}"),
    }
}
