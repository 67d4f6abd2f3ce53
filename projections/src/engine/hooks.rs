//! Places where a test takes part.

use millrace_events::Lsn;
use tokio::sync::{mpsc, oneshot};

/// Somebody who is asked to let the projector go on.
pub type Asked<T> = mpsc::Sender<(T, oneshot::Sender<()>)>;

/// Where a test may stop, or end, the projector.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// Told the `end_lsn` of every commit; the projector waits for the answer.
    pub after_commit: Option<Asked<Lsn>>,
    /// Told every point that it passes while it copies tables.
    pub while_copying: Option<Asked<Point>>,
}

/// Points of copying a table. After each, everything before is in MySQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// Chunks may have been loaded.
    Loaded,
    /// Shadow tables may have followed the log.
    CaughtUp,
    /// They have their indexes.
    Indexed,
    /// The marts that read them are built beside.
    Built,
    /// It is written down that they are about to take their names.
    Stamped,
    /// They have taken them.
    Renamed,
    /// They are live.
    Joined,
    /// What had the names before is gone.
    Cleared,
}

impl Hooks {
    pub(crate) async fn committed(&self, lsn: Lsn) {
        ask(self.after_commit.as_ref(), lsn).await;
    }

    pub(crate) async fn at(&self, point: Point) {
        ask(self.while_copying.as_ref(), point).await;
    }
}

async fn ask<T>(hook: Option<&Asked<T>>, what: T) {
    let Some(hook) = hook else { return };
    let (go_on, answer) = oneshot::channel();
    if hook.send((what, go_on)).await.is_ok() {
        let _ = answer.await;
    }
}
