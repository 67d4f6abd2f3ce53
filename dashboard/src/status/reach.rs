//! How far back a topic goes, and for how long that will do.

use serde::{Deserialize, Serialize};

use super::Time;

/// What retention leaves of a topic, by time and by size. A reader that is away for longer than the topic reaches
/// finds that records are gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reach {
    /// When its oldest record was written, by the clock of whoever wrote it; known for topics of one partition.
    pub oldest_at: Option<Time>,
    /// From then to now, in seconds.
    pub reach_s: Option<u64>,
    /// Bytes that each partition keeps.
    pub retention_bytes: Option<u64>,
    /// Until retention by size removes the oldest records, at the present rate; 0 if it does. `None` too where
    /// nothing is written.
    pub size_removes_in_s: Option<u64>,
    /// How far back it goes when it is full, at the present rate: no reader may be away for longer.
    pub at_rate_s: Option<u64>,
    /// Until retention by size comes to what the slowest of our consumers has not read, at the present rate. `None`
    /// too where all have read everything, or nothing is written.
    pub unread_lasts_s: Option<u64>,
    /// Whom the broker keeps more for than retention says. A real cluster keeps nothing for anybody.
    pub held_by: Option<HeldBy>,
}

/// One of our consumers that has not read what is older than retention, or beyond its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBy {
    /// Its name.
    pub consumer: String,
    /// Last offset that it is done with.
    pub offset: i64,
}
