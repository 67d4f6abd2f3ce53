//! How far behind, and how that is known.

use millrace_events::Lsn;

use crate::collect::{CaptureReading, ProjectorReading, SourceReading};
use crate::heartbeat::Beats;
use crate::status::{Basis, Lag, Time};

/// A tick, and as much again as half of one may be late: what had been written so long ago and has been
/// received is everything, as far as a tick can tell.
const WITHIN_MS: u64 = 1_500;
/// A heartbeat that has passed vouches for nothing that came after it: one so old is no evidence that
/// nothing waits. As old as a heartbeat becomes until the next one, if they are as frequent as by default.
const VOUCHES_MS: u64 = 2_500;
/// A heartbeat is on its way for so long without anything being wrong.
const ON_ITS_WAY_MS: u64 = 1_000;

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
    /// MySQL itself has said so just now.
    pub(super) target_answers: bool,
    pub(super) beats: &'a Beats,
    /// Everything that Postgres had written so long ago has been received.
    pub(super) received_ms: Option<u64>,
    /// Distance of two looks.
    pub(super) tick_ms: u64,
}

/// A lag that is known. Ordered by its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    ms: u64,
    basis: Basis,
}

const NOTHING: Part = Part {
    ms: 0,
    basis: Basis::Exact,
};

/// A heartbeat that has not passed.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    lsn: Lsn,
    /// Its own age: what waits is at least so old.
    own: Part,
    /// Age of the heartbeat before it, which has passed: what waits is at most so old. `None`: what
    /// waits may be older than all heartbeats.
    bound: Option<Part>,
}

impl Waiting {
    /// A heartbeat that is only just on its way is its own measure where what is before it is known to have
    /// passed, or cannot be much older: else an idle pipeline would be a period behind whenever it is
    /// looked at in that moment.
    fn measured(self, rest_has_passed: bool) -> Option<Part> {
        let bound = self.bound?;
        let rest_is_young = rest_has_passed || bound.ms <= VOUCHES_MS;
        let on_its_way = rest_is_young && self.own.ms <= ON_ITS_WAY_MS;
        Some(if on_its_way { self.own } else { bound })
    }
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
            transactions: self.transactions(),
            bytes: self.bytes(total),
        }
    }

    /// Those that were read. While reading stands, those that were not are missing in it.
    fn transactions(&self) -> Option<u64> {
        let projector = self.projector?;
        let stands = projector.error.is_some() || projector.log_error.is_some();
        let pending = projector.pending_transactions?;
        let unread = projector
            .lag_records
            .is_some_and(|records| records > pending);
        (!(stands && unread)).then_some(pending)
    }

    /// Age of the oldest transaction in the log that is not applied. A heartbeat that the log has and
    /// MySQL has not counts also if the projector knows of nothing to do: it may wait for a record
    /// that was lost.
    fn own(&self) -> Option<Part> {
        let waiting = self.applied.and_then(|applied| self.beats_beyond(applied));
        let measured = |rest| waiting.and_then(|waiting| waiting.measured(rest));
        let Some(projector) = self.projector else {
            return measured(false);
        };
        let held_up = waiting.filter(|waiting| self.in_log().is_some_and(|end| waiting.lsn <= end));
        if let Some(at) = projector.oldest_pending_at {
            return longer(Some(self.exact(at)), held_up.map(|waiting| waiting.own));
        }
        let has_all = projector.lag_records == Some(0) && projector.log_error.is_none();
        // A MySQL that does not answer may have lost what it had.
        match has_all && held_up.is_none() && self.target_answers {
            true => Some(NOTHING),
            false => measured(has_all),
        }
    }

    /// Age of the oldest transaction in Postgres that is not in the log.
    fn inherited(&self) -> Option<Part> {
        let waiting = self.in_log().and_then(|end| self.beats_beyond(end));
        let pending = self.capture.and_then(|capture| capture.oldest_pending_at);
        if let Some(at) = pending.flatten() {
            return longer(Some(self.exact(at)), waiting.map(|waiting| waiting.own));
        }
        let rest_has_passed = self.has_all_of_earlier();
        let measured = waiting.and_then(|waiting| waiting.measured(rest_has_passed));
        match measured {
            Some(measured) if rest_has_passed => Some(measured),
            Some(measured) => Some(shorter(measured, self.unreceived())),
            None => self.nothing_outstanding().or(self.unreceived()),
        }
    }

    /// 0 if that is known: something written just now is known to have come through. That nothing
    /// came is no evidence, as a sender that hangs sends nothing either.
    fn nothing_outstanding(&self) -> Option<Part> {
        if !self.source?.slot.as_ref()?.active {
            return None;
        }
        if self.streams() && self.has_all_of_earlier() {
            return Some(NOTHING);
        }
        let vouched = Part {
            basis: Basis::Heartbeat,
            ..NOTHING
        };
        // Where capture tells, what it tells counts: it has not received what came after the heartbeat.
        (!self.streams() && self.last_beat_passed()).then_some(vouched)
    }

    /// What capture has not received is no older than this. Of a Postgres that does not answer it is not known
    /// whether there is anything.
    fn unreceived(&self) -> Option<Part> {
        self.source?;
        let ms = self.received_ms.filter(|_| self.streams())?;
        Some(Part {
            ms,
            basis: Basis::Wal,
        })
    }

    /// Capture follows Postgres, and nothing that it has received is on its way.
    fn streams(&self) -> bool {
        self.capture.is_some_and(|capture| {
            capture.state == "streaming" && capture.oldest_pending_at == Some(None)
        })
    }

    /// It has received what Postgres had written a tick ago; keepalives tell it also of what is no
    /// transaction.
    fn has_all_of_earlier(&self) -> bool {
        let within_ms = WITHIN_MS.max(self.tick_ms.saturating_mul(3) / 2);
        self.received_ms.is_some_and(|ms| ms <= within_ms)
    }

    fn last_beat_passed(&self) -> bool {
        let Some(last) = self.beats.last else {
            return false;
        };
        let fresh = self.now.ms_since(last.at) <= VOUCHES_MS;
        fresh && self.in_log().is_some_and(|end| last.lsn <= end)
    }

    /// Capture has received the WAL at least to here.
    pub(super) fn received(&self) -> Option<Lsn> {
        let received = self.capture.and_then(|capture| capture.received_lsn);
        received.max(self.in_log())
    }

    /// Whatever anybody has seen of the log: it reaches at least to here.
    fn in_log(&self) -> Option<Lsn> {
        let slot = self.source.and_then(|source| source.slot.as_ref());
        let confirmed = slot.and_then(|slot| slot.confirmed_lsn);
        let acknowledged = self.capture.and_then(|capture| capture.last_lsn);
        let read = self.projector.and_then(|projector| projector.end_lsn);
        confirmed.max(acknowledged).max(read).max(self.applied)
    }

    /// The oldest heartbeat behind `passed`, if there is one.
    fn beats_beyond(&self, passed: Lsn) -> Option<Waiting> {
        let beats = self.beats;
        let beat = beats.outstanding.iter().find(|beat| beat.lsn > passed)?;
        let mut all = beats.passed.iter().chain(&beats.outstanding);
        let before = all.rfind(|beat| beat.lsn <= passed);
        Some(Waiting {
            lsn: beat.lsn,
            own: self.part(beat.at, Basis::Heartbeat),
            bound: before.map(|beat| self.part(beat.at, Basis::Heartbeat)),
        })
    }

    fn exact(&self, committed_at: Time) -> Part {
        self.part(committed_at, Basis::Exact)
    }

    /// What waits is never 0 old, also if it came after the clock was read.
    fn part(&self, since: Time, basis: Basis) -> Part {
        Part {
            ms: self.now.ms_since(since).max(1),
            basis,
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

/// One of the heartbeats with these ages waits, and is not just on its way.
pub(super) fn one_waits(mut ages_ms: impl Iterator<Item = u64>) -> bool {
    ages_ms.any(|age_ms| age_ms > ON_ITS_WAY_MS)
}

/// Of two upper limits the lower one.
fn shorter(a: Part, b: Option<Part>) -> Part {
    match b {
        Some(b) if b.ms < a.ms => b,
        _ => a,
    }
}

/// The longer one; of two as long the one that is less certain.
fn longer(a: Option<Part>, b: Option<Part>) -> Option<Part> {
    match (a, b) {
        (Some(a), Some(b)) => {
            let b_counts = b.ms > a.ms || (b.ms == a.ms && b.basis != Basis::Exact);
            Some(if b_counts { b } else { a })
        }
        (one, other) => one.or(other),
    }
}
