//! The last half minute of a projection, and what its behaviour says.

use std::collections::VecDeque;

use millrace_events::Lsn;

use crate::status::State;

/// Behaviour is judged over so long.
const WINDOW_MS: u64 = 30_000;
/// Whether a lag grows is seen in so long: what was before is over.
const LAG_MS: u64 = 10_000;

/// What is remembered of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) at_ms: u64,
    pub(super) state: State,
    pub(super) position: Option<Lsn>,
    /// Rows loaded, while a snapshot is.
    pub(super) rows: Option<u64>,
    pub(super) lag_ms: Option<u64>,
    /// There is something to do.
    pub(super) busy: bool,
}

/// Samples of the window, and since when nothing has moved.
#[derive(Debug, Default)]
pub(super) struct Window {
    samples: VecDeque<Sample>,
    still_since_ms: Option<u64>,
}

impl Window {
    pub(super) fn add(&mut self, sample: Sample) {
        let last = self.samples.back();
        let moved = last.is_none_or(|last| progress(last) != progress(&sample));
        if moved || !sample.busy || self.still_since_ms.is_none() {
            self.still_since_ms = Some(sample.at_ms);
        }
        let from = sample.at_ms.saturating_sub(WINDOW_MS);
        self.samples.retain(|sample| sample.at_ms >= from);
        self.samples.push_back(sample);
    }

    /// So long there was something to do and nothing moved.
    pub(super) fn still_ms(&self) -> u64 {
        match (self.samples.back(), self.still_since_ms) {
            (Some(last), Some(since)) => last.at_ms.saturating_sub(since),
            _ => 0,
        }
    }

    /// A position of the window that is ahead of the present one.
    pub(super) fn rewound_from(&self) -> Option<Lsn> {
        let now = self.samples.back()?.position?;
        let furthest = self.samples.iter().filter_map(|sample| sample.position);
        furthest.max().filter(|furthest| *furthest > now)
    }

    /// The position went forward in the last `ms`.
    pub(super) fn moved_within(&self, ms: u64) -> bool {
        let Some(last) = self.samples.back() else {
            return false;
        };
        let from = last.at_ms.saturating_sub(ms);
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        let forward = |(before, after): (&Sample, &Sample)| {
            let positions = before.position.zip(after.position);
            after.at_ms >= from && positions.is_some_and(|(before, after)| after > before)
        };
        pairs.into_iter().any(forward)
    }

    /// Milliseconds of lag gained (or lost, if negative) per millisecond over the last seconds.
    pub(super) fn lag_slope(&self) -> Option<f64> {
        self.slope(LAG_MS, |sample| sample.lag_ms)
    }

    /// Rows loaded per millisecond.
    pub(super) fn rows_slope(&self) -> Option<f64> {
        self.slope(WINDOW_MS, |sample| sample.rows)
    }

    fn slope(&self, over_ms: u64, value: impl Fn(&Sample) -> Option<u64>) -> Option<f64> {
        let of = |sample: &Sample| Some((sample.at_ms, value(sample)?));
        let (last_ms, last) = of(self.samples.back()?)?;
        let from = last_ms.saturating_sub(over_ms);
        let mut samples = self.samples.iter().filter(|sample| sample.at_ms >= from);
        let (first_ms, first) = samples.find_map(of)?;
        let elapsed_ms = last_ms.checked_sub(first_ms).filter(|ms| *ms > 0)?;
        Some((last as f64 - first as f64) / elapsed_ms as f64)
    }
}

fn progress(sample: &Sample) -> (State, Option<Lsn>, Option<u64>) {
    (sample.state, sample.position, sample.rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: u64, lsn: u64, lag_ms: u64) -> Sample {
        Sample {
            at_ms,
            state: State::Live,
            position: Some(Lsn(lsn)),
            rows: None,
            lag_ms: Some(lag_ms),
            busy: lag_ms > 0,
        }
    }

    fn window(samples: &[Sample]) -> Window {
        let mut window = Window::default();
        samples.iter().for_each(|sample| window.add(*sample));
        window
    }

    #[test]
    fn standing_still_counts_only_while_there_is_something_to_do() {
        let idle = window(&[sample(0, 5, 0), sample(60_000, 5, 0)]);
        assert_eq!(idle.still_ms(), 0);
        let stuck = window(&[sample(0, 5, 0), sample(1_000, 5, 9), sample(60_000, 5, 9)]);
        assert_eq!(stuck.still_ms(), 60_000);
        let moving = window(&[sample(0, 5, 9), sample(60_000, 6, 9)]);
        assert_eq!(moving.still_ms(), 0);
    }

    #[test]
    fn a_position_that_goes_back_is_noticed_for_the_length_of_the_window() {
        let mut window = window(&[sample(0, 9, 0), sample(1_000, 5, 0)]);
        assert_eq!(window.rewound_from(), Some(Lsn(9)));
        window.add(sample(30_001, 6, 0));
        assert_eq!(window.rewound_from(), None);
    }

    #[test]
    fn the_slope_is_between_the_first_and_the_last_sample() {
        let window = window(&[
            sample(0, 1, 9_000),
            sample(5_000, 2, 20),
            sample(10_000, 3, 4_000),
        ]);
        assert_eq!(window.lag_slope(), Some(-0.5));
        assert_eq!(window.rows_slope(), None);
    }

    #[test]
    fn a_peak_that_is_over_does_not_make_a_growing_lag_shrink() {
        let teeth = [60_000, 10, 5_000, 10_000, 15_000];
        let samples = teeth.iter().enumerate();
        let samples = samples.map(|(n, lag_ms)| sample(n as u64 * 5_000, n as u64, *lag_ms));
        let window = window(&samples.collect::<Vec<_>>());
        assert_eq!(window.lag_slope(), Some(1.0));
    }

    #[test]
    fn only_a_position_that_went_forward_lately_has_moved() {
        let mut window = window(&[sample(0, 9, 0)]);
        assert!(!window.moved_within(3_000));
        window.add(sample(1_000, 10, 0));
        window.add(sample(4_000, 10, 0));
        assert!(window.moved_within(3_000));
        window.add(sample(4_001, 8, 0));
        assert!(!window.moved_within(3_000));
    }
}
