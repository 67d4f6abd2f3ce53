//! The records of copies: what stands in the log about them, and what a snapshot topic holds.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Epoch, Lsn, Row, SchemaId, Slice, SourceTable, TableId, TableSchema, Visibility};

/// Number of a copy of tables; that of its topic too. A later copy of a table has a higher one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct CopyId(pub u64);

impl CopyId {
    /// What the names of sliced values in its topic begin with, and no others.
    pub fn value_prefix(self) -> String {
        format!("copy{}-", self.0)
    }
}

/// The log begins: the transactions behind it are all those with `commit_lsn >= lsn`, and every copy contains all
/// others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Epoch of the capture that began the log.
    pub epoch: Epoch,
    /// Random name of this log; a projection refuses a log with another one.
    pub incarnation: String,
    /// The slot's consistent point.
    pub lsn: Lsn,
    /// `system_identifier` of the Postgres cluster (`IDENTIFY_SYSTEM`).
    pub system: String,
    /// Database name in that cluster.
    pub database: String,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// Set if the log was begun again in its topic: nothing that stands before this says anything of what follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<BegunAgain>,
}

/// What a log that was begun again takes the place of. Its positions may be lower, and between the two anything may have
/// been committed: no table of the earlier log goes on without a new copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BegunAgain {
    /// Where the earlier log ended; `None` if nobody could tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Lsn>,
    /// Incarnations of the logs that this topic held before; empty if they are not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incarnations: Vec<String>,
}

impl BegunAgain {
    /// So many incarnations are kept by name. A projection that still stands in an older one is rare enough to be let in
    /// without being asked for its name.
    const NAMED_MAX: usize = 16;

    /// What takes the place of a log that began with `baseline`, if that is known, and ended at `prev`.
    pub fn after(baseline: Option<&Baseline>, prev: Option<Lsn>) -> BegunAgain {
        let incarnations = match baseline.map(|known| (&known.incarnation, &known.again)) {
            Some((own, None)) => vec![own.clone()],
            Some((own, Some(again))) if again.is_named() => {
                let earlier = again.incarnations.iter();
                earlier.chain([own]).cloned().collect()
            }
            _ => Vec::new(),
        };
        BegunAgain { prev, incarnations }
    }

    fn is_named(&self) -> bool {
        (1..Self::NAMED_MAX).contains(&self.incarnations.len())
    }
}

impl Baseline {
    /// Whether this log takes the place of the one of that name.
    pub fn replaces(&self, incarnation: &str) -> bool {
        self.again.as_ref().is_some_and(|again| {
            let earlier = &again.incarnations;
            earlier.is_empty() || earlier.iter().any(|known| known == incarnation)
        })
    }

    /// Whether a reader that stands at `position` begins again here. A second copy of the record comes when the log has
    /// moved on, and changes nothing.
    pub(crate) fn begins_again_at(&self, position: Lsn) -> bool {
        self.again.as_ref().is_some_and(|again| match again.prev {
            Some(prev) => prev == position,
            None => self.lsn != position,
        })
    }
}

/// A copy of tables begins. Everything that stands in the log before this record is visible to every chunk of the
/// copy, so that a reader who has loaded the chunks goes on from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyBegun {
    /// Epoch of the capture that began it. A later one may complete it.
    pub epoch: Epoch,
    /// Number of the copy.
    pub copy: CopyId,
    /// Where the log stands at this record: `prev` of the transaction behind it.
    pub lsn: Lsn,
    /// Topic with its rows.
    pub topic: String,
    /// Its tables. Older copies of these are void.
    pub tables: Vec<CopyTable>,
    /// When it began.
    pub at: DateTime<Utc>,
}

/// A table of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyTable {
    /// The definition under which all chunks are read.
    pub definition: TableSchema,
    /// For a progress bar: `pg_class.reltuples`, a count, or a guess by the size.
    pub estimated_rows: u64,
    /// It may have come to the publication while transactions were open that had written to it: what they wrote before
    /// is not in the log, so its rows are read when they have ended. Only capture asks; who did not say meant yes.
    #[serde(default = "yes")]
    pub published_lately: bool,
    /// What its rows are taken from, in place of what the log said of the table before: here, so that nothing counts
    /// without the copy. Only capture asks; an older one wrote a [`crate::Source`] instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceTable>,
}

pub(crate) fn yes() -> bool {
    true
}

/// All chunks of a table are acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableCopied {
    /// Epoch of the capture that completed it.
    pub epoch: Epoch,
    /// Number of the copy.
    pub copy: CopyId,
    /// The table.
    pub table: TableId,
    /// Its chunks have the numbers 1 to this one.
    pub chunks: u32,
    /// Rows in them, for display.
    pub rows: u64,
    /// Everything that is visible in a chunk was committed before this. When the log has passed it, the table is that
    /// of the log's position.
    pub lsn: Lsn,
    /// When it was completed.
    pub at: DateTime<Utc>,
}

/// A table is captured no longer. Changes of it that still follow do not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRemoved {
    /// Epoch of the capture that was told so.
    pub epoch: Epoch,
    /// The table.
    pub table: TableId,
    /// When.
    pub at: DateTime<Utc>,
}

/// Which rows belong to a chunk, announced in the snapshot topic before they are read, so that a capture that was
/// killed goes on where it was. Only capture reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkPlanned {
    /// Epoch of the capture that planned it.
    pub epoch: Epoch,
    /// Number of the copy.
    pub copy: CopyId,
    /// The table.
    pub table: TableId,
    /// Number of the chunk: 1, 2, 3, … without gap.
    pub chunk: u32,
    /// The text of the last key; the first follows the last of the chunk before. `None`: up to the end of the table.
    pub up_to: Option<Vec<String>>,
}

/// Rows of one key range of a table, or a piece of them, as one MVCC snapshot shows them.
///
/// Pieces of several chunks may stand between each other, and a chunk may come again: see [`crate::CopyReader`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Epoch of the capture that read it.
    pub epoch: Epoch,
    /// Number of the copy.
    pub copy: CopyId,
    /// The table.
    pub table: TableId,
    /// Number of the chunk in the table, from 1.
    pub chunk: u32,
    /// 0, 1, 2, … without gap.
    pub piece: u32,
    /// True for the final piece, which makes the chunk whole.
    pub last: bool,
    /// These rows were read before, and are read again: while the copy ran, their keys were changed by updates that did
    /// not send all of the row. They replace rows of the same keys, and of changes to these keys only those
    /// count that `visible` does not see.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// What the rows contain.
    pub visible: Visibility,
    /// Everything that is visible was committed before this (`pg_current_wal_insert_lsn()` behind the snapshot).
    pub lsn: Lsn,
    /// Its definition in [`CopyBegun::tables`].
    pub schema: SchemaId,
    /// Slices of values; all of them stand before `rows`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<Slice>,
    /// Whole rows.
    pub rows: Vec<Row>,
}
