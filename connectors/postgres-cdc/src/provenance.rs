//! What the log is taken from: kept in it, compared with the catalog, and told to those who watch.

use chrono::{DateTime, Utc};
use millrace_events::{Epoch, Record, Source, SourceTable, TableId, Witness};

use crate::drift::{drift, Drift, NotLive};
use crate::observe::Observed;
use crate::preflight::Facts;

/// The captured tables as they were before their rows were copied.
#[derive(Clone, Debug)]
pub(crate) struct Provenance {
    publication: String,
    source: Source,
    /// The log has an older one.
    unwritten: bool,
}

impl Provenance {
    /// Of a log that has no rows yet.
    pub(crate) fn begin(publication: &str, facts: &Facts) -> Self {
        Provenance {
            publication: publication.to_owned(),
            source: Source {
                epoch: Epoch::default(),
                system: facts.system.clone(),
                timeline: facts.timeline,
                database: facts.database_oid,
                tables: Vec::new(),
                last: None,
                at: DateTime::UNIX_EPOCH,
            },
            unwritten: true,
        }
    }

    /// The rows of the table are about to be copied. What was said of it before does not count any more. The record of the
    /// copy tells the log; `None`: the table is not published, and is as it was.
    pub(crate) fn renew(&mut self, table: &TableId, seen: &Observed) -> Option<SourceTable> {
        let begun = begun(table, seen)?;
        self.source.renew(begun.clone());
        Some(begun)
    }

    /// Whether the publication has the table as it had it when its rows were copied.
    pub(crate) fn is_published_as_before(&self, table: &TableId, seen: &Observed) -> bool {
        let mut tables = self.source.tables.iter();
        let known = tables.find(|known| known.table == *table);
        let same = |known: &SourceTable, now: &SourceTable| {
            (known.oid, known.publication, known.entry) == (now.oid, now.publication, now.entry)
        };
        known
            .zip(begun(table, seen))
            .is_some_and(|(known, now)| same(known, &now))
    }

    /// The table is captured no longer, which another record tells the log.
    pub(crate) fn remove(&mut self, table: &TableId) {
        self.source.remove(table);
    }

    /// As the log has it.
    pub(crate) fn of_log(publication: &str, source: Source) -> Self {
        Provenance {
            publication: publication.to_owned(),
            source,
            unwritten: false,
        }
    }

    /// As the log has it, once [`Provenance::record`] has nothing to add.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) fn tables(&self) -> &[SourceTable] {
        &self.source.tables
    }

    /// Whether a relation of this OID and name is not what was copied: it has the one of a captured table, and not the other.
    pub(crate) fn contradicts(&self, oid: u32, table: &TableId) -> bool {
        let mut tables = self.source.tables.iter();
        tables.any(|known| (known.oid == oid) != (known.table == *table))
    }

    /// Whether the table with this OID was copied under another name.
    pub(crate) fn knows_by_another_name(&self, oid: u32, table: &TableId) -> bool {
        let mut tables = self.source.tables.iter();
        tables.any(|known| known.oid == oid && known.table != *table)
    }

    /// Compares all tables with the catalog.
    pub(crate) fn compare(&mut self, seen: &Observed) -> Vec<NotLive> {
        let mut not_live = Vec::new();
        for table in &mut self.source.tables {
            match drift(table, seen, &self.publication) {
                Drift::None => {}
                Drift::Innocent(moved) => {
                    *table = moved;
                    self.unwritten = true;
                }
                Drift::NotLive(found) => not_live.push(found),
            }
        }
        not_live
    }

    /// Rows of the relation with this OID were left out of the log.
    pub(crate) fn leave_out(&mut self, oid: u32, reason: &str) {
        let mut tables = self.source.tables.iter_mut();
        let Some(table) = tables.find(|table| table.oid == oid) else {
            return;
        };
        if table.left_out.is_none() {
            table.left_out = Some(reason.to_owned());
            self.unwritten = true;
        }
    }

    /// The cluster has another timeline, and the same history.
    pub(crate) fn promoted(&mut self, timeline: u32) {
        self.unwritten |= self.source.timeline != timeline;
        self.source.timeline = timeline;
    }

    /// What the log has to be told, once. `last` is its last transaction.
    pub(crate) fn record(
        &mut self,
        epoch: Epoch,
        last: Option<Witness>,
        at: DateTime<Utc>,
    ) -> Option<Record> {
        if !std::mem::take(&mut self.unwritten) {
            return None;
        }
        self.source.epoch = epoch;
        self.source.last = last;
        self.source.at = at;
        Some(Record::Source(self.source.clone()))
    }
}

fn begun(table: &TableId, seen: &Observed) -> Option<SourceTable> {
    let found = seen.named(table)?;
    Some(SourceTable {
        table: table.clone(),
        oid: found.oid,
        file: found.file,
        columns: found.columns,
        publication: seen.publication?.row,
        entry: found.entry?.row,
        left_out: None,
    })
}
