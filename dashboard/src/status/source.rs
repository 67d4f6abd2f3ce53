//! Postgres and the service that reads it.

use millrace_control::Fault;
use millrace_events::Lsn;
use serde::{Deserialize, Serialize};

use super::Time;

/// Postgres.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Product and version.
    pub server: String,
    /// Database.
    pub database: String,
    /// End of the WAL.
    pub lsn: Lsn,
    /// WAL written per second.
    pub wal_bytes_per_s: Option<f64>,
    /// Capture's slot, if it exists.
    pub slot: Option<Slot>,
    /// Heartbeats, unless they are off.
    pub heartbeat: Option<Heartbeat>,
}

/// A replication slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Somebody reads it.
    pub active: bool,
    /// What Postgres was told is durable in the log.
    pub confirmed_lsn: Option<Lsn>,
    /// WAL is kept from here on.
    pub restart_lsn: Option<Lsn>,
    /// Whether the WAL that it needs is still there.
    pub wal_status: Option<WalStatus>,
    /// WAL kept for it.
    pub retained_bytes: Option<u64>,
    /// WAL that may still be written before the slot dies; none if there is no limit.
    pub left_bytes: Option<u64>,
    /// WAL behind `confirmed_lsn`.
    pub behind_bytes: Option<u64>,
    /// Last word of the reader; not known without `pg_monitor`.
    pub last_feedback_at: Option<Time>,
}

/// `pg_replication_slots.wal_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalStatus {
    /// Within `max_wal_size`.
    Reserved,
    /// Beyond it, kept for the slot.
    Extended,
    /// May be removed at the next checkpoint.
    Unreserved,
    /// Removed: the slot is dead.
    Lost,
}

impl WalStatus {
    /// As Postgres writes it.
    pub fn parse(text: &str) -> Option<WalStatus> {
        match text {
            "reserved" => Some(WalStatus::Reserved),
            "extended" => Some(WalStatus::Extended),
            "unreserved" => Some(WalStatus::Unreserved),
            "lost" => Some(WalStatus::Lost),
            _ => None,
        }
    }
}

/// Heartbeats written into Postgres.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// One is written so often.
    pub period_ms: u64,
    /// When the last one was written, by Postgres' clock.
    pub last_at: Option<Time>,
    /// Where.
    pub last_lsn: Option<Lsn>,
    /// Written and not seen in MySQL yet.
    pub outstanding: u64,
    /// When the oldest of those was written.
    pub oldest_outstanding_at: Option<Time>,
}

/// The service that reads Postgres.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capture {
    /// `preflight`, `snapshot`, `streaming`, `backoff` or `stopped`.
    pub state: String,
    /// Number of its start.
    pub epoch: Option<u64>,
    /// The log is acknowledged up to here.
    pub last_lsn: Option<Lsn>,
    /// Received up to here.
    pub received_lsn: Option<Lsn>,
    /// Acknowledged since the process started.
    pub transactions: Option<u64>,
    /// Over the last seconds.
    pub transactions_per_s: Option<f64>,
    /// Since the process started.
    pub sessions: Option<u64>,
    /// Why the last session ended.
    pub last_error: Option<Fault>,
    /// While the tables are copied.
    pub snapshot: Option<CaptureSnapshot>,
}

/// How far the copy is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureSnapshot {
    /// Table at work.
    pub table: String,
    /// Rows so far, over all tables.
    pub rows: u64,
    /// Estimated rows of all tables.
    pub total: u64,
}
