//! Why there is no answer.

use millrace_sessions::mysql::{self, ConnectError};
use millrace_sessions::postgres::replication::ReplicationError;

use super::ROUNDS_MAX;

/// No answer to the question whether all is equal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A URL or name cannot be used.
    #[error("[MR-V001] {0}")]
    Config(String),
    /// The projector does not answer, or refuses.
    #[error("[MR-V002] the projector's control API: {0}")]
    Projector(String),
    /// Capture does not answer, or refuses: it may have set a table aside.
    #[error("[MR-V010] capture's control API: {0}")]
    Capture(String),
    /// Postgres cannot make a slot while an older transaction is open.
    #[error("[MR-V003] Postgres made no slot within {seconds} s: {blocker}; end that transaction or try again later")]
    SlotBlocked {
        /// The limit.
        seconds: u64,
        /// Who is in the way.
        blocker: String,
    },
    /// A question to Postgres failed.
    #[error("[MR-V004] Postgres, {doing}")]
    Postgres {
        /// What was asked.
        doing: &'static str,
        /// Answer.
        source: sqlx::Error,
    },
    /// The replication connection failed.
    #[error("[MR-V004] Postgres, replication connection")]
    Replication(#[from] ReplicationError),
    /// A question to MySQL failed.
    #[error("[MR-V005] MySQL, {doing}")]
    MySql {
        /// What was asked.
        doing: &'static str,
        /// Answer.
        source: sqlx::Error,
    },
    /// No session with MySQL.
    #[error("[MR-V005] MySQL, connecting")]
    Connect(#[from] ConnectError),
    /// The bookkeeping of the projector cannot be read.
    #[error("[MR-V006] the projector's bookkeeping: {0}")]
    Bookkeeping(String),
    /// Tables change their files faster than they can be compared.
    #[error("[MR-V008] {} was truncated, rewritten or replaced each time before its turn came, {ROUNDS_MAX} times: run verify again when that is over", .0.join(", "))]
    Rewritten(Vec<String>),
    /// Another verification of this replica runs.
    #[error("[MR-V009] another verification is running; run verify again when it has ended")]
    Running,
    /// Somebody asked to stop.
    #[error("[MR-V007] verify was interrupted")]
    Interrupted,
}

/// MySQL's error for a table that was made after the snapshot that looks for it.
pub(super) const DEFINITION_CHANGED: u16 = 1412;
/// Postgres' code for it.
const DEADLOCK: &str = "40P01";
/// MySQL's error for a table that is not there.
pub(super) const NO_SUCH_TABLE: u16 = 1146;

impl Error {
    /// Nothing is wrong but the moment: the next attempt may give an answer, without anybody doing anything about us.
    pub(super) fn is_of_the_moment(&self) -> bool {
        matches!(
            self,
            Error::Projector(_)
                | Error::Capture(_)
                | Error::SlotBlocked { .. }
                | Error::Rewritten(_)
                | Error::Running
                | Error::Interrupted
        )
    }

    pub(super) fn is_of_a_replaced_table(&self) -> bool {
        match self {
            Error::MySql { source, .. } => mysql::server_code(source) == Some(DEFINITION_CHANGED),
            _ => false,
        }
    }

    pub(super) fn is_of_a_deadlock(&self) -> bool {
        match self {
            Error::Postgres { source, .. } => {
                let code = source.as_database_error().and_then(|error| error.code());
                code.as_deref() == Some(DEADLOCK)
            }
            _ => false,
        }
    }

    pub(super) fn is_of_a_missing_table(&self) -> bool {
        match self {
            Error::MySql { source, .. } => mysql::server_code(source) == Some(NO_SUCH_TABLE),
            _ => false,
        }
    }
}
