//! What becomes of a part of `up` that has ended: the rules, without IO or time.
//!
//! 1. A part that was asked to end has ended.
//! 2. A part that ran for [`STABLE`] before it ended has proved that it can: earlier failures no longer count.
//! 3. A part that would do harm by coming back (another one has taken its place) stays down until `up` is
//!    started again.
//! 4. A part whose failure has a code needs a person. The cause may be mended from outside, so it is tried again
//!    by itself, slowly: after [`PERSON_MIN`], then twice as long each time, up to [`PERSON_MAX`].
//! 5. A part that ended in any other way (it broke down, it ended without being asked, its failure has no code)
//!    is tried again after [`PASSING_MIN`], then twice as long each time, up to [`PASSING_MAX`].
//! 6. Every delay is varied by up to a quarter of it, so that parts do not come back in step.
//! 7. `up` ends when it is asked to, or when no part that moves data (capture, projector, ingest) runs or will be
//!    tried again. Servers, control APIs, the page and the shop's trade do not count: without those three nothing
//!    reaches MySQL.
//! 8. `up --once`, which owes an answer, also ends when a part needs a person, or has failed [`ONCE_TRIES`] times
//!    in a row.
//! 9. A service that is tried again counts as down until it has said for [`PROVED`] that it is ready, or has run for
//!    [`STABLE`]: a failure comes moments after a start, and nobody shall take each try for a recovery. What has no
//!    control API to ask counts as running from its start.
//! 10. A private database that ends while `up` still starts is started again like any other, [`STARTS`] times in all:
//!     what makes it end each time is told while somebody watches.

use std::time::Duration;

/// Longer than any start takes.
pub(super) const STABLE: Duration = Duration::from_secs(60);
/// Rule 9.
pub(super) const PROVED: Duration = Duration::from_secs(5);
/// Rule 10.
pub(super) const STARTS: u32 = 3;
/// Soon enough for somebody who mends it and watches.
const PERSON_MIN: Duration = Duration::from_secs(30);
/// Often enough for somebody who mends it and goes away.
const PERSON_MAX: Duration = Duration::from_secs(300);
const PASSING_MIN: Duration = Duration::from_secs(1);
const PASSING_MAX: Duration = Duration::from_secs(60);
/// About a minute of trying.
const ONCE_TRIES: u32 = 6;

/// What a part is there for (rule 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It moves data from one side to the other.
    MovesData,
    /// It serves those that do, or shows them, or gives them something to do.
    Serves,
}

/// How a part ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It would do harm by coming back.
    Replaced,
    /// A person is needed.
    NeedsPerson,
    /// It may pass.
    Passing,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It stays down.
    Never,
    /// It is started again after this time.
    After(Duration),
}

/// The ends of a part so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Ends in a row, without a stable run between them.
    pub(super) tries: u32,
}

impl Record {
    /// Decides about a part that has ended without being asked to, after it `ran` for so long. `chance` is between
    /// 0 and 1.
    pub(super) fn after(&mut self, end: End, ran: Duration, chance: f64) -> Next {
        // Rule 2.
        if ran >= STABLE {
            self.tries = 0;
        }
        self.tries += 1;
        let (min, max) = match end {
            // Rule 3.
            End::Replaced => return Next::Never,
            // Rule 4.
            End::NeedsPerson => (PERSON_MIN, PERSON_MAX),
            // Rule 5.
            End::Passing => (PASSING_MIN, PASSING_MAX),
        };
        let doubled = 2_u32.saturating_pow(self.tries - 1);
        let delay = min.saturating_mul(doubled).min(max);
        // Rule 6.
        Next::After(delay.mul_f64(0.75 + chance.clamp(0.0, 1.0) / 2.0))
    }

    /// Rule 8: whether `--once` gives up.
    pub(super) fn ends_once(&self, end: End) -> bool {
        end != End::Passing || self.tries >= ONCE_TRIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Delays of failures in a row, in seconds, without variation.
    fn delays(end: End, count: usize) -> Vec<u64> {
        let mut record = Record::default();
        let next = |_| match record.after(end, SECOND, 0.5) {
            Next::After(delay) => delay.as_secs(),
            Next::Never => panic!("never"),
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn what_may_pass_is_tried_again_soon_and_then_less_and_less_often() {
        assert_eq!(delays(End::Passing, 9), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn what_needs_a_person_is_tried_again_slowly() {
        assert_eq!(delays(End::NeedsPerson, 6), [30, 60, 120, 240, 300, 300]);
    }

    #[test]
    fn who_was_replaced_never_comes_back() {
        let mut record = Record::default();
        assert_eq!(record.after(End::Replaced, STABLE, 0.5), Next::Never);
    }

    #[test]
    fn a_stable_run_is_a_new_beginning_and_a_short_one_is_not() {
        let mut record = Record::default();
        for _ in 0..5 {
            record.after(End::Passing, SECOND, 0.5);
        }
        let almost = STABLE - Duration::from_millis(1);
        let (short, stable) = (
            record.after(End::Passing, almost, 0.5),
            record.after(End::Passing, STABLE, 0.5),
        );
        assert_eq!(
            (short, stable),
            (Next::After(32 * SECOND), Next::After(SECOND))
        );
    }

    #[test]
    fn delays_vary_by_a_quarter_and_never_overflow() {
        let delay = |chance| Record::default().after(End::Passing, SECOND, chance);
        let ms = |ms| Next::After(Duration::from_millis(ms));
        assert_eq!((delay(0.0), delay(1.0)), (ms(750), ms(1250)));
        let mut record = Record {
            tries: u32::MAX - 1,
        };
        assert_eq!(
            record.after(End::Passing, SECOND, 0.5),
            Next::After(PASSING_MAX)
        );
    }

    #[test]
    fn once_waits_for_what_may_pass_but_not_for_a_person() {
        let mut record = Record::default();
        record.after(End::Passing, SECOND, 0.5);
        assert!(!record.ends_once(End::Passing) && record.ends_once(End::NeedsPerson));
        for _ in 1..ONCE_TRIES {
            record.after(End::Passing, SECOND, 0.5);
        }
        assert!(record.ends_once(End::Passing));
    }
}
