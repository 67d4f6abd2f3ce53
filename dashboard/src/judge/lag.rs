//! How far behind, and how that is known.

use millrace_events::Lsn;

use crate::collect::{CaptureReading, ProjectorReading, SourceReading};
use crate::heartbeat::Beats;
use crate::status::{Basis, Lag, Time};

/// Heartbeats say that nothing waits only while they are younger than so many periods.
const FRESH_PERIODS: u64 = 2;
const FRESH_MS_MORE: u64 = 1_000;

/// What the lag is told from; `None` is not known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence<'a> {
    /// Postgres' clock, which commit times are of.
    pub(super) now: Time,
    pub(super) source: Option<&'a SourceReading>,
    pub(super) capture: Option<&'a CaptureReading>,
    pub(super) projector: Option<&'a ProjectorReading>,
    /// Position in MySQL.
    pub(super) applied: Option<Lsn>,
    pub(super) beats: &'a Beats,
}

/// A lag that is known. Ordered by its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    ms: u64,
    basis: Basis,
}

impl Evidence<'_> {
    /// Both parts and their maximum.
    pub(super) fn lag(&self) -> Lag {
        let (own, inherited) = (self.own(), self.inherited());
        let worse = longer(own, inherited);
        let both = own.is_some() && inherited.is_some() && self.source.is_some();
        let total = worse.filter(|_| both);
        Lag {
            total_ms: total.map(|part| part.ms),
            own_ms: own.map(|part| part.ms),
            inherited_ms: inherited.map(|part| part.ms),
            basis: worse.map(|part| part.basis),
            records: self.projector.and_then(|projector| projector.lag_records),
            transactions: self
                .projector
                .and_then(|projector| projector.pending_transactions),
            bytes: self.bytes(total),
        }
    }

    /// Age of the oldest transaction in the log that is not applied. A heartbeat that the log has and
    /// MySQL has not counts also if the projector knows of nothing to do: it may wait for a record
    /// that was lost.
    fn own(&self) -> Option<Part> {
        let waiting = self.oldest_beat(|lsn| self.applied.is_some_and(|applied| lsn > applied));
        let Some(projector) = self.projector else {
            return waiting;
        };
        let exact = projector.oldest_pending_at.map(|at| self.exact(at));
        let beyond_the_log = |lsn| self.in_log().is_none_or(|end| lsn > end);
        let held_up = waiting.filter(|_| {
            self.oldest_unapplied()
                .is_some_and(|lsn| !beyond_the_log(lsn))
        });
        if let Some(part) = longer(exact, held_up) {
            return Some(part);
        }
        match projector.lag_records {
            Some(0) if projector.log_error.is_none() => Some(Part {
                ms: 0,
                basis: Basis::Exact,
            }),
            _ => waiting,
        }
    }

    /// Age of the oldest transaction in Postgres that is not in the log.
    fn inherited(&self) -> Option<Part> {
        let pending = self.capture.and_then(|capture| capture.oldest_pending_at);
        let exact = pending.flatten().map(|at| self.exact(at));
        let waiting = self.oldest_beat(|lsn| self.in_log().is_some_and(|end| lsn > end));
        longer(exact, waiting).or_else(|| self.nothing_outstanding())
    }

    /// 0 if that is known.
    fn nothing_outstanding(&self) -> Option<Part> {
        let slot = self.source?.slot.as_ref()?;
        let streams = self.capture.is_some_and(|capture| {
            capture.state == "streaming" && capture.oldest_pending_at == Some(None)
        });
        let basis = if streams && slot.active {
            Basis::Exact
        } else if slot.active && self.last_beat_passed() {
            Basis::Heartbeat
        } else {
            return None;
        };
        Some(Part { ms: 0, basis })
    }

    fn last_beat_passed(&self) -> bool {
        let (Some(period_ms), Some(last)) = (self.beats.period_ms, self.beats.last) else {
            return false;
        };
        let fresh = self.now.ms_since(last.at) <= FRESH_PERIODS * period_ms + FRESH_MS_MORE;
        fresh && self.in_log().is_some_and(|end| last.lsn <= end)
    }

    /// Whatever anybody has seen of the log: it reaches at least to here.
    fn in_log(&self) -> Option<Lsn> {
        let slot = self.source.and_then(|source| source.slot.as_ref());
        let confirmed = slot.and_then(|slot| slot.confirmed_lsn);
        let acknowledged = self.capture.and_then(|capture| capture.last_lsn);
        let read = self.projector.and_then(|projector| projector.end_lsn);
        confirmed.max(acknowledged).max(read).max(self.applied)
    }

    fn oldest_unapplied(&self) -> Option<Lsn> {
        let applied = self.applied?;
        let mut waiting = self.beats.outstanding.iter();
        waiting.find(|beat| beat.lsn > applied).map(|beat| beat.lsn)
    }

    fn oldest_beat(&self, waits: impl Fn(Lsn) -> bool) -> Option<Part> {
        let beat = self.beats.outstanding.iter().find(|beat| waits(beat.lsn))?;
        Some(Part {
            ms: self.now.ms_since(beat.at),
            basis: Basis::Heartbeat,
        })
    }

    fn exact(&self, committed_at: Time) -> Part {
        Part {
            ms: self.now.ms_since(committed_at),
            basis: Basis::Exact,
        }
    }

    /// An idle source writes WAL without transactions: who has caught up is 0 bytes behind.
    fn bytes(&self, total: Option<Part>) -> Option<u64> {
        if total?.ms == 0 {
            return Some(0);
        }
        Some(self.source?.lsn.0.saturating_sub(self.applied?.0))
    }
}

fn longer(a: Option<Part>, b: Option<Part>) -> Option<Part> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.ms > a.ms { b } else { a }),
        (one, other) => one.or(other),
    }
}
