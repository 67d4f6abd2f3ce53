//! What the sources answered in one tick. The control APIs may be of an older or newer version:
//! fields that are missing are not known, fields that are new are passed over.

use std::collections::BTreeMap;

use millrace_control::Fault;
use millrace_events::Lsn;
use serde::{Deserialize, Deserializer};

use crate::heartbeat::Beats;
use crate::status::{
    Answer, CaptureSnapshot, Kind, Loading, PartDown, Past, Periodic, Rejected, Slot, State,
    TableState, Target, Time, Topic,
};

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// May jump.
    pub(crate) wall: Time,
    /// Milliseconds since the start; never goes back.
    pub(crate) mono_ms: u64,
}

/// Everything that was asked in one tick.
#[derive(Clone, Debug)]
pub(crate) struct Readings {
    pub(crate) moment: Moment,
    pub(crate) source: Answer<SourceReading>,
    pub(crate) target: Answer<Target>,
    /// Of MySQL's tables, as far as they are known.
    pub(crate) sizes: Sizes,
    /// Without rates.
    pub(crate) topics: Answer<Vec<Topic>>,
    pub(crate) smartmodules: Answer<Vec<String>>,
    pub(crate) projector: Answer<ProjectorReading>,
    pub(crate) capture: Answer<CaptureReading>,
    /// `None` where there is no ingest.
    pub(crate) ingest: Option<Answer<IngestReading>>,
    pub(crate) rejected: Option<Answer<Rejected>>,
    pub(crate) beats: Beats,
    pub(crate) button: Button,
    /// Parts that cannot say so themselves.
    pub(crate) parts_down: Vec<PartDown>,
}

/// Sizes by the tables' names in MySQL.
pub(crate) type Sizes = BTreeMap<String, Size>;

/// What MySQL estimates of one of its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: u64,
    /// Indexes included.
    pub(crate) bytes: u64,
}

/// Postgres.
#[derive(Clone, Debug)]
pub(crate) struct SourceReading {
    pub(crate) server: String,
    pub(crate) database: String,
    pub(crate) lsn: Lsn,
    /// Its clock minus ours, microseconds: commit times are of its clock.
    pub(crate) clock_ahead_us: i64,
    pub(crate) slot: Option<Slot>,
}

/// `GET /status` of the projector.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProjectorReading {
    pub(crate) state: State,
    pub(crate) end_lsn: Option<Lsn>,
    pub(crate) offset: Option<u64>,
    pub(crate) next_offset: Option<u64>,
    pub(crate) lag_records: Option<u64>,
    pub(crate) source_at: Option<Time>,
    pub(crate) applied_at: Option<Time>,
    pub(crate) batches: Option<u64>,
    pub(crate) transactions: Option<u64>,
    pub(crate) changes: Option<u64>,
    pub(crate) snapshot: Option<Loading>,
    pub(crate) error: Option<Fault>,
    pub(crate) log_error: Option<Fault>,
    pub(crate) paused_since: Option<Time>,
    pub(crate) oldest_pending_at: Option<Time>,
    pub(crate) pending_transactions: Option<u64>,
    pub(crate) projections: Vec<Named>,
    pub(crate) tables: Vec<ProjectedReading>,
    pub(crate) marts: Vec<MartReading>,
    /// `None`: it has not asked MySQL yet.
    pub(crate) verify: Option<FindingsReading>,
    /// Verifications that it runs by itself.
    pub(crate) periodic: Option<Periodic>,
}

/// A table as the projector has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct ProjectedReading {
    pub(crate) table: String,
    /// In MySQL.
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) state: TableState,
    #[serde(default)]
    pub(crate) since: Option<Time>,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// The newest copy of it that the log has announced to the projector.
    #[serde(default)]
    pub(crate) newest_copy: Option<u64>,
    /// Values in quarantine.
    #[serde(default)]
    pub(crate) quarantined: Option<u64>,
    #[serde(default)]
    pub(crate) copy: Option<LoadedReading>,
}

/// A mart as the projector has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct MartReading {
    pub(crate) name: String,
    /// `waiting`, `live` or `set_aside`.
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// Values in quarantine of the tables that it reads.
    #[serde(default)]
    pub(crate) quarantined: Option<u64>,
}

/// A copy as far as the projector has loaded it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct LoadedReading {
    pub(crate) rows: Option<u64>,
    pub(crate) rows_estimated: Option<u64>,
}

/// What the projector keeps of verifications.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct FindingsReading {
    /// The last one that gave an answer.
    pub(crate) answered: Option<FoundReading>,
    /// A later one that gave none.
    pub(crate) unfinished: Option<FoundReading>,
    /// The last ones in short.
    pub(crate) history: Vec<Past>,
}

/// One verification.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct FoundReading {
    pub(crate) at: Time,
    pub(crate) answer: Answered,
    #[serde(default)]
    pub(crate) lsn: Option<Lsn>,
    #[serde(default)]
    pub(crate) tables: Vec<Compared>,
    #[serde(default)]
    pub(crate) not_live: Vec<String>,
    #[serde(default)]
    pub(crate) error: Option<String>,
}

/// What it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answered {
    Equal,
    Different,
    /// Nothing, or something newer than this program.
    #[serde(other)]
    Unfinished,
}

/// A table or mart with what was found in it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Compared {
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) differences: u64,
    #[serde(default)]
    pub(crate) quarantined: u64,
}

/// The page's own button.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Button {
    /// A verification that it started runs.
    pub(crate) running: bool,
    /// What the last of them found.
    pub(crate) last: Option<FoundReading>,
    /// Its first differences, for people.
    pub(crate) differences: Vec<String>,
}

/// A projection as the projector names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// `GET /status` of capture.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CaptureReading {
    pub(crate) state: String,
    pub(crate) epoch: Option<u64>,
    pub(crate) last_lsn: Option<Lsn>,
    pub(crate) received_lsn: Option<Lsn>,
    pub(crate) transactions: Option<u64>,
    pub(crate) sessions: Option<u64>,
    pub(crate) last_error: Option<Fault>,
    pub(crate) snapshot: Option<CaptureSnapshot>,
    pub(crate) tables: Vec<CapturedReading>,
    /// Selected, and not there when it was resolved what is captured.
    pub(crate) not_captured: Vec<String>,
    pub(crate) not_live: Vec<ProblemReading>,
    /// The outer `None`: it does not say.
    #[serde(deserialize_with = "said")]
    pub(crate) oldest_pending_at: Option<Option<Time>>,
}

/// A table as capture has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct CapturedReading {
    pub(crate) table: String,
    /// `planned`, `copying` or `captured`.
    pub(crate) state: String,
    /// The newest copy of it.
    pub(crate) copy: Option<u64>,
    pub(crate) since: Option<Time>,
    pub(crate) rows: Option<u64>,
    pub(crate) rows_estimated: Option<u64>,
    /// When its copy will be complete.
    pub(crate) expected_at: Option<Time>,
    /// Why its copy does not go on.
    pub(crate) notice: Option<String>,
}

/// A table whose changes are not all in the log, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct ProblemReading {
    pub(crate) table: String,
    pub(crate) code: Option<String>,
    pub(crate) reason: String,
    /// What to do.
    pub(crate) remedy: Option<String>,
}

impl ProblemReading {
    /// In one sentence.
    pub(crate) fn text(&self) -> String {
        let code = self.code.as_ref().map(|code| format!("{code}: "));
        let remedy = self.remedy.as_ref().map(|remedy| format!("; {remedy}"));
        let (code, remedy) = (code.unwrap_or_default(), remedy.unwrap_or_default());
        format!("{code}{}{remedy}", self.reason)
    }
}

/// `GET /status` of ingest.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct IngestReading {
    pub(crate) state: String,
    pub(crate) next_offset: Option<i64>,
    pub(crate) end_offset: Option<i64>,
    pub(crate) events: Option<u64>,
    pub(crate) rejected: Option<u64>,
    pub(crate) last_error: Option<Fault>,
}

fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Time>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projector_of_an_older_version_is_understood() {
        let text = r#"{"state":"live","end_lsn":"0/10","lag_records":0,"error":null,"new":1}"#;
        let reading: ProjectorReading = serde_json::from_str(text).unwrap();
        assert_eq!(reading.state, State::Live);
        assert_eq!(reading.oldest_pending_at, None);
        assert!(reading.projections.is_empty());
    }

    #[test]
    fn a_state_of_a_newer_version_is_unknown() {
        let reading: ProjectorReading = serde_json::from_str(r#"{"state":"dreaming"}"#).unwrap();
        assert_eq!(reading.state, State::Unknown);
    }

    #[test]
    fn nothing_outstanding_and_not_saying_so_are_different() {
        let says: CaptureReading = serde_json::from_str(r#"{"oldest_pending_at":null}"#).unwrap();
        let silent: CaptureReading = serde_json::from_str("{}").unwrap();
        assert_eq!(
            (says.oldest_pending_at, silent.oldest_pending_at),
            (Some(None), None)
        );
    }
}
