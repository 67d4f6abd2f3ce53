//! The button that runs `verify`: one at a time. What it finds is kept by the projector, as of any verification; here
//! are its first differences too, with their values.

use std::sync::{Arc, Mutex, MutexGuard};

use millrace_events::Lsn;
use serde::Deserialize;
use serde_json::Value;
use tokio_util::task::TaskTracker;

use crate::collect::{Answered, Button, Compared, FoundReading};
use crate::config::VerifyFn;
use crate::status::Time;

/// Differences that are kept; the command line shows all.
const DIFFERENCES_MAX: usize = 20;
/// Longer values are cut.
const VALUE_CHARS_MAX: usize = 120;

/// Starts verifications and keeps the last result. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Verifier(Arc<Inner>);

struct Inner {
    run: Option<VerifyFn>,
    button: Mutex<Button>,
    tasks: TaskTracker,
}

/// It was not started.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StartError {
    #[error("verify cannot be run from this dashboard; use `millrace verify`")]
    Absent,
    #[error("a verification is running")]
    Running,
}

/// The report, as far as it is shown.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Report {
    lsn: Option<Lsn>,
    equal: bool,
    tables: Vec<Subject>,
    marts: Vec<Subject>,
    not_live: Vec<String>,
}

#[derive(Deserialize)]
struct Subject {
    name: String,
    rows: u64,
    #[serde(default)]
    differences: Vec<Difference>,
    #[serde(default)]
    differences_total: u64,
    #[serde(default)]
    quarantined: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Difference {
    table: String,
    kind: String,
    key: Value,
    column: String,
    expected: Value,
    found: Value,
}

impl Verifier {
    pub(crate) fn new(run: Option<VerifyFn>) -> Verifier {
        Verifier(Arc::new(Inner {
            run,
            button: Mutex::default(),
            tasks: TaskTracker::new(),
        }))
    }

    /// What was found last, and whether one runs.
    pub(crate) fn button(&self) -> Button {
        self.lock().clone()
    }

    /// Starts one and returns at once.
    pub(crate) fn start(&self) -> Result<(), StartError> {
        let run = self.0.run.clone().ok_or(StartError::Absent)?;
        if std::mem::replace(&mut self.lock().running, true) {
            return Err(StartError::Running);
        }
        let this = self.clone();
        self.0.tasks.spawn(async move {
            let guard = Unfinished(&this);
            let result = run().await;
            this.finish(result);
            std::mem::forget(guard);
        });
        Ok(())
    }

    fn finish(&self, result: Result<Value, String>) {
        let (last, differences) = match result.and_then(found) {
            Ok(found) => found,
            Err(error) => (failed(error), Vec::new()),
        };
        let (answer, error) = (last.answer, last.error.as_deref());
        tracing::info!(?answer, error, "verify has ended");
        *self.lock() = Button {
            running: false,
            last: Some(last),
            differences,
        };
    }

    fn lock(&self) -> MutexGuard<'_, Button> {
        let button = self.0.button.lock();
        button.unwrap_or_else(|broken| broken.into_inner())
    }
}

/// One that panicked is not running any more.
struct Unfinished<'a>(&'a Verifier);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.finish(Err("verify broke off".to_owned()));
    }
}

/// What a report says, and its first differences in words.
fn found(report: Value) -> Result<(FoundReading, Vec<String>), String> {
    let report: Report = serde_json::from_value(report)
        .map_err(|error| format!("the report is not understood: {error}"))?;
    let subjects = || report.tables.iter().chain(&report.marts);
    let differences = subjects().flat_map(|subject| &subject.differences);
    let lines = differences.take(DIFFERENCES_MAX).map(line).collect();
    let tables = subjects().map(|subject| Compared {
        name: subject.name.clone(),
        rows: subject.rows,
        differences: subject.differences_total,
        quarantined: subject.quarantined,
    });
    let tables: Vec<Compared> = tables.collect();
    let answer = match tables.iter().any(|table| table.differences > 0) {
        true => Answered::Different,
        false if report.equal => Answered::Equal,
        false => Answered::Unfinished,
    };
    let found = FoundReading {
        at: Time::now(),
        answer,
        lsn: report.lsn,
        tables,
        not_live: report.not_live.clone(),
        error: None,
    };
    Ok((found, lines))
}

fn failed(error: String) -> FoundReading {
    FoundReading {
        at: Time::now(),
        answer: Answered::Unfinished,
        lsn: None,
        tables: Vec::new(),
        not_live: Vec::new(),
        error: Some(error),
    }
}

fn line(difference: &Difference) -> String {
    format!(
        "{} {}: {} ({}): expected {}, found {}",
        difference.table,
        short(&difference.key),
        difference.column,
        difference.kind,
        short(&difference.expected),
        short(&difference.found),
    )
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verifier(result: Result<Value, String>) -> Verifier {
        Verifier::new(Some(Arc::new(move || {
            let result = result.clone();
            Box::pin(async move { result })
        })))
    }

    #[tokio::test]
    async fn the_first_differences_are_told_in_words() {
        let difference = json!({"table": "orders", "kind": "value", "key": {"order_id": 5},
            "column": "status", "expected": "paid", "found": null});
        let report = json!({"lsn": "0/10", "equal": false, "not_live": [],
            "tables": [{"name": "orders", "rows": 3, "equal": false,
                "differences": vec![difference; 30], "differences_total": 30}],
            "marts": [{"name": "mart_x", "rows": 1, "equal": true, "differences": []}]});
        let verifier = verifier(Ok(report));
        verifier.start().unwrap();
        verifier.0.tasks.close();
        verifier.0.tasks.wait().await;
        let button = verifier.button();
        let last = button.last.unwrap();
        assert_eq!(
            (last.answer, last.lsn, button.differences.len()),
            (Answered::Different, Some(Lsn(16)), DIFFERENCES_MAX)
        );
        let counts: Vec<u64> = last.tables.iter().map(|table| table.differences).collect();
        assert_eq!(counts, [30, 0]);
        let expected = r#"orders {"order_id":5}: status (value): expected "paid", found null"#;
        assert_eq!(button.differences[0], expected);
    }

    #[tokio::test]
    async fn only_one_runs_at_a_time_and_none_without_a_function() {
        let verifier = verifier(Err("no".into()));
        verifier.start().unwrap();
        assert_eq!(verifier.start(), Err(StartError::Running));
        verifier.0.tasks.close();
        verifier.0.tasks.wait().await;
        let last = verifier.button().last.unwrap();
        assert_eq!(last.error.as_deref(), Some("no"));
        assert_eq!(Verifier::new(None).start(), Err(StartError::Absent));
    }
}
