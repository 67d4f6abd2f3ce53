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
    /// Why the last attempt failed; nothing once a later one works.
    pub last_error: Option<String>,
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

    pub(crate) fn end_offset(&self) -> Option<i64> {
        self.0.borrow().end_offset
    }

    pub(crate) fn events(&self) -> u64 {
        self.0.borrow().events
    }
}
