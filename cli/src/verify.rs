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
use crate::control;
use crate::endpoints::Endpoints;
use crate::output;
use crate::settings::Settings;

/// What a report names while the projector knows no table.
const REPLICA: &str = "replica";

/// Exit 0 equal, 1 different, 2 something is not live or no answer could be had. A refused repair is an answer, too.
pub(crate) async fn run(
    args: &args::Verify,
    settings: &Settings,
    shutdown: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    control::told(verify_and_repair(args, settings, shutdown)).await
}

async fn verify_and_repair(
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
    config.tables = args.repair.clone().unwrap_or_default();
    let report = verify::verify(&config, shutdown).await?;
    let shown = match args.json {
        true => serde_json::to_string_pretty(&report)? + "\n",
        false => text(&report),
    };
    answer::print(&shown)?;
    if args.repair.is_some() {
        Repair::of(&report).begin(&endpoints).await?;
    }
    Ok(exit_code(&report))
}

/// What is made again because it differs. Neither is waited for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Repair {
    /// These are copied again, and with them all marts that read them.
    tables: Vec<TableId>,
    /// These are built again. One that is not live is among them: its table may have been dropped by hand.
    marts: Vec<String>,
}

impl Repair {
    fn of(report: &Report) -> Repair {
        let different = |subjects: &[Subject]| -> Vec<String> {
            let different = subjects.iter().filter(|subject| !subject.equal);
            different.map(|subject| subject.name.clone()).collect()
        };
        // The position is told among the tables, and is none: its name has no schema. Nor is `replica` a mart.
        let tables = different(&report.tables);
        let mut marts = different(&report.marts);
        let not_live = report.not_live.iter();
        marts.extend(
            not_live
                .filter(|name| name.parse::<TableId>().is_err() && *name != REPLICA)
                .cloned(),
        );
        Repair {
            tables: tables.iter().filter_map(|name| name.parse().ok()).collect(),
            marts,
        }
    }

    async fn begin(&self, endpoints: &Endpoints) -> anyhow::Result<()> {
        if !self.tables.is_empty() {
            crate::tables::resnapshot(endpoints, &self.tables).await?;
        }
        if !self.marts.is_empty() {
            crate::marts::rebuild(endpoints, &self.marts).await?;
        }
        output::stderr().put(&self.told());
        Ok(())
    }

    fn told(&self) -> String {
        let tables: Vec<String> = self.tables.iter().map(TableId::to_string).collect();
        let tables = tables.join(" ");
        let mut told = String::new();
        if !tables.is_empty() {
            told += &format!("copied again, with the marts that read them: {tables}\n");
            told += &format!("How far that is: millrace tables list {tables}\n");
        }
        if !self.marts.is_empty() {
            told += &format!("built again: {}\n", self.marts.join(" "));
            told += "How far that is: millrace marts list\n";
        }
        match told.is_empty() {
            true => "nothing to repair\n".to_owned(),
            false => told + "Everything else goes on. When it is done, run: millrace verify\n",
        }
    }
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
    for name in &report.not_compared {
        text += &format!(
            "  {name:<28} NOT COMPARED: its file is not in the folder of marts (--marts)\n"
        );
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

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(name: &str, equal: bool) -> Subject {
        Subject {
            name: name.to_owned(),
            rows: 1,
            ranges: 1,
            rows_read: 0,
            quarantined: 0,
            equal,
            differences: Vec::new(),
            differences_total: u64::from(!equal),
        }
    }

    fn repair(tables: &[(&str, bool)], marts: &[(&str, bool)], not_live: &[&str]) -> Repair {
        let subjects =
            |all: &[(&str, bool)]| all.iter().map(|(n, equal)| subject(n, *equal)).collect();
        Repair::of(&Report {
            lsn: millrace_events::Lsn(1),
            equal: false,
            tables: subjects(tables),
            marts: subjects(marts),
            not_live: not_live.iter().map(|name| (*name).to_owned()).collect(),
            not_compared: Vec::new(),
        })
    }

    #[test]
    fn what_differs_is_made_again_and_nothing_else() {
        let repair = repair(
            &[
                ("public.a", true),
                ("public.b", false),
                ("millrace_position", false),
            ],
            &[("mart_x", true), ("mart_y", false)],
            &["public.c", "mart_z", "replica"],
        );
        assert_eq!(repair.tables, [TableId::new("public", "b")]);
        assert_eq!(repair.marts, ["mart_y", "mart_z"]);
        let told = repair.told();
        assert!(told.contains("millrace tables list public.b"), "{told}");
        assert!(told.contains("built again: mart_y mart_z"), "{told}");
    }

    #[test]
    fn it_is_said_that_there_is_nothing_to_repair() {
        let repair = repair(&[("public.a", true)], &[("mart_x", true)], &[]);
        assert_eq!(repair.told(), "nothing to repair\n");
    }
}
