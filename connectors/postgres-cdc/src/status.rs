//! What capture is doing, for those who watch it.

use millrace_events::{Epoch, Lsn};
use tokio::sync::watch;

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
}

/// What capture is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Connecting, checking, reading the end of the log.
    #[default]
    Preflight,
    /// Copying the tables.
    Snapshot {
        /// Table at work.
        table: String,
        /// Rows so far, over all tables.
        rows: u64,
        /// Estimated rows of all tables.
        total: u64,
    },
    /// Following the stream.
    Streaming,
    /// Waiting before the next attempt.
    Backoff,
    /// Ended.
    Stopped,
}

impl State {
    /// A word for it.
    pub fn name(&self) -> &'static str {
        match self {
            State::Preflight => "preflight",
            State::Snapshot { .. } => "snapshot",
            State::Streaming => "streaming",
            State::Backoff => "backoff",
            State::Stopped => "stopped",
        }
    }
}

/// Watches a capture. Cheap to clone; outlives it.
#[derive(Clone, Debug)]
pub struct Handle(watch::Receiver<Status>);

impl Handle {
    /// The state now.
    pub fn status(&self) -> Status {
        self.0.borrow().clone()
    }

    /// The first state that satisfies `wanted`; `None` if capture ends before.
    pub async fn wait_for(&mut self, wanted: impl FnMut(&Status) -> bool) -> Option<Status> {
        self.0.wait_for(wanted).await.ok().map(|s| s.clone())
    }
}

/// The writing side.
#[derive(Clone, Debug)]
pub(crate) struct Reporter(watch::Sender<Status>);

impl Reporter {
    pub(crate) fn new() -> (Self, Handle) {
        let (sender, receiver) = watch::channel(Status::default());
        (Reporter(sender), Handle(receiver))
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        self.0.send_modify(change);
    }

    pub(crate) fn state(&self, state: State) {
        self.update(|status| status.state = state);
    }
}
