//! What the records of the log add up to, for capture. Pure.

use millrace_events::{
    Baseline, Chain, Checkpoint, Copies, PartVerdict, Record, Source, TransactionPart, Verdict,
    Visibility, Witness, Xid,
};

use crate::copy::Notes;

/// The state of the log at its end, if it was fed all records in offset order.
#[derive(Debug, Default)]
pub(crate) struct LogState {
    pub(crate) chain: Chain,
    /// Where the log begins.
    pub(crate) baseline: Option<Baseline>,
    /// What it is taken from.
    pub(crate) source: Option<Source>,
    /// Its last transaction, if it wanted rows of the tables of now.
    pub(crate) last: Option<Witness>,
    /// What it says of tables.
    pub(crate) copies: Copies,
    /// What copies that are not complete have to know.
    pub(crate) notes: Notes,
    /// What was visible before the log was read.
    seen: Option<Visibility>,
}

impl LogState {
    /// Everything that `now` sees needs no note. Call it before records are read.
    pub(crate) fn sees(&mut self, now: Visibility) {
        self.notes.unseen.prune(&now);
        self.seen = Some(now);
    }

    /// Takes everything that stands before the checkpoint, as it says it. It must stand before each copy that is not
    /// complete at the end: what those have to know is noted behind it.
    pub(crate) fn begin_at(&mut self, checkpoint: Checkpoint) {
        self.chain = Chain::begin_at(&checkpoint);
        self.copies = checkpoint.copies();
        self.baseline = Some(checkpoint.baseline);
        self.source = checkpoint.source;
        self.last = checkpoint.last;
        for xid in checkpoint.unseen {
            if self.is_unseen(xid) {
                self.notes.committed(xid);
            }
        }
    }

    fn is_unseen(&self, xid: Xid) -> bool {
        self.seen.as_ref().is_none_or(|seen| !seen.sees(xid))
    }

    /// Takes the record at `offset`.
    pub(crate) fn offer(&mut self, offset: i64, record: Record) -> Verdict {
        let verdict = self.chain.offer(&record);
        self.copies.offer(offset, &record, verdict);
        match (record, verdict) {
            (Record::Baseline(baseline), Verdict::Moved) => self.baseline = Some(baseline),
            (Record::Source(source), Verdict::Noted) => {
                self.last = source.last;
                self.source = Some(source);
            }
            (record, Verdict::Announced) => self.announced(&record),
            (Record::Transaction(part), Verdict::Part(PartVerdict::Accepted { complete, .. })) => {
                self.transaction(&part, complete);
            }
            _ => {}
        }
        verdict
    }

    fn announced(&mut self, record: &Record) {
        match record {
            Record::Copy(begun) => {
                for table in &begun.tables {
                    self.notes.moved.watch(&table.definition);
                }
            }
            Record::Copied(copied) => {
                let captured = self.copies.table(&copied.table);
                if captured.is_some_and(|table| table.copied.is_some()) {
                    self.notes.moved.forget(&copied.table);
                }
            }
            Record::Removed(removed) => self.notes.moved.forget(&removed.table),
            _ => {}
        }
    }

    /// Parts that are void later are noted too: a key is read again for nothing then.
    fn transaction(&mut self, part: &TransactionPart, complete: bool) {
        for change in &part.changes {
            self.notes.change(change);
        }
        let unseen = self.is_unseen(part.xid);
        if complete {
            self.last = Witness::of(part);
        }
        if complete && unseen {
            self.notes.committed(part.xid);
        }
        if self.notes.unseen.is_long() {
            self.notes.unseen.forget_old(part.xid);
        }
    }
}
