//! Damage: a log that does not hold what was acknowledged.

use std::path::PathBuf;

use crate::batch::Malformed;

/// Names the section of `docs/errors/broker.md`.
const CODE: &str = "broker-log-damaged";

/// The first place where a log is not what was written. The records before it can be read; from it on
/// nothing is read and nothing is appended. Nothing of the log was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{CODE}: the log is damaged at offset {offset} ({}, byte {position}: {why}); what lies before it can be \
     read, and nothing is appended until it is mended. Nothing was changed; see {CODE} in docs/errors/broker.md",
    path.display()
)]
pub(crate) struct Damage {
    /// The first offset that cannot be read.
    pub(crate) offset: i64,
    pub(super) path: PathBuf,
    pub(super) position: u64,
    pub(super) why: Why,
}

/// What is wrong there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Why {
    #[error(transparent)]
    Batch(#[from] Malformed),
    #[error("the segment ends here, and the next one begins at offset {next}")]
    Gap { next: i64 },
    #[error("the segment before it goes on until offset {end}")]
    Overlap { end: i64 },
    #[error("the log ends here, and records up to offset {acknowledged} were acknowledged")]
    Short { acknowledged: i64 },
    #[error("it could not be opened ({0}); a restart tries again")]
    Unopened(std::io::ErrorKind),
}
