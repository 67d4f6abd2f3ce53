//! Waiting for the source database in commands that a person waits for.

use std::time::Duration;

use anyhow::{anyhow, bail, Context};
use millrace_sessions::postgres::errors::{outlook, Outlook};
use millrace_sessions::postgres::{Server, Work};
use tokio::time::{sleep, timeout, Instant};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::endpoints::Endpoints;

/// A server that is there answers sooner; whoever waits is told after this time at the latest.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
/// Compose starts everything at once.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Returns when Postgres lets us in; tries for a minute while it does not answer. A refused login ends at once.
///
/// # Errors
/// If there is no server, or if it refuses; also when `shutdown` comes first.
pub(crate) async fn wait_for(
    endpoints: &Endpoints,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    match shutdown
        .run_until_cancelled(keep_trying(&endpoints.postgres))
        .await
    {
        Some(connected) => connected,
        None => bail!("interrupted while connecting to Postgres"),
    }
}

async fn keep_trying(url: &str) -> anyhow::Result<()> {
    let server = Server::parse(url)?;
    let place = place(url);
    let deadline = Instant::now() + GIVE_UP_AFTER;
    let mut said = false;
    loop {
        let attempt = server.connect("millrace generate", Work::Ask);
        let error = match timeout(ATTEMPT_TIMEOUT, attempt).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => anyhow::Error::from(error),
            Err(_) => anyhow!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs()),
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

/// `host:port`, without the login.
fn place(url: &str) -> String {
    let url = Url::parse(url).ok();
    let parts = url
        .as_ref()
        .and_then(|url| Some((url.host_str()?, url.port()?)));
    parts.map_or_else(
        || "its address".to_owned(),
        |(host, port)| format!("{host}:{port}"),
    )
}

fn is_refusal(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<sqlx::Error>();
    error.is_some_and(|error| outlook(error) == Outlook::Refused)
}
