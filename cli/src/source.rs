//! Connecting to the source database for commands that a person waits for.

use std::time::Duration;

use anyhow::{bail, Context};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::{sleep, timeout, Instant};
use tokio_util::sync::CancellationToken;

/// A server that is there answers sooner; whoever waits is told after this time at the latest.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
/// Compose starts everything at once.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Connects, and tries again for a minute while the server does not answer. A refused login ends at once.
///
/// # Errors
/// If there is no server, or if it refuses; also when `shutdown` comes first.
pub(crate) async fn connect(url: &str, shutdown: &CancellationToken) -> anyhow::Result<PgPool> {
    match shutdown.run_until_cancelled(try_to_connect(url)).await {
        Some(connected) => connected,
        None => bail!("interrupted while connecting to Postgres"),
    }
}

async fn try_to_connect(url: &str) -> anyhow::Result<PgPool> {
    let options: PgConnectOptions = url.parse()?;
    let place = format!("{}:{}", options.get_host(), options.get_port());
    let deadline = Instant::now() + GIVE_UP_AFTER;
    let mut said = false;
    loop {
        // A pool would try again by itself and not say why.
        let error = match timeout(ATTEMPT_TIMEOUT, PgConnection::connect_with(&options)).await {
            Ok(Ok(_)) => return Ok(PgPool::connect_with(options).await?),
            Ok(Err(error)) => anyhow::Error::from(error),
            Err(_) => anyhow::anyhow!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs()),
        };
        if Instant::now() >= deadline || is_refusal(&error) {
            return Err(error).with_context(|| {
                format!("no connection to Postgres at {place}; check the POSTGRES_* settings")
            });
        }
        if !std::mem::replace(&mut said, true) {
            let wait = GIVE_UP_AFTER.as_secs();
            tracing::warn!("Postgres at {place} does not answer ({error}); trying for {wait} s");
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// The server has answered and does not want us. While it starts (class 57) it may still change its mind.
fn is_refusal(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<sqlx::Error>();
    let refusal = error.and_then(sqlx::Error::as_database_error);
    refusal
        .and_then(|refusal| refusal.code())
        .is_some_and(|code| ["28", "3D"].iter().any(|class| code.starts_with(class)))
}
