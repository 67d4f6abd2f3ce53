//! Scenarios: what the sources answer tick by tick, and what is then said.

mod evidence;
mod lags;
mod outage;
mod parts;
mod tables;
mod verification;

use millrace_events::Lsn;

use super::*;
use crate::collect::{Button, CaptureReading, IngestReading, Moment, Sizes};
use crate::heartbeat::{Beat, Beats};
use crate::status::{Basis, HopName, PartDown, Slot, Target, Time, Verdict, WalStatus};

fn start() -> Time {
    "2026-01-02T03:00:00Z".parse().expect("a time")
}

fn at(ms: i64) -> Time {
    start().shifted_us(ms * 1_000)
}

fn away<T>() -> Answer<T> {
    Answer::Unknown("connection refused".into())
}

/// A pipeline at rest, one tick after another.
struct World {
    memory: Memory,
    now_ms: u64,
    readings: Readings,
}

impl World {
    fn at_rest() -> World {
        let moment = Moment {
            wall: start(),
            mono_ms: 0,
        };
        World {
            memory: Memory::default(),
            now_ms: 0,
            readings: Readings {
                moment,
                source: Answer::Known(source_at(1_000)),
                target: Answer::Known(target_at(1_000)),
                sizes: Sizes::new(),
                topics: Answer::Known(Vec::new()),
                smartmodules: Answer::Known(vec!["columns".into()]),
                projector: Answer::Known(projector_at(1_000)),
                capture: Answer::Known(CaptureReading {
                    state: "streaming".into(),
                    last_lsn: Some(Lsn(1_000)),
                    oldest_pending_at: Some(None),
                    ..CaptureReading::default()
                }),
                ingest: Some(Answer::Known(IngestReading::default())),
                rejected: Some(away()),
                beats: Beats::default(),
                button: Button::default(),
                parts_down: Vec::new(),
            },
        }
    }

    /// The next second, after `change`.
    fn tick(&mut self, change: impl FnOnce(&mut Readings)) -> Status {
        change(&mut self.readings);
        self.now_ms += 1_000;
        self.readings.moment = Moment {
            wall: at(self.now_ms as i64),
            mono_ms: self.now_ms,
        };
        let constants = Constants {
            tick_ms: 1_000,
            millrace: "0".into(),
            marts: vec![KnownMart {
                name: "mart_x".into(),
                version: "abc".into(),
                reads: vec!["t".into()],
            }],
        };
        let status = self.memory.status(&constants, &self.readings);
        says_nothing_twice(&status.headline);
        status
    }

    fn ticks(&mut self, seconds: u64, mut change: impl FnMut(&mut Readings)) -> Status {
        for _ in 1..seconds {
            self.tick(&mut change);
        }
        self.tick(change)
    }
}

/// Of what a headline begins with, which is about one thing, no part comes twice.
fn says_nothing_twice(headline: &str) {
    let first = headline.split("; ").next().unwrap_or_default();
    let mut parts: Vec<&str> = first.split([':', ',']).map(str::trim).collect();
    let all = parts.len();
    parts.sort_unstable();
    parts.dedup();
    assert_eq!(parts.len(), all, "{headline}");
}

fn source_at(lsn: u64) -> SourceReading {
    SourceReading {
        server: "PostgreSQL 15".into(),
        database: "shop".into(),
        lsn: Lsn(lsn),
        clock_ahead_us: 0,
        slot: Some(Slot {
            name: "millrace".into(),
            active: true,
            confirmed_lsn: Some(Lsn(lsn)),
            restart_lsn: Some(Lsn(lsn)),
            wal_status: Some(WalStatus::Reserved),
            retained_bytes: Some(0),
            left_bytes: None,
            behind_bytes: Some(0),
            last_feedback_at: None,
        }),
    }
}

fn target_at(lsn: u64) -> Target {
    Target {
        server: "MariaDB 10.11".into(),
        database: "shop".into(),
        applied_lsn: Some(Lsn(lsn)),
    }
}

fn projector_at(lsn: u64) -> ProjectorReading {
    ProjectorReading {
        state: State::Live,
        end_lsn: Some(Lsn(lsn)),
        lag_records: Some(0),
        pending_transactions: Some(0),
        ..ProjectorReading::default()
    }
}

fn projector(readings: &mut Readings) -> &mut ProjectorReading {
    match &mut readings.projector {
        Answer::Known(projector) => projector,
        Answer::Unknown(_) => panic!("the projector is away in this scenario"),
    }
}

fn source(readings: &mut Readings) -> &mut SourceReading {
    match &mut readings.source {
        Answer::Known(source) => source,
        Answer::Unknown(_) => panic!("Postgres is away in this scenario"),
    }
}

fn apply(readings: &mut Readings, lsn: u64) {
    projector(readings).end_lsn = Some(Lsn(lsn));
    readings.target = Answer::Known(target_at(lsn));
}

/// The projector has something of this age to do.
fn pend(readings: &mut Readings, since: Time) {
    let projector = projector(readings);
    projector.lag_records = Some(5);
    projector.pending_transactions = Some(5);
    projector.oldest_pending_at = Some(since);
}

fn beat_at(readings: &mut Readings, lsn: u64, when: Time) {
    let beat = Beat {
        lsn: Lsn(lsn),
        at: when,
        sent_ms: 0,
    };
    readings.beats.period_ms = Some(2_000);
    readings.beats.last = Some(beat);
    readings.beats.outstanding.push(beat);
}

/// The youngest heartbeat that is in MySQL.
fn passed_at(readings: &mut Readings, lsn: u64, when: Time) {
    let beat = Beat {
        lsn: Lsn(lsn),
        at: when,
        sent_ms: 0,
    };
    readings.beats.period_ms = Some(2_000);
    readings.beats.passed = Some(beat);
}

/// Verdict and lag of the first projection.
fn said(status: &Status) -> (Verdict, Lag) {
    (status.projections[0].verdict, status.projections[0].lag)
}

fn age(status: &Status, hop: HopName) -> Option<u64> {
    status
        .pipeline
        .iter()
        .find(|found| found.hop == hop)?
        .age_ms
}

fn slowest(status: &Status) -> Option<HopName> {
    status
        .pipeline
        .iter()
        .find(|hop| hop.slowest)
        .map(|hop| hop.hop)
}
