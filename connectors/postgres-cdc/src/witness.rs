//! The proof that the database still has the history that the log tells. Pure.
//!
//! A database that was restored from an older copy, or a standby that took over, has the same name and the same system
//! identifier, and after some writing its WAL is as long as before. Then its positions mean something else, and a
//! stream from the end of the log would leave out what was committed below it.
//!
//! The slot is what a restore takes back too: it stands where it stood when the copy was taken. So where it stands at
//! or before the last transaction of the log, the *witness*, the stream begins at that one, which has to come with the
//! same LSN, number and time. Where it stands behind the witness, the stream begins at the slot. Up to the end of the
//! log nothing may follow that the log would have. After a crash of Postgres the slot may be further back as well; then
//! the witness comes as it was.

use millrace_events::{Lsn, Witness};

use crate::pgoutput::{Begin, Message};

/// The stream does not tell what the log tells with its last transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HistoryDiffers(pub(crate) Witness);

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// It belongs to a transaction that is new to the log.
    New,
    /// The log is behind it.
    Old,
}

/// Tells the transactions that the log has from the new ones, at the beginning of a stream.
#[derive(Debug)]
pub(crate) struct Overlap {
    /// Where the log ends.
    position: Lsn,
    /// Where the stream has to begin.
    start: Lsn,
    /// The last transaction of the log.
    last: Option<Witness>,
    /// It has to come again, and has not yet.
    awaited: bool,
    /// The stream has come to the end of the log.
    passed: bool,
    inside: Inside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    /// Outside of a transaction, or in a new one.
    New,
    Witness,
    /// A transaction behind the last one of the log and below its end, which the log did not want.
    Unwanted(Witness),
}

impl Overlap {
    /// Of a log that ends at `position` and whose last transaction is `last`, with a slot that stands at `confirmed`.
    pub(crate) fn new(position: Lsn, confirmed: Lsn, last: Option<Witness>) -> Self {
        let awaited = last.filter(|last| confirmed <= last.commit_lsn);
        let start = match (awaited, last) {
            (Some(witness), _) => witness.commit_lsn,
            (None, Some(_)) => confirmed.min(position),
            // What the log has below its end is not known.
            (None, None) => position,
        };
        Overlap {
            position,
            start,
            last,
            awaited: awaited.is_some(),
            passed: false,
            inside: Inside::New,
        }
    }

    /// Where the stream has to begin.
    pub(crate) fn start(&self) -> Lsn {
        self.start
    }

    /// Everything up to the end of the log has come as the log has it. Before that, Postgres must not be told that anything is
    /// safe: the slot would move, and the next stream would begin behind what proves the contrary.
    pub(crate) fn is_proven(&self) -> bool {
        self.passed
    }

    /// Judges the next message, definitions excepted. `is_wanted` says whether it is one for the log.
    pub(crate) fn take(
        &mut self,
        message: &Message,
        is_wanted: impl FnOnce() -> bool,
    ) -> Result<Passage, HistoryDiffers> {
        if let Message::Begin(begin) = message {
            self.begin(begin)?;
        }
        let passage = match self.inside {
            Inside::New => Passage::New,
            Inside::Unwanted(last) if is_wanted() => return Err(HistoryDiffers(last)),
            Inside::Unwanted(_) | Inside::Witness => Passage::Old,
        };
        if matches!(message, Message::Commit(_)) {
            self.inside = Inside::New;
        }
        Ok(passage)
    }

    /// The source has sent everything that committed before `lsn`.
    pub(crate) fn idle(&mut self, lsn: Lsn) -> Result<(), HistoryDiffers> {
        match self.last {
            Some(last) if self.awaited && lsn > last.commit_lsn => Err(HistoryDiffers(last)),
            _ => {
                self.passed |= !self.awaited && lsn >= self.position;
                Ok(())
            }
        }
    }

    fn begin(&mut self, begin: &Begin) -> Result<(), HistoryDiffers> {
        let Some(last) = self.last else {
            self.passed = true;
            return Ok(());
        };
        if self.awaited && is(&last, begin) {
            self.awaited = false;
            self.inside = Inside::Witness;
        } else if begin.commit_lsn < self.position {
            self.inside = Inside::Unwanted(last);
        } else if self.awaited {
            return Err(HistoryDiffers(last));
        } else {
            self.passed = true;
        }
        Ok(())
    }
}

fn is(witness: &Witness, begin: &Begin) -> bool {
    (witness.commit_lsn, witness.xid, witness.at) == (begin.commit_lsn, begin.xid, begin.at)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use millrace_events::Xid;

    use super::*;
    use crate::pgoutput::Commit;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).expect("a valid time")
    }

    fn witness() -> Witness {
        Witness {
            commit_lsn: Lsn(1000),
            end_lsn: Lsn(1100),
            xid: Xid(7),
            at: at(1),
        }
    }

    fn begin(commit: u64, xid: u32, second: i64) -> Message {
        Message::Begin(Begin {
            commit_lsn: Lsn(commit),
            xid: Xid(xid),
            at: at(second),
        })
    }

    fn commit(commit: u64) -> Message {
        Message::Commit(Commit {
            commit_lsn: Lsn(commit),
            end_lsn: Lsn(commit + 100),
        })
    }

    /// Takes messages that are wanted if they are neither beginnings nor ends.
    fn judged(overlap: &mut Overlap, messages: &[Message]) -> Result<Vec<Passage>, HistoryDiffers> {
        let of_rows =
            |message: &Message| !matches!(message, Message::Begin(_) | Message::Commit(_));
        let judged = messages
            .iter()
            .map(|message| overlap.take(message, || of_rows(message)));
        judged.collect()
    }

    fn row() -> Message {
        Message::Truncate { relations: vec![1] }
    }

    #[test]
    fn the_witness_comes_again_and_what_follows_it_is_new() {
        let mut overlap = Overlap::new(Lsn(1500), Lsn(900), Some(witness()));
        assert_eq!(overlap.idle(Lsn(1000)), Ok(()));
        let old = [begin(1000, 7, 1), row(), commit(1000)];
        assert_eq!(judged(&mut overlap, &old), Ok(vec![Passage::Old; 3]));
        assert!(!overlap.is_proven());
        // Below the end of the log, and without anything for it.
        let unwanted = [begin(1200, 8, 2), commit(1200)];
        assert_eq!(judged(&mut overlap, &unwanted), Ok(vec![Passage::Old; 2]));
        assert!(!overlap.is_proven());
        let new = [begin(1500, 9, 3), row(), commit(1500)];
        assert_eq!(judged(&mut overlap, &new), Ok(vec![Passage::New; 3]));
        assert!(overlap.is_proven());
        assert_eq!(overlap.idle(Lsn(9000)), Ok(()));
    }

    #[test]
    fn another_transaction_in_its_place_is_another_history() {
        for message in [begin(1000, 8, 1), begin(1000, 7, 2), begin(1100, 7, 1)] {
            let mut overlap = Overlap::new(Lsn(1100), Lsn(1000), Some(witness()));
            let messages = [message, row()];
            assert_eq!(
                judged(&mut overlap, &messages),
                Err(HistoryDiffers(witness()))
            );
        }
    }

    #[test]
    fn a_stream_that_passes_the_witness_by_is_another_history() {
        let mut overlap = Overlap::new(Lsn(1100), Lsn(1000), Some(witness()));
        assert_eq!(overlap.idle(Lsn(1001)), Err(HistoryDiffers(witness())));
    }

    #[test]
    fn rows_between_the_witness_and_the_end_of_the_log_are_another_history() {
        let mut overlap = Overlap::new(Lsn(1500), Lsn(900), Some(witness()));
        let messages = [begin(1000, 7, 1), commit(1000), begin(1200, 8, 2), row()];
        assert_eq!(
            judged(&mut overlap, &messages),
            Err(HistoryDiffers(witness()))
        );
    }

    #[test]
    fn a_slot_behind_the_witness_needs_none_and_shows_what_follows_it() {
        let mut overlap = Overlap::new(Lsn(1500), Lsn(1100), Some(witness()));
        assert_eq!(overlap.start(), Lsn(1100));
        assert_eq!(overlap.idle(Lsn(1499)), Ok(()));
        assert!(!overlap.is_proven());
        let messages = [begin(1200, 8, 2), row()];
        assert_eq!(
            judged(&mut overlap, &messages),
            Err(HistoryDiffers(witness()))
        );
        let overlap = Overlap::new(Lsn(1500), Lsn(900), Some(witness()));
        assert_eq!(overlap.start(), Lsn(1000));
    }

    #[test]
    fn without_a_witness_everything_is_new() {
        let mut overlap = Overlap::new(Lsn(1500), Lsn(900), None);
        assert_eq!(overlap.start(), Lsn(1500));
        assert!(overlap.idle(Lsn(9000)).is_ok() && overlap.is_proven());
        let messages = [begin(1500, 8, 2), row(), commit(1500)];
        assert_eq!(judged(&mut overlap, &messages), Ok(vec![Passage::New; 3]));
    }
}
