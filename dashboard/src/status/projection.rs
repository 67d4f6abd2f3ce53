//! The replica and the marts.

use millrace_control::Fault;
use millrace_events::Lsn;
use serde::{Deserialize, Serialize};

use super::{Time, Verdict};

/// MySQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Product and version.
    pub server: String,
    /// Database.
    pub database: String,
    /// Position as MySQL itself has it; none before the first snapshot.
    pub applied_lsn: Option<Lsn>,
}

/// Tables that are kept equal to something of the source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Projection {
    /// Its name.
    pub name: String,
    /// Replica or mart.
    pub kind: Kind,
    /// From its behaviour.
    pub verdict: Verdict,
    /// Why it is not ok.
    pub reason: Option<String>,
    /// What the projector says that it does.
    pub state: State,
    /// Paused by a person.
    pub paused_since: Option<Time>,
    /// Nothing of the source is missing.
    pub caught_up: Option<bool>,
    /// How far behind.
    pub lag: Lag,
    /// What it does per second.
    pub rate: Rate,
    /// Where it is.
    pub position: Position,
    /// Until caught up, at the speed of the last seconds.
    pub eta_s: Option<u64>,
    /// First 12 hex digits of the SHA-256 of a mart's SQL; `-` for the replica.
    pub version: String,
    /// While it is loaded.
    pub snapshot: Option<Loading>,
    /// What is wrong.
    pub last_error: Option<Fault>,
    /// Values in quarantine of its tables, or of those that it reads: they are NULL here. Not known without the projector.
    #[serde(default)]
    pub quarantined: Option<u64>,
    /// Differences that the last verification found in its tables; not known before the first one.
    pub differences: Option<u64>,
}

/// Kinds of projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The tables of the source.
    Replica,
    /// The result of a statement.
    Mart,
}

/// Stages of a projector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not connected yet.
    Starting,
    /// The log has no snapshot yet.
    WaitingForSnapshot,
    /// The snapshot is loaded.
    Loading,
    /// Indexes and marts are made.
    Building,
    /// Shadow tables take their place.
    Swapping,
    /// The log is applied.
    Live,
    /// MySQL does not answer, and is waited for.
    WaitingForMysql,
    /// It has ended, or failed and is tried again by whoever runs it.
    #[serde(alias = "failed")]
    Stopped,
    /// It does not say, or says something newer than this program.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Behind by how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    /// The larger of the two below; not known unless both are and Postgres answers.
    pub total_ms: Option<u64>,
    /// Age of the oldest transaction in the log that is not applied.
    pub own_ms: Option<u64>,
    /// Age of the oldest transaction in Postgres that is not in the log.
    pub inherited_ms: Option<u64>,
    /// How the larger one is known.
    pub basis: Option<Basis>,
    /// Records of the log not accounted for.
    pub records: Option<u64>,
    /// Transactions that the reader has got and that are not committed here.
    pub transactions: Option<u64>,
    /// WAL between what is applied and the end.
    pub bytes: Option<u64>,
}

/// How a lag is known: exactly, or as an upper limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The commit time of the transaction itself.
    Exact,
    /// Heartbeats: no better than to one of their periods.
    Heartbeat,
    /// What Postgres had written so long ago has been received, and what it wrote since has not.
    Wal,
}

/// Work per second; not known until two samples are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Source transactions.
    pub transactions_per_s: Option<f64>,
    /// Row changes before folding.
    pub changes_per_s: Option<f64>,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Everything up to here is in.
    pub lsn: Option<Lsn>,
    /// Record that brought it.
    pub offset: Option<u64>,
    /// When the last applied transaction was committed in Postgres.
    pub source_at: Option<Time>,
    /// When here.
    pub applied_at: Option<Time>,
}

/// How far the loading of a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loading {
    /// Rows loaded.
    pub rows: u64,
    /// Rows expected.
    pub rows_estimated: u64,
}
