//! What `verify` found, whoever ran it: kept in MySQL beside the position, so that it outlives every process.
//!
//! A difference stays known until a later verification finds everything equal. One that gives no answer changes
//! nothing about that, and is told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, SubsecRound, Utc};
use millrace_control::time;
use millrace_events::Lsn;
use millrace_sessions::mysql::{connect, Purpose, Session};
use serde::{Deserialize, Serialize};
use sqlx::mysql::MySqlRow;
use sqlx::{Executor, Row};
use tokio::sync::Mutex;

use super::bookkeeping::prepare;
use super::error::Error;
use super::status::{Handle, Shared};
use crate::verify::{Answer, Compared, Finding};

/// What is known from verifications.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// The last one that gave an answer.
    pub answered: Option<Found>,
    /// A later one that gave none.
    pub unfinished: Option<Found>,
}

/// One verification, and when its result came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// When the projector was told.
    #[serde(serialize_with = "time::serialize")]
    pub at: DateTime<Utc>,
    /// The log that the tables were built from; LSNs of two logs cannot be compared.
    pub incarnation: Option<String>,
    /// What it found.
    #[serde(flatten)]
    pub finding: Finding,
}

/// The result is known to this projector, and not written down.
#[derive(Debug, thiserror::Error)]
#[error("MySQL did not take it; it is known until the projector ends, and written down when MySQL answers again")]
pub struct NotWritten(#[source] Option<Box<Error>>);

/// What keeping them needs.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// Memory and rows change together.
    change: Mutex<()>,
    /// Memory knows more than MySQL.
    unwritten: AtomicBool,
}

impl Findings {
    /// Takes one in. The result of a comparison at an earlier point says nothing against that of a later one.
    fn add(&mut self, found: Found) {
        match (found.finding.answer, &self.answered) {
            (Answer::Unfinished, _) => self.unfinished = Some(found),
            (_, Some(known)) if found.is_older_than(known) => {}
            _ => {
                self.answered = Some(found);
                self.unfinished = None;
            }
        }
    }

    /// These, which stand in MySQL, and what this projector was told. It may have been told without having read them:
    /// what they say is replaced by a later answer only.
    fn with(mut self, told: Findings) -> Findings {
        for found in [told.answered, told.unfinished].into_iter().flatten() {
            if self.answered.as_ref() != Some(&found) {
                self.add(found);
            }
        }
        self
    }
}

impl Found {
    fn is_older_than(&self, known: &Found) -> bool {
        self.incarnation == known.incarnation && self.finding.lsn < known.finding.lsn
    }
}

impl Handle {
    /// Takes in what a verification found. It is in the status at once, and in MySQL when this returns `Ok`.
    pub async fn found(&self, finding: Finding) -> Result<(), NotWritten> {
        let shared = self.0.clone();
        // On a task of its own: a caller that hangs up must not leave memory and rows apart.
        let written = tokio::spawn(async move { shared.keep_finding(finding).await });
        written.await.unwrap_or(Err(NotWritten(None)))
    }
}

impl Shared {
    /// Takes over what earlier projectors were told, or writes down what this one could not.
    pub(super) async fn remember_findings(
        self: &Arc<Self>,
        conn: &mut Session,
    ) -> Result<(), Error> {
        let _change = self.findings.change.lock().await;
        let known = self.known_findings();
        let findings = match known.filter(|_| self.findings.unwritten.load(Ordering::SeqCst)) {
            Some(told) => {
                let merged = merge(conn, told).await?;
                self.findings.unwritten.store(false, Ordering::SeqCst);
                merged
            }
            None => read(conn).await?,
        };
        self.update(|status| status.verify = Some(findings));
        Ok(())
    }

    async fn keep_finding(self: Arc<Self>, finding: Finding) -> Result<(), NotWritten> {
        let _change = self.findings.change.lock().await;
        self.update(|status| {
            let found = Found {
                at: Utc::now().trunc_subsecs(6),
                incarnation: status.incarnation.clone(),
                finding,
            };
            status.verify.get_or_insert_default().add(found);
        });
        self.findings.unwritten.store(true, Ordering::SeqCst);
        let told = self.known_findings().unwrap_or_default();
        let (url, within) = self.pause.target();
        match tokio::time::timeout(within, merge_alone(url, told)).await {
            Ok(Ok(merged)) => {
                self.findings.unwritten.store(false, Ordering::SeqCst);
                self.update(|status| status.verify = Some(merged));
                Ok(())
            }
            Ok(Err(error)) => Err(NotWritten(Some(Box::new(error)))),
            Err(_) => Err(NotWritten(None)),
        }
    }
}

/// On a connection of its own: that of the projector may be in the middle of a transaction.
async fn merge_alone(url: &str, told: Findings) -> Result<Findings, Error> {
    let mut conn = connect(url, Purpose::Project).await?;
    prepare(&mut conn).await?;
    merge(&mut conn, told).await
}

/// Adds what this projector was told to the rows; returns what they say then.
async fn merge(conn: &mut Session, told: Findings) -> Result<Findings, Error> {
    let merged = read(conn).await?.with(told);
    write(conn, &merged).await?;
    Ok(merged)
}

/// Row 1 holds the last answer, row 2 what came after it and gave none.
async fn write(conn: &mut Session, findings: &Findings) -> Result<(), Error> {
    let failed = || Error::sql("what verify found");
    for statement in ["BEGIN", "DELETE FROM millrace_verified"] {
        conn.execute(statement).await.map_err(failed())?;
    }
    for (id, found) in [(1_u8, &findings.answered), (2, &findings.unfinished)] {
        let Some(found) = found else { continue };
        let detail = Detail::of(&found.finding);
        let detail = serde_json::to_string(&detail)
            .map_err(|error| Error::Bookkeeping(error.to_string()))?;
        sqlx::query(
            "INSERT INTO millrace_verified (id, at, incarnation, lsn, answer, detail) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(id)
        .bind(found.at.naive_utc())
        .bind(&found.incarnation)
        .bind(found.finding.lsn.map(|lsn| lsn.0))
        .bind(word(found.finding.answer))
        .bind(detail)
        .execute(&mut *conn)
        .await
        .map_err(failed())?;
    }
    let committed = conn.execute("COMMIT").await;
    committed.map(|_| ()).map_err(failed())
}

/// A row that cannot be read, of another version perhaps, is no reason to stop: it is not known then.
async fn read(conn: &mut Session) -> Result<Findings, Error> {
    let rows =
        sqlx::query("SELECT id, at, incarnation, lsn, answer, detail FROM millrace_verified")
            .fetch_all(conn)
            .await
            .map_err(Error::sql("what verify found"))?;
    let mut findings = Findings::default();
    for row in rows {
        match found(&row) {
            Ok((1, found)) => findings.answered = Some(found),
            Ok((_, found)) => findings.unfinished = Some(found),
            Err(error) => tracing::warn!(%error, "what verify found earlier cannot be read"),
        }
    }
    Ok(findings)
}

fn found(row: &MySqlRow) -> Result<(u8, Found), Error> {
    let broken = |error: sqlx::Error| Error::Bookkeeping(error.to_string());
    // Unchecked: sqlx takes text of a binary collation for bytes.
    let text = |name: &str| row.try_get_unchecked::<String, _>(name).map_err(broken);
    let detail: Detail = serde_json::from_str(&text("detail")?)
        .map_err(|error| Error::Bookkeeping(error.to_string()))?;
    let answer = text("answer")?;
    let at: NaiveDateTime = row.try_get("at").map_err(broken)?;
    let lsn: Option<u64> = row.try_get("lsn").map_err(broken)?;
    let finding = Finding {
        answer: parse(&answer)
            .ok_or_else(|| Error::Bookkeeping(format!("unknown answer {answer:?}")))?,
        lsn: lsn.map(Lsn),
        tables: detail.tables,
        not_live: detail.not_live,
        error: detail.error,
    };
    let found = Found {
        at: at.and_utc(),
        incarnation: row.try_get_unchecked("incarnation").map_err(broken)?,
        finding,
    };
    Ok((row.try_get("id").map_err(broken)?, found))
}

/// What has no column of its own.
#[derive(Serialize, Deserialize)]
struct Detail {
    tables: Vec<Compared>,
    not_live: Vec<String>,
    error: Option<String>,
}

impl Detail {
    fn of(finding: &Finding) -> Detail {
        Detail {
            tables: finding.tables.clone(),
            not_live: finding.not_live.clone(),
            error: finding.error.clone(),
        }
    }
}

const WORDS: [(Answer, &str); 3] = [
    (Answer::Equal, "equal"),
    (Answer::Different, "different"),
    (Answer::Unfinished, "unfinished"),
];

fn word(answer: Answer) -> &'static str {
    let found = WORDS.iter().find(|(known, _)| *known == answer);
    found.map_or("", |(_, word)| word)
}

fn parse(text: &str) -> Option<Answer> {
    let found = WORDS.iter().find(|(_, word)| *word == text);
    found.map(|(answer, _)| *answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(answer: Answer, lsn: u64) -> Found {
        Found {
            at: Utc::now(),
            incarnation: Some("a".to_owned()),
            finding: Finding {
                answer,
                lsn: Some(Lsn(lsn)),
                tables: Vec::new(),
                not_live: Vec::new(),
                error: None,
            },
        }
    }

    fn answered(findings: &Findings) -> Option<Answer> {
        findings.answered.as_ref().map(|found| found.finding.answer)
    }

    #[test]
    fn a_difference_stays_known_until_a_later_verification_is_equal() {
        let mut findings = Findings::default();
        findings.add(found(Answer::Different, 10));
        findings.add(found(Answer::Unfinished, 20));
        assert_eq!(answered(&findings), Some(Answer::Different));
        assert!(findings.unfinished.is_some());
        findings.add(found(Answer::Equal, 30));
        assert_eq!(answered(&findings), Some(Answer::Equal));
        assert_eq!(findings.unfinished, None);
    }

    #[test]
    fn a_comparison_at_an_earlier_point_that_ends_later_changes_nothing() {
        let mut findings = Findings::default();
        findings.add(found(Answer::Different, 20));
        findings.add(found(Answer::Equal, 10));
        assert_eq!(answered(&findings), Some(Answer::Different));
    }

    #[test]
    fn a_difference_in_mysql_outlives_a_projector_that_was_told_something_before_it_read_it() {
        let mut rows = Findings::default();
        rows.add(found(Answer::Different, 10));
        let mut told = Findings::default();
        told.add(found(Answer::Unfinished, 20));
        let merged = rows.clone().with(told.clone());
        assert_eq!(merged.answered, rows.answered);
        assert_eq!(merged.unfinished, told.unfinished);
        // Writing it down again, because no answer came, changes nothing.
        assert_eq!(merged.clone().with(told), merged);
        assert_eq!(merged.clone().with(merged.clone()), merged);
    }

    #[test]
    fn a_later_answer_replaces_what_stands_in_mysql() {
        let mut rows = Findings::default();
        rows.add(found(Answer::Different, 10));
        rows.add(found(Answer::Unfinished, 20));
        let mut told = rows.clone();
        told.add(found(Answer::Equal, 30));
        let merged = rows.with(told.clone());
        assert_eq!(merged, told);
        assert_eq!(merged.unfinished, None);
    }

    #[test]
    fn lsns_of_another_log_are_not_compared() {
        let mut findings = Findings::default();
        findings.add(found(Answer::Different, 20));
        let mut other = found(Answer::Equal, 10);
        other.incarnation = Some("b".to_owned());
        findings.add(other);
        assert_eq!(answered(&findings), Some(Answer::Equal));
    }
}
