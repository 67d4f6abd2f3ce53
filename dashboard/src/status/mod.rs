//! Everything that is known at one moment: the page, `millrace status --json` and `/metrics` show
//! this one struct.
//!
//! Durations are whole milliseconds (`_ms`), rates are per second. `None` is not known, never 0.

mod answer;
mod flow;
mod part;
mod projection;
mod reach;
mod source;
mod table;
mod time;
mod verdict;
mod verify;

pub use answer::Answer;
pub use flow::{Consumer, Hop, HopName, HopUnit, Ingest, Latency, Rejected, Topic, TopicKind};
pub use part::PartDown;
pub use projection::{Basis, Kind, Lag, Loading, Position, Projection, Rate, State, Target};
pub use reach::{HeldBy, Reach};
pub use source::{Capture, CaptureSnapshot, Heartbeat, Slot, Source, WalStatus};
pub use table::{Table, TableCopy, TableState};
pub use time::Time;
pub use verdict::Verdict;
pub use verify::{Past, Periodic, Unfinished, Verified, Verify};

use serde::{Deserialize, Serialize};

/// Number of this form of the status.
pub const VERSION: u32 = 1;

/// The pipeline at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`].
    pub version: u32,
    /// When it was put together, by this machine's clock.
    pub at: Time,
    /// The next one comes so much later.
    pub tick_ms: u64,
    /// Version of the program.
    pub millrace: String,
    /// The worst of all that is known: the projections' verdicts, capture and ingest, the last verification.
    pub verdict: Verdict,
    /// One sentence for people.
    pub headline: String,
    /// Postgres.
    pub source: Answer<Source>,
    /// Who reads Postgres.
    pub capture: Answer<Capture>,
    /// Topics of the cluster.
    pub topics: Answer<Vec<Topic>>,
    /// SmartModules that the cluster knows.
    pub smartmodules: Answer<Vec<String>>,
    /// MySQL.
    pub target: Answer<Target>,
    /// The tables that are selected, by name.
    #[serde(default)]
    pub tables: Vec<Table>,
    /// The replica and the marts.
    pub projections: Vec<Projection>,
    /// Who stores incoming users; null where the pipeline has no ingest.
    pub ingest: Option<Answer<Ingest>>,
    /// Counts of rejected records; null without ingest.
    pub rejected: Option<Answer<Rejected>>,
    /// From Postgres to MySQL, by heartbeats.
    pub latency: Latency,
    /// Other parts of `millrace up` that are down, by name.
    #[serde(default)]
    pub parts_down: Vec<PartDown>,
    /// The hops in order.
    pub pipeline: Vec<Hop>,
    /// What `verify` last said.
    pub verify: Option<Verify>,
}
