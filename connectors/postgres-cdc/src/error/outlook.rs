//! What an error means for capture: its code, and whether trying again can help.

use millrace_control::in_words;
use millrace_events::TableId;
use millrace_sessions::postgres::errors::{self, Outlook};
use millrace_sessions::postgres::replication::ReplicationError;
use millrace_topic::TopicError;

use super::Error;
use crate::cell::BadCell;
use crate::pgoutput::DecodeError;

impl Error {
    /// Name of the error's page under `docs/errors`; `None` for what is simply tried again.
    pub fn code(&self) -> Option<&'static str> {
        Some(match self {
            Error::Config(_) => "capture-config",
            Error::PostgresVersion { .. } => "capture-postgres-version",
            Error::WalLevel { .. } => "capture-wal-level",
            Error::Encoding { .. } => "capture-encoding",
            Error::Privilege { .. } => "capture-privilege",
            Error::Unsuitable(_) => "capture-table-unsuitable",
            Error::NothingSelected { .. } => "capture-nothing-selected",
            Error::NoFreeSlot { .. } => "capture-no-free-slot",
            Error::PublicationDiffers { .. } => "capture-publication-differs",
            Error::PublicationGone { .. } => "capture-publication-gone",
            Error::HistoryDiffers { .. } => "capture-history-differs",
            Error::PublicationDenied { .. } => "capture-publication-denied",
            Error::SlotForeign { .. } => "capture-slot-foreign",
            Error::SlotWithoutLog { .. } => "capture-slot-without-log",
            Error::SlotMissing { .. } => "capture-slot-missing",
            Error::SlotLost { .. } => "capture-slot-lost",
            Error::LogLostRecords { .. } | Error::LogEvicted { .. } => "capture-log-lost-records",
            Error::LogAhead { .. } => "capture-log-ahead",
            Error::LogTrimmed { .. } => "capture-log-trimmed",
            Error::LogForeign { .. } => "capture-log-foreign",
            Error::OtherDatabase { .. } => "capture-other-database",
            Error::TopicShape { .. } => "capture-topic-shape",
            Error::RowTooLarge { .. } => "capture-row-too-large",
            Error::TableChanged { .. } => "capture-table-changed",
            Error::Value { .. } => "capture-value",
            Error::Protocol(_) => "capture-protocol",
            Error::Locked { .. } => "capture-locked",
            Error::SlotBlocked { .. } => "capture-slot-blocked",
            Error::CommitsNotVisible { .. } => "capture-commits-not-visible",
            Error::Standby => "capture-standby",
            Error::SlotUnreadable { .. } => "capture-slot-unreadable",
            Error::RowUnsendable { .. } => "capture-row-unsendable",
            Error::Postgres(error) if errors::outlook(error) == Outlook::Refused => {
                "capture-postgres-refused"
            }
            Error::Replication(ReplicationError::Auth(_)) => "capture-postgres-refused",
            Error::Replication(ReplicationError::Server { sqlstate, .. })
                if errors::of(sqlstate) == Outlook::Refused =>
            {
                "capture-postgres-refused"
            }
            Error::Replication(ReplicationError::TooLarge { .. }) => "capture-row-too-large",
            Error::LogShrank { .. }
            | Error::SlotBusy { .. }
            | Error::TableRedefined { .. }
            | Error::CopyOutrun { .. }
            | Error::Unacknowledged { .. }
            | Error::LogBeyond { .. }
            | Error::Superseded { .. }
            | Error::EpochTaken { .. }
            | Error::CopyTrimmed { .. }
            | Error::Timeout { .. }
            | Error::Postgres(_)
            | Error::Replication(_)
            | Error::Fluvio(_) => return None,
        })
    }

    /// True if trying again can help: what is in the way may pass, or a person may put it right without asking
    /// capture.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Locked { .. }
            | Error::SlotBlocked { .. }
            | Error::CommitsNotVisible { .. }
            | Error::NoFreeSlot { .. }
            | Error::Standby
            | Error::SlotUnreadable { .. }
            | Error::Postgres(_) => true,
            Error::Replication(error) => !matches!(error, ReplicationError::TooLarge { .. }),
            other => other.code().is_none() || other.voids_log(),
        }
    }

    /// True if the log cannot go on, but for what may pass by itself: a server that is not the right one yet, a slot that
    /// comes back. A person who knows better has it begun again.
    pub fn voids_log(&self) -> bool {
        matches!(
            self,
            Error::PublicationGone { .. }
                | Error::HistoryDiffers { .. }
                | Error::SlotWithoutLog { .. }
                | Error::SlotMissing { .. }
                | Error::SlotLost { .. }
                | Error::LogLostRecords { .. }
                | Error::LogEvicted { .. }
                | Error::LogAhead { .. }
                | Error::LogTrimmed { .. }
                | Error::OtherDatabase { .. }
                | Error::SlotUnreadable { .. }
                | Error::RowUnsendable { .. }
        )
    }

    pub(crate) fn cell(table: &TableId, column: &str, error: BadCell) -> Self {
        Error::Value {
            table: table.clone(),
            column: column.into(),
            reason: error.to_string(),
        }
    }
}

impl From<TopicError> for Error {
    fn from(error: TopicError) -> Self {
        match error {
            TopicError::Evicted {
                topic,
                wanted,
                next: first,
            } => Error::LogEvicted {
                topic,
                wanted,
                first,
            },
            TopicError::Beyond { topic, wanted } => Error::LogBeyond { topic, wanted },
            TopicError::Shrank {
                topic,
                offset,
                last,
            } => Error::LogShrank {
                topic,
                offset,
                last,
            },
            TopicError::Unacknowledged { topic, limit } => Error::Unacknowledged {
                topic,
                seconds: limit.as_secs(),
            },
            other => Error::Fluvio(in_words(&other)),
        }
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Error::Protocol(error.to_string())
    }
}
