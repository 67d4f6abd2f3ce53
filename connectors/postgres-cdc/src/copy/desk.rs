//! What copies ask of the session that follows the stream: it alone appends to the log, and knows what stands there.

use millrace_events::{CopyId, CopyTable, Lsn, TableCopied, TableId};
use tokio::sync::{mpsc, oneshot};

use super::fence::Unseen;
use super::moved::MovedKeys;
use crate::Error;

/// Requests that wait.
const ASKED_MAX: usize = 16;

/// The asking side. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Desk(mpsc::Sender<Asked>);

/// Something asked of the stream.
pub(crate) enum Asked {
    /// Append this between two transactions. Answered when the log has it and everybody knows.
    Announce(Announcement, oneshot::Sender<()>),
    /// Which keys has a table to be read again for, of all that committed before this?
    Moved(TableId, Lsn, oneshot::Sender<MovedKeys>),
    /// Which transactions of the log may not be visible yet?
    Unseen(oneshot::Sender<Unseen>),
}

/// What is to be said of tables. Numbers of definitions, epoch and time are the stream's, and what copies are taken from.
pub(crate) enum Announcement {
    /// A copy begins.
    Copy {
        copy: CopyId,
        topic: String,
        /// Without what they are taken from, and `published_lately` as far as is known without it.
        tables: Vec<CopyTable>,
    },
    /// A table is copied.
    Copied(TableCopied),
    /// A table is not captured any more.
    Removed(TableId),
}

impl Desk {
    pub(crate) fn new() -> (Desk, mpsc::Receiver<Asked>) {
        let (sender, receiver) = mpsc::channel(ASKED_MAX);
        (Desk(sender), receiver)
    }

    pub(crate) async fn announce(&self, what: Announcement) -> Result<(), Error> {
        self.ask(|answer| Asked::Announce(what, answer)).await
    }

    /// The answer comes when the stream has come to `behind`.
    pub(crate) async fn moved(&self, table: &TableId, behind: Lsn) -> Result<MovedKeys, Error> {
        self.ask(|answer| Asked::Moved(table.clone(), behind, answer))
            .await
    }

    pub(crate) async fn unseen(&self) -> Result<Unseen, Error> {
        self.ask(Asked::Unseen).await
    }

    async fn ask<T>(&self, asked: impl FnOnce(oneshot::Sender<T>) -> Asked) -> Result<T, Error> {
        let (sender, answer) = oneshot::channel();
        let gone = || Error::Protocol("nobody follows the stream any more".into());
        self.0.send(asked(sender)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}
