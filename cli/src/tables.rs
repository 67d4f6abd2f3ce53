//! `millrace tables`: what is captured, and its changes, each while everything else stays live.

use std::process::ExitCode;

use millrace_dashboard::status::{Table, TableState};
use millrace_events::TableId;
use serde_json::json;

use crate::answer;
use crate::args::{self, Asked, TablesAction};
use crate::control;
use crate::endpoints::Endpoints;
use crate::settings::Settings;
use crate::status;

/// Asks capture for a change, if one is wanted, and lists the tables as they are then. Exit 1 if one of a list is not
/// live.
pub(crate) async fn run(args: &args::Tables, settings: &Settings) -> anyhow::Result<ExitCode> {
    control::told(change_and_list(args, settings)).await
}

async fn change_and_list(args: &args::Tables, settings: &Settings) -> anyhow::Result<ExitCode> {
    let (change, asked, named) = match &args.action {
        TablesAction::List(args) => (None, &args.asked, &args.tables),
        TablesAction::Add(args) => (Some("add"), &args.asked, &args.tables),
        TablesAction::Remove(args) => (Some("remove"), &args.asked, &args.tables),
        TablesAction::Resnapshot(args) => (Some("resnapshot"), &args.asked, &args.tables),
    };
    let endpoints = Endpoints::find(&asked.target, settings)?;
    if let Some(change) = change {
        ask(&endpoints, change, named).await?;
    }
    let settings = endpoints.settings(settings)?;
    let mut tables = status::fresh(&settings, &endpoints).await?.tables;
    let names: Vec<String> = named.iter().map(ToString::to_string).collect();
    tables.retain(|table| names.is_empty() || names.contains(&table.name));
    answer::print(&shown(asked, &tables)?)?;
    let is_live = |table: &Table| table.state == TableState::Live;
    match change.is_some() || tables.iter().all(is_live) {
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
