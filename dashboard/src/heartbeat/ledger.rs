//! Heartbeats on their way, and how long the others took.

use std::collections::VecDeque;

use millrace_events::Lsn;

use crate::collect::Moment;
use crate::latency;
use crate::status::{Latency, Time};

/// With a period of two seconds, a quarter of an hour; then every second one is forgotten.
const OUTSTANDING_MAX: usize = 512;
/// Percentiles are over so many seconds.
const WINDOW_S: u64 = 300;
/// Bounds the samples whatever the period is.
const SAMPLES_MAX: usize = 10_000;

/// A heartbeat that is not in MySQL yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    /// Its message; the commit lies behind it.
    pub(crate) lsn: Lsn,
    /// Postgres' clock when it was written.
    pub(crate) at: Time,
    /// Our clock just before it was written.
    pub(crate) sent_ms: u64,
}

/// What the ledger shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beats {
    /// `None`: heartbeats are off.
    pub(crate) period_ms: Option<u64>,
    pub(crate) last: Option<Beat>,
    /// Oldest first.
    pub(crate) outstanding: Vec<Beat>,
    /// The youngest that is in MySQL. Without it nothing is known of what is older than the first
    /// heartbeat of this ledger.
    pub(crate) passed: Option<Beat>,
    pub(crate) latency: Option<Latency>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    seen: Moment,
    took_ms: u64,
}

/// Pure bookkeeping: who writes and who looks is told to it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    last: Option<Beat>,
    outstanding: VecDeque<Beat>,
    passed: Option<Beat>,
    samples: VecDeque<Sample>,
}

impl Ledger {
    /// A heartbeat was written. Positions that go back mean another source: what was outstanding
    /// there will never come.
    pub(crate) fn written(&mut self, beat: Beat) {
        if self.last.is_some_and(|last| beat.lsn <= last.lsn) {
            self.outstanding.clear();
            self.passed = None;
        }
        self.last = Some(beat);
        self.outstanding.push_back(beat);
        if self.outstanding.len() > OUTSTANDING_MAX {
            self.thin_out();
        }
    }

    /// The oldest stays, as it is what the lag is told by.
    fn thin_out(&mut self) {
        let mut number = 0_usize;
        self.outstanding.retain(|_| {
            number += 1;
            number % 2 == 1
        });
    }

    /// MySQL has everything up to `lsn`. With `timely`, it was looked at as soon as that was so, and the
    /// heartbeats that arrived with it are samples of the latency.
    pub(crate) fn seen(&mut self, lsn: Lsn, moment: Moment, timely: bool) {
        while let Some(beat) = self.outstanding.front().copied() {
            if beat.lsn > lsn {
                break;
            }
            self.passed = self.outstanding.pop_front();
            if timely {
                let took_ms = moment.mono_ms.saturating_sub(beat.sent_ms);
                self.samples.push_back(Sample {
                    seen: moment,
                    took_ms,
                });
            }
        }
        self.forget(moment.mono_ms);
    }

    /// The oldest heartbeat that is not there yet.
    pub(crate) fn oldest(&self) -> Option<Beat> {
        self.outstanding.front().copied()
    }

    /// What is to be shown now.
    pub(crate) fn show(&mut self, period_ms: u64, now_ms: u64) -> Beats {
        self.forget(now_ms);
        Beats {
            period_ms: (period_ms > 0).then_some(period_ms),
            last: self.last,
            outstanding: self.outstanding.iter().copied().collect(),
            passed: self.passed,
            latency: Some(self.latency()),
        }
    }

    fn latency(&self) -> Latency {
        let took = self.samples.iter().map(|sample| sample.took_ms).collect();
        let last = self.samples.back();
        latency::summary(
            took,
            WINDOW_S,
            last.map(|last| (last.took_ms, last.seen.wall)),
        )
    }

    fn forget(&mut self, now_ms: u64) {
        let from = now_ms.saturating_sub(WINDOW_S * 1_000);
        let old = |sample: &Sample| sample.seen.mono_ms < from;
        while self.samples.front().is_some_and(old) || self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time() -> Time {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    fn beat(lsn: u64, sent_ms: u64) -> Beat {
        Beat {
            lsn: Lsn(lsn),
            at: time(),
            sent_ms,
        }
    }

    fn at(mono_ms: u64) -> Moment {
        Moment {
            wall: time(),
            mono_ms,
        }
    }

    #[test]
    fn one_look_settles_every_heartbeat_that_is_there() {
        let mut ledger = Ledger::default();
        for number in 1..=3 {
            ledger.written(beat(number * 10, number * 1_000));
        }
        ledger.seen(Lsn(25), at(4_000), true);
        let shown = ledger.show(1_000, 4_000);
        assert_eq!(shown.outstanding, vec![beat(30, 3_000)]);
        assert_eq!(shown.passed, Some(beat(20, 2_000)));
        let latency = shown.latency.unwrap();
        assert_eq!((latency.samples, latency.last_ms), (2, Some(2_000)));
        assert_eq!(latency.p99_ms, Some(3_000));
    }

    #[test]
    fn a_late_look_settles_without_a_sample() {
        let mut ledger = Ledger::default();
        ledger.written(beat(10, 0));
        ledger.seen(Lsn(10), at(900), false);
        let shown = ledger.show(1_000, 900);
        assert!(shown.outstanding.is_empty());
        assert_eq!(shown.latency.unwrap().samples, 0);
    }

    #[test]
    fn samples_leave_the_window() {
        let mut ledger = Ledger::default();
        ledger.written(beat(10, 0));
        ledger.seen(Lsn(10), at(5), true);
        assert_eq!(ledger.show(1, 300_005).latency.unwrap().samples, 1);
        assert_eq!(ledger.show(1, 300_006).latency.unwrap().samples, 0);
    }

    #[test]
    fn the_oldest_outstanding_one_is_never_forgotten() {
        let mut ledger = Ledger::default();
        for number in 1..=10_000 {
            ledger.written(beat(number, number));
        }
        assert_eq!(ledger.oldest(), Some(beat(1, 1)));
        assert!(ledger.outstanding.len() <= OUTSTANDING_MAX);
    }

    #[test]
    fn another_source_ends_what_was_outstanding() {
        let mut ledger = Ledger::default();
        ledger.written(beat(900, 0));
        ledger.seen(Lsn(900), at(1), true);
        ledger.written(beat(1_000, 2));
        ledger.written(beat(10, 5));
        assert_eq!(ledger.oldest(), Some(beat(10, 5)));
        assert_eq!(ledger.show(1_000, 6).passed, None);
    }
}
