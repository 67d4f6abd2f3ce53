//! Whether the log and the source still belong together, while the stream goes on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use chrono::Utc;
use millrace_events::{CopyTable, Lsn, Source, TableId, Witness};

use super::Stream;
use crate::assemble::Outgoing;
use crate::observe::{observe, Observed, Scope};
use crate::pgoutput::{Message, Relation};
use crate::provenance::Provenance;
use crate::relation;
use crate::witness::{HistoryDiffers, Overlap, Passage};
use crate::Error;

/// What the log is taken from, and what is known of the difference.
pub(crate) struct Comparison {
    provenance: Provenance,
    /// What of the stream the log has already.
    overlap: Overlap,
    /// Whether the stream has shown that it continues the log, for those who tell Postgres what is safe.
    proven: Arc<AtomicBool>,
    /// The last transaction that the log had when the stream began, if it still wanted rows of the same tables.
    last: Option<Witness>,
    timeline: u32,
    /// Postgres was asked for a transaction that can be a witness.
    asked_for_witness: bool,
    /// Relations whose rows are left out, as the stream described them.
    left_out: HashMap<u32, Relation>,
}

impl Comparison {
    pub(crate) fn new(
        provenance: Provenance,
        overlap: Overlap,
        last: Option<Witness>,
        timeline: u32,
    ) -> Self {
        Comparison {
            provenance,
            overlap,
            proven: Arc::default(),
            last,
            timeline,
            asked_for_witness: false,
            left_out: HashMap::new(),
        }
    }

    pub(super) fn source(&self) -> &Source {
        self.provenance.source()
    }

    pub(super) fn is_proven(&self) -> bool {
        self.overlap.is_proven()
    }

    pub(super) fn proven(&self) -> Arc<AtomicBool> {
        self.proven.clone()
    }

    /// True once it is. The history is the same then, whoever is the primary now.
    fn becomes_proven(&mut self) -> bool {
        if !self.is_proven() {
            return false;
        }
        self.provenance.promoted(self.timeline);
        !self.proven.swap(true, Ordering::Relaxed)
    }

    /// Whether the relation is not the table that was copied under its name.
    pub(super) fn contradicts(&self, relation: &Relation) -> bool {
        let table = relation::table(relation);
        self.provenance.contradicts(relation.oid, &table)
    }

    pub(super) fn leave_out(&mut self, relation: &Relation) {
        self.left_out.insert(relation.oid, relation.clone());
    }
}

impl Stream<'_> {
    /// Whether the log has the message already.
    pub(super) fn passage(&mut self, message: &Message) -> Result<Passage, Error> {
        let wanted = || self.assembler.wants(message);
        let passage = self.comparison.overlap.take(message, wanted);
        let passage = passage.map_err(|differs| self.differs(differs))?;
        self.may_follow();
        Ok(passage)
    }

    /// The source has sent everything that committed before `lsn`.
    pub(super) fn check_idle(&mut self, lsn: Lsn) -> Result<(), Error> {
        let checked = self.comparison.overlap.idle(lsn);
        checked.map_err(|differs| self.differs(differs))?;
        self.may_follow();
        Ok(())
    }

    /// Before the stream has shown that it continues the log, nobody is told that capture follows it.
    fn may_follow(&mut self) {
        if self.comparison.becomes_proven() {
            self.reporter.streaming(self.assembler.position());
        }
    }

    /// Compares the log with the catalog of now.
    pub(super) async fn compare(&mut self, seen: &Observed) -> Result<(), Error> {
        if !self.watch.is_current(seen) {
            return Ok(());
        }
        if seen.publication.is_none() {
            return Err(self.publication_gone());
        }
        let not_live = self.comparison.provenance.compare(seen);
        self.reporter.compared(not_live);
        self.note().await
    }

    /// Rows of a captured table that has another name now were left out.
    pub(super) async fn note_left_out(&mut self) -> Result<(), Error> {
        for (relation, table) in self.assembler.take_left_out() {
            let reason = format!("rows were left out while it was {table}");
            self.comparison.provenance.leave_out(relation, &reason);
        }
        self.note().await
    }

    /// The rows of these tables are about to be copied: fills in what they are taken from now. Those of them were not
    /// published lately that were published ever since a copy for which all older writers had ended.
    pub(super) async fn renew(&mut self, tables: &mut [CopyTable]) -> Result<(), Error> {
        let names: Vec<_> = tables
            .iter()
            .map(|table| table.definition.table.clone())
            .collect();
        let scope = Scope::named(&names);
        let seen = observe(&mut self.catalog, &self.config.publication, &scope).await?;
        let (provenance, copies) = (&mut self.comparison.provenance, &self.checkpoints.copies);
        for (table, name) in tables.iter_mut().zip(&names) {
            let copy = copies.table(name);
            let waited = copy.is_some_and(|copy| copy.copied.is_some() || !copy.published_lately);
            table.published_lately &= !(waited && provenance.is_published_as_before(name, &seen));
            table.source = provenance.renew(name, &seen);
        }
        Ok(())
    }

    pub(super) fn removed(&mut self, table: &TableId) {
        self.comparison.provenance.remove(table);
    }

    /// What was left out of the log for want of a table may be wanted now, so that no transaction proves anything that
    /// came before.
    pub(super) async fn tables_changed(&mut self) -> Result<(), Error> {
        self.comparison.last = None;
        self.comparison.asked_for_witness = false;
        self.assembler.forget_last();
        self.watch.look_at(self.comparison.provenance.tables());
        for relation in std::mem::take(&mut self.comparison.left_out).values() {
            self.relation(relation).await?;
        }
        Ok(())
    }

    /// Tells the log what it is taken from, if it has something else.
    pub(super) async fn note(&mut self) -> Result<(), Error> {
        let last = self.last();
        let epoch = self.assembler.epoch();
        let record = self.comparison.provenance.record(epoch, last, Utc::now());
        if let Some(record) = record {
            let record = Outgoing::aside(record.encode());
            self.appender.append(record).await?;
        }
        Ok(())
    }

    /// A log without a transaction cannot be told from that of a database that was restored. Where nobody commits one, one of
    /// ours is it: a message, which changes nothing.
    pub(super) async fn ask_for_witness(&mut self) {
        if self.comparison.asked_for_witness || self.last().is_some() {
            return;
        }
        self.comparison.asked_for_witness = true;
        let emit = sqlx::query("SELECT pg_logical_emit_message(true, $1, 'witness')");
        let emit = emit.bind(&self.config.message_prefix);
        if let Err(error) = emit.execute(&mut self.catalog).await {
            tracing::warn!(%error, "the log has no transaction by which its database could be known again");
        }
    }

    /// The last transaction of the log, if it wanted rows of the tables of now.
    pub(super) fn last(&self) -> Option<Witness> {
        self.assembler.last().or(self.comparison.last)
    }

    pub(super) fn publication_gone(&self) -> Error {
        Error::PublicationGone {
            publication: self.config.publication.clone(),
        }
    }

    fn differs(&self, HistoryDiffers(last): HistoryDiffers) -> Error {
        Error::HistoryDiffers {
            xid: last.xid.0,
            commit_lsn: last.commit_lsn,
            at: last.at,
        }
    }
}
