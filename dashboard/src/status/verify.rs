//! What `verify` last said, whoever ran it.

use millrace_events::Lsn;
use serde::{Deserialize, Serialize};

use super::Time;

/// The last verification that gave an answer, and what came after it. While one runs, the answer of the last one stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// One that was started from this page, or by the projector itself, is running.
    pub running: bool,
    /// When the last answer came.
    pub at: Option<Time>,
    /// Where both sides were compared.
    pub lsn: Option<Lsn>,
    /// Everything was live and equal; `false`: something is different, and stays so until a later one is equal.
    pub equal: Option<bool>,
    /// Tables and marts.
    pub tables: Vec<Verified>,
    /// The first differences, for people; known where this page has run it.
    pub differences: Vec<String>,
    /// What could not be compared.
    pub not_live: Vec<String>,
    /// A later one that gave no answer.
    pub unfinished: Option<Unfinished>,
    /// The last ones in short, oldest first.
    #[serde(default)]
    pub history: Vec<Past>,
    /// Those that the projector runs by itself, if it does.
    #[serde(default)]
    pub periodic: Option<Periodic>,
}

/// One verification in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// When it ended.
    pub at: Time,
    /// `person` or `period`.
    pub by: String,
    /// `equal`, `different` or `unfinished`.
    pub answer: String,
    /// Rows that were compared.
    pub rows: u64,
    /// Differences that were found.
    pub differences: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Verifications that the projector runs by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Periodic {
    /// Seconds between the beginnings of two of them.
    pub period_s: u64,
    /// When the next one is due.
    pub next_at: Option<Time>,
    /// Since when one runs.
    pub running_since: Option<Time>,
    /// What one that is due waits for.
    pub waits_for: Option<String>,
}

/// One table or mart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Its name.
    pub name: String,
    /// Rows that it should have.
    pub rows: u64,
    /// No difference was found.
    pub equal: bool,
    /// How many were found.
    pub differences: u64,
    /// Values that MySQL cannot hold, and that stand in quarantine as they are in Postgres.
    #[serde(default)]
    pub quarantined: u64,
}

/// A verification that gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// When it ended.
    pub at: Time,
    /// Why.
    pub reason: String,
    /// What is not live.
    pub not_live: Vec<String>,
}

impl Verify {
    /// Differences that are known, all tables together.
    pub fn differences_total(&self) -> u64 {
        self.tables.iter().map(|table| table.differences).sum()
    }
}
