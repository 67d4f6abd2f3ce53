//! Where Postgres' WAL ended a short while ago.

use std::collections::VecDeque;

use millrace_events::Lsn;

/// What has not come through by then is missed.
const WITHIN_MS: u64 = 3_000;
/// With long ticks: there is always one to look back to.
const WITHIN_TICKS: u64 = 2;

/// Ends of the WAL in the last ticks.
#[derive(Debug, Default)]
pub(super) struct Earlier(VecDeque<(u64, Lsn)>);

impl Earlier {
    /// Notes the present end; the oldest one of the earlier ticks that are not too long ago.
    pub(super) fn note(&mut self, at_ms: u64, end: Lsn, tick_ms: u64) -> Option<Lsn> {
        let from = at_ms.saturating_sub(WITHIN_MS.max(tick_ms.saturating_mul(WITHIN_TICKS)));
        // An end that goes back is of another source.
        self.0
            .retain(|(then_ms, lsn)| *then_ms >= from && *lsn <= end);
        let oldest = self.0.front().map(|(_, lsn)| *lsn);
        self.0.push_back((at_ms, end));
        oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_present_tick_and_those_of_long_ago_are_not_earlier() {
        let mut earlier = Earlier::default();
        assert_eq!(earlier.note(0, Lsn(1), 1_000), None);
        assert_eq!(earlier.note(1_000, Lsn(2), 1_000), Some(Lsn(1)));
        assert_eq!(earlier.note(3_500, Lsn(3), 1_000), Some(Lsn(2)));
        assert_eq!(earlier.note(60_000, Lsn(4), 1_000), None);
        assert_eq!(earlier.note(75_000, Lsn(5), 10_000), Some(Lsn(4)));
    }

    #[test]
    fn another_source_has_nothing_earlier() {
        let mut earlier = Earlier::default();
        earlier.note(0, Lsn(9), 1_000);
        assert_eq!(earlier.note(1_000, Lsn(2), 1_000), None);
    }
}
