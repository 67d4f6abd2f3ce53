//! What the rows of the log are taken from, as Postgres' catalog identifies it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Epoch, Lsn, TableId, TransactionPart, Xid};

/// The captured tables as the catalog had them before their rows were copied.
///
/// Not every change of a table or of its publication sends rows, or says in the stream that it does not. Capture
/// compares this with the catalog: while both agree, all changes of a table's rows since its copy stand in the log.
/// The newest one that its epoch admits counts and replaces those before it. Readers of rows pass over it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Number of the start of capture that wrote it.
    pub epoch: Epoch,
    /// `system_identifier` of the cluster.
    pub system: String,
    /// Timeline of the cluster: another one after a promotion or a point-in-time recovery.
    pub timeline: u32,
    /// `pg_database.oid`.
    pub database: u32,
    /// The tables whose rows the log has.
    pub tables: Vec<SourceTable>,
    /// The last transaction before this record, if it wanted rows of the same tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Witness>,
    /// When it was written.
    pub at: DateTime<Utc>,
}

impl Source {
    /// The rows of the table are taken from this now.
    pub fn renew(&mut self, table: SourceTable) {
        self.remove(&table.table);
        self.tables.push(table);
        self.tables
            .sort_by(|one, other| one.table.cmp(&other.table));
    }

    /// No rows of the table are taken any more.
    pub fn remove(&mut self, table: &TableId) {
        self.tables.retain(|known| known.table != *table);
    }
}

/// A table of [`Source`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTable {
    /// Its name in the log.
    pub table: TableId,
    /// `pg_class.oid`: another one if a table of that name is not the same table.
    pub oid: u32,
    /// `pg_class.relfilenode`: another one after a rewrite of all its rows.
    pub file: u32,
    /// Digest of its rows in `pg_attribute`: another one after any change of a column.
    pub columns: i64,
    /// Row of the publication.
    pub publication: CatalogRow,
    /// Row of the table in the publication.
    pub entry: CatalogRow,
    /// Rows of the table were left out of the log, for this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
}

/// A version of a row of a system catalog: every change of the row makes another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogRow {
    /// `oid` of the row: another one if it was deleted and made again.
    pub oid: u32,
    /// `xmin` of the row: another one if it was updated.
    pub xmin: u32,
}

/// A whole transaction of the log, by what no other history of the database can have too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// Start of its commit record.
    pub commit_lsn: Lsn,
    /// End of its commit record.
    pub end_lsn: Lsn,
    /// Transaction number in Postgres.
    pub xid: Xid,
    /// Commit time, UTC, in microseconds.
    pub at: DateTime<Utc>,
}

impl Witness {
    /// The transaction that `part` makes whole.
    pub fn of(part: &TransactionPart) -> Option<Witness> {
        Some(Witness {
            commit_lsn: part.commit_lsn,
            end_lsn: part.end_lsn?,
            xid: part.xid,
            at: part.at,
        })
    }
}
