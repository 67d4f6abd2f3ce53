//! What capture knows of the tables and MySQL does not: that a table no longer gets all of its changes.

use std::time::Duration;

use millrace_events::TableId;
use serde::Deserialize;

use super::{Config, Error};

/// It answers from memory.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Status {
    not_live: Vec<NotLive>,
}

#[derive(Deserialize)]
struct NotLive {
    table: TableId,
}

/// The tables to compare that capture has set aside, whatever MySQL has of them.
///
/// # Errors
/// If capture does not say: then nobody knows whether everything is live.
pub(super) async fn not_live(config: &Config) -> Result<Vec<TableId>, Error> {
    let Some(url) = &config.capture_url else {
        return Ok(Vec::new());
    };
    let status = ask(url, &config.control_token).await.map_err(failed)?;
    let tables = status.not_live.into_iter().map(|found| found.table);
    let is_wanted = |table: &TableId| config.tables.is_empty() || config.tables.contains(table);
    Ok(tables.filter(is_wanted).collect())
}

async fn ask(url: &str, token: &str) -> reqwest::Result<Status> {
    let client = reqwest::Client::builder().timeout(ANSWERS_WITHIN).build()?;
    let request = client.get(format!("{}/status", url.trim_end_matches('/')));
    let answer = request.bearer_auth(token).send().await?;
    answer.error_for_status()?.json().await
}

fn failed(error: reqwest::Error) -> Error {
    Error::Capture(error.without_url().to_string())
}
