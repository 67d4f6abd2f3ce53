//! Where Postgres' WAL ended a while ago: what capture has received of it says how old what it has not
//! received can be.

use std::collections::VecDeque;

use millrace_events::Lsn;

/// Ten minutes of ticks of a second. Beyond, what lies between two of them is forgotten first.
const ENDS_MAX: usize = 600;

/// Ends of the WAL: the last one that has been received, and those that have not.
#[derive(Debug, Default)]
pub(super) struct Earlier(VecDeque<(u64, Lsn)>);

impl Earlier {
    /// Notes the present end. `received`: what has been received reaches to here.
    pub(super) fn note(&mut self, at_ms: u64, end: Lsn, received: Option<Lsn>) {
        // An end that goes back is of another source.
        self.0.retain(|(_, lsn)| *lsn <= end);
        self.0.push_back((at_ms, end));
        let passed = |lsn: &Lsn| received.is_some_and(|received| *lsn <= received);
        while self.0.get(1).is_some_and(|(_, lsn)| passed(lsn)) {
            self.0.pop_front();
        }
        if self.0.len() > ENDS_MAX {
            self.0.remove(1);
        }
    }

    /// Everything that had been written so many milliseconds ago has been received. `None`: not even what had
    /// been written before the first tick.
    pub(super) fn received_ms(&self, now_ms: u64, received: Option<Lsn>) -> Option<u64> {
        let (at_ms, lsn) = self.0.front()?;
        (*lsn <= received?).then(|| now_ms.saturating_sub(*at_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received_ms(earlier: &mut Earlier, at_ms: u64, end: u64, received: u64) -> Option<u64> {
        let received = Some(Lsn(received));
        earlier.note(at_ms, Lsn(end), received);
        earlier.received_ms(at_ms, received)
    }

    #[test]
    fn what_was_not_received_is_no_older_than_the_last_end_that_was() {
        let mut earlier = Earlier::default();
        assert_eq!(received_ms(&mut earlier, 0, 10, 5), None);
        assert_eq!(received_ms(&mut earlier, 1_000, 20, 10), Some(1_000));
        assert_eq!(received_ms(&mut earlier, 2_000, 30, 29), Some(1_000));
        assert_eq!(received_ms(&mut earlier, 3_000, 40, 29), Some(2_000));
        assert_eq!(received_ms(&mut earlier, 9_000, 40, 30), Some(7_000));
        assert_eq!(received_ms(&mut earlier, 10_000, 40, 40), Some(0));
        assert_eq!(earlier.received_ms(10_000, None), None);
    }

    #[test]
    fn another_source_has_nothing_earlier() {
        let mut earlier = Earlier::default();
        assert_eq!(received_ms(&mut earlier, 0, 90, 90), Some(0));
        assert_eq!(received_ms(&mut earlier, 1_000, 20, 10), None);
    }

    #[test]
    fn a_long_hang_is_remembered_from_its_begin_and_in_little_memory() {
        let mut earlier = Earlier::default();
        received_ms(&mut earlier, 0, 1, 1);
        for second in 1..10_000 {
            let age_ms = received_ms(&mut earlier, second * 1_000, second + 1, 1);
            assert_eq!(age_ms, Some(second * 1_000));
        }
        assert!(earlier.0.len() <= ENDS_MAX);
        assert_eq!(
            received_ms(&mut earlier, 10_000_000, 10_000, 9_995),
            Some(6_000)
        );
    }
}
