//! The records of a snapshot topic and the rules by which they are read.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Lsn, Row, SchemaId, TableId, TableSchema};

/// Opens a snapshot topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotBegin {
    /// Name of the log that this snapshot belongs to; equals that of its mark.
    pub incarnation: String,
    /// The snapshot contains exactly the commits with `commit_lsn < lsn`.
    pub lsn: Lsn,
    /// When it was taken.
    pub at: DateTime<Utc>,
    /// Every table of the snapshot, empty ones included.
    pub schemas: Vec<TableSchema>,
    /// Row estimates for a progress bar, by position in `schemas`; `pg_class.reltuples`, a count, or a guess by the size.
    #[serde(default)]
    pub estimated_rows: Vec<u64>,
}

/// Rows of one table, about 512 KiB of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRows {
    /// 1, 2, 3, … over the whole topic. A number that was already read is a re-send.
    pub chunk: u64,
    /// The LSN at which these rows are true.
    pub lsn: Lsn,
    /// The table.
    pub table: TableId,
    /// Definition in [`SnapshotBegin::schemas`].
    pub schema: SchemaId,
    /// Whole rows.
    pub rows: Vec<Row>,
}

/// Seals a snapshot topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotEnd {
    /// Number of the last chunk; 0 if all tables were empty.
    pub chunks: u64,
    /// Rows over all tables.
    pub rows: u64,
}

/// What a reader does with a chunk or a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotVerdict {
    /// Load it.
    Accept,
    /// It was read before; drop it.
    Duplicate,
    /// Chunks are missing before it: the snapshot cannot be loaded.
    Hole {
        /// Number that should have come.
        expected: u64,
        /// Number that came.
        found: u64,
    },
    /// The seal counts other rows than were read.
    WrongCount {
        /// Rows that the seal counts.
        sealed: u64,
        /// Rows that were read.
        read: u64,
    },
}

/// Checks that chunks arrive whole and in order. Keep `chunk` and `rows` with the loaded data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotReader {
    /// Number of the last accepted chunk.
    pub chunk: u64,
    /// Rows accepted so far.
    pub rows: u64,
}

impl SnapshotReader {
    /// Judges a chunk, and counts it if it is accepted.
    pub fn offer(&mut self, rows: &SnapshotRows) -> SnapshotVerdict {
        if rows.chunk <= self.chunk {
            return SnapshotVerdict::Duplicate;
        }
        if rows.chunk > self.chunk + 1 {
            return SnapshotVerdict::Hole {
                expected: self.chunk + 1,
                found: rows.chunk,
            };
        }
        self.chunk = rows.chunk;
        self.rows += rows.rows.len() as u64;
        SnapshotVerdict::Accept
    }

    /// Judges the seal.
    pub fn seal(&self, end: &SnapshotEnd) -> SnapshotVerdict {
        if end.chunks != self.chunk {
            return SnapshotVerdict::Hole {
                expected: self.chunk + 1,
                found: end.chunks + 1,
            };
        }
        if end.rows != self.rows {
            return SnapshotVerdict::WrongCount {
                sealed: end.rows,
                read: self.rows,
            };
        }
        SnapshotVerdict::Accept
    }
}
