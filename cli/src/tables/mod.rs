//! `millrace tables`: what is captured, and its changes, each while everything else stays live.

mod again;
mod drop;

use std::process::ExitCode;

use millrace_dashboard::status::{Table, TableState};
use millrace_events::TableId;
use serde_json::json;

use crate::answer;
use crate::args::{self, Asked, TablesAction};
use crate::control::{self, Refused};
use crate::endpoints::Endpoints;
use crate::settings::Settings;
use crate::status;

/// Asks capture for a change, if one is wanted, and lists the tables as they are then. Exit 1 if one of a list is not
/// live, but for those that are captured no longer, or if one that was named is not known.
pub(crate) async fn run(args: &args::Tables, settings: &Settings) -> anyhow::Result<ExitCode> {
    control::told(change_and_list(args, settings)).await
}

async fn change_and_list(args: &args::Tables, settings: &Settings) -> anyhow::Result<ExitCode> {
    let (asked, named) = match &args.action {
        TablesAction::List(args) => (&args.asked, &args.tables),
        TablesAction::Add(args) | TablesAction::Resnapshot(args) => (&args.asked, &args.tables),
        TablesAction::Remove(args) => (&args.named.asked, &args.named.tables),
        TablesAction::BeginAgain(asked) => (asked, &Vec::new()),
    };
    let endpoints = Endpoints::find(&asked.target, settings)?;
    match &args.action {
        TablesAction::List(_) => {}
        TablesAction::Add(_) => ask(&endpoints, "add", named).await?,
        TablesAction::Remove(args) => drop::remove(&endpoints, args).await?,
        TablesAction::Resnapshot(_) => resnapshot(&endpoints, named).await?,
        TablesAction::BeginAgain(_) => again::begin(&endpoints).await?,
    }
    let settings = endpoints.settings(settings)?;
    let mut tables = status::fresh(&settings, &endpoints).await?.tables;
    let names: Vec<String> = named.iter().map(ToString::to_string).collect();
    tables.retain(|table| names.is_empty() || names.contains(&table.name));
    answer::print(&shown(asked, &tables)?)?;
    let TablesAction::List(_) = &args.action else {
        return Ok(ExitCode::SUCCESS);
    };
    let is_known = |name: &&String| tables.iter().any(|table| table.name == **name);
    let unknown: Vec<&str> = (names.iter().filter(|name| !is_known(name)))
        .map(String::as_str)
        .collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        return Err(Refused::new(format!("nothing is known of {unknown}")).into());
    }
    let is_settled = |table: &Table| matches!(table.state, TableState::Live | TableState::Removed);
    match tables.iter().all(is_settled) {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::from(1)),
    }
}

async fn ask(endpoints: &Endpoints, change: &str, tables: &[TableId]) -> anyhow::Result<()> {
    let path = format!("/tables/{change}");
    let capture = endpoints.capture();
    capture.send(&path, &json!({ "tables": tables })).await?;
    Ok(())
}

/// Lets capture copy tables again.
pub(crate) async fn resnapshot(endpoints: &Endpoints, tables: &[TableId]) -> anyhow::Result<()> {
    ask(endpoints, "resnapshot", tables).await
}

fn shown(asked: &Asked, tables: &[Table]) -> anyhow::Result<String> {
    match asked.json {
        true => Ok(serde_json::to_string_pretty(&json!({ "tables": tables }))? + "\n"),
        false => Ok(status::tables::render(tables)),
    }
}
