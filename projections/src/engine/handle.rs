//! How a running projector is watched, and told to hold still, to go on, and to build marts again.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_events::Lsn;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::shared::Shared;
use super::status::{HoldStatus, Status};
use crate::verify::{By, Periodic};

/// A statement that MySQL has not answered for longer is shown.
const SILENT: Duration = Duration::from_secs(5);

/// Watches and steers a running projector. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle(pub(crate) Arc<Shared>);

impl Handle {
    /// The projector as it is now.
    pub fn status(&self) -> Status {
        let mut status = self.0.shown().clone();
        let pending = self.0.pending();
        status.oldest_pending_at = pending.oldest_at();
        status.pending_transactions = pending.len();
        if let Some(owed) = self.0.answers().owed_for().filter(|owed| *owed > SILENT) {
            status.show_silence(owed);
        }
        status
    }

    /// Follows the status.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.0.follow()
    }

    /// Lets the projector stand still between two commits, and returns when it does. It goes on by
    /// itself when the limit of holds is over. A person takes the hold of a verification that runs by itself.
    pub async fn hold(&self, by: By, timeout: Duration) -> Result<HoldId, HoldError> {
        let id = HoldId(rand::random::<u64>() >> 11);
        let mut refused = None;
        self.0.orders.send_if_modified(|orders| {
            refused = match (orders.paused_since, orders.hold) {
                (Some(_), _) => Some(HoldError::Paused),
                (None, Some(other)) if !other.gives_way_to(by) => Some(HoldError::Busy(other.id)),
                (None, _) => None,
            };
            if refused.is_none() {
                orders.hold = Some(Hold {
                    id,
                    by,
                    until: Until::Now,
                    deadline: Instant::now() + self.0.hold_max,
                });
            }
            refused.is_none()
        });
        if let Some(error) = refused {
            return Err(error);
        }
        self.0.show_hold();
        self.standstill(id, timeout).await?;
        Ok(id)
    }

    /// Lets a held projector apply exactly the commits with `commit_lsn < lsn`, and returns when it
    /// has. If the log has none behind `lsn`, write one into the source.
    pub async fn stop_before(
        &self,
        id: HoldId,
        lsn: Lsn,
        timeout: Duration,
    ) -> Result<(), HoldError> {
        let at = self.status().end_lsn.unwrap_or(Lsn::ZERO);
        if at > lsn {
            return Err(HoldError::Passed(at));
        }
        let mut found = false;
        self.0.orders.send_if_modified(|orders| {
            if let Some(hold) = orders.hold.as_mut().filter(|hold| hold.id == id) {
                hold.until = Until::Before(lsn);
                found = true;
            }
            found
        });
        if !found {
            return Err(HoldError::Lost);
        }
        self.0.show_hold();
        self.standstill(id, timeout).await
    }

    /// Lets the projector go on. `Ok` proves that the hold was in force until now.
    pub fn release(&self, id: HoldId) -> Result<(), HoldError> {
        match self.0.end_hold(id) {
            true => Ok(()),
            false => Err(HoldError::Lost),
        }
    }

    /// Ends whatever hold there is; for a person whose tool died.
    pub fn release_any(&self) {
        self.0.orders.send_modify(|orders| orders.hold = None);
        self.0.show_hold();
    }

    /// Says what is known of the verifications that run by themselves.
    pub(crate) fn show_periodic(&self, periodic: Periodic) {
        self.0.update(|status| status.periodic = Some(periodic));
    }

    /// Lets a mart be built again beside the old one, and take its place: between two commits, as soon as all of its
    /// tables are live.
    pub fn rebuild(&self, mart: &str) -> Result<(), UnknownMart> {
        let is_known = (self.0.shown().marts.iter()).any(|known| known.name == mart);
        if !is_known {
            return Err(UnknownMart(mart.to_owned()));
        }
        self.0.rebuilds().insert(mart.to_owned());
        self.0.wake();
        Ok(())
    }

    /// Returns when the tables contain everything up to `lsn`.
    pub async fn wait_for(&self, lsn: Lsn, timeout: Duration) -> Result<(), WaitError> {
        let mut status = self.watch();
        let reached =
            tokio::time::timeout(timeout, status.wait_for(|status| status.is_at(lsn))).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            _ => Err(WaitError {
                wanted: lsn,
                at: self.status().end_lsn,
                waited: timeout,
                paused: self.0.orders.borrow().paused_since.is_some(),
            }),
        }
    }

    async fn standstill(&self, id: HoldId, timeout: Duration) -> Result<(), HoldError> {
        let mut status = self.watch();
        let settled = |status: &Status| match status.hold {
            Some(hold) if hold.id == id => hold.reached,
            _ => true,
        };
        let reached = match tokio::time::timeout(timeout, status.wait_for(settled)).await {
            Ok(Ok(status)) => status.hold.is_some_and(|hold| hold.id == id),
            Ok(Err(_)) => false,
            Err(_) => {
                self.0.end_hold(id);
                return Err(HoldError::Timeout(timeout));
            }
        };
        match reached {
            true => Ok(()),
            false => Err(HoldError::Lost),
        }
    }
}

/// Names a hold, so that nobody ends another one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct HoldId(pub u64);

/// How far the projector may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// No further than the commit that is being applied.
    Now,
    /// All commits before this LSN, and none after.
    Before(Lsn),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    pub(crate) id: HoldId,
    pub(crate) by: By,
    pub(crate) until: Until,
    /// When it ends by itself.
    pub(crate) deadline: Instant,
}

/// What the projector is told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Orders {
    /// Ends by itself.
    pub(crate) hold: Option<Hold>,
    /// Ends when somebody resumes it; a hold that was there before comes first.
    pub(crate) paused_since: Option<DateTime<Utc>>,
}

/// A request to hold failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// Somebody else holds the projector.
    #[error("the projector is held by another caller (hold {})", .0.0)]
    Busy(HoldId),
    /// The hold is over: released, or beyond its time limit. What was concluded from it is void.
    #[error("the hold is over; it may have lasted longer than its limit")]
    Lost,
    /// It did not come to a standstill in time.
    #[error("the projector did not come to hold within {} s", .0.as_secs())]
    Timeout(Duration),
    /// It has already applied commits beyond the LSN.
    #[error("the projector is already at {0}")]
    Passed(Lsn),
    /// It stands still without limit, and a hold that moves it would end that.
    #[error("the projector is paused; resume it first")]
    Paused,
}

/// The projector did not get there in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the projector is at {}, {} s were not enough to reach {wanted}{}", .at.map_or("no LSN".to_owned(), |lsn| lsn.to_string()), .waited.as_secs(), if *.paused { "; it is paused, resume it first" } else { "" })]
pub struct WaitError {
    /// Where it should be.
    pub wanted: Lsn,
    /// Where it is.
    pub at: Option<Lsn>,
    /// How long it was waited for.
    pub waited: Duration,
    /// It is paused, so that waiting longer does not help.
    pub paused: bool,
}

/// There is no such mart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the projector keeps no mart {0}; `millrace marts list` names them")]
pub struct UnknownMart(String);

impl Hold {
    fn gives_way_to(&self, by: By) -> bool {
        self.by == By::Period && by == By::Person
    }

    pub(super) fn status(&self, reached: bool) -> HoldStatus {
        HoldStatus {
            id: self.id,
            by: self.by,
            stop_before: match self.until {
                Until::Now => None,
                Until::Before(lsn) => Some(lsn),
            },
            reached,
        }
    }
}
