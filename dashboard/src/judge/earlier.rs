//! Where Postgres' WAL ended a tick ago.

use std::collections::VecDeque;

use millrace_events::Lsn;

/// A tick, and as much again as half of one may be late. What has not come through by then is missed;
/// what came since then is not known to have.
pub(super) const WITHIN_MS: u64 = 1_500;

/// Ends of the WAL in the last ticks.
#[derive(Debug, Default)]
pub(super) struct Earlier(VecDeque<(u64, Lsn)>);

impl Earlier {
    /// Notes the present end; the oldest one of the earlier ticks that are not too long ago, or none.
    pub(super) fn note(&mut self, at_ms: u64, end: Lsn, tick_ms: u64) -> Option<Lsn> {
        let within_ms = WITHIN_MS.max(tick_ms.saturating_mul(3) / 2);
        let from = at_ms.saturating_sub(within_ms);
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
        assert_eq!(earlier.note(2_001, Lsn(3), 1_000), Some(Lsn(2)));
        assert_eq!(earlier.note(3_501, Lsn(4), 1_000), Some(Lsn(3)));
        assert_eq!(earlier.note(60_000, Lsn(5), 1_000), None);
        assert_eq!(earlier.note(75_000, Lsn(6), 10_000), Some(Lsn(5)));
    }

    #[test]
    fn another_source_has_nothing_earlier() {
        let mut earlier = Earlier::default();
        earlier.note(0, Lsn(9), 1_000);
        assert_eq!(earlier.note(1_000, Lsn(2), 1_000), None);
    }
}
