//! The button that runs `verify`: one at a time, and its last result.

use std::sync::{Arc, Mutex, MutexGuard};

use millrace_events::Lsn;
use serde::Deserialize;
use serde_json::Value;
use tokio_util::task::TaskTracker;

use crate::config::VerifyFn;
use crate::status::{Time, Verified, Verify};

/// Differences that are kept; the command line shows all.
const DIFFERENCES_MAX: usize = 20;
/// Longer values are cut.
const VALUE_CHARS_MAX: usize = 120;

/// Starts verifications and keeps the last result. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Verifier(Arc<Inner>);

struct Inner {
    run: Option<VerifyFn>,
    last: Mutex<Option<Verify>>,
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
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Report {
    lsn: Option<Lsn>,
    equal: Option<bool>,
    tables: Vec<Subject>,
    marts: Vec<Subject>,
    not_live: Vec<String>,
}

#[derive(Deserialize)]
struct Subject {
    name: String,
    rows: u64,
    equal: bool,
    #[serde(default)]
    differences: Vec<Difference>,
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
            last: Mutex::default(),
            tasks: TaskTracker::new(),
        }))
    }

    /// What was said last, and whether one runs.
    pub(crate) fn last(&self) -> Option<Verify> {
        self.lock().clone()
    }

    /// Takes up the result of an earlier run of the program.
    pub(crate) fn restore(&self, last: Option<Verify>) {
        *self.lock() = last.map(|last| Verify {
            running: false,
            ..last
        });
    }

    /// Starts one and returns at once.
    pub(crate) fn start(&self) -> Result<(), StartError> {
        let run = self.0.run.clone().ok_or(StartError::Absent)?;
        {
            let mut last = self.lock();
            let last = last.get_or_insert_default();
            if last.running {
                return Err(StartError::Running);
            }
            last.running = true;
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
        let verify = match result.and_then(shown) {
            Ok(verify) => verify,
            Err(error) => Verify {
                error: Some(error),
                ..Verify::default()
            },
        };
        let equal = verify.equal;
        tracing::info!(equal, error = verify.error, "verify has ended");
        *self.lock() = Some(Verify {
            at: Some(Time::now()),
            ..verify
        });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Verify>> {
        let last = self.0.last.lock();
        last.unwrap_or_else(|broken| broken.into_inner())
    }
}

/// One that panicked is not running any more.
struct Unfinished<'a>(&'a Verifier);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.finish(Err("verify broke off".to_owned()));
    }
}

fn shown(report: Value) -> Result<Verify, String> {
    let report: Report = serde_json::from_value(report)
        .map_err(|error| format!("the report is not understood: {error}"))?;
    let subjects = || report.tables.iter().chain(&report.marts);
    let differences = subjects().flat_map(|subject| &subject.differences);
    Ok(Verify {
        running: false,
        at: None,
        lsn: report.lsn,
        equal: report.equal,
        tables: subjects()
            .map(|subject| Verified {
                name: subject.name.clone(),
                rows: subject.rows,
                equal: subject.equal,
            })
            .collect(),
        differences: differences.take(DIFFERENCES_MAX).map(line).collect(),
        not_live: report.not_live.clone(),
        error: None,
    })
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
        let last = verifier.last().unwrap();
        assert_eq!(
            (last.equal, last.tables.len(), last.differences.len()),
            (Some(false), 2, 20)
        );
        let expected = r#"orders {"order_id":5}: status (value): expected "paid", found null"#;
        assert_eq!(last.differences[0], expected);
    }

    #[tokio::test]
    async fn only_one_runs_at_a_time_and_none_without_a_function() {
        let verifier = verifier(Err("no".into()));
        verifier.start().unwrap();
        assert_eq!(verifier.start(), Err(StartError::Running));
        verifier.0.tasks.close();
        verifier.0.tasks.wait().await;
        assert_eq!(verifier.last().unwrap().error.as_deref(), Some("no"));
        assert_eq!(Verifier::new(None).start(), Err(StartError::Absent));
    }
}
