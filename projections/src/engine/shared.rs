//! What service, reader and handles of a projector share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_events::InTransit;
use millrace_sessions::mysql::Answers;
use millrace_topic::Patience;
use tokio::sync::watch;

use super::catalog::Catalog;
use super::dropping::Wanted;
use super::findings::{Findings, Keeper};
use super::handle::{Hold, HoldId, Orders};
use super::pause::Pause;
use super::reader::AHEAD_RECORDS;
use super::status::{State, Status, PROJECTIONS};
use super::Config;

/// What service, reader and handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    status: watch::Sender<Status>,
    pub(super) orders: watch::Sender<Orders>,
    /// No hold lasts longer.
    pub(super) hold_max: Duration,
    /// Marts that somebody wants to be built again.
    rebuilds: Mutex<BTreeSet<String>>,
    /// Tables that somebody wants to be removed from MySQL.
    drops: Mutex<Vec<Wanted>>,
    /// Transactions read from the log and not committed in MySQL.
    pending: Mutex<InTransit>,
    pub(super) pause: Pause,
    /// Whether MySQL owes an answer.
    answers: Answers,
    pub(super) findings: Keeper,
    /// How patiently the streams of the log are waited for.
    pub(super) streams: Patience,
}

impl Shared {
    pub(crate) fn new(config: &Config) -> Arc<Shared> {
        // What waits for its turn, and what is in the batch or leaving it. More there is only behind a
        // hole, where records come again.
        let pending_max = AHEAD_RECORDS.saturating_add(2 * config.limits.transactions as usize);
        Arc::new(Shared {
            status: watch::Sender::new(Status::of(config)),
            orders: watch::Sender::new(Orders::default()),
            hold_max: config.limits.hold,
            rebuilds: Mutex::default(),
            drops: Mutex::default(),
            pending: Mutex::new(InTransit::new(pending_max)),
            pause: Pause::new(config.mysql_url.clone(), &config.limits),
            answers: Answers::default(),
            findings: Keeper::default(),
            streams: Patience::new(config.limits.silence),
        })
    }

    /// What is shown now.
    pub(super) fn shown(&self) -> watch::Ref<'_, Status> {
        self.status.borrow()
    }

    /// Follows what is shown.
    pub(super) fn follow(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Told by the session whether MySQL owes an answer.
    pub(super) fn answers(&self) -> &Answers {
        &self.answers
    }

    pub(super) fn known_findings(&self) -> Option<Findings> {
        self.status.borrow().verify.clone()
    }

    /// Transactions on their way from the log to MySQL.
    pub(crate) fn pending(&self) -> MutexGuard<'_, InTransit> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rebuilds(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.rebuilds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn drops(&self) -> MutexGuard<'_, Vec<Wanted>> {
        self.drops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is something to be done between two commits.
    pub(super) fn wake(&self) {
        self.orders.send_modify(|_| {});
    }

    /// Lets the projector stand still between two commits, or go on.
    pub(super) fn show_pause(&self, since: Option<DateTime<Utc>>) {
        self.orders.send_if_modified(|orders| {
            let changed = orders.paused_since != since;
            orders.paused_since = since;
            changed
        });
        self.update(|status| status.paused_since = since);
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_modify(|status| {
            change(status);
            status.lag_records = match (status.high_watermark, status.next_offset) {
                (Some(end), Some(next)) => Some(end.0.saturating_sub(next.0)),
                _ => None,
            };
        });
    }

    pub(crate) fn enter(&self, state: State) {
        self.update(|status| {
            status.state = state;
            status.error = None;
            status.away = None;
        });
        self.tell("entered another state");
    }

    /// Logs an event with where the projections are.
    pub(crate) fn tell(&self, event: &'static str) {
        let (state, lsn) = {
            let status = self.status.borrow();
            (status.state, status.end_lsn)
        };
        let lsn = lsn.map(tracing::field::display);
        tracing::info!(projection = PROJECTIONS, ?state, lsn, event);
    }

    /// Shows what has become of tables and marts.
    pub(crate) fn show_catalog(&self, catalog: &Catalog) {
        let before = self.shown().state;
        self.update(|status| status.show_catalog(catalog));
        let state = self.shown().state;
        if state != before {
            self.tell("entered another state");
        }
    }

    pub(crate) fn log_failed(&self, error: String) {
        self.update(|status| status.log_error = Some(error));
    }

    pub(crate) fn log_works(&self) {
        self.update(|status| status.log_error = None);
    }

    /// Follows the orders; the projector obeys.
    pub(crate) fn orders(&self) -> watch::Receiver<Orders> {
        self.orders.subscribe()
    }

    /// Says that the projector stands still as this hold demands.
    pub(crate) fn reached(&self, obeyed: &Hold) {
        self.update(|status| {
            let current = self.orders.borrow().hold;
            if current.is_some_and(|hold| hold.id == obeyed.id && hold.until == obeyed.until) {
                status.hold = Some(obeyed.status(true));
            }
        });
    }

    /// Ends a hold; false if it was over.
    pub(crate) fn end_hold(&self, id: HoldId) -> bool {
        let ended = self.orders.send_if_modified(|orders| {
            let ours = orders.hold.is_some_and(|hold| hold.id == id);
            if ours {
                orders.hold = None;
            }
            ours
        });
        self.show_hold();
        ended
    }

    /// Copies the hold into the status, as not reached unless the projector was faster.
    pub(super) fn show_hold(&self) {
        self.update(|status| {
            let current = self.orders.borrow().hold;
            let shown = current.map(|hold| hold.status(true));
            if shown != status.hold {
                status.hold = current.map(|hold| hold.status(false));
            }
        });
    }
}
