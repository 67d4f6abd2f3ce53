//! What flows: topics, incoming users, the hops of the pipeline and the time they take.

use millrace_control::Fault;
use serde::{Deserialize, Serialize};

use super::{Reach, Time, Verdict};

/// A topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: TopicKind,
    /// Number of partitions.
    pub partitions: u32,
    /// First offset that is left; known for topics of one partition.
    pub start_offset: Option<i64>,
    /// Offset of the next record; over several partitions, their sum.
    pub end_offset: i64,
    /// Bytes on disk.
    pub bytes: Option<u64>,
    /// Records written.
    pub records_per_s: Option<f64>,
    /// Growth on disk.
    pub bytes_per_s: Option<f64>,
    /// How long records are kept.
    pub retention_s: Option<u64>,
    /// Named consumers that have an offset in it.
    pub consumers: Vec<Consumer>,
    /// How far back it goes, and for how long that will do.
    #[serde(default)]
    pub reach: Reach,
}

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopicKind {
    /// The change log.
    Changes,
    /// Rows of a snapshot.
    Snapshot,
    /// Incoming users.
    Users,
    /// Users that were refused.
    Rejected,
    /// Not ours.
    Other,
}

/// A named consumer of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// Last offset that it is done with.
    pub offset: i64,
    /// Records behind that.
    pub lag_records: u64,
    /// When it said so.
    pub at: Option<Time>,
}

/// Who stores incoming users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ingest {
    /// `connecting`, `running`, `stopped` or `failed`.
    pub state: String,
    /// Next event to be stored.
    pub next_offset: Option<i64>,
    /// Where the topic ends.
    pub end_offset: Option<i64>,
    /// Events not stored yet.
    pub behind_events: Option<u64>,
    /// Events stored or rejected.
    pub events_per_s: Option<f64>,
    /// Rejected since it started.
    pub rejected: Option<u64>,
    /// Why the last attempt failed.
    pub last_error: Option<Fault>,
}

/// Rejected records by what was done about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Nothing yet.
    pub open: u64,
    /// Sent again.
    pub retried: u64,
    /// Put aside.
    pub discarded: u64,
}

/// Heartbeat committed in Postgres until seen in MySQL: exact order statistics, nothing interpolated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Samples of so many seconds.
    pub window_s: u64,
    /// How many.
    pub samples: u64,
    /// Median.
    pub p50_ms: Option<u64>,
    /// 95 of 100 took no longer.
    pub p95_ms: Option<u64>,
    /// 99 of 100 took no longer.
    pub p99_ms: Option<u64>,
    /// The newest sample.
    pub last_ms: Option<u64>,
    /// When it was seen.
    pub last_at: Option<Time>,
}

/// A stage of the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    /// Which.
    pub hop: HopName,
    /// For people.
    pub label: String,
    /// What goes through it.
    pub rate_per_s: Option<f64>,
    /// Of what.
    pub unit: HopUnit,
    /// How long what waits there has waited; 0 if nothing waits.
    pub age_ms: Option<u64>,
    /// Whether it does its work.
    pub verdict: Verdict,
    /// True for the one where things wait longest.
    pub slowest: bool,
    /// For people.
    pub detail: String,
}

/// The stages in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HopName {
    /// The source.
    Postgres,
    /// Its slot, read by capture.
    Slot,
    /// The change log.
    Topic,
    /// What the broker applies on the way out.
    Smartmodules,
    /// The projector.
    Projector,
    /// The target.
    Mysql,
}

/// What is counted at a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HopUnit {
    /// Bytes of WAL.
    Bytes,
    /// Transactions.
    Transactions,
    /// Records of a topic.
    Records,
}
