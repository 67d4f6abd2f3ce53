//! Verification that the projector runs by itself, every so often.
//!
//! A person goes first: while the projector is paused or held by somebody, none begins, and one that runs gives up. What
//! is in its way (a transaction of Postgres that does not end, another verification) is told, and tried again soon; it
//! is no finding. Runs never overlap: the next one is due a period after the last one began, and not before as much time
//! has passed as that one took.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use millrace_control::{in_words, time};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{verify, By, Config, Pace};
use crate::engine::{Handle, State, Status};

/// What is in the way is looked at again after this time.
const AGAIN: Duration = Duration::from_secs(5);
/// The first one ever is due so soon after the tables are there.
const FIRST: Duration = Duration::from_secs(60);
/// A slot is waited for no longer while the projector is held: marts stand still meanwhile.
const SLOT_WITHIN: Duration = Duration::from_secs(5);
/// Nor is the consistent point. A projector that is far behind catches up first.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(15);

/// What is known of the verifications that run by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Periodic {
    /// Seconds between the beginnings of two of them.
    pub period_s: u64,
    /// When the next one is due.
    #[serde(serialize_with = "time::serialize_option")]
    pub next_at: Option<DateTime<Utc>>,
    /// Since when one runs.
    #[serde(serialize_with = "time::serialize_option")]
    pub running_since: Option<DateTime<Utc>>,
    /// What one that is due waits for.
    pub waits_for: Option<String>,
}

/// Verifies every `period` until `shutdown`. `config` says what is compared; how is said here.
pub async fn run(config: Config, period: Duration, projector: Handle, shutdown: CancellationToken) {
    let schedule = Schedule {
        config: Config {
            by: By::Period,
            pace: Pace::Quarter,
            slot_timeout: SLOT_WITHIN,
            catch_up_timeout: CATCH_UP_WITHIN,
            ..config
        },
        period,
        projector,
    };
    tokio::select! {
        () = schedule.keep(&shutdown) => {}
        () = shutdown.cancelled() => {}
    }
}

struct Schedule {
    config: Config,
    period: Duration,
    projector: Handle,
}

impl Schedule {
    async fn keep(&self, shutdown: &CancellationToken) {
        let mut due = self.first_due().await;
        loop {
            self.show(Some(due), None, None);
            tokio::time::sleep(until(due)).await;
            while let Err(reason) = self.attempt(shutdown).await {
                tracing::info!(reason, "a verification is due and waits");
                self.show(Some(due), None, Some(reason));
                tokio::time::sleep(AGAIN).await;
            }
            due = self.next_due(Utc::now());
        }
    }

    /// A period after the last one, which another process may have run.
    async fn first_due(&self) -> DateTime<Utc> {
        let mut status = self.projector.watch();
        let live = status.wait_for(|status| status.state == State::Live && status.verify.is_some());
        let last = match live.await {
            Ok(status) => status.verify.as_ref().and_then(|known| known.last_at()),
            Err(_) => None,
        };
        match last {
            Some(at) => at + delta(self.period),
            None => Utc::now() + delta(self.period.min(FIRST)),
        }
    }

    fn next_due(&self, ended: DateTime<Utc>) -> DateTime<Utc> {
        let began = self
            .projector
            .status()
            .periodic
            .and_then(|p| p.running_since);
        next(began.unwrap_or(ended), ended, self.period)
    }

    /// Runs one; an error says what it waits for.
    async fn attempt(&self, shutdown: &CancellationToken) -> Result<(), String> {
        if let Some(reason) = in_the_way(&self.projector.status()) {
            return Err(reason);
        }
        self.show(None, Some(Utc::now()), None);
        let stop = shutdown.child_token();
        let running = verify(&self.config, &stop);
        tokio::pin!(running);
        let outcome = tokio::select! {
            outcome = &mut running => outcome,
            () = self.somebody_comes() => {
                stop.cancel();
                let _ = running.await;
                return Err("somebody who pauses or holds the projector".to_owned());
            }
        };
        match outcome {
            Err(error) if error.is_of_the_moment() => Err(error.to_string()),
            Err(error) => {
                tracing::warn!(error = in_words(&error), "a verification gave no answer");
                Ok(())
            }
            Ok(report) => {
                tracing::info!(equal = report.equal, lsn = %report.lsn, "verified");
                Ok(())
            }
        }
    }

    async fn somebody_comes(&self) {
        let mut status = self.projector.watch();
        let comes = status.wait_for(is_paused_or_held);
        if comes.await.is_err() {
            std::future::pending().await
        }
    }

    fn show(
        &self,
        next_at: Option<DateTime<Utc>>,
        running_since: Option<DateTime<Utc>>,
        waits_for: Option<String>,
    ) {
        self.projector.show_periodic(Periodic {
            period_s: self.period.as_secs(),
            next_at,
            running_since,
            waits_for,
        });
    }
}

/// Why none may begin now.
fn in_the_way(status: &Status) -> Option<String> {
    if status.state != State::Live {
        return Some("the projector, which is not live".to_owned());
    }
    is_paused_or_held(status).then(|| "somebody who pauses or holds the projector".to_owned())
}

fn is_paused_or_held(status: &Status) -> bool {
    let held = status.hold.is_some_and(|hold| hold.by == By::Person);
    held || status.paused_since.is_some()
}

/// When the one after a run is due.
fn next(began: DateTime<Utc>, ended: DateTime<Utc>, period: Duration) -> DateTime<Utc> {
    (began + delta(period)).max(ended + (ended - began))
}

fn delta(time: Duration) -> TimeDelta {
    TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX)
}

fn until(due: DateTime<Utc>) -> Duration {
    (due - Utc::now()).to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{HoldId, HoldStatus};

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).expect("a time")
    }

    fn live() -> Status {
        Status {
            state: State::Live,
            ..Status::default()
        }
    }

    fn held(by: By) -> Status {
        Status {
            hold: Some(HoldStatus {
                id: HoldId(1),
                by,
                stop_before: None,
                reached: true,
            }),
            ..live()
        }
    }

    #[test]
    fn the_next_is_due_a_period_after_the_last_began() {
        let period = Duration::from_secs(300);
        assert_eq!(next(at(1_000), at(1_010), period), at(1_300));
    }

    #[test]
    fn one_that_takes_longer_than_half_the_period_is_followed_by_a_rest_as_long() {
        let period = Duration::from_secs(300);
        assert_eq!(next(at(1_000), at(1_200), period), at(1_400));
        assert_eq!(next(at(1_000), at(2_000), period), at(3_000));
    }

    #[test]
    fn a_pause_and_a_hold_of_a_person_go_first_and_its_own_hold_does_not() {
        assert_eq!(in_the_way(&live()), None);
        assert_eq!(in_the_way(&held(By::Period)), None);
        assert!(in_the_way(&held(By::Person)).is_some());
        let paused = Status {
            paused_since: Some(at(1)),
            ..live()
        };
        assert!(in_the_way(&paused).is_some());
    }

    #[test]
    fn a_projector_that_is_not_live_is_not_verified() {
        assert!(in_the_way(&Status::default()).is_some_and(|reason| reason.contains("not live")));
    }
}
