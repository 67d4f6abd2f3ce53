//! The projector's control API, as the command line uses it.

use std::time::Duration;

use anyhow::{bail, Context};
use millrace_events::Lsn;
use reqwest::StatusCode;

use crate::endpoints::Endpoints;

/// Time that an answer may take beyond the time that was asked for.
const GRACE: Duration = Duration::from_secs(5);

/// The projector's status as it sends it.
pub(crate) async fn status(endpoints: &Endpoints) -> anyhow::Result<serde_json::Value> {
    let answer = get(endpoints, "/status", GRACE).await?;
    answer
        .json()
        .await
        .context("the projector's status is not understood")
}

/// True once everything up to `lsn` is applied, false if that took longer than `timeout`.
pub(crate) async fn wait(
    endpoints: &Endpoints,
    lsn: Lsn,
    timeout: Duration,
) -> anyhow::Result<bool> {
    let seconds = timeout.as_secs().max(1);
    let path = format!(
        "/wait?lsn={}&timeout_s={seconds}",
        lsn.to_string().replace('/', "%2F")
    );
    let answer = request(endpoints, &path, timeout + GRACE).await?;
    match answer.status() {
        StatusCode::OK => Ok(true),
        StatusCode::GATEWAY_TIMEOUT => Ok(false),
        _ => refused(answer).await,
    }
}

async fn get(
    endpoints: &Endpoints,
    path: &str,
    timeout: Duration,
) -> anyhow::Result<reqwest::Response> {
    let answer = request(endpoints, path, timeout).await?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    refused(answer).await
}

async fn request(
    endpoints: &Endpoints,
    path: &str,
    timeout: Duration,
) -> anyhow::Result<reqwest::Response> {
    reqwest::Client::builder()
        .connect_timeout(GRACE)
        .build()?
        .get(format!("{}{path}", endpoints.control))
        .bearer_auth(&endpoints.control_token)
        .timeout(timeout)
        .send()
        .await
        .with_context(|| format!("the projector does not answer at {}", endpoints.control))
}

async fn refused<T>(answer: reqwest::Response) -> anyhow::Result<T> {
    let status = answer.status();
    bail!(
        "the projector answered {status}: {}",
        answer.text().await.unwrap_or_default()
    )
}
