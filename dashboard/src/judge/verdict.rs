//! The verdict on the projections, from how they behaved.

use millrace_control::Fault;

use crate::collect::{CaptureReading, ProjectorReading, SourceReading};
use crate::status::{Answer, Lag, State, Target, Verdict};

use super::window::Window;

/// Something to do and no move for so long: stalled.
const STALLED_MS: u64 = 10_000;
/// A lag up to this is fresh.
const FRESH_MS: u64 = 5_000;
/// Who catches up has moved in so long.
const MOVES_MS: u64 = 3_000;
/// A longer estimate says nothing.
const ETA_S_MAX: f64 = 30.0 * 86_400.0;

/// What a verdict is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) source: &'a Answer<SourceReading>,
    pub(super) capture: &'a Answer<CaptureReading>,
    pub(super) projector: &'a Answer<ProjectorReading>,
    pub(super) target: &'a Answer<Target>,
    pub(super) lag: &'a Lag,
    pub(super) window: &'a Window,
}

/// A verdict with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) reason: Option<String>,
    pub(super) eta_s: Option<u64>,
}

impl Judgement {
    /// One that says it all, together with the lag that stands beside it.
    fn plain(verdict: Verdict) -> Judgement {
        Judgement {
            verdict,
            reason: None,
            eta_s: None,
        }
    }

    fn new(verdict: Verdict, reason: impl Into<String>) -> Judgement {
        Judgement {
            reason: Some(reason.into()),
            ..Judgement::plain(verdict)
        }
    }

    fn with_eta(mut self, eta_s: Option<u64>) -> Judgement {
        self.eta_s = eta_s;
        self
    }
}

/// What is certain comes first: that it went back, stands or was stopped is so whatever else is not
/// known.
pub(super) fn judge(facts: &Facts<'_>) -> Judgement {
    let projector = match facts.projector {
        Answer::Known(projector) => projector,
        Answer::Unknown(reason) => {
            return Judgement::new(Verdict::Unknown, format!("projector: {reason}"));
        }
    };
    rewound(facts)
        .or_else(|| stopped(projector))
        .or_else(|| stalled(facts, projector))
        .or_else(|| loading(facts, projector))
        .unwrap_or_else(|| by_lag(facts, projector))
}

fn rewound(facts: &Facts<'_>) -> Option<Judgement> {
    let from = facts.window.rewound_from()?;
    let reason = format!("the position went back; it was at {from} less than 30 s ago");
    Some(Judgement::new(Verdict::Rewound, reason))
}

fn stopped(projector: &ProjectorReading) -> Option<Judgement> {
    if let Some(since) = projector.paused_since {
        return Some(Judgement::new(
            Verdict::Stopped,
            format!("paused since {}", since.in_words()),
        ));
    }
    let fault = projector.error.as_ref();
    (projector.state == State::Stopped).then(|| {
        let reason = fault.map_or("the projector has ended".to_owned(), ToString::to_string);
        Judgement::new(Verdict::Stopped, reason)
    })
}

/// Waiting for a snapshot, and making indexes and marts, show no progress of their own.
fn stalled(facts: &Facts<'_>, projector: &ProjectorReading) -> Option<Judgement> {
    let may_stand = matches!(
        projector.state,
        State::WaitingForSnapshot | State::Building | State::Swapping
    );
    // Of a Postgres that does not answer it is not known whether it has anything for us.
    let nothing_known = matches!(facts.source, Answer::Unknown(_)) && facts.lag.own_ms == Some(0);
    let still_ms = facts.window.still_ms();
    if still_ms < STALLED_MS || may_stand || nothing_known {
        return None;
    }
    let reason = format!(
        "nothing moved for {} s: {}",
        still_ms / 1_000,
        cause(facts, projector)
    );
    Some(Judgement::new(Verdict::Stalled, reason))
}

/// Who is to be looked at.
fn cause(facts: &Facts<'_>, projector: &ProjectorReading) -> String {
    if let Some(fault) = fault(projector) {
        return fault.to_string();
    }
    let own = match (facts.lag.own_ms, facts.lag.inherited_ms) {
        (Some(own), Some(inherited)) => inherited < own.max(1),
        // Where nothing else is known it is who is known to have something to do.
        (Some(own), None) => own > 0,
        (None, inherited) => inherited == Some(0),
    };
    if own {
        let idle = || "the projector has something to apply and does not".to_owned();
        return target_is_silent(facts).unwrap_or_else(idle);
    }
    match facts.capture {
        Answer::Unknown(reason) => format!("capture: {reason}"),
        Answer::Known(capture) => match &capture.last_error {
            Some(fault) => fault.to_string(),
            None => format!(
                "capture ({}) does not fetch what Postgres has",
                capture.state
            ),
        },
    }
}

fn loading(facts: &Facts<'_>, projector: &ProjectorReading) -> Option<Judgement> {
    let words = match projector.state {
        State::Live | State::Stopped => return None,
        State::Unknown => {
            let reason = "the projector does not say what it does";
            return Some(Judgement::new(Verdict::Unknown, reason));
        }
        State::Starting => "connecting",
        State::WaitingForSnapshot => "waiting for a snapshot in the log",
        State::Loading => "loading the snapshot",
        State::Building => "building indexes and marts",
        State::Swapping => "swapping in the new tables",
        State::WaitingForMysql => "waiting for MySQL",
    };
    Some(match fault(projector) {
        Some(fault) => Judgement::new(Verdict::FallingBehind, format!("{words}: {fault}")),
        None => Judgement::new(Verdict::CatchingUp, words).with_eta(loaded_in_s(facts, projector)),
    })
}

fn loaded_in_s(facts: &Facts<'_>, projector: &ProjectorReading) -> Option<u64> {
    let snapshot = projector.snapshot?;
    let left = snapshot.rows_estimated.checked_sub(snapshot.rows)?;
    seconds(left, facts.window.rows_slope()?)
}

fn by_lag(facts: &Facts<'_>, projector: &ProjectorReading) -> Judgement {
    let trouble = trouble(facts, projector);
    let Some(lag_ms) = facts.lag.total_ms else {
        let missing = what_is_missing(facts);
        let trouble = trouble.filter(|trouble| *trouble != missing);
        let reasons: Vec<_> = std::iter::once(missing).chain(trouble).collect();
        return Judgement::new(Verdict::Unknown, reasons.join("; "));
    };
    match trouble {
        Some(trouble) => Judgement::new(Verdict::FallingBehind, trouble),
        None if lag_ms <= FRESH_MS => Judgement::plain(Verdict::Ok),
        None => by_slope(facts, lag_ms),
    }
}

/// Why it is not well whatever the lag is: a failure is there before the lag that it makes.
fn trouble(facts: &Facts<'_>, projector: &ProjectorReading) -> Option<String> {
    let silent = target_is_silent(facts);
    fault(projector).map(ToString::to_string).or(silent)
}

fn target_is_silent(facts: &Facts<'_>) -> Option<String> {
    let reason = facts.target.reason()?;
    Some(format!("MySQL: {reason}"))
}

fn by_slope(facts: &Facts<'_>, lag_ms: u64) -> Judgement {
    match facts.window.lag_slope() {
        None => Judgement::new(Verdict::Unknown, "not watched long enough to say more"),
        Some(slope) if slope < 0.0 && facts.window.moved_within(MOVES_MS) => {
            Judgement::plain(Verdict::CatchingUp).with_eta(seconds(lag_ms, -slope))
        }
        Some(_) => Judgement::plain(Verdict::FallingBehind),
    }
}

/// What the projector itself complains of.
fn fault(projector: &ProjectorReading) -> Option<&Fault> {
    projector.error.as_ref().or(projector.log_error.as_ref())
}

fn what_is_missing(facts: &Facts<'_>) -> String {
    if let Answer::Unknown(reason) = facts.source {
        return format!("Postgres: {reason}");
    }
    if facts.lag.inherited_ms.is_none() {
        return match facts.capture {
            Answer::Unknown(reason) => format!("capture: {reason}"),
            Answer::Known(capture) => format!(
                "capture ({}) does not say whether the log has everything",
                capture.state
            ),
        };
    }
    let old = || "the projector does not say how old what it has to apply is".to_owned();
    target_is_silent(facts).unwrap_or_else(old)
}

/// Until `amount` is gone at so much per millisecond.
fn seconds(amount: u64, per_ms: f64) -> Option<u64> {
    let seconds = amount as f64 / per_ms / 1_000.0;
    (seconds.is_finite() && (0.0..ETA_S_MAX).contains(&seconds)).then(|| seconds.ceil() as u64)
}
