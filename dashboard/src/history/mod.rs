//! Lag and rate of each projection over the last five minutes, hour and day.

mod file;
mod ring;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::status::Status;

use ring::{Resolution, Ring};

pub(crate) use file::{encode, Store};

/// Bounds the history, whatever projections there are.
const PROJECTIONS_MAX: usize = 64;

const RESOLUTIONS: [Resolution; 3] = [
    Resolution {
        step_ms: 1_000,
        steps: 300,
    },
    Resolution {
        step_ms: 10_000,
        steps: 360,
    },
    Resolution {
        step_ms: 120_000,
        steps: 720,
    },
];

/// How far back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Range {
    #[serde(rename = "5m")]
    Minutes,
    #[serde(rename = "1h")]
    Hour,
    #[serde(rename = "24h")]
    Day,
}

/// All series of all projections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct History(BTreeMap<String, [Ring; 3]>);

/// The answer to `/api/history`.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    range: Range,
    step_ms: u64,
    series: BTreeMap<String, Series>,
}

#[derive(Debug, Serialize)]
struct Series {
    at: Vec<u64>,
    lag_ms: Vec<Option<u64>>,
    rate: Vec<Option<f64>>,
}

impl Range {
    pub(crate) fn parse(text: &str) -> Option<Range> {
        match text {
            "5m" => Some(Range::Minutes),
            "1h" => Some(Range::Hour),
            "24h" => Some(Range::Day),
            _ => None,
        }
    }

    fn index(self) -> usize {
        match self {
            Range::Minutes => 0,
            Range::Hour => 1,
            Range::Day => 2,
        }
    }
}

impl History {
    /// Adds what a tick found.
    pub(crate) fn add(&mut self, status: &Status) {
        let now_ms = status.at.epoch_ms();
        for projection in &status.projections {
            let rate = projection.rate.transactions_per_s;
            self.add_sample(&projection.name, now_ms, projection.lag.total_ms, rate);
        }
    }

    fn add_sample(&mut self, name: &str, now_ms: u64, lag_ms: Option<u64>, rate: Option<f64>) {
        if !self.0.contains_key(name) {
            if self.0.len() >= PROJECTIONS_MAX {
                self.forget(now_ms);
            }
            if self.0.len() >= PROJECTIONS_MAX {
                return;
            }
        }
        let rings = self.0.entry(name.to_owned()).or_default();
        for (ring, resolution) in rings.iter_mut().zip(RESOLUTIONS) {
            ring.add(resolution, now_ms, lag_ms, rate);
        }
    }

    /// Drops projections of which nothing is left to show.
    fn forget(&mut self, now_ms: u64) {
        self.0.retain(|_, rings| {
            let mut rings = rings.iter().zip(RESOLUTIONS);
            !rings.all(|(ring, resolution)| ring.is_over(resolution, now_ms))
        });
    }

    /// The series of a range, up to now.
    pub(crate) fn show(&self, range: Range, now_ms: u64) -> Shown {
        let resolution = RESOLUTIONS[range.index()];
        let series = self.0.iter().map(|(name, rings)| {
            let drawn = rings[range.index()].draw(resolution, now_ms);
            let series = Series {
                at: drawn.at,
                lag_ms: drawn.lag_ms,
                rate: drawn.rate,
            };
            (name.clone(), series)
        });
        Shown {
            range,
            step_ms: resolution.step_ms,
            series: series.collect(),
        }
    }

    fn is_sound(&self) -> bool {
        let sound = |rings: &[Ring; 3]| {
            let mut rings = rings.iter().zip(RESOLUTIONS);
            rings.all(|(ring, resolution)| ring.is_sound(resolution))
        };
        self.0.len() <= PROJECTIONS_MAX && self.0.values().all(sound)
    }
}
