//! What copies ask of the session that follows the stream: it alone appends to the log, and knows what stands there.

use std::collections::BTreeSet;

use millrace_events::{CopyId, CopyTable, Lsn, Record, TableCopied, TableId};
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
    /// Append this between two transactions.
    Announce(Announcement, oneshot::Sender<Announced>),
    /// Which keys has a table to be read again for, of all that committed before this?
    Moved(TableId, Lsn, oneshot::Sender<MovedKeys>),
    /// Rows of these tables will come. Answered with those that came to the publication since their last complete copy,
    /// as far as anybody knows: transactions that are open may have written to them before.
    Expect(Vec<TableId>, oneshot::Sender<BTreeSet<TableId>>),
    /// Which transactions of the log may not be visible yet?
    Unseen(oneshot::Sender<Unseen>),
}

/// What is to be said of tables. Numbers of definitions, epoch and time are the stream's.
pub(crate) enum Announcement {
    /// A copy begins.
    Copy {
        copy: CopyId,
        topic: String,
        tables: Vec<CopyTable>,
    },
    /// A table is copied.
    Copied(TableCopied),
    /// A table is not captured any more.
    Removed(TableId),
}

/// A record about tables that the log has acknowledged.
#[derive(Debug)]
pub(crate) struct Announced {
    pub(crate) record: Record,
    pub(crate) offset: i64,
}

impl Desk {
    pub(crate) fn new() -> (Desk, mpsc::Receiver<Asked>) {
        let (sender, receiver) = mpsc::channel(ASKED_MAX);
        (Desk(sender), receiver)
    }

    pub(crate) async fn announce(&self, what: Announcement) -> Result<Announced, Error> {
        self.ask(|answer| Asked::Announce(what, answer)).await
    }

    /// The answer comes when the stream has come to `behind`.
    pub(crate) async fn moved(&self, table: &TableId, behind: Lsn) -> Result<MovedKeys, Error> {
        self.ask(|answer| Asked::Moved(table.clone(), behind, answer))
            .await
    }

    pub(crate) async fn expect(&self, tables: &[TableId]) -> Result<BTreeSet<TableId>, Error> {
        self.ask(|answer| Asked::Expect(tables.to_vec(), answer))
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
