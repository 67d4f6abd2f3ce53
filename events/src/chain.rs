//! The rules of the log: which records count, in the order in which a reader meets them.
//!
//! 1. A transaction counts only if its `prev` equals the `end_lsn` of the last one that counted. At or
//!    below that it is a re-send; a larger `prev` is a hole.
//! 2. Parts join only within one (epoch, commit LSN), numbered without gap. A higher epoch discards
//!    what is pending; a lower epoch behind a higher one never counts.
//! 3. A `start` record fences: all readers agree on what counted before it, because they apply these
//!    rules to the same bytes in the same order.
//! 4. A baseline begins a log; a later one only if it says that it begins the log again, where this one ended. Positions
//!    may be lower from there on, and what is known of tables is void.
//!
//! Every reader, capture's own resume included, decides through [`Chain`] and nothing else.

use std::cmp::Ordering;

use crate::{Baseline, Checkpoint, Epoch, Lsn, Progress, Record, Source, Start, TransactionPart};

/// What a transaction part means to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartVerdict {
    /// Belongs to the log. `first`: a new transaction starts here; throw away parts kept from before.
    /// `complete`: with this part the transaction counts and the chain has moved.
    Accepted {
        /// Part 0.
        first: bool,
        /// Last part.
        complete: bool,
    },
    /// The transaction was accepted before.
    Duplicate,
    /// Written by a capture that a later start has fenced off.
    Stale,
    /// Something is missing before it; wait for its re-send.
    Hole {
        /// Where the chain stands.
        expected: Lsn,
        /// What the record builds upon.
        found: Lsn,
    },
    /// The transaction fits, but earlier parts of it are missing; wait for its re-send.
    MissingParts {
        /// Part that should have come.
        expected: u32,
        /// Part that came.
        found: u32,
    },
}

/// What any record of the log means to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A transaction part.
    Part(PartVerdict),
    /// The chain moved to [`Chain::position`] without a change of rows.
    Moved,
    /// The log begins again here, wherever the reader stood: nothing it knows of tables counts any more, and what was
    /// committed in between is not in the log.
    BegunAgain,
    /// A start or a baseline that changes nothing for this reader but, possibly, its epoch.
    /// Parts kept from before are void.
    Fenced,
    /// It counts, and says nothing of rows: nothing changes for a reader of them.
    Noted,
    /// What the record says of tables counts ([`crate::Copies`]); no rows changed.
    Announced,
    /// Re-send, or from a fenced capture.
    Ignored,
    /// Something is missing before a progress record.
    Hole {
        /// Where the chain stands.
        expected: Lsn,
        /// What the record builds upon.
        found: Lsn,
    },
    /// A record of a snapshot topic, which has no place in the log.
    Foreign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pending {
    commit_lsn: Lsn,
    next_part: u32,
}

/// The state of a reader: how far the log is complete. Pure; feed it records in offset order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    position: Option<Lsn>,
    epoch: Epoch,
    pending: Option<Pending>,
}

impl Chain {
    /// A reader before the beginning of a log, which its first baseline says.
    pub fn unanchored() -> Self {
        Chain::default()
    }

    /// A reader that has everything up to `position`, last written in `epoch`.
    pub fn resume(position: Lsn, epoch: Epoch) -> Self {
        Chain {
            position: Some(position),
            epoch,
            pending: None,
        }
    }

    /// A reader at a checkpoint that counts ([`crate::CheckpointSearch`]): what comes behind it is offered next.
    pub fn begin_at(checkpoint: &Checkpoint) -> Self {
        Chain::resume(checkpoint.lsn, checkpoint.epoch)
    }

    /// The `end_lsn` of the last transaction that counted; `None` before a baseline.
    pub fn position(&self) -> Option<Lsn> {
        self.position
    }

    /// The highest epoch seen.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// True while parts of an unfinished transaction have been accepted.
    pub fn has_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Judges a record and moves on if it counts.
    pub fn offer(&mut self, record: &Record) -> Verdict {
        match record {
            Record::Transaction(part) => Verdict::Part(self.offer_part(part)),
            Record::Progress(progress) => self.offer_progress(progress),
            Record::Start(start) => self.offer_start(start),
            Record::Baseline(baseline) => self.offer_baseline(baseline),
            Record::Copy(begun) => self.announce(begun.epoch),
            Record::Copied(copied) => self.announce(copied.epoch),
            Record::Removed(removed) => self.announce(removed.epoch),
            Record::Checkpoint(checkpoint) => self.offer_checkpoint(checkpoint),
            Record::Source(source) => self.offer_source(source),
            Record::Plan(_) | Record::Chunk(_) => Verdict::Foreign,
        }
    }

    /// Judges a transaction part.
    pub fn offer_part(&mut self, part: &TransactionPart) -> PartVerdict {
        if !self.admit(part.epoch) {
            return PartVerdict::Stale;
        }
        let expected = self.position.unwrap_or(Lsn::ZERO);
        if part.commit_lsn < expected {
            return PartVerdict::Duplicate;
        }
        if self.position.is_none() || part.prev != expected {
            let found = part.prev;
            return PartVerdict::Hole { expected, found };
        }
        match self.join(part) {
            Ok(()) => self.accept(part),
            Err(verdict) => verdict,
        }
    }

    fn join(&mut self, part: &TransactionPart) -> Result<(), PartVerdict> {
        let expected = match self.pending {
            Some(pending) if pending.commit_lsn == part.commit_lsn => pending.next_part,
            _ => 0,
        };
        let found = part.part;
        match found.cmp(&expected) {
            Ordering::Equal => Ok(()),
            Ordering::Less => Err(PartVerdict::Duplicate),
            Ordering::Greater => Err(PartVerdict::MissingParts { expected, found }),
        }
    }

    fn accept(&mut self, part: &TransactionPart) -> PartVerdict {
        let complete = match (part.last, part.end_lsn) {
            (true, Some(end_lsn)) => {
                self.position = Some(end_lsn);
                self.pending = None;
                true
            }
            _ => {
                self.pending = Some(Pending {
                    commit_lsn: part.commit_lsn,
                    next_part: part.part + 1,
                });
                false
            }
        };
        PartVerdict::Accepted {
            first: part.part == 0,
            complete,
        }
    }

    fn offer_progress(&mut self, progress: &Progress) -> Verdict {
        if !self.admit(progress.epoch) {
            return Verdict::Ignored;
        }
        let expected = self.position.unwrap_or(Lsn::ZERO);
        if progress.end_lsn <= expected {
            return Verdict::Ignored;
        }
        if self.position.is_none() || progress.prev != expected {
            return Verdict::Hole {
                expected,
                found: progress.prev,
            };
        }
        self.pending = None;
        self.position = Some(progress.end_lsn);
        Verdict::Moved
    }

    fn offer_start(&mut self, start: &Start) -> Verdict {
        if self.admit(start.epoch) {
            Verdict::Fenced
        } else {
            Verdict::Ignored
        }
    }

    /// It may stand between the parts of a transaction.
    fn offer_source(&self, source: &Source) -> Verdict {
        match source.epoch < self.epoch {
            true => Verdict::Ignored,
            false => Verdict::Noted,
        }
    }

    fn offer_baseline(&mut self, baseline: &Baseline) -> Verdict {
        if !self.admit(baseline.epoch) {
            return Verdict::Ignored;
        }
        let verdict = match self.position {
            None => Verdict::Moved,
            Some(position) if baseline.begins_again_at(position) => Verdict::BegunAgain,
            Some(_) => return Verdict::Fenced,
        };
        self.pending = None;
        self.position = Some(baseline.lsn);
        verdict
    }

    /// Nothing is said of tables before the log has begun.
    fn announce(&mut self, epoch: Epoch) -> Verdict {
        match self.admit(epoch) && self.position.is_some() {
            true => Verdict::Announced,
            false => Verdict::Ignored,
        }
    }

    /// Who has read what stands before it knows all of it.
    fn offer_checkpoint(&mut self, checkpoint: &Checkpoint) -> Verdict {
        self.admit(checkpoint.epoch);
        Verdict::Ignored
    }

    /// False for a fenced epoch. A higher one voids what is pending.
    fn admit(&mut self, epoch: Epoch) -> bool {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.pending = None;
        }
        epoch == self.epoch
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
