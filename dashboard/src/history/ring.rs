//! One quantity of one projection in steps of equal length.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// How long, and how fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resolution {
    pub(crate) step_ms: u64,
    pub(crate) steps: u64,
}

/// What is kept of a step: lag (largest) and rate (sum and number, for the mean).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point(u64, Option<u64>, f64, u32);

/// Points in the order of their steps, none older than the resolution's length.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Ring(VecDeque<Point>);

/// Lag and rate on an even grid; gaps are `None`.
pub(crate) struct Drawn {
    pub(crate) at: Vec<u64>,
    pub(crate) lag_ms: Vec<Option<u64>>,
    pub(crate) rate: Vec<Option<f64>>,
}

impl Ring {
    /// Adds a sample. If the clock was set back, what now lies in the future is forgotten.
    pub(crate) fn add(
        &mut self,
        resolution: Resolution,
        now_ms: u64,
        lag_ms: Option<u64>,
        rate: Option<f64>,
    ) {
        let step = now_ms / resolution.step_ms;
        while self.0.back().is_some_and(|last| last.0 > step) {
            self.0.pop_back();
        }
        let (sum, count) = rate.map_or((0.0, 0), |rate| (rate, 1));
        match self.0.back_mut().filter(|last| last.0 == step) {
            Some(last) => {
                last.1 = last.1.max(lag_ms);
                last.2 += sum;
                last.3 = last.3.saturating_add(count);
            }
            None => self.0.push_back(Point(step, lag_ms, sum, count)),
        }
        self.forget(resolution, step);
    }

    /// True if nothing of it is still to be shown.
    pub(crate) fn is_over(&self, resolution: Resolution, now_ms: u64) -> bool {
        let first = first_step(resolution, now_ms / resolution.step_ms);
        self.0.back().is_none_or(|last| last.0 < first)
    }

    /// The whole length up to now.
    pub(crate) fn draw(&self, resolution: Resolution, now_ms: u64) -> Drawn {
        let last = now_ms / resolution.step_ms;
        let first = first_step(resolution, last);
        let length = usize::try_from(resolution.steps).unwrap_or(0);
        let mut drawn = Drawn {
            at: (first..=last)
                .map(|step| step * resolution.step_ms)
                .collect(),
            lag_ms: vec![None; length],
            rate: vec![None; length],
        };
        for point in &self.0 {
            let index = point.0.checked_sub(first);
            let index = index.and_then(|index| usize::try_from(index).ok());
            if let Some(index) = index.filter(|index| *index < drawn.at.len()) {
                drawn.lag_ms[index] = point.1;
                drawn.rate[index] = (point.3 > 0).then(|| point.2 / f64::from(point.3));
            }
        }
        drawn.lag_ms.truncate(drawn.at.len());
        drawn.rate.truncate(drawn.at.len());
        drawn
    }

    /// What came out of a file may be anything.
    pub(crate) fn is_sound(&self, resolution: Resolution) -> bool {
        let steps = self.0.iter().map(|point| point.0);
        let in_order = steps.clone().zip(steps.skip(1)).all(|(a, b)| a < b);
        let finite = self.0.iter().all(|point| point.2.is_finite());
        in_order && finite && self.0.len() as u64 <= resolution.steps
    }

    fn forget(&mut self, resolution: Resolution, step: u64) {
        let first = first_step(resolution, step);
        while self.0.front().is_some_and(|point| point.0 < first) {
            self.0.pop_front();
        }
    }
}

fn first_step(resolution: Resolution, last: u64) -> u64 {
    (last + 1).saturating_sub(resolution.steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FINE: Resolution = Resolution {
        step_ms: 1_000,
        steps: 5,
    };

    #[test]
    fn a_step_has_the_largest_lag_and_the_mean_rate_and_a_gap_has_neither() {
        let mut ring = Ring::default();
        ring.add(FINE, 10_000, Some(5), Some(2.0));
        ring.add(FINE, 10_900, Some(3), Some(4.0));
        ring.add(FINE, 12_000, None, None);
        ring.add(FINE, 13_000, Some(0), Some(0.0));
        let drawn = ring.draw(FINE, 13_500);
        assert_eq!(drawn.at, [9_000, 10_000, 11_000, 12_000, 13_000]);
        assert_eq!(drawn.lag_ms, [None, Some(5), None, None, Some(0)]);
        assert_eq!(drawn.rate, [None, Some(3.0), None, None, Some(0.0)]);
    }

    #[test]
    fn a_clock_set_back_forgets_the_future_and_goes_on() {
        let mut ring = Ring::default();
        for second in 10..14 {
            ring.add(FINE, second * 1_000, Some(second), None);
        }
        ring.add(FINE, 11_000, Some(1), None);
        let drawn = ring.draw(FINE, 11_000);
        assert_eq!(drawn.lag_ms, [None, None, None, Some(10), Some(11)]);
        assert!(ring.is_sound(FINE));
    }

    proptest! {
        #[test]
        fn whatever_the_clock_does_a_ring_stays_sound_and_draws_its_length(
            times in proptest::collection::vec(0_u64..40_000, 1..200),
        ) {
            let mut ring = Ring::default();
            for now_ms in times {
                ring.add(FINE, now_ms, Some(1), Some(1.0));
                let drawn = ring.draw(FINE, now_ms);
                prop_assert!(ring.is_sound(FINE));
                prop_assert_eq!(drawn.lag_ms.last(), Some(&Some(1)));
                prop_assert_eq!(drawn.at.len(), drawn.rate.len());
                prop_assert!(drawn.at.len() <= 5);
            }
        }
    }
}
