//! Rates from samples of counters.

use std::collections::{HashMap, HashSet, VecDeque};

/// A rate is over so many milliseconds, or what there is of them.
const WINDOW_MS: u64 = 10_000;
/// Bounds the counters, whatever topics a cluster has.
const COUNTERS_MAX: usize = 4_096;

/// Samples of one counter.
#[derive(Debug, Default)]
struct Meter {
    samples: VecDeque<(u64, u64)>,
}

impl Meter {
    /// Adds a sample; the rate between the oldest sample of the window and this one. A counter that
    /// went back began anew, and a rate is not known until the next sample.
    fn rate(&mut self, now_ms: u64, count: u64) -> Option<f64> {
        if self.samples.back().is_some_and(|(_, last)| count < *last) {
            self.samples.clear();
        }
        let from = now_ms.saturating_sub(WINDOW_MS);
        while self.samples.front().is_some_and(|(at, _)| *at < from) {
            self.samples.pop_front();
        }
        self.samples.push_back((now_ms, count));
        let (first_ms, first) = *self.samples.front()?;
        let elapsed_ms = now_ms.checked_sub(first_ms).filter(|ms| *ms > 0)?;
        Some((count - first) as f64 * 1_000.0 / elapsed_ms as f64)
    }
}

/// Counters by name.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    meters: HashMap<String, Meter>,
    sampled: HashSet<String>,
}

impl Meters {
    /// The rate of a counter, given its newest sample; an unknown sample gives an unknown rate.
    pub(crate) fn rate(&mut self, name: &str, now_ms: u64, count: Option<u64>) -> Option<f64> {
        let count = count?;
        if !self.meters.contains_key(name) && self.meters.len() >= COUNTERS_MAX {
            return None;
        }
        self.sampled.insert(name.to_owned());
        let meter = self.meters.entry(name.to_owned()).or_default();
        meter.rate(now_ms, count)
    }

    /// Ends a tick: a counter without a sample in it starts anew.
    pub(crate) fn end_tick(&mut self) {
        let sampled = std::mem::take(&mut self.sampled);
        self.meters.retain(|name, _| sampled.contains(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_was_counted_between_two_samples_of_the_window() {
        let mut meters = Meters::default();
        let mut rate = |at, count| meters.rate("x", at, Some(count));
        assert_eq!(rate(0, 100), None);
        assert_eq!(rate(1_000, 150), Some(50.0));
        assert_eq!(rate(10_000, 150), Some(5.0));
        assert_eq!(rate(11_000, 150), Some(0.0));
    }

    #[test]
    fn a_counter_that_begins_anew_and_a_gap_have_no_rate() {
        let mut meters = Meters::default();
        meters.rate("x", 0, Some(100));
        meters.rate("x", 1_000, Some(110));
        meters.end_tick();
        assert_eq!(meters.rate("x", 2_000, Some(5)), None);
        meters.end_tick();
        assert_eq!(meters.rate("x", 3_000, None), None);
        meters.end_tick();
        assert_eq!(meters.rate("x", 4_000, Some(50)), None);
    }
}
