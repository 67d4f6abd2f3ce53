//! The records of the change log and of a snapshot topic.

use chrono::{DateTime, Utc};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::{
    Baseline, Checkpoint, Chunk, ChunkPlanned, CopyBegun, CopyId, Epoch, Lsn, Row, SchemaId, Slice,
    Source, TableCopied, TableId, TableRemoved, TableSchema, Visibility, Xid,
};

/// Everything that millrace writes into `<name>-changes` and `<name>-snapshot-N`.
///
/// JSON, one object; `kind` names the variant in `snake_case` and stands first.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// A start of capture: from this offset on, only this epoch and later ones count.
    Start(Start),
    /// The log begins at an LSN.
    Baseline(Baseline),
    /// A reader may begin here.
    Checkpoint(Box<Checkpoint>),
    /// A copy of tables begins.
    Copy(CopyBegun),
    /// A table is copied.
    Copied(TableCopied),
    /// A table is captured no longer.
    Removed(TableRemoved),
    /// A committed source transaction, or a part of one.
    Transaction(TransactionPart),
    /// The source was idle up to an LSN.
    Progress(Progress),
    /// What the rows are taken from.
    Source(Source),
    /// In a snapshot topic: which rows belong to a chunk.
    Plan(ChunkPlanned),
    /// In a snapshot topic: rows.
    Chunk(Chunk),
}

/// Capture started. Acknowledged before anything else of its epoch is written: it fences off bytes
/// of a killed predecessor that arrive late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Higher than every epoch before it in the log.
    pub epoch: Epoch,
    /// Random name of this start. Captures that start at the same moment may write the same epoch: it belongs to the first
    /// of them in the log, and the others, which read that far before they write anything else, take a higher one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// When capture started.
    pub at: DateTime<Utc>,
}

/// One committed source transaction, or a part of a large one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionPart {
    /// Number of the start of capture that wrote it.
    pub epoch: Epoch,
    /// Start of the commit record; orders transactions.
    pub commit_lsn: Lsn,
    /// End of the commit record, known with the last part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_lsn: Option<Lsn>,
    /// `end_lsn` of the predecessor.
    pub prev: Lsn,
    /// Transaction number in Postgres.
    pub xid: Xid,
    /// Commit time, UTC, in microseconds.
    pub at: DateTime<Utc>,
    /// 0, 1, 2, … without gap.
    pub part: u32,
    /// True for the final part, which makes the transaction whole.
    pub last: bool,
    /// Definitions of tables that appear from here on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<TableSchema>,
    /// Slices of values; all of them stand before `changes`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<Slice>,
    /// Row changes in the order of the transaction.
    pub changes: Vec<Change>,
}

/// Nothing was committed in the published tables between `prev` and `end_lsn`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Number of the start of capture that wrote it.
    pub epoch: Epoch,
    /// `end_lsn` of the predecessor.
    pub prev: Lsn,
    /// The log is complete up to here.
    pub end_lsn: Lsn,
    /// The slot was lost before any table was copied, and another one made: what was committed in between is not in the log.
    /// Copies that were begun before are void.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gap: bool,
    /// When it was written.
    pub at: DateTime<Utc>,
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// `after` holds the whole row.
    Insert,
    /// `after` holds the row, without unchanged TOAST values; `before` the old key if it changed,
    /// and whatever else the replica identity gives.
    Update,
    /// `before` holds at least the key.
    Delete,
    /// All rows of the table are gone; neither `before` nor `after`.
    Truncate,
}

/// One row change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The table.
    pub table: TableId,
    /// What happened.
    pub op: Op,
    /// Definition of the table.
    pub schema: SchemaId,
    /// See [`Op`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Row>,
    /// See [`Op`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Row>,
}

/// The bytes are no record of millrace. It never shows values of the record.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or a field is missing or of the wrong type.
    #[error("not a record of the change log: {category} error at column {column}")]
    Json {
        /// `syntax`, `data` or `eof`.
        category: &'static str,
        /// Byte column in the record, from 1.
        column: usize,
    },
    /// `kind` names nothing that this version knows.
    #[error("record of unknown kind {0:?}; it may come from a newer millrace")]
    Kind(String),
    /// The fields contradict each other.
    #[error("record contradicts itself: {0}")]
    Contradiction(&'static str),
}

impl From<serde_json::Error> for DecodeError {
    fn from(error: serde_json::Error) -> Self {
        use serde_json::error::Category;
        let category = match error.classify() {
            Category::Io => "io",
            Category::Syntax => "syntax",
            Category::Data => "data",
            Category::Eof => "eof",
        };
        DecodeError::Json {
            category,
            column: error.column(),
        }
    }
}

impl TransactionPart {
    fn check(&self) -> Result<(), DecodeError> {
        match (self.last, self.end_lsn) {
            (true, None) => Err(DecodeError::Contradiction("a last part without end_lsn")),
            (false, Some(_)) => Err(DecodeError::Contradiction(
                "an end_lsn before the last part",
            )),
            (_, Some(end)) if end <= self.commit_lsn => Err(DecodeError::Contradiction(
                "end_lsn is not behind commit_lsn",
            )),
            _ if self.prev > self.commit_lsn => {
                Err(DecodeError::Contradiction("prev is behind commit_lsn"))
            }
            _ => Ok(()),
        }
    }
}

impl Record {
    /// Reads one record value. Unknown fields are allowed, unknown kinds are not.
    pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
        #[derive(Deserialize)]
        struct Kind<'a> {
            #[serde(borrow)]
            kind: std::borrow::Cow<'a, str>,
        }
        // Two passes: serde's own tagged enums copy the whole record into a tree first, which is
        // several times slower than skipping over it once.
        let Kind { kind } = serde_json::from_slice(bytes)?;
        Ok(match kind.as_ref() {
            "transaction" => {
                let part: TransactionPart = serde_json::from_slice(bytes)?;
                part.check()?;
                Record::Transaction(part)
            }
            "progress" => Record::Progress(serde_json::from_slice(bytes)?),
            "source" => Record::Source(serde_json::from_slice(bytes)?),
            "start" => Record::Start(serde_json::from_slice(bytes)?),
            "baseline" => Record::Baseline(serde_json::from_slice(bytes)?),
            "checkpoint" => Record::Checkpoint(serde_json::from_slice(bytes)?),
            "copy" => Record::Copy(serde_json::from_slice(bytes)?),
            "copied" => Record::Copied(serde_json::from_slice(bytes)?),
            "removed" => Record::Removed(serde_json::from_slice(bytes)?),
            "plan" => Record::Plan(serde_json::from_slice(bytes)?),
            "chunk" => Record::Chunk(serde_json::from_slice(bytes)?),
            other => return Err(DecodeError::Kind(other.to_owned())),
        })
    }

    /// The same, but of the rows of a chunk only as many empty ones as there are: for whoever has to know which chunks
    /// there are.
    pub fn decode_counting_rows(bytes: &[u8]) -> Result<Record, DecodeError> {
        if !bytes.starts_with(br#"{"kind":"chunk","#) {
            return Record::decode(bytes);
        }
        let counted: CountedChunk = serde_json::from_slice(bytes)?;
        Ok(Record::Chunk(counted.into()))
    }

    /// The start of capture that wrote it.
    pub fn epoch(&self) -> Epoch {
        match self {
            Record::Start(record) => record.epoch,
            Record::Baseline(record) => record.epoch,
            Record::Checkpoint(record) => record.epoch,
            Record::Copy(record) => record.epoch,
            Record::Copied(record) => record.epoch,
            Record::Removed(record) => record.epoch,
            Record::Transaction(record) => record.epoch,
            Record::Progress(record) => record.epoch,
            Record::Source(record) => record.epoch,
            Record::Plan(record) => record.epoch,
            Record::Chunk(record) => record.epoch,
        }
    }

    /// The JSON form, without line breaks.
    pub fn encode(&self) -> Vec<u8> {
        // Keys are strings and no `Serialize` above fails, so there is no error to report.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A [`Chunk`] whose rows are skipped over.
#[derive(Deserialize)]
struct CountedChunk {
    epoch: Epoch,
    copy: CopyId,
    table: TableId,
    chunk: u32,
    piece: u32,
    last: bool,
    #[serde(default)]
    again: bool,
    visible: Visibility,
    lsn: Lsn,
    schema: SchemaId,
    rows: Vec<IgnoredAny>,
}

impl From<CountedChunk> for Chunk {
    fn from(counted: CountedChunk) -> Chunk {
        Chunk {
            epoch: counted.epoch,
            copy: counted.copy,
            table: counted.table,
            chunk: counted.chunk,
            piece: counted.piece,
            last: counted.last,
            again: counted.again,
            visible: counted.visible,
            lsn: counted.lsn,
            schema: counted.schema,
            slices: Vec::new(),
            rows: vec![Row::default(); counted.rows.len()],
        }
    }
}
