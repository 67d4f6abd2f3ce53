//! What the records of the log add up to, for capture. Pure.

use std::collections::BTreeSet;

use millrace_events::{
    Baseline, Chain, Checkpoint, Copies, CopyId, PartVerdict, Record, Source, TransactionPart,
    Verdict, Visibility, Witness, Xid,
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
    /// Copies that are not complete and can never be: what they have to know of the log has been removed.
    pub(crate) void: BTreeSet<CopyId>,
    /// Who wrote the `start` that the epoch of now began with; unknown if that was not read.
    owner: Option<String>,
    /// Whether a table was ever copied. Readers keep what they have of a table while it is copied again.
    has_rows: bool,
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
    /// complete at the end: what those have to know is noted behind it. Those that it does not are `void`.
    pub(crate) fn begin_at(&mut self, checkpoint: Checkpoint, void: BTreeSet<CopyId>) {
        self.chain = Chain::begin_at(&checkpoint);
        self.copies = checkpoint.copies();
        // Of a table whose copy is void it is not known what there was before.
        let mut tables = self.copies.iter();
        self.has_rows = !void.is_empty() || tables.any(|(_, table)| table.copied.is_some());
        self.void = void;
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
        let epoch = self.chain.epoch();
        let verdict = self.chain.offer(&record);
        if self.chain.epoch() > epoch {
            self.owner = owner_of(&record);
        }
        self.copies.offer(offset, &record, verdict);
        match (record, verdict) {
            (Record::Baseline(baseline), Verdict::Moved) => self.baseline = Some(baseline),
            (Record::Baseline(baseline), Verdict::BegunAgain) => self.begin_again(baseline),
            (Record::Progress(progress), Verdict::Moved) if progress.gap => self.void_copies(),
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

    /// Whether the epoch of now is this start's: its `start` was the first record of that epoch.
    pub(crate) fn is_owned_by(&self, owner: &str) -> bool {
        self.owner.as_deref() == Some(owner)
    }

    /// Whether any table of the log was ever copied, as far as is known. Until then it has nothing that could be lost.
    pub(crate) fn has_copied_tables(&self) -> bool {
        self.has_rows
    }

    /// All copies that are not complete are void: the log has a gap behind their beginning.
    fn void_copies(&mut self) {
        let open = self.copies.iter().map(|(_, table)| table);
        let open = open.filter(|table| table.copied.is_none());
        self.void = open.map(|table| table.copy).collect();
        self.last = None;
    }

    /// Nothing from before says anything of what follows; numbers of transactions may mean others.
    fn begin_again(&mut self, baseline: Baseline) {
        self.baseline = Some(baseline);
        self.source = None;
        self.last = None;
        self.notes = Notes::default();
        self.void.clear();
        self.has_rows = false;
    }

    fn announced(&mut self, record: &Record) {
        match record {
            Record::Copy(begun) => {
                for table in &begun.tables {
                    self.notes.moved.watch(&table.definition);
                }
                let taken = begun.tables.iter().filter_map(|table| table.source.clone());
                self.taken_from(|source| taken.for_each(|table| source.renew(table)));
            }
            Record::Copied(copied) => {
                let captured = self.copies.table(&copied.table);
                if captured.is_some_and(|table| table.copied.is_some()) {
                    self.has_rows = true;
                    self.notes.moved.forget(&copied.table);
                }
            }
            Record::Removed(removed) => {
                self.notes.moved.forget(&removed.table);
                self.taken_from(|source| source.remove(&removed.table));
            }
            _ => {}
        }
    }

    /// The log is taken from other tables than before, of which no transaction before tells anything.
    fn taken_from(&mut self, change: impl FnOnce(&mut Source)) {
        self.last = None;
        if let Some(source) = &mut self.source {
            source.last = None;
            change(source);
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

fn owner_of(record: &Record) -> Option<String> {
    match record {
        Record::Start(start) => start.owner.clone(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use millrace_events::{Epoch, Lsn, Start};

    use super::*;

    fn start(epoch: u64, owner: Option<&str>) -> Record {
        Record::Start(Start {
            epoch: Epoch(epoch),
            owner: owner.map(str::to_owned),
            at: chrono::DateTime::UNIX_EPOCH,
        })
    }

    fn read(records: &[Record]) -> LogState {
        let mut state = LogState::default();
        for (offset, record) in (0..).zip(records) {
            state.offer(offset, record.clone());
        }
        state
    }

    #[test]
    fn of_two_starts_with_one_number_the_first_has_it() {
        let both = read(&[
            start(4, Some("a")),
            start(5, Some("a")),
            start(5, Some("b")),
        ]);
        assert!(both.is_owned_by("a") && !both.is_owned_by("b"));
        // Sent twice, it is still the same.
        let twice = read(&[start(5, Some("a")), start(5, Some("a"))]);
        assert!(twice.is_owned_by("a"));
        // An older version does not say who it is: it is somebody else.
        assert!(!read(&[start(5, None), start(5, Some("b"))]).is_owned_by("b"));
        let higher = read(&[start(5, Some("b")), start(6, Some("c"))]);
        assert!(!higher.is_owned_by("b") && higher.is_owned_by("c"));
    }

    /// Whoever wrote something under the number before has it.
    #[test]
    fn a_number_under_which_something_stands_already_is_taken() {
        let progress = Record::Progress(millrace_events::Progress {
            epoch: Epoch(5),
            prev: Lsn(1),
            end_lsn: Lsn(2),
            gap: false,
            at: chrono::DateTime::UNIX_EPOCH,
        });
        assert!(!read(&[progress, start(5, Some("b"))]).is_owned_by("b"));
    }
}
