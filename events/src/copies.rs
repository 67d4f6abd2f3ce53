//! Which tables are captured, and which copy of each counts, as the log says it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{CopyBegun, CopyId, Lsn, Record, TableCopied, TableId, TableSchema, Verdict};

/// A table that is captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedTable {
    /// Its definition when the copy began. Later ones travel in transactions.
    pub definition: TableSchema,
    /// For a progress bar.
    pub estimated_rows: u64,
    /// See [`crate::CopyTable::published_lately`].
    #[serde(default = "crate::copy::yes")]
    pub published_lately: bool,
    /// `pg_class.oid` of the table whose rows are copied, if the log says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oid: Option<u32>,
    /// The copy that counts.
    pub copy: CopyId,
    /// Topic with its rows.
    pub topic: String,
    /// Offset in the log of the record that began it. Catch up from there.
    pub copy_offset: i64,
    /// Where the log stands at that record.
    pub copy_lsn: Lsn,
    /// Set when all of its chunks are acknowledged.
    pub copied: Option<Copied>,
}

/// A complete copy of a table: see [`TableCopied`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// Its chunks have the numbers 1 to this one.
    pub chunks: u32,
    /// Rows in them, for display.
    pub rows: u64,
    /// The table may join when the log has passed it.
    pub lsn: Lsn,
}

/// The captured tables as of a place in the log. Pure; feed it records in offset order with what [`crate::Chain`] says
/// of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    tables: BTreeMap<TableId, CapturedTable>,
    removed: BTreeSet<TableId>,
    former: BTreeSet<TableId>,
}

impl Copies {
    /// What the log says at its beginning: no table.
    pub fn new() -> Copies {
        Copies::default()
    }

    /// What a checkpoint says.
    pub(crate) fn of(tables: &[CapturedTable], removed: &[TableId], former: &[TableId]) -> Copies {
        let named = |table: &CapturedTable| (table.definition.table.clone(), table.clone());
        Copies {
            tables: tables.iter().map(named).collect(),
            removed: removed.iter().cloned().collect(),
            former: former.iter().cloned().collect(),
        }
    }

    /// Takes a record that stands at `offset`, if `verdict` lets it count. True if it changed anything.
    pub fn offer(&mut self, offset: i64, record: &Record, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Announced => {}
            Verdict::BegunAgain => return self.begin_again(),
            _ => return false,
        }
        match record {
            Record::Copy(begun) => self.begin(offset, begun),
            Record::Copied(copied) => self.complete(copied),
            Record::Removed(removed) => self.remove(&removed.table),
            _ => false,
        }
    }

    /// A table, if it is captured.
    pub fn table(&self, table: &TableId) -> Option<&CapturedTable> {
        self.tables.get(table)
    }

    /// Whether the table was captured once, and is no longer.
    pub fn is_removed(&self, table: &TableId) -> bool {
        self.removed.contains(table)
    }

    /// All tables that were captured once, and are no longer.
    pub fn removed(&self) -> impl Iterator<Item = &TableId> {
        self.removed.iter()
    }

    /// The tables that were captured before the log was begun again, and of which it has said nothing since.
    pub fn former(&self) -> impl Iterator<Item = &TableId> {
        self.former.iter()
    }

    /// All captured tables by name.
    pub fn iter(&self) -> impl Iterator<Item = (&TableId, &CapturedTable)> {
        self.tables.iter()
    }

    fn begin(&mut self, offset: i64, begun: &CopyBegun) -> bool {
        for table in &begun.tables {
            let captured = CapturedTable {
                definition: table.definition.clone(),
                estimated_rows: table.estimated_rows,
                published_lately: table.published_lately,
                oid: table.source.as_ref().map(|source| source.oid),
                copy: begun.copy,
                topic: begun.topic.clone(),
                copy_offset: offset,
                copy_lsn: begun.lsn,
                copied: None,
            };
            let name = table.definition.table.clone();
            self.removed.remove(&name);
            self.former.remove(&name);
            self.tables.insert(name, captured);
        }
        !begun.tables.is_empty()
    }

    fn begin_again(&mut self) -> bool {
        let tables = std::mem::take(&mut self.tables);
        self.former.extend(tables.into_keys());
        true
    }

    fn remove(&mut self, table: &TableId) -> bool {
        let was_captured = self.former.remove(table) | self.tables.remove(table).is_some();
        if was_captured {
            self.removed.insert(table.clone());
        }
        was_captured
    }

    /// The end of a copy that a newer one has made void means nothing.
    fn complete(&mut self, copied: &TableCopied) -> bool {
        let Some(table) = self.tables.get_mut(&copied.table) else {
            return false;
        };
        if table.copy != copied.copy || table.copied.is_some() {
            return false;
        }
        table.copied = Some(Copied {
            chunks: copied.chunks,
            rows: copied.rows,
            lsn: copied.lsn,
        });
        true
    }
}

#[cfg(test)]
#[path = "copies_tests.rs"]
mod tests;
