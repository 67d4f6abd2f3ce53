//! The tables of the source, from capture to MySQL.

use serde::{Deserialize, Serialize};

use super::Time;

/// A table that is selected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// In the source, as `schema.table`.
    pub name: String,
    /// In MySQL; not known before the projector has met it.
    pub target: Option<String>,
    /// Where it stands.
    pub state: TableState,
    /// Since when.
    pub since: Option<Time>,
    /// Rows in MySQL, about.
    pub rows: Option<u64>,
    /// Their size with all indexes, about.
    pub bytes: Option<u64>,
    /// Why it is not live, and what to do; or why its copy does not go on.
    pub reason: Option<String>,
    /// Values that MySQL cannot hold: their columns are NULL there, and they stand in quarantine.
    #[serde(default)]
    pub quarantined: Option<u64>,
    /// A copy of it that is under way; a live table that is copied again has one too.
    pub copy: Option<TableCopy>,
}

/// Where a table stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableState {
    /// It is selected and not captured.
    NotCaptured,
    /// It will be copied.
    Planned,
    /// Its rows are read from Postgres.
    Copying,
    /// They are loaded into MySQL.
    Loading,
    /// They are loaded, and what has changed since is applied to them.
    CatchingUp,
    /// It moves with every commit.
    Live,
    /// It could not be applied; it stays as it was until it is copied again.
    SetAside,
    /// It is captured no longer.
    Removed,
    /// Nobody says, or something newer than this program.
    #[default]
    #[serde(other)]
    Unknown,
}

impl TableState {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            TableState::NotCaptured => "not captured",
            TableState::Planned => "planned",
            TableState::Copying => "copying",
            TableState::Loading => "loading",
            TableState::CatchingUp => "catching up",
            TableState::Live => "live",
            TableState::SetAside => "set aside",
            TableState::Removed => "removed",
            TableState::Unknown => "unknown",
        }
    }
}

/// How far a copy is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableCopy {
    /// Rows that capture has read.
    pub rows_read: Option<u64>,
    /// Rows that are loaded into MySQL.
    pub rows_loaded: Option<u64>,
    /// Rows of the table, about.
    pub rows_estimated: Option<u64>,
    /// Seconds until all are loaded, at the present rates.
    pub eta_s: Option<u64>,
}

impl TableCopy {
    /// What is done of reading and loading, of a whole of 1.
    pub fn share(&self) -> Option<f64> {
        let estimated = self.rows_estimated?;
        let read = self.rows_read.unwrap_or(0);
        let loaded = self.rows_loaded.unwrap_or(0);
        let whole = estimated.max(read).max(loaded);
        match whole {
            0 => None,
            whole => Some((read.max(loaded) + loaded) as f64 / (2 * whole) as f64),
        }
    }
}
