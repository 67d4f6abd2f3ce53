use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

/// What ingest is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// Connecting to Postgres and Fluvio, for the first time or again.
    #[default]
    Connecting,
    /// Reading the topic.
    Running,
    /// Told to stop.
    Stopped,
    /// Stopped by an [`crate::Error`].
    Failed,
}

/// A moment of ingest. Counters count from the start of the service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// Offset of the next event; every event before it is stored or rejected.
    pub next_offset: Option<i64>,
    /// Offset that the next new event of the topic will get, as last seen.
    pub end_offset: Option<i64>,
    /// Events stored or rejected.
    pub events: u64,
    /// Rows of `users` that were inserted or changed.
    pub rows_changed: u64,
    /// Events rejected.
    pub rejected: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Why the last attempt failed, since when attempts fail, and when the next one comes; nothing once one works.
    pub last_error: Option<String>,
    /// When the first of the attempts failed that have failed in a row; nothing while ingest works.
    pub failing_since: Option<DateTime<Utc>>,
    /// When the last transaction was committed.
    pub committed_at: Option<DateTime<Utc>>,
}

impl Status {
    /// Events of the topic that are not stored yet, as last seen.
    pub fn lag(&self) -> Option<i64> {
        Some((self.end_offset? - self.next_offset.unwrap_or(0)).max(0))
    }
}

/// Watches a [`crate::Service`]; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle(watch::Receiver<Status>);

impl Handle {
    /// The current status.
    pub fn status(&self) -> Status {
        self.0.borrow().clone()
    }

    /// Follows the status.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.0.clone()
    }

    /// Waits until the status fulfils a condition. Returns nothing if the service ends before.
    pub async fn wait_for(&self, condition: impl FnMut(&Status) -> bool) -> Option<Status> {
        let mut receiver = self.0.clone();
        let status = receiver.wait_for(condition).await.ok()?;
        Some(status.clone())
    }
}

/// The side that writes.
#[derive(Debug, Clone)]
pub(crate) struct Board(Arc<watch::Sender<Status>>);

impl Board {
    pub(crate) fn new() -> (Board, Handle) {
        let (sender, receiver) = watch::channel(Status::default());
        (Board(Arc::new(sender)), Handle(receiver))
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        self.0.send_modify(change);
    }

    /// Something was read or stored, or there was nothing to do: what failed before is over.
    pub(crate) fn works(&self) {
        self.0.send_if_modified(|status| {
            let was_failing = status.state != State::Running || status.failing_since.is_some();
            status.state = State::Running;
            status.last_error = None;
            status.failing_since = None;
            was_failing
        });
    }

    /// An attempt has failed. Returns since when attempts fail.
    pub(crate) fn failed(&self) -> DateTime<Utc> {
        let mut since = Utc::now();
        self.0.send_modify(|status| {
            status.state = State::Connecting;
            status.failures += 1;
            since = *status.failing_since.get_or_insert(since);
        });
        since
    }

    /// True if something worked since the last failure.
    pub(crate) fn is_working(&self) -> bool {
        self.0.borrow().failing_since.is_none()
    }

    pub(crate) fn end_offset(&self) -> Option<i64> {
        self.0.borrow().end_offset
    }
}
