//! The rows of tables, copies and marts.

use chrono::{DateTime, Utc};
use millrace_events::{Copied, CopyId, CopyReader, CopyTable, Epoch, Lsn, TableSchema};
use millrace_topic::Offset;
use serde::Serialize;

use crate::replica::{Policies, TablePolicies};

/// Where a table stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TableState {
    /// Its first rows are being loaded.
    Loading,
    /// They are loaded, and what has changed since is being applied to them.
    CatchingUp,
    /// It moves with the position.
    Live,
    /// It could not be applied. It stays as it was, until a new copy takes its place.
    SetAside,
    /// It is captured no longer.
    Removed,
}

impl TableState {
    /// True while it is on its way to be live.
    pub(crate) fn is_coming(self) -> bool {
        matches!(self, TableState::Loading | TableState::CatchingUp)
    }
}

/// Where a mart stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MartState {
    /// A table that it reads is not live, or it is about to be built.
    Waiting,
    /// It moves with the position.
    Live,
    /// It could not be kept. It stays as it was, until it is built again.
    SetAside,
}

/// How far the copy of a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyStep {
    /// The log has announced it.
    Announced,
    /// Its chunks are loaded into the shadow table.
    Loading,
    /// The shadow table follows the log.
    CatchingUp,
    /// The shadow table is about to take the table's name.
    Joining,
}

/// A place in the log at which a reader can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Record that brought `end_lsn`.
    pub(crate) offset: Offset,
    pub(crate) end_lsn: Lsn,
    /// Highest epoch up to that record.
    pub(crate) epoch: Epoch,
}

/// A table of the source.
#[derive(Clone, Debug)]
pub(crate) struct TableRow {
    /// In MySQL; never changes.
    pub(crate) name: String,
    pub(crate) state: TableState,
    pub(crate) since: DateTime<Utc>,
    /// Why it is not live, or why its last copy came to nothing.
    pub(crate) reason: Option<String>,
    /// What its rows are made from; `None` while it has none.
    pub(crate) definition: Option<TableSchema>,
    /// What becomes of values that they cannot hold.
    pub(crate) policies: TablePolicies,
    /// Rows of the copy that they began with.
    pub(crate) rows: u64,
    /// The newest copy that was announced.
    pub(crate) copy: CopyId,
    /// That copy, while it is under way.
    pub(crate) next: Option<NextCopy>,
}

/// A copy of one table that is under way.
#[derive(Clone, Debug)]
pub(crate) struct NextCopy {
    pub(crate) definition: TableSchema,
    pub(crate) policies: TablePolicies,
    pub(crate) estimated_rows: u64,
    pub(crate) step: CopyStep,
    /// Loaded so far.
    pub(crate) chunks: u32,
    pub(crate) rows: u64,
    /// What there is to load, as soon as the log says so.
    pub(crate) copied: Option<Copied>,
    /// How far the shadow table has followed the log.
    pub(crate) place: Place,
}

/// A topic with rows.
#[derive(Clone, Debug)]
pub(crate) struct CopyRow {
    pub(crate) topic: String,
    /// Next record to load.
    pub(crate) next: Offset,
    /// What has been loaded.
    pub(crate) reader: CopyReader,
}

/// A mart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MartRow {
    pub(crate) state: MartState,
    pub(crate) since: DateTime<Utc>,
    pub(crate) reason: Option<String>,
    /// Digest of what it was built from.
    pub(crate) version: String,
    /// Its new tables are about to take the names of the old ones.
    pub(crate) joining: bool,
}

impl TableRow {
    pub(super) fn new(name: String, now: DateTime<Utc>) -> TableRow {
        TableRow {
            name,
            state: TableState::Loading,
            since: now,
            reason: None,
            definition: None,
            policies: TablePolicies::default(),
            rows: 0,
            copy: CopyId::default(),
            next: None,
        }
    }

    pub(super) fn enter(&mut self, state: TableState, reason: Option<String>, now: DateTime<Utc>) {
        if self.state != state {
            self.since = now;
        }
        self.state = state;
        self.reason = reason;
    }

    /// The copy under way, if it is in this step.
    pub(crate) fn in_step(&self, step: CopyStep) -> Option<&NextCopy> {
        self.next.as_ref().filter(|next| next.step == step)
    }
}

impl NextCopy {
    pub(super) fn new(table: &CopyTable, policies: &Policies, place: Place) -> NextCopy {
        NextCopy {
            definition: table.definition.clone(),
            policies: policies.of(&table.definition),
            estimated_rows: table.estimated_rows,
            step: CopyStep::Announced,
            chunks: 0,
            rows: 0,
            copied: None,
            place,
        }
    }
}
