//! What is said of tables, at a place between two transactions.

use chrono::{DateTime, Utc};
use millrace_events::{CopyBegun, CopyTable, Lsn, Record, TableCopied, TableRemoved};

use super::Assembler;
use crate::copy::Announcement;

impl Assembler {
    /// Whether a transaction is open, within which nothing can be said.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Definitions stand in the log again before the next row that uses them: a reader may begin here.
    pub(crate) fn define_again(&mut self) {
        for table in self.tables.values_mut() {
            table.announced = false;
        }
    }

    /// Every commit that ended before this has been taken.
    pub(crate) fn taken(&self) -> Lsn {
        self.idle
    }

    /// The record, and what follows from it for the transactions behind it.
    pub(crate) fn announce(&mut self, what: Announcement, at: DateTime<Utc>) -> Record {
        let epoch = self.epoch;
        match what {
            Announcement::Copy {
                copy,
                topic,
                tables,
            } => Record::Copy(CopyBegun {
                epoch,
                copy,
                lsn: self.prev,
                topic,
                tables: tables
                    .into_iter()
                    .map(|table| self.numbered(table))
                    .collect(),
                at,
            }),
            Announcement::Copied(copied) => {
                self.notes.moved.forget(&copied.table);
                Record::Copied(TableCopied {
                    epoch,
                    at,
                    ..copied
                })
            }
            Announcement::Removed(table) => {
                self.notes.moved.forget(&table);
                Record::Removed(TableRemoved { epoch, table, at })
            }
        }
    }

    fn numbered(&mut self, mut table: CopyTable) -> CopyTable {
        table.definition.id = self.next_schema();
        self.last_schema = table.definition.id;
        self.notes.moved.watch(&table.definition);
        table
    }
}
