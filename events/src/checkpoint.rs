//! Where a reader may begin: the newest checkpoint that counts.
//!
//! A capture writes a checkpoint only when everything that it has written before is acknowledged and no transaction is
//! open, so that everything behind a checkpoint that counts can be read without anything before it. A checkpoint counts
//! like any other record: if no `start` of a higher epoch stands before it. Who reads the log from its beginning knows that;
//! who looks for a place to begin does not, and reads backwards ([`CheckpointSearch`]):
//!
//! 1. A checkpoint does not count if a record of a higher epoch stands before it.
//! 2. Nor if one stands behind it whose `start` does not: then that `start` stands before it.
//! 3. It counts if more records, or more bytes, stand before it than captures that were fenced off can have left behind
//!    ([`StaleMax`]), and none of them is of a higher epoch: what they have left behind may come at any time, but not
//!    more of it, so that one at least of the capture that fenced them off would have to be among them.
//! 4. Where the log begins, what was seen decides.
//!
//! The `start` of its own epoch before it proves nothing: bytes of a capture that was killed before its `start` was
//! acknowledged may bring another one of the same number.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Baseline, CapturedTable, Copies, Epoch, Lsn, Record, Source, TableId, Witness, Xid};

/// What a reader needs to begin here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Epoch of the capture that wrote it.
    pub epoch: Epoch,
    /// The log before it is complete up to here.
    pub lsn: Lsn,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// How the log began.
    pub baseline: Baseline,
    /// The captured tables and their copies.
    pub tables: Vec<CapturedTable>,
    /// Tables that were captured once and are no longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<TableId>,
    /// See [`Copies::former`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<TableId>,
    /// The newest record of its kind that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The last transaction, if it wanted rows of these tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Witness>,
    /// Transactions in the log that a reader of the tables may not have seen yet when this was written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<Xid>,
}

impl Checkpoint {
    /// The captured tables as of here.
    pub fn copies(&self) -> Copies {
        Copies::of(&self.tables, &self.removed, &self.former)
    }
}

/// What captures that were fenced off can have left behind, all of them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleMax {
    /// Records that were sent and not acknowledged.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl StaleMax {
    /// Twice what one capture may have in flight with its default limits (16,384 records, 16 MiB), because no more than two
    /// are killed within the moment that bytes are under way.
    pub const CAPTURES: StaleMax = StaleMax {
        records: 2 * 16_384,
        bytes: 2 * (16 << 20),
    };
}

/// A record of the log as a search sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Passed {
    /// Where it stands.
    pub offset: u64,
    /// Its size.
    pub bytes: u64,
    /// What it says.
    pub what: Sign,
}

/// What of a record decides where to begin.
#[derive(Clone, Debug, PartialEq)]
pub enum Sign {
    /// A `start`.
    Start(Epoch),
    /// A checkpoint.
    Checkpoint(Box<Checkpoint>),
    /// Any other record of a capture.
    Written(Epoch),
}

impl Passed {
    /// What a search has to know of a record; `None` for one that has no place in the log.
    pub fn of(offset: u64, bytes: u64, record: Record) -> Option<Passed> {
        let what = match record {
            Record::Start(start) => Sign::Start(start.epoch),
            Record::Checkpoint(checkpoint) => Sign::Checkpoint(checkpoint),
            Record::Plan(_) | Record::Chunk(_) => return None,
            other => Sign::Written(other.epoch()),
        };
        Some(Passed {
            offset,
            bytes,
            what,
        })
    }
}

/// A checkpoint that counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Begin {
    /// Its offset. What comes behind it is read next.
    pub offset: u64,
    /// What it says.
    pub checkpoint: Checkpoint,
}

/// Looks for the newest checkpoint that counts. Pure; feed it the records of the log in *descending* order of their
/// offsets, beginning with the last one, until it has an answer.
#[derive(Clone, Debug)]
pub struct CheckpointSearch {
    stale_max: StaleMax,
    candidate: Option<Candidate>,
    /// The highest epoch seen, if its start was not seen yet: that stands before everything seen so far.
    unstarted: Epoch,
}

#[derive(Clone, Debug)]
struct Candidate {
    begin: Begin,
    /// What was seen before it.
    records: u64,
    bytes: u64,
}

impl CheckpointSearch {
    /// Nothing was seen yet.
    pub fn new(stale_max: StaleMax) -> CheckpointSearch {
        CheckpointSearch {
            stale_max,
            candidate: None,
            unstarted: Epoch::default(),
        }
    }

    /// Takes the record before those that it was given. Returns the checkpoint to begin at once it is known.
    pub fn offer(&mut self, record: Passed) -> Option<Begin> {
        let epoch = record.what.epoch();
        if let Some(mut candidate) = self.candidate.take() {
            let own = candidate.begin.checkpoint.epoch;
            if epoch <= own {
                candidate.records += 1;
                candidate.bytes += record.bytes;
                if candidate.is_beyond(self.stale_max) {
                    return Some(candidate.begin);
                }
                self.candidate = Some(candidate);
                return None;
            }
        }
        self.pass(epoch, record);
        None
    }

    /// The log has nothing before what was seen: what there is decides.
    pub fn at_the_beginning(self) -> Option<Begin> {
        self.candidate.map(|candidate| candidate.begin)
    }

    fn pass(&mut self, epoch: Epoch, record: Passed) {
        let Passed { offset, what, .. } = record;
        match what {
            Sign::Start(_) if epoch >= self.unstarted => self.unstarted = Epoch::default(),
            Sign::Checkpoint(checkpoint) if epoch >= self.unstarted => {
                self.unstarted = epoch;
                let checkpoint = *checkpoint;
                self.candidate = Some(Candidate {
                    begin: Begin { offset, checkpoint },
                    records: 0,
                    bytes: 0,
                });
            }
            _ => self.unstarted = self.unstarted.max(epoch),
        }
    }
}

impl Candidate {
    fn is_beyond(&self, stale_max: StaleMax) -> bool {
        self.records > stale_max.records || self.bytes > stale_max.bytes
    }
}

impl Sign {
    fn epoch(&self) -> Epoch {
        match self {
            Sign::Start(epoch) | Sign::Written(epoch) => *epoch,
            Sign::Checkpoint(checkpoint) => checkpoint.epoch,
        }
    }
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
