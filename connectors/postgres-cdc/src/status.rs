//! What capture is doing, for those who watch it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use millrace_events::{CapturedTable, Copies, Epoch, InTransit, Lsn, TableId};
use millrace_topic::Offset;
use tokio::sync::watch;

use crate::copy::{Done, Requests};
use crate::drift::NotLive;
use crate::tables::{RequestError, TableRequest, TableStatus};

/// A snapshot of capture's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What it does now.
    pub state: State,
    /// Number of this start; 0 before the first one is written.
    pub epoch: Epoch,
    /// The log is acknowledged up to here: `end_lsn` of its last transaction or progress record.
    pub last_lsn: Lsn,
    /// The stream has been received up to here.
    pub received_lsn: Lsn,
    /// Transactions acknowledged since the process started.
    pub transactions: u64,
    /// Sessions since the process started.
    pub sessions: u64,
    /// Why the last session ended, with its code if it has one.
    pub last_error: Option<String>,
    /// Since when no session has worked; `None` while one does, or before the first has failed.
    pub failing_since: Option<DateTime<Utc>>,
    /// When the next session begins, while capture waits for it.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When the oldest transaction that was received and is not acknowledged by the topic was committed.
    pub oldest_pending_at: Option<DateTime<Utc>>,
    /// Tables that are selected and were not there when the publication was created; they are not captured.
    pub not_captured: Vec<TableId>,
    /// Captured tables whose rows in the log are not those of the source any more, with what mends them.
    pub not_live: Vec<NotLive>,
    /// When the catalog was last compared with what the log was taken from.
    pub compared_at: Option<DateTime<Utc>>,
    /// The captured tables by name.
    pub tables: Vec<TableStatus>,
    /// Copies of tables that were begun again because they could not be completed, since the process started.
    pub copies_begun_again: u64,
    /// The topics that capture itself still needs, and from which offset on: the log for its next start, and those of copies
    /// that are not complete. `None`: not known yet.
    pub needed: Option<BTreeMap<String, Offset>>,
}

/// What capture is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Connecting, checking, reading the end of the log.
    #[default]
    Preflight,
    /// Following the stream; tables are copied meanwhile.
    Streaming,
    /// Waiting before the next attempt.
    Backoff,
    /// The log cannot go on. It is looked at again, as that may pass, until a person has it begun again.
    Void,
    /// Ended.
    Stopped,
}

impl State {
    /// A word for it.
    pub fn name(&self) -> &'static str {
        match self {
            State::Preflight => "preflight",
            State::Streaming => "streaming",
            State::Backoff => "backoff",
            State::Void => "void",
            State::Stopped => "stopped",
        }
    }
}

/// Transactions on their way from Postgres to the topic.
#[derive(Clone, Debug)]
pub(crate) struct Pending(Arc<Mutex<InTransit>>);

impl Pending {
    pub(crate) fn lock(&self) -> MutexGuard<'_, InTransit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches a capture. Cheap to clone; outlives it.
#[derive(Clone, Debug)]
pub struct Handle {
    status: watch::Receiver<Status>,
    pending: Pending,
    requests: Requests,
}

impl Handle {
    /// Changes what is captured. Returns when the log has acknowledged it: a copy goes on from there.
    ///
    /// # Errors
    /// If it makes no sense, or capture does not follow the stream now.
    pub async fn request(&self, what: TableRequest) -> Result<(), RequestError> {
        let follows = self.status.borrow().state == State::Streaming;
        if !follows && what != TableRequest::BeginAgain {
            let reason =
                "capture does not follow the stream of Postgres now; try again when it does";
            return Err(RequestError::NotNow(reason.to_owned()));
        }
        self.requests.send(what).await
    }

    /// The state now.
    pub fn status(&self) -> Status {
        self.complete(self.status.borrow().clone())
    }

    /// Follows the state, which does not see `oldest_pending_at`.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// The first state that satisfies `wanted`, which does not see `oldest_pending_at`; `None` if capture
    /// ends before.
    pub async fn wait_for(&mut self, wanted: impl FnMut(&Status) -> bool) -> Option<Status> {
        let status = self.status.wait_for(wanted).await.ok()?.clone();
        Some(self.complete(status))
    }

    fn complete(&self, mut status: Status) -> Status {
        status.oldest_pending_at = self.pending.lock().oldest_at();
        status
    }
}

/// The writing side.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    status: watch::Sender<Status>,
    /// What the stream has received and the topic has not acknowledged.
    pub(crate) pending: Pending,
}

impl Reporter {
    /// `pending_max` transactions may be on their way.
    pub(crate) fn new(pending_max: usize, requests: Requests) -> (Self, Handle) {
        let (sender, receiver) = watch::channel(Status::default());
        let pending = Pending(Arc::new(Mutex::new(InTransit::new(pending_max))));
        let reporter = Reporter {
            status: sender,
            pending: pending.clone(),
        };
        let handle = Handle {
            status: receiver,
            pending,
            requests,
        };
        (reporter, handle)
    }

    /// The log has a line of it if it enters another state.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        let mut entered = None;
        self.status.send_modify(|status| {
            let before = status.state.name();
            change(status);
            if status.state.name() != before {
                entered = Some((status.state.name(), status.epoch, status.last_lsn));
            }
        });
        if let Some((state, epoch, lsn)) = entered {
            tracing::info!(state, epoch = epoch.0, %lsn, "capture entered another state");
        }
    }

    /// What the log says of tables.
    pub(crate) fn captured(&self, copies: &Copies) {
        let now = Utc::now();
        self.update(|status| {
            let known = std::mem::take(&mut status.tables);
            let table = |(name, captured): (&TableId, &CapturedTable)| {
                let known = known.iter().find(|known| known.table == *name);
                TableStatus::of(captured, known, now)
            };
            status.tables = copies.iter().map(table).collect();
        });
    }

    /// So much of a table is copied.
    pub(crate) fn copying(&self, table: &TableId, done: Done) {
        let now = Utc::now();
        self.update(|status| {
            let known = status.tables.iter_mut().find(|known| known.table == *table);
            if let Some(known) = known {
                known.copying(done, now);
            }
        });
    }

    /// Nothing stands in the way of a table's copy any more.
    pub(crate) fn copy_goes_on(&self, table: &TableId, done: Done) {
        self.copying(table, done);
        self.update(|status| {
            let known = status.tables.iter_mut().find(|known| known.table == *table);
            if let Some(known) = known {
                known.notice = None;
            }
        });
    }

    /// What the copy of a table waits for, or what is wrong with it. The log has a line of it once.
    pub(crate) fn copy_notice(&self, table: &TableId, notice: String) {
        let mut is_news = false;
        self.update(|status| {
            let known = status.tables.iter_mut().find(|known| known.table == *table);
            if let Some(known) = known {
                is_news = known.notice.as_ref() != Some(&notice);
                known.notice = Some(notice.clone());
            }
        });
        if is_news {
            tracing::warn!(%table, notice, "the copy of a table needs somebody to look at it; everything else goes on");
        }
    }

    /// A copy of a table cannot be completed, and begins again.
    pub(crate) fn copy_void(&self, table: &TableId, reason: &str) {
        tracing::warn!(%table, reason, "the copy of the table begins again");
        self.update(|status| status.copies_begun_again += 1);
    }

    /// What an earlier session needed of other topics than these is not needed any more. Of these nothing is let go in
    /// between.
    pub(crate) fn needs_only<'a>(&self, topics: impl IntoIterator<Item = &'a str>) {
        let topics: BTreeSet<_> = topics.into_iter().collect();
        self.update(|status| {
            if let Some(needed) = &mut status.needed {
                needed.retain(|known, _| topics.contains(known.as_str()));
            }
        });
    }

    /// A topic is needed from this offset on, or no longer.
    pub(crate) fn needs(&self, topic: &str, from: Option<Offset>) {
        let known = self.status.borrow().needed.clone().unwrap_or_default();
        if known.get(topic).copied() == from {
            return;
        }
        self.update(|status| {
            let needed = status.needed.get_or_insert_default();
            match from {
                Some(from) => needed.insert(topic.to_owned(), from),
                None => needed.remove(topic),
            };
        });
    }

    /// A session looks where the log ends, which may still be void.
    pub(crate) fn looks(&self) {
        self.update(|status| {
            if status.state != State::Void {
                status.state = State::Preflight;
            }
        });
    }

    /// It has ended.
    pub(crate) fn stopped(&self) {
        self.update(|status| status.state = State::Stopped);
    }

    /// Returns when a session follows the stream.
    pub(crate) async fn follows(&self) {
        let mut changes = self.status.subscribe();
        let follows = changes.wait_for(|status| status.state == State::Streaming);
        // It cannot be closed: this is its other end.
        let _ = follows.await;
    }

    /// A session follows the stream.
    pub(crate) fn streaming(&self, position: Lsn) {
        self.update(|status| {
            status.state = State::Streaming;
            status.last_lsn = position;
            status.received_lsn = position;
            status.failing_since = None;
        });
    }

    /// The catalog was compared. The log has a line of each table that was live before.
    pub(crate) fn compared(&self, not_live: Vec<NotLive>) {
        let before = self.status.borrow().not_live.clone();
        for found in not_live.iter().filter(|found| !before.contains(found)) {
            tracing::warn!(
                table = %found.table, code = found.code, reason = found.reason, remedy = found.remedy,
                "the table is not live any more"
            );
        }
        self.update(|status| {
            status.not_live = not_live;
            status.compared_at = Some(Utc::now());
        });
    }

    /// Ends.
    pub(crate) fn ends(&self, error: String) {
        tracing::error!(lsn = %self.status.borrow().last_lsn, error, "capture ends");
        self.update(|status| status.last_error = Some(error));
    }

    /// Waits before another attempt. `void`: the log cannot go on.
    pub(crate) fn waits(&self, error: String, pause: Duration, void: bool) {
        let now = Utc::now();
        let since = self.status.borrow().failing_since.unwrap_or(now);
        tracing::warn!(
            lsn = %self.status.borrow().last_lsn, error, failing_since = %since,
            retry_in_ms = pause.as_millis() as u64, "capture waits and starts over"
        );
        self.update(|status| {
            status.state = match void {
                true => State::Void,
                false => State::Backoff,
            };
            status.last_error = Some(error);
            status.failing_since = Some(since);
            status.next_attempt_at = TimeDelta::from_std(pause).ok().map(|pause| now + pause);
        });
    }

    /// Another attempt begins.
    pub(crate) fn tries(&self) {
        self.update(|status| {
            status.sessions += 1;
            status.next_attempt_at = None;
        });
    }
}
