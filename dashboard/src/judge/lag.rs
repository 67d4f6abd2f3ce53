//! How far behind, and how that is known.

use millrace_events::Lsn;

use crate::collect::{CaptureReading, ProjectorReading, SourceReading};
use crate::heartbeat::Beats;
use crate::status::{Basis, Lag, Time};

/// A heartbeat that has passed vouches for nothing that came after it: one so old is no evidence that
/// nothing waits. As long as what is looked back to otherwise.
const VOUCHES_MS: u64 = super::earlier::WITHIN_MS;
/// Where capture tells nothing there is nothing better: until the next one has passed, but no longer
/// than this.
const VOUCHES_ALONE_MS_MAX: u64 = 3_000;
const VOUCHES_ALONE_MS_MORE: u64 = 1_000;
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
    /// End of Postgres' WAL a short while ago.
    pub(super) earlier: Option<Lsn>,
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
    /// A heartbeat that is only just on its way is its own measure where everything before it is known
    /// to have passed: else an idle pipeline would be a period behind whenever it is looked at in that
    /// moment.
    fn measured(self, rest_has_passed: bool) -> Option<Part> {
        let bound = self.bound?;
        let on_its_way = rest_has_passed && self.own.ms <= ON_ITS_WAY_MS;
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
        let measured = waiting.and_then(|waiting| waiting.measured(true));
        let Some(projector) = self.projector else {
            return measured;
        };
        let held_up = waiting.filter(|waiting| self.in_log().is_some_and(|end| waiting.lsn <= end));
        if let Some(at) = projector.oldest_pending_at {
            return longer(Some(self.exact(at)), held_up.map(|waiting| waiting.own));
        }
        match projector.lag_records {
            Some(0) if projector.log_error.is_none() && held_up.is_none() => {
                // A MySQL that does not answer may have lost what it had.
                self.target_answers.then_some(NOTHING).or(measured)
            }
            _ => measured,
        }
    }

    /// Age of the oldest transaction in Postgres that is not in the log.
    fn inherited(&self) -> Option<Part> {
        let waiting = self.in_log().and_then(|end| self.beats_beyond(end));
        let pending = self.capture.and_then(|capture| capture.oldest_pending_at);
        if let Some(at) = pending.flatten() {
            return longer(Some(self.exact(at)), waiting.map(|waiting| waiting.own));
        }
        let rest = self.has_all_of_earlier() || !self.capture_tells();
        let measured = waiting.and_then(|waiting| waiting.measured(rest));
        measured.or_else(|| self.nothing_outstanding())
    }

    /// 0 if that is known: something written just now is known to have come through. That nothing
    /// came is no evidence, as a sender that hangs sends nothing either.
    fn nothing_outstanding(&self) -> Option<Part> {
        let slot = self.source?.slot.as_ref()?;
        let streams = self.capture.is_some_and(|capture| {
            capture.state == "streaming" && capture.oldest_pending_at == Some(None)
        });
        if !slot.active {
            return None;
        }
        if streams && self.has_all_of_earlier() {
            return Some(NOTHING);
        }
        let vouched = Part {
            basis: Basis::Heartbeat,
            ..NOTHING
        };
        self.last_beat_passed().then_some(vouched)
    }

    /// Capture has received what Postgres had written a tick ago; keepalives tell it also of
    /// what is no transaction.
    fn has_all_of_earlier(&self) -> bool {
        let received = self.capture.and_then(|capture| capture.received_lsn);
        self.earlier
            .is_some_and(|earlier| received.max(self.in_log()) >= Some(earlier))
    }

    /// Capture says what is on its way.
    fn capture_tells(&self) -> bool {
        self.capture
            .is_some_and(|capture| capture.oldest_pending_at.is_some())
    }

    fn last_beat_passed(&self) -> bool {
        let (Some(period_ms), Some(last)) = (self.beats.period_ms, self.beats.last) else {
            return false;
        };
        let within_ms = match self.capture_tells() {
            true => VOUCHES_MS,
            false => VOUCHES_ALONE_MS_MAX.min(period_ms.saturating_add(VOUCHES_ALONE_MS_MORE)),
        };
        let fresh = self.now.ms_since(last.at) <= within_ms;
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

/// The longer one; of two as long the one that is less certain.
fn longer(a: Option<Part>, b: Option<Part>) -> Option<Part> {
    match (a, b) {
        (Some(a), Some(b)) => {
            let b_counts = b.ms > a.ms || (b.ms == a.ms && b.basis == Basis::Heartbeat);
            Some(if b_counts { b } else { a })
        }
        (one, other) => one.or(other),
    }
}
