//! What `verify` found, whoever ran it: kept in MySQL beside the position, so that it outlives every process.
//!
//! The last [`HISTORY_MAX`] are remembered in short. A difference stays known until a later verification finds everything equal. One that gives no answer changes
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
use super::handle::Handle;
use super::shared::Shared;
use crate::verify::{Answer, By, Compared, Finding};

/// Verifications that are remembered in short: half a day of one every half an hour, or two hours of one every five
/// minutes.
const HISTORY_MAX: usize = 24;

/// What is known from verifications.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// The last one that gave an answer.
    pub answered: Option<Found>,
    /// A later one that gave none.
    pub unfinished: Option<Found>,
    /// The last ones in short, oldest first.
    pub history: Vec<Past>,
}

/// One verification in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// When the projector was told.
    #[serde(serialize_with = "time::serialize")]
    pub at: DateTime<Utc>,
    /// Who asked.
    pub by: By,
    /// What it answered.
    pub answer: Answer,
    /// Rows that were compared.
    pub rows: u64,
    /// Differences that were found.
    pub differences: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
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
        self.remember([found.past()]);
        match (found.finding.answer, &self.answered) {
            (Answer::Unfinished, _) => self.unfinished = Some(found),
            (_, Some(known)) if found.is_older_than(known) => {}
            _ => {
                self.answered = Some(found);
                self.unfinished = None;
            }
        }
    }

    /// When the last one ended, with an answer or without.
    pub(crate) fn last_at(&self) -> Option<DateTime<Utc>> {
        self.history.last().map(|past| past.at)
    }

    fn remember(&mut self, pasts: impl IntoIterator<Item = Past>) {
        self.history.extend(pasts);
        self.history.sort_by_key(|past| past.at);
        self.history.dedup();
        let old = self.history.len().saturating_sub(HISTORY_MAX);
        self.history.drain(..old);
    }

    /// These, which stand in MySQL, and what this projector was told. It may have been told without having read them:
    /// what they say is replaced by a later answer only.
    fn with(mut self, told: Findings) -> Findings {
        self.remember(told.history);
        for found in [told.answered, told.unfinished].into_iter().flatten() {
            if self.answered.as_ref() != Some(&found) {
                self.add(found);
            }
        }
        self
    }
}

impl Found {
    fn past(&self) -> Past {
        Past {
            at: self.at,
            by: self.finding.by,
            answer: self.finding.answer,
            rows: self.finding.rows(),
            differences: self.finding.differences(),
            took_ms: self.finding.took_ms,
        }
    }

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

/// The rows of the last answer, of what came after it and gave none, and of what is remembered in short.
const ANSWERED: u8 = 1;
const UNFINISHED: u8 = 2;
const HISTORY: u8 = 3;

async fn write(conn: &mut Session, findings: &Findings) -> Result<(), Error> {
    let failed = || Error::sql("what verify found");
    for statement in ["BEGIN", "DELETE FROM millrace_verified"] {
        conn.execute(statement).await.map_err(failed())?;
    }
    for (id, found) in [
        (ANSWERED, &findings.answered),
        (UNFINISHED, &findings.unfinished),
    ] {
        let Some(found) = found else { continue };
        let detail = Detail::of(&found.finding);
        insert(conn, id, found, word(found.finding.answer), &detail).await?;
    }
    if let Some(newest) = findings.answered.as_ref().or(findings.unfinished.as_ref()) {
        insert(conn, HISTORY, newest, "history", &findings.history).await?;
    }
    let committed = conn.execute("COMMIT").await;
    committed.map(|_| ()).map_err(failed())
}

async fn insert(
    conn: &mut Session,
    id: u8,
    found: &Found,
    answer: &str,
    detail: &impl Serialize,
) -> Result<(), Error> {
    let detail =
        serde_json::to_string(detail).map_err(|error| Error::Bookkeeping(error.to_string()))?;
    sqlx::query(
        "INSERT INTO millrace_verified (id, at, incarnation, lsn, answer, detail) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(id)
    .bind(found.at.naive_utc())
    .bind(&found.incarnation)
    .bind(found.finding.lsn.map(|lsn| lsn.0))
    .bind(answer)
    .bind(detail)
    .execute(conn)
    .await
    .map(|_| ())
    .map_err(Error::sql("what verify found"))
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
        match part(&row) {
            Ok(Part::Found(ANSWERED, found)) => findings.answered = Some(found),
            Ok(Part::Found(_, found)) => findings.unfinished = Some(found),
            Ok(Part::History(history)) => findings.history = history,
            Err(error) => tracing::warn!(%error, "what verify found earlier cannot be read"),
        }
    }
    Ok(findings)
}

/// What a row holds.
enum Part {
    Found(u8, Found),
    History(Vec<Past>),
}

fn part(row: &MySqlRow) -> Result<Part, Error> {
    let broken = |error: sqlx::Error| Error::Bookkeeping(error.to_string());
    let id: u8 = row.try_get("id").map_err(broken)?;
    Ok(match id {
        HISTORY => Part::History(detail(row)?),
        id => Part::Found(id, found(row)?),
    })
}

fn detail<T: serde::de::DeserializeOwned>(row: &MySqlRow) -> Result<T, Error> {
    // Unchecked: sqlx takes text of a binary collation for bytes.
    let text: String = row
        .try_get_unchecked("detail")
        .map_err(|error| Error::Bookkeeping(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| Error::Bookkeeping(error.to_string()))
}

fn found(row: &MySqlRow) -> Result<Found, Error> {
    let broken = |error: sqlx::Error| Error::Bookkeeping(error.to_string());
    let detail: Detail = detail(row)?;
    let answer: String = row.try_get_unchecked("answer").map_err(broken)?;
    let at: NaiveDateTime = row.try_get("at").map_err(broken)?;
    let lsn: Option<u64> = row.try_get("lsn").map_err(broken)?;
    Ok(Found {
        at: at.and_utc(),
        incarnation: row.try_get_unchecked("incarnation").map_err(broken)?,
        finding: Finding {
            answer: parse(&answer)
                .ok_or_else(|| Error::Bookkeeping(format!("unknown answer {answer:?}")))?,
            lsn: lsn.map(Lsn),
            tables: detail.tables,
            not_live: detail.not_live,
            error: detail.error,
            by: detail.by,
            took_ms: detail.took_ms,
        },
    })
}

/// What has no column of its own.
#[derive(Serialize, Deserialize)]
struct Detail {
    tables: Vec<Compared>,
    not_live: Vec<String>,
    error: Option<String>,
    #[serde(default)]
    by: By,
    #[serde(default)]
    took_ms: u64,
}

impl Detail {
    fn of(finding: &Finding) -> Detail {
        Detail {
            tables: finding.tables.clone(),
            not_live: finding.not_live.clone(),
            error: finding.error.clone(),
            by: finding.by,
            took_ms: finding.took_ms,
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
                by: By::Person,
                took_ms: 1_500,
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
    fn the_last_ones_are_remembered_once_each_and_oldest_first() {
        let mut findings = Findings::default();
        for second in (0..30).rev() {
            let at = DateTime::from_timestamp(second, 0).expect("a time");
            let found = Found {
                at,
                ..found(Answer::Equal, 10)
            };
            findings.add(found);
        }
        let merged = findings.clone().with(findings.clone());
        assert_eq!(merged.history.len(), HISTORY_MAX);
        let seconds: Vec<i64> = merged
            .history
            .iter()
            .map(|past| past.at.timestamp())
            .collect();
        assert_eq!(seconds, (6..30).collect::<Vec<_>>());
        assert_eq!(merged.last_at().map(|at| at.timestamp()), Some(29));
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
