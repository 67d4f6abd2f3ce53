//! `millrace tables remove`: what becomes of a table in MySQL that is captured no longer.
//!
//! It stays as it was, because nothing else has its rows any more if the source has lost them, too. With `--drop` it is
//! deleted, by the projector, after a person has said so.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::bail;
use millrace_events::TableId;
use serde_json::Value;
use tokio::time::{sleep, timeout, Instant};

use super::ask;
use crate::args::RemovedTables;
use crate::control::Refused;
use crate::endpoints::Endpoints;
use crate::output;
use crate::terminal::printable;

/// The projector hears of it through the log.
const HEARD_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A projector that is not behind has heard of it sooner.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// A table as the projector knows it.
struct Kept {
    table: TableId,
    /// Its name in MySQL.
    name: String,
    rows: u64,
    /// It is captured no longer.
    removed: bool,
}

/// Lets capture leave tables out, and says what MySQL keeps of them, or has that deleted.
pub(super) async fn remove(endpoints: &Endpoints, args: &RemovedTables) -> anyhow::Result<()> {
    let named = &args.named.tables;
    if !args.drop {
        ask(endpoints, "remove", named).await?;
        // Done, whether or not the projector answers. Then the list below shows it, too.
        let _ = timeout(SEEN_WITHIN, wait_until_heard(endpoints, named)).await;
        let kept = kept(endpoints, named).await.unwrap_or_default();
        kept.iter().for_each(|one| output::tell(stays(one)));
        return Ok(());
    }
    let kept = kept(endpoints, named).await?;
    if !args.yes {
        confirm(&kept)?;
    }
    let removed = |table: &&TableId| kept.iter().any(|one| one.table == **table && one.removed);
    let captured: Vec<TableId> = named.iter().filter(|one| !removed(one)).cloned().collect();
    if !captured.is_empty() {
        ask(endpoints, "remove", &captured).await?;
    }
    wait_until_heard(endpoints, named).await?;
    for one in &kept {
        let path = format!("/drop?table={}", in_query(&one.table));
        endpoints.projector().post(&path).await?;
        let name = printable(&one.name);
        output::tell(format!(
            "{}: its table {name} is deleted from MySQL",
            one.table
        ));
    }
    Ok(())
}

fn stays(kept: &Kept) -> String {
    let Kept { table, name, .. } = kept;
    let name = printable(name);
    format!(
        "{table} is captured no longer. MySQL keeps {name} as it is now; to delete it: millrace tables remove --drop {table}"
    )
}

/// Asks a person.
fn confirm(kept: &[Kept]) -> anyhow::Result<()> {
    let about = |one: &Kept| format!("{} (about {} rows)", printable(&one.name), one.rows);
    let tables = kept.iter().map(about).collect::<Vec<_>>().join(", ");
    if tables.is_empty() || agreed(&format!("This deletes from MySQL, for good: {tables}."))? {
        return Ok(());
    }
    Err(Refused::new("nothing was changed").into())
}

/// Whether the person at the terminal says yes.
///
/// # Errors
/// If there is none.
fn agreed(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("{question} Add --yes to do it without being asked");
    }
    output::stderr().put(&format!("{question} Type yes to go on: "));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// Those of the tables that MySQL has something of.
async fn kept(endpoints: &Endpoints, named: &[TableId]) -> anyhow::Result<Vec<Kept>> {
    let status = endpoints.projector().get("/status").await?;
    let tables = status["tables"].as_array().cloned().unwrap_or_default();
    let kept = tables.iter().filter_map(of_status);
    Ok(kept.filter(|one| named.contains(&one.table)).collect())
}

fn of_status(table: &Value) -> Option<Kept> {
    Some(Kept {
        table: table["table"].as_str()?.parse().ok()?,
        name: table["name"].as_str()?.to_owned(),
        rows: table["rows"].as_u64().unwrap_or(0),
        removed: table["state"] == "removed",
    })
}

/// Waits until the projector has applied the log up to the removal.
async fn wait_until_heard(endpoints: &Endpoints, named: &[TableId]) -> anyhow::Result<()> {
    let deadline = Instant::now() + HEARD_WITHIN;
    loop {
        let kept = kept(endpoints, named).await?;
        let Some(waiting) = kept.iter().find(|one| !one.removed) else {
            return Ok(());
        };
        if Instant::now() >= deadline {
            bail!(
                "{} is captured no longer, and the projector has not heard of it within {} s: it is paused or behind, see \
                 `millrace status`. Run this command again later",
                waiting.table,
                HEARD_WITHIN.as_secs()
            );
        }
        sleep(LOOK_EVERY).await;
    }
}

/// A table as part of a URL's query.
fn in_query(table: &TableId) -> String {
    url::form_urlencoded::byte_serialize(table.to_string().as_bytes()).collect()
}
