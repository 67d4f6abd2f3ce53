//! What `verify` last said.

use millrace_events::Lsn;
use serde::{Deserialize, Serialize};

use super::Time;

/// A verification, running or done. While one runs, the result of the last one stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// One is running.
    pub running: bool,
    /// When the last one ended.
    pub at: Option<Time>,
    /// Where both sides were compared.
    pub lsn: Option<Lsn>,
    /// Everything is live and equal.
    pub equal: Option<bool>,
    /// Tables and marts.
    pub tables: Vec<Verified>,
    /// The first differences, for people.
    pub differences: Vec<String>,
    /// What could not be compared.
    pub not_live: Vec<String>,
    /// Why there is no result.
    pub error: Option<String>,
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
}
