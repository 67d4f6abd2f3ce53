//! What a verification found, in a form that may be kept and shown: names and counts, never values.

use std::time::Duration;

use millrace_events::Lsn;
use serde::{Deserialize, Serialize};

use super::report::{Exit, Report, Subject};
use super::Error;

/// What one verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The answer.
    pub answer: Answer,
    /// Where both sides were compared.
    pub lsn: Option<Lsn>,
    /// Tables and marts that were compared.
    pub tables: Vec<Compared>,
    /// What is not live.
    pub not_live: Vec<String>,
    /// Why there is no answer, or no whole one.
    pub error: Option<String>,
    /// Who asked.
    #[serde(default)]
    pub by: By,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub took_ms: u64,
}

/// Who verifies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Somebody asked for it, and waits.
    #[default]
    Person,
    /// The projector does by itself, every so often. It gives way to everybody else.
    Period,
}

/// Answers to the question whether everything is equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Everything is live and equal.
    Equal,
    /// Something is different.
    Different,
    /// It could not be finished, or not everything is live.
    Unfinished,
}

/// One table or mart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// The source's table, as `schema.table`, or the mart.
    pub name: String,
    /// Rows that it should have.
    pub rows: u64,
    /// How many differences were found.
    pub differences: u64,
    /// Values that MySQL cannot hold and that stand in quarantine.
    #[serde(default)]
    pub quarantined: u64,
}

impl Finding {
    /// Without a value of any row: a report names them, and so may an error of a server.
    pub fn of(outcome: &Result<Report, Error>) -> Finding {
        match outcome {
            Ok(report) => Finding::reported(report),
            Err(error) => Finding {
                answer: Answer::Unfinished,
                lsn: None,
                tables: Vec::new(),
                not_live: Vec::new(),
                error: Some(error.to_string()),
                by: By::default(),
                took_ms: 0,
            },
        }
    }

    fn reported(report: &Report) -> Finding {
        let subjects = report.tables.iter().chain(&report.marts);
        Finding {
            answer: match report.exit() {
                Exit::Equal => Answer::Equal,
                Exit::Different => Answer::Different,
                Exit::NotLive => Answer::Unfinished,
            },
            lsn: (report.lsn > Lsn::ZERO).then_some(report.lsn),
            tables: subjects.map(Compared::of).collect(),
            not_live: report.not_live.clone(),
            error: not_compared(&report.not_compared),
            by: By::default(),
            took_ms: 0,
        }
    }

    /// The same, with who asked and how long it took.
    pub(super) fn after(self, by: By, took: Duration) -> Finding {
        Finding {
            by,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            ..self
        }
    }

    /// Rows that were compared.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Differences that were found.
    pub fn differences(&self) -> u64 {
        self.tables.iter().map(|table| table.differences).sum()
    }
}

/// Why there is no whole answer although everything is live.
fn not_compared(marts: &[String]) -> Option<String> {
    let marts = (!marts.is_empty()).then(|| marts.join(", "))?;
    Some(format!(
        "not compared, as their files are not in the folder of marts: {marts}"
    ))
}

impl Compared {
    fn of(subject: &Subject) -> Compared {
        Compared {
            name: subject.name.clone(),
            rows: subject.rows,
            differences: subject.differences_total,
            quarantined: subject.quarantined,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;
    use crate::verify::{Difference, DifferenceKind};

    fn report(differences: Vec<Difference>) -> Report {
        let mut report = Report::new(Lsn(16));
        report.tables.push(Subject {
            name: "source.people".into(),
            rows: 3,
            ranges: 1,
            rows_read: 3,
            quarantined: 0,
            equal: differences.is_empty(),
            differences_total: differences.len() as u64,
            differences,
        });
        report.finish()
    }

    #[test]
    fn values_of_rows_are_not_kept() {
        let difference = Difference {
            table: "source.people".into(),
            kind: DifferenceKind::Value,
            key: Map::from_iter([("id".to_owned(), Value::from("4711"))]),
            column: "email".into(),
            expected: "secret@example.org".into(),
            found: Value::Null,
        };
        let finding = Finding::of(&Ok(report(vec![difference])));
        assert_eq!(finding.answer, Answer::Different);
        assert_eq!(finding.tables[0].differences, 1);
        let text = serde_json::to_string(&finding).expect("JSON");
        for value in ["secret", "4711", "email"] {
            assert!(!text.contains(value), "{text}");
        }
    }

    #[test]
    fn what_a_server_said_is_not_kept_and_its_code_is() {
        let source = sqlx::Error::Protocol("near 'secret@example.org'".to_owned());
        let failed = Error::MySql {
            doing: "reading rows",
            source,
        };
        let finding = Finding::of(&Err(failed));
        assert_eq!(finding.answer, Answer::Unfinished);
        let error = finding.error.expect("a reason");
        assert_eq!(error, "[MR-V005] MySQL, reading rows");
    }

    #[test]
    fn equal_tables_are_no_answer_while_a_mart_is_not_live() {
        let mut report = report(Vec::new());
        assert_eq!(Finding::of(&Ok(report.clone())).answer, Answer::Equal);
        report.not_live.push("mart_x".into());
        assert_eq!(Finding::of(&Ok(report)).answer, Answer::Unfinished);
    }
}
