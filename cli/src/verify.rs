//! `millrace verify`: compares Postgres, replica and marts at one point of the log.

use std::process::ExitCode;

use millrace_events::TableId;
use millrace_projections::verify::{self, Difference, DifferenceKind, Report, Subject};
use serde_json::Value;
use sqlx::mysql::MySqlRow;
use sqlx::Row;
use tokio_util::sync::CancellationToken;

use crate::answer;
use crate::args;
use crate::endpoints::Endpoints;
use crate::output;
use crate::settings::Settings;

/// Exit 0 equal, 1 different, 2 something is not live or no answer could be had.
pub(crate) async fn run(
    args: &args::Verify,
    settings: &Settings,
    shutdown: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    let endpoints = Endpoints::find(&args.target, settings)?;
    let settings = endpoints.settings(settings)?;
    endpoints.projector().check_token().await?;
    let mut config = crate::services::verify(&settings, &endpoints)?;
    if args.rows {
        config.method = verify::Method::Rows;
    }
    config.tables = args.repair.clone();
    let report = verify::verify(&config, shutdown).await?;
    let shown = match args.json {
        true => serde_json::to_string_pretty(&report)? + "\n",
        false => text(&report),
    };
    answer::print(&shown)?;
    repair(&endpoints, &args.repair, &report).await?;
    Ok(exit_code(&report))
}

/// Lets those of these tables that differ be copied again.
async fn repair(endpoints: &Endpoints, tables: &[TableId], report: &Report) -> anyhow::Result<()> {
    let differs = |table: &&TableId| {
        let name = table.to_string();
        let subject = report.tables.iter().find(|subject| subject.name == name);
        subject.is_some_and(|subject| !subject.equal)
    };
    let different: Vec<TableId> = tables.iter().filter(differs).cloned().collect();
    if different.is_empty() {
        return Ok(());
    }
    crate::tables::resnapshot(endpoints, &different).await?;
    let names: Vec<String> = different.iter().map(TableId::to_string).collect();
    let names = names.join(" ");
    output::stderr().put(&format!(
        "copied again: {names}\nHow far that is: millrace tables list {names}\nRun verify again when it is done.\n"
    ));
    Ok(())
}

/// The exit code of the command line.
pub(crate) fn exit_code(report: &Report) -> ExitCode {
    ExitCode::from(report.exit() as u8)
}

/// The report for people.
pub(crate) fn text(report: &Report) -> String {
    let mut text = format!("compared at {}\n", report.lsn);
    for subject in report.tables.iter().chain(&report.marts) {
        text += &line(subject);
    }
    for name in &report.not_live {
        text += &format!("  {name:<28} NOT LIVE\n");
    }
    text + if report.equal {
        "everything is equal\n"
    } else {
        "NOT equal\n"
    }
}

fn line(subject: &Subject) -> String {
    let outcome = match subject.equal {
        true => "equal".to_owned(),
        false => format!("{} DIFFERENCES", subject.differences_total),
    };
    let mut text = format!(
        "  {:<28} {:>9} rows, {outcome}{}\n",
        subject.name,
        subject.rows,
        quarantined(subject.quarantined)
    );
    for difference in &subject.differences {
        text += &format!("      {}\n", describe(difference));
    }
    text
}

/// What MySQL cannot hold is no difference, and never passed over.
fn quarantined(values: u64) -> String {
    match values {
        0 => String::new(),
        1 => ", 1 value in quarantine".to_owned(),
        values => format!(", {values} values in quarantine"),
    }
}

fn describe(difference: &Difference) -> String {
    let key: Vec<String> = difference
        .key
        .iter()
        .map(|(column, value)| format!("{column}={}", plain(value)))
        .collect();
    let place = format!("{} [{}]", difference.table, key.join(", "));
    let (expected, found) = (plain(&difference.expected), plain(&difference.found));
    match difference.kind {
        DifferenceKind::Missing => format!("{place}: row is missing: {expected}"),
        DifferenceKind::Unexpected => format!("{place}: row should not be there: {found}"),
        DifferenceKind::Quarantine => format!(
            "{place}.{}: expected {expected} in quarantine, found {found}",
            difference.column
        ),
        DifferenceKind::Value | DifferenceKind::Definition => {
            format!(
                "{place}.{}: expected {expected}, found {found}",
                difference.column
            )
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        other => other.to_string(),
    }
}

/// A cell of a row in MySQL's text protocol.
pub(crate) fn cell(row: &MySqlRow, column: usize) -> String {
    let value = row.try_get_unchecked::<Option<String>, _>(column);
    value.ok().flatten().unwrap_or_else(|| "NULL".to_owned())
}
