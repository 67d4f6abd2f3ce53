//! `millrace projection`: what the projector keeps, and whether it moves.

use std::process::ExitCode;

use serde_json::Value;

use crate::answer;
use crate::args::{self, Asked, ProjectionAction};
use crate::endpoints::Endpoints;
use crate::settings::Settings;
use crate::terminal::{json, plain, table};

/// Does what was asked and shows how things are then.
pub(crate) async fn run(args: &args::Projection, settings: &Settings) -> anyhow::Result<ExitCode> {
    let (ProjectionAction::List(asked)
    | ProjectionAction::Pause(asked)
    | ProjectionAction::Resume(asked)) = &args.action;
    let endpoints = Endpoints::find(&asked.target, settings)?;
    let projector = endpoints.projector();
    let status = match &args.action {
        ProjectionAction::List(_) => projector.get("/status").await?,
        ProjectionAction::Pause(_) => projector.post("/pause").await?,
        ProjectionAction::Resume(_) => projector.post("/resume").await?,
    };
    answer::print(&shown(asked, &status))?;
    Ok(ExitCode::SUCCESS)
}

fn shown(asked: &Asked, status: &Value) -> String {
    match asked.json {
        true => json(&facts(status)),
        false => text(status),
    }
}

/// What the status says about the projections.
fn facts(status: &Value) -> Value {
    let fields = [
        "projections",
        "state",
        "paused_since",
        "end_lsn",
        "source_at",
        "applied_at",
        "lag_records",
        "oldest_pending_at",
        "pending_transactions",
        "error",
        "log_error",
    ];
    let pairs = fields.map(|field| (field.to_owned(), status[field].clone()));
    Value::Object(pairs.into_iter().collect())
}

/// They commit together, so that there is one position for all.
fn text(status: &Value) -> String {
    let state = match &status["paused_since"] {
        Value::Null => plain(&status["state"]),
        since => format!("paused since {}", plain(since)),
    };
    let rows: Vec<Vec<String>> = status["projections"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            vec![
                plain(&one["name"]),
                plain(&one["kind"]),
                state.clone(),
                plain(&status["end_lsn"]),
                plain(&status["pending_transactions"]),
                plain(&status["oldest_pending_at"]),
            ]
        })
        .collect();
    let header = [
        "projection",
        "kind",
        "state",
        "applied up to",
        "waiting",
        "oldest of them",
    ];
    table(&header, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_the_state_of_all_projections() {
        let status = serde_json::json!({
            "state": "live", "paused_since": "2026-01-02T03:04:05.000000Z", "end_lsn": "0/10",
            "pending_transactions": 2, "oldest_pending_at": "2026-01-02T03:04:06.000000Z",
            "projections": [
                { "name": "replica", "kind": "replica" },
                { "name": "mart_a", "kind": "mart" },
            ],
        });
        let text = text(&status);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        for line in &lines[2..] {
            assert!(line.contains("paused since 2026-01-02T03:04:05"), "{line}");
            assert!(line.contains("0/10"), "{line}");
        }
        let facts = facts(&status);
        assert_eq!(facts["projections"], status["projections"]);
        assert_eq!(facts["lag_records"], Value::Null);
    }
}
