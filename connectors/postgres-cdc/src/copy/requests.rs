//! Changes of what is captured, asked for while capture works.

use std::convert::Infallible;
use std::time::Duration;

use millrace_control::in_words;
use millrace_events::TableId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::copier::Copier;
use super::desk::Announcement;
use super::publish;
use crate::tables::{RequestError, TableRequest};
use crate::{catalog, resolve, Error};

/// Requests that wait.
const REQUESTS_MAX: usize = 16;

const GOES_ON: &str =
    "the log goes on, so that it need not be begun again; `millrace tables resnapshot` copies single tables";

/// A request, and whom to tell of it.
pub(crate) struct Request {
    what: TableRequest,
    at: Instant,
    answer: oneshot::Sender<Result<(), RequestError>>,
}

impl Request {
    /// Whether the log is to be begun again.
    pub(crate) fn begins_again(&self) -> bool {
        self.what == TableRequest::BeginAgain
    }

    /// How long ago it was made.
    pub(crate) fn age(&self) -> Duration {
        self.at.elapsed()
    }

    /// It was done.
    pub(crate) fn done(self) {
        let _ = self.answer.send(Ok(()));
    }

    /// It cannot be done now.
    pub(crate) fn not_now(self, reason: String) {
        let _ = self.answer.send(Err(RequestError::NotNow(reason)));
    }
}

/// The asking side. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Requests(mpsc::Sender<Request>);

impl Requests {
    pub(crate) fn new() -> (Requests, mpsc::Receiver<Request>) {
        let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
        (Requests(sender), receiver)
    }

    /// Returns when it is acknowledged by the log.
    pub(crate) async fn send(&self, what: TableRequest) -> Result<(), RequestError> {
        let gone =
            || RequestError::NotNow("capture has stopped, or starts over; try again".to_owned());
        let (answer, done) = oneshot::channel();
        self.0
            .send(Request {
                what,
                at: Instant::now(),
                answer,
            })
            .await
            .map_err(|_| gone())?;
        done.await.map_err(|_| gone())?
    }
}

/// Does what is asked for, one after the other, once the stream is followed.
pub(crate) async fn serve(
    copier: &Copier,
    requests: &mut mpsc::Receiver<Request>,
) -> Result<Infallible, Error> {
    copier.reporter.follows().await;
    loop {
        let Some(Request { what, answer, .. }) = requests.recv().await else {
            return std::future::pending().await;
        };
        let done = match what {
            TableRequest::Add(tables) => copier.add(&tables).await,
            TableRequest::Remove(tables) => copier.remove(&tables).await,
            TableRequest::Resnapshot(tables) => copier.resnapshot(&tables).await,
            TableRequest::BeginAgain => Err(Failed::Refused(GOES_ON.to_owned())),
        };
        match done {
            Ok(()) => _ = answer.send(Ok(())),
            Err(Failed::Refused(reason)) => _ = answer.send(Err(RequestError::Refused(reason))),
            Err(Failed::NotNow(reason)) => _ = answer.send(Err(RequestError::NotNow(reason))),
            Err(Failed::Session(error)) => return Err(error),
        }
    }
}

/// Why a request was not done.
enum Failed {
    /// It makes no sense, or Postgres does not allow it.
    Refused(String),
    /// Something in Postgres is in the way that passes: somebody has locked the table, for example.
    NotNow(String),
    /// The session has failed.
    Session(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        match error {
            Error::Unsuitable(_) | Error::PublicationDenied { .. } => {
                Failed::Refused(error.to_string())
            }
            // What is asked for is done in sessions of its own; the others go on.
            Error::Postgres(sqlx::Error::Database(_)) => Failed::NotNow(in_words(&error)),
            other => Failed::Session(other),
        }
    }
}

impl Copier {
    async fn add(&self, tables: &[TableId]) -> Result<(), Failed> {
        let captured = |table: &&TableId| self.is_captured(table);
        refuse(tables.iter().find(captured), "is captured already")?;
        let selected = |table: &&TableId| !self.config.tables.matches(table);
        refuse(
            tables.iter().find(selected),
            "is not selected: put it into MILLRACE_TABLES, start capture again, then add it",
        )?;
        let mut session = self.source.connect().await?;
        resolve::check(tables, &catalog::tables(&mut session).await?)?;
        publish::add(&mut session, &self.config, tables).await?;
        // Were capture killed here, the next start would find published tables without a copy, and begin one.
        self.begin(tables).await?;
        Ok(())
    }

    async fn remove(&self, tables: &[TableId]) -> Result<(), Failed> {
        self.refuse_strangers(tables)?;
        let all = self.copies.borrow().iter().count();
        if tables.len() >= all {
            let reason =
                "no table would be left; stop capture and drop its slot instead".to_owned();
            return Err(Failed::Refused(reason));
        }
        for table in tables {
            self.desk
                .announce(Announcement::Removed(table.clone()))
                .await?;
        }
        self.finish_removing(tables).await?;
        Ok(())
    }

    async fn resnapshot(&self, tables: &[TableId]) -> Result<(), Failed> {
        self.refuse_strangers(tables)?;
        self.begin(tables).await?;
        Ok(())
    }

    fn refuse_strangers(&self, tables: &[TableId]) -> Result<(), Failed> {
        let stranger = |table: &&TableId| !self.is_captured(table);
        refuse(tables.iter().find(stranger), "is not captured")
    }

    fn is_captured(&self, table: &TableId) -> bool {
        self.copies.borrow().table(table).is_some()
    }
}

fn refuse(table: Option<&TableId>, reason: &str) -> Result<(), Failed> {
    match table {
        Some(table) => Err(Failed::Refused(format!("{table} {reason}"))),
        None => Ok(()),
    }
}
