//! Why a projector stops, each with the code under which `docs/errors` explains it.

use std::borrow::Cow;

use millrace_control::in_words;
use millrace_events::{DecodeError, Lsn, TableId};
use millrace_sessions::mysql::{self, ConnectError};
use millrace_topic::Offset;

use super::fold::FoldError;
use crate::marts;
use crate::replica::refusal::{is_of_one_table, is_of_other_keys};
use crate::replica::write::WriteError;
use crate::replica::TableError;
use crate::script::{About, ScriptError};

/// What alone cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Culprit {
    /// A table of the source.
    Table(TableId),
    /// A mart.
    Mart(String),
}

/// A projector cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server is no supported MySQL or MariaDB, or the URL is none.
    #[error("[MR-P001] the projector cannot work on this MySQL server")]
    Server(#[source] ConnectError),
    /// Tables of our names exist that we did not create. Nothing was touched.
    #[error("[MR-P003] the MySQL database has tables that millrace did not create: {}; \
             drop or rename them, or give millrace a database of its own", .0.join(", "))]
    ForeignTables(Vec<String>),
    /// A source table has no form in MySQL.
    #[error("[MR-P004] a table has no form in MySQL")]
    Table(#[from] TableError),
    /// A value has no form in MySQL.
    #[error("[MR-P005] a value has no form in MySQL; mend it in the source, or choose with MILLRACE_VALUES what becomes of such values, and copy the table again with `millrace tables resnapshot {}`", table_of(.0))]
    Value(#[source] WriteError),
    /// The log was replaced by another one.
    #[error("[MR-P006] the replica was built from log {stored}, but topic {topic} is log {found}")]
    Incarnation {
        /// The log.
        topic: String,
        /// Incarnation in the position row.
        stored: String,
        /// Incarnation in the log.
        found: String,
    },
    /// The log is not the one that the position was taken in, or lost its end.
    #[error("[MR-P007] topic {topic} does not fit the replica: at offset {offset} the replica stands at {expected}, but the topic has {found}")]
    Position {
        /// The log.
        topic: String,
        /// Stored offset.
        offset: Offset,
        /// Stored `end_lsn`.
        expected: Lsn,
        /// What stands there.
        found: String,
    },
    /// Bytes in a topic are no record.
    #[error("[MR-P008] topic {topic}: the record at offset {offset} cannot be read")]
    Decode {
        /// The topic.
        topic: String,
        /// Where.
        offset: Offset,
        /// Why.
        source: DecodeError,
    },
    /// Records that are needed are no longer there, or never get whole.
    #[error(
        "[MR-P009] topic {topic}: the records from offset {offset} on cannot be read: {reason}"
    )]
    Evicted {
        /// The topic.
        topic: String,
        /// First missing offset.
        offset: Offset,
        /// What the log said.
        reason: String,
    },
    /// A source table was altered.
    #[error("[MR-P010] the definition of table {table} changed at {lsn}; copy it again with `millrace tables resnapshot {table}`")]
    SchemaChanged {
        /// The table.
        table: TableId,
        /// Commit with the new definition.
        lsn: Lsn,
    },
    /// The log has a table that was never copied.
    #[error("[MR-P011] the log has changes of table {table}, but no copy of it; copy it with `millrace tables resnapshot {table}`")]
    UnknownTable {
        /// The table.
        table: TableId,
    },
    /// A snapshot topic is not what the log promised.
    #[error("[MR-P012] snapshot topic {topic}: {reason}")]
    Snapshot {
        /// The topic.
        topic: String,
        /// What is wrong.
        reason: String,
    },
    /// Another projector has taken over this database.
    #[error("[MR-P013] another projector has taken over; this one leaves")]
    Superseded,
    /// The log and the replica contradict each other.
    #[error("[MR-P014] table {table}, at {lsn}: {reason}; copy it again with `millrace tables resnapshot {table}`")]
    Contradiction {
        /// The table.
        table: TableId,
        /// Commit.
        lsn: Lsn,
        /// What does not fit, without values.
        reason: String,
    },
    /// A row is longer than a packet.
    #[error("[MR-P015] a row is too long for a statement; raise max_allowed_packet on the server")]
    Packet(#[source] WriteError),
    /// The server refuses a statement, and would again.
    #[error("[MR-P016] MySQL refused {what}")]
    Sql {
        /// What was being done, the table included.
        what: Cow<'static, str>,
        /// The table, if it is about one.
        table: Option<TableId>,
        /// Its answer.
        source: sqlx::Error,
    },
    /// A mart cannot be kept.
    #[error("[MR-P017] a mart cannot be kept")]
    Mart(#[source] marts::Error),
    /// The topic of the log does not exist although a replica of it does.
    #[error("[MR-P018] topic {topic} does not exist, but the replica was built from it")]
    NoTopic {
        /// The topic.
        topic: String,
    },
    /// The bookkeeping tables are not in the form that this version writes.
    #[error("[MR-P019] the bookkeeping tables of millrace cannot be read: {0}")]
    Bookkeeping(String),
    /// The server's binary log takes no row changes.
    #[error("[MR-P023] the binary log of this MySQL server takes no row changes")]
    StatementBinlog(#[source] ConnectError),
    /// The server has not ended our last session yet.
    #[error("MySQL is still ending the last session of this projector (connection {0})")]
    StillHeld(u64),
    /// Something was put aside in the middle of a large transaction, which begins again without it.
    #[error("{0:?} was set aside; the transaction begins again without it")]
    PutAside(Culprit),
    /// The log was begun again, and the projector with it.
    #[error("[MR-P024] the log was begun again: what was committed in between is not in it, so the table stays as it was until its new copy takes its place")]
    BegunAgain,
    /// The records would come through another SmartModule than those that made the tables.
    #[error("[MR-P022] the replica was built through SmartModule \"{stored}\", but \"{configured}\" is configured; \
             a new snapshot is needed for that")]
    SmartModule {
        /// In the position row: name and parameters.
        stored: String,
        /// In the configuration.
        configured: String,
    },
}

/// The table that could not be written, as commands take it.
fn table_of(error: &WriteError) -> String {
    match error {
        WriteError::Value { table, .. } | WriteError::Packet { table, .. } => table.to_string(),
        WriteError::Script(_) => "TABLE".to_owned(),
    }
}

impl Error {
    /// The code, such as `MR-P005`.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Server(_) => "MR-P001",
            Error::ForeignTables(_) => "MR-P003",
            Error::Table(_) => "MR-P004",
            Error::Value(_) => "MR-P005",
            Error::Incarnation { .. } => "MR-P006",
            Error::Position { .. } => "MR-P007",
            Error::Decode { .. } => "MR-P008",
            Error::Evicted { .. } => "MR-P009",
            Error::SchemaChanged { .. } => "MR-P010",
            Error::UnknownTable { .. } => "MR-P011",
            Error::Snapshot { .. } => "MR-P012",
            Error::Superseded => "MR-P013",
            Error::Contradiction { .. } => "MR-P014",
            Error::Packet(_) => "MR-P015",
            Error::Sql { .. } => "MR-P016",
            Error::Mart(_) => "MR-P017",
            Error::NoTopic { .. } => "MR-P018",
            Error::Bookkeeping(_) => "MR-P019",
            Error::SmartModule { .. } => "MR-P022",
            Error::StatementBinlog(_) => "MR-P023",
            Error::BegunAgain => "MR-P024",
            // It passes; shown is that MySQL is waited for.
            Error::StillHeld(_) | Error::PutAside(_) => "MR-P002",
        }
    }

    /// The table or mart that cannot be kept, while everything else can. `None`: it is about more than one, or passes.
    pub(crate) fn culprit(&self) -> Option<Culprit> {
        let table = |table: &TableId| Some(Culprit::Table(table.clone()));
        match self {
            Error::Value(WriteError::Value { table: id, .. })
            | Error::Packet(WriteError::Packet { table: id, .. })
            | Error::SchemaChanged { table: id, .. }
            | Error::UnknownTable { table: id }
            | Error::Contradiction { table: id, .. } => table(id),
            Error::Table(error) => table(&error.table),
            Error::Sql {
                table: Some(id),
                source,
                ..
            } => is_of_one_table(source).then(|| table(id)).flatten(),
            Error::Mart(marts::Error::Mart { mart, source }) if !mysql::may_pass(source) => {
                Some(Culprit::Mart(mart.clone()))
            }
            _ => None,
        }
    }

    /// True if a new connection may do what this one could not.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Error::Server(error) => error.may_pass(),
            Error::StillHeld(_) | Error::PutAside(_) | Error::BegunAgain => true,
            _ => self.of_mysql().is_some_and(mysql::may_pass),
        }
    }

    /// True if MySQL did not answer a statement within the time limit.
    pub(crate) fn is_silence(&self) -> bool {
        self.of_mysql().is_some_and(mysql::is_silence)
    }

    /// What happened, for somebody who is to wait: without the code, under which nothing is to be done.
    pub(crate) fn reason(&self) -> String {
        match self {
            Error::Server(error) => in_words(error),
            Error::Sql { what, source, .. } => format!("{what}: {}", in_words(source)),
            Error::Mart(error) => in_words(error),
            error => in_words(error),
        }
    }

    /// True if the server has rolled back for a reason that a repetition may not meet.
    pub(crate) fn is_lock_conflict(&self) -> bool {
        self.of_mysql().is_some_and(mysql::is_lock_conflict)
    }

    /// What MySQL, or the connection to it, had to say.
    fn of_mysql(&self) -> Option<&sqlx::Error> {
        match self {
            Error::Sql { source, .. } => Some(source),
            Error::Mart(marts::Error::Mart { source, .. } | marts::Error::Sql(source)) => {
                Some(source)
            }
            _ => None,
        }
    }

    pub(crate) fn sql(what: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
        move |source| Error::Sql {
            what: what.into(),
            table: None,
            source,
        }
    }

    /// The same for a statement about one table.
    pub(crate) fn of_table(what: &str, table: &TableId) -> impl FnOnce(sqlx::Error) -> Error {
        let (what, table) = (format!("{what} table {table}").into(), Some(table.clone()));
        move |source| Error::Sql {
            what,
            table,
            source,
        }
    }

    /// The server refused rows of a table.
    fn of_rows(table: &TableId, source: sqlx::Error) -> Error {
        let mut what = format!("rows of table {table}");
        if is_of_other_keys(&source) {
            what.push_str(", because somebody has altered its MySQL table (a unique key, a collation or NOT NULL); ");
            what.push_str(&format!(
                "copy it again with `millrace tables resnapshot {table}`, which makes it anew"
            ));
        }
        Error::Sql {
            what: what.into(),
            table: Some(table.clone()),
            source,
        }
    }

    /// Rows could not be written. Statements before theirs may be at fault.
    pub(crate) fn written(error: WriteError) -> Error {
        match error {
            WriteError::Script(error) => error.into(),
            WriteError::Value { .. } => Error::Value(error),
            WriteError::Packet { .. } => Error::Packet(error),
        }
    }

    pub(crate) fn fold(lsn: Lsn) -> impl FnOnce(FoldError) -> Error {
        move |error| Error::Contradiction {
            table: error.table,
            lsn,
            reason: error.reason,
        }
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::StatementBinlog => Error::StatementBinlog(error),
            error => Error::Server(error),
        }
    }
}

impl From<ScriptError> for Error {
    fn from(error: ScriptError) -> Self {
        match error {
            ScriptError::NoRow => Error::Superseded,
            ScriptError::Refused { about, source } => match about {
                About::Table(table) => Error::of_rows(&table, source),
                About::Mart(mart) => Error::Mart(marts::Error::Mart { mart, source }),
                About::Work(what) => Error::sql(what)(source),
            },
        }
    }
}

impl From<marts::Error> for Error {
    fn from(error: marts::Error) -> Self {
        Error::Mart(error)
    }
}
