//! Transactions that one end has and the other has not: what lag is measured by.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::Lsn;

/// Source transactions on their way between two ends, each counted once however often it is sent: they go by
/// their commit LSN, which also says when they have arrived, because an end that stands at `end_lsn` has
/// exactly the commits below it.
///
/// Beyond `max` the oldest are kept, and the newest are not counted until they are sent again.
#[derive(Clone, Debug)]
pub struct InTransit {
    max: usize,
    arrived: Lsn,
    waiting: BTreeMap<Lsn, DateTime<Utc>>,
}

impl InTransit {
    /// Nothing is on its way.
    pub fn new(max: usize) -> InTransit {
        InTransit {
            max,
            arrived: Lsn::ZERO,
            waiting: BTreeMap::new(),
        }
    }

    /// A transaction, or a part of one, has left. One that has arrived before changes nothing.
    pub fn sent(&mut self, commit_lsn: Lsn, committed_at: DateTime<Utc>) {
        if commit_lsn < self.arrived {
            return;
        }
        self.waiting.insert(commit_lsn, committed_at);
        if self.waiting.len() > self.max {
            self.waiting.pop_last();
        }
    }

    /// A transaction turned out to have nothing for the other end.
    pub fn dropped(&mut self, commit_lsn: Lsn) {
        self.waiting.remove(&commit_lsn);
    }

    /// The other end stands at `end_lsn` now. A position further back than the last one is believed too.
    pub fn arrived(&mut self, end_lsn: Lsn) {
        self.arrived = end_lsn;
        while let Some(first) = self.waiting.first_entry() {
            if *first.key() >= end_lsn {
                break;
            }
            first.remove();
        }
    }

    /// The log was begun again: positions from before mean nothing any more.
    pub fn clear(&mut self) {
        self.arrived = Lsn::ZERO;
        self.waiting.clear();
    }

    /// When the oldest of them was committed in the source.
    pub fn oldest_at(&self) -> Option<DateTime<Utc>> {
        self.waiting.values().next().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> DateTime<Utc> {
        DateTime::from_timestamp(second as i64, 0).expect("a valid time")
    }

    fn sent(max: usize, lsns: &[u64]) -> InTransit {
        let mut transit = InTransit::new(max);
        for lsn in lsns {
            transit.sent(Lsn(*lsn), at(*lsn));
        }
        transit
    }

    #[test]
    fn parts_and_resends_of_a_transaction_count_once() {
        let transit = sent(9, &[10, 10, 10, 20, 10, 20]);
        assert_eq!((transit.len(), transit.oldest_at()), (2, Some(at(10))));
    }

    #[test]
    fn a_batch_that_arrives_takes_all_below_its_end_with_it() {
        let mut transit = sent(9, &[10, 20, 30, 40]);
        transit.arrived(Lsn(30));
        assert_eq!((transit.len(), transit.oldest_at()), (2, Some(at(30))));
        transit.arrived(Lsn(41));
        assert_eq!((transit.is_empty(), transit.oldest_at()), (true, None));
    }

    #[test]
    fn what_has_arrived_is_not_on_its_way_again() {
        let mut transit = sent(9, &[10]);
        transit.arrived(Lsn(15));
        transit.sent(Lsn(10), at(10));
        assert!(transit.is_empty());
        // A commit may start exactly where the last one ended.
        transit.sent(Lsn(15), at(15));
        assert_eq!(transit.oldest_at(), Some(at(15)));
    }

    #[test]
    fn a_position_that_went_back_is_believed() {
        let mut transit = sent(9, &[10, 20]);
        transit.arrived(Lsn(25));
        transit.arrived(Lsn(5));
        transit.sent(Lsn(10), at(10));
        assert_eq!(transit.oldest_at(), Some(at(10)));
    }

    #[test]
    fn one_sent_again_behind_its_successor_is_the_oldest() {
        let transit = sent(9, &[20, 10, 20]);
        assert_eq!((transit.len(), transit.oldest_at()), (2, Some(at(10))));
    }

    #[test]
    fn one_that_has_nothing_for_the_other_end_is_forgotten() {
        let mut transit = sent(9, &[10, 20]);
        transit.dropped(Lsn(10));
        assert_eq!(transit.oldest_at(), Some(at(20)));
    }

    #[test]
    fn beyond_the_limit_the_oldest_stay() {
        let mut transit = sent(3, &[20, 30, 40, 50, 10]);
        assert_eq!((transit.len(), transit.oldest_at()), (3, Some(at(10))));
        transit.arrived(Lsn(31));
        assert!(transit.is_empty());
        // Sent again after the one that was missing, they count.
        transit.sent(Lsn(40), at(40));
        assert_eq!(transit.oldest_at(), Some(at(40)));
    }
}
