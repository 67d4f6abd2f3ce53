//! A session whose statements all have a time limit.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use futures_util::FutureExt;
use sqlx::mysql::{MySqlConnection, MySqlQueryResult, MySqlRow, MySqlStatement, MySqlTypeInfo};
use sqlx::{Connection, Describe, Either, Execute, Executor, MySql};
use tokio::time::Instant;

use super::{Purpose, Server};

/// A statement of the projector: the server waits for locks for 20 s, and the work itself takes moments.
pub const STATEMENT: Duration = Duration::from_secs(30);
/// Work on a whole table: emptying it, an index, building a mart.
const TABLE: Duration = Duration::from_secs(600);
/// Verify sorts a whole mart before its first row comes.
const COMPARE: Duration = Duration::from_secs(3_600);
/// People do not wait; the server's own limit ends a statement before.
const LOOK: Duration = Duration::from_secs(10);
/// A sign of life costs the server nothing.
const PING: Duration = Duration::from_secs(10);
/// How often a session that waits for something else asks for one.
pub const PING_EVERY: Duration = Duration::from_secs(5);
/// No limit grows beyond this.
const LIMIT_MAX: Duration = Duration::from_secs(6 * 3_600);

/// Since when the server owes an answer. Cheap to clone; whoever shows a status asks it.
#[derive(Clone, Debug, Default)]
pub struct Answers(Arc<Mutex<Option<Instant>>>);

impl Answers {
    /// How long the statement that is being executed has been waiting for an answer; `None` if there is none.
    pub fn owed_for(&self) -> Option<Duration> {
        self.slot().map(|since| since.elapsed())
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Awaits an answer of the server within a limit.
    async fn within<T>(&self, limit: Duration, answer: impl Future<Output = T>) -> Option<T> {
        let _owed = Owed::since_now(self);
        tokio::time::timeout(limit, answer).await.ok()
    }
}

/// Says that an answer is owed for as long as it lives.
struct Owed<'a>(&'a Answers);

impl Owed<'_> {
    fn since_now(answers: &Answers) -> Owed<'_> {
        *answers.slot() = Some(Instant::now());
        Owed(answers)
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        *self.0.slot() = None;
    }
}

/// A connection with pinned settings, on which every wait for the server has a limit. An answer that does not come
/// within it is an error of kind [`io::ErrorKind::TimedOut`]; the session is of no use from then on, and its owner
/// connects anew.
pub struct Session {
    conn: MySqlConnection,
    server: Server,
    statement: Duration,
    table: Duration,
    /// How often both limits are doubled.
    doublings: u32,
    answers: Answers,
    /// The server did not answer in time.
    given_up: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(conn: MySqlConnection, server: Server, purpose: Purpose) -> Session {
        let (statement, table) = match purpose {
            Purpose::Project => (STATEMENT, TABLE),
            Purpose::Compare => (COMPARE, COMPARE),
            Purpose::Look => (LOOK, LOOK),
        };
        Session {
            conn,
            server,
            statement,
            table,
            doublings: 0,
            answers: Answers::default(),
            given_up: false,
        }
    }

    /// Lets somebody else see whether the server owes an answer.
    pub fn watched(self, answers: &Answers) -> Session {
        Session {
            answers: answers.clone(),
            ..self
        }
    }

    /// Doubles the limits that many times, up to six hours, until [`Session::ordinary`]: a server that is only slow must
    /// not be given up for ever.
    pub fn patient(self, times: u32) -> Session {
        Session {
            doublings: times,
            ..self
        }
    }

    /// Ends the patience of [`Session::patient`]. The server has shown that it works: one that then falls silent is
    /// noticed as soon as on any other session.
    pub fn ordinary(&mut self) {
        self.doublings = 0;
    }

    /// Sets the limit of an ordinary statement.
    pub fn answering_within(self, statement: Duration) -> Session {
        Session { statement, ..self }
    }

    /// What it is connected to.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// For a statement that works on a whole table.
    pub fn on_a_table(&mut self) -> Within<'_> {
        Within {
            limit: grown(self.table, self.doublings),
            session: self,
        }
    }

    /// Asks the server for a sign of life.
    pub async fn ping(&mut self) -> sqlx::Result<()> {
        self.check()?;
        match self.answers.within(PING, self.conn.ping()).await {
            Some(answer) => answer,
            None => Err(silence(PING, &mut self.given_up)),
        }
    }

    /// Awaits something else, and asks for a sign of life every few seconds meanwhile: a connection that died
    /// unnoticed is found out, and no proxy takes it for unused.
    pub async fn meanwhile<T>(&mut self, other: impl Future<Output = T>) -> sqlx::Result<T> {
        let mut other = std::pin::pin!(other);
        loop {
            tokio::select! {
                biased;
                done = &mut other => return Ok(done),
                () = tokio::time::sleep(PING_EVERY) => self.ping().await?,
            }
        }
    }

    /// Says goodbye, if the server still listens.
    pub async fn close(self) {
        let _ = tokio::time::timeout(PING, self.conn.close()).await;
    }

    fn check(&self) -> sqlx::Result<()> {
        match self.given_up {
            true => {
                Err(io::Error::new(io::ErrorKind::NotConnected, "the session was given up").into())
            }
            false => Ok(()),
        }
    }
}

/// A limit, doubled that many times.
fn grown(limit: Duration, doublings: u32) -> Duration {
    let factor = 2_u32.saturating_pow(doublings);
    limit.saturating_mul(factor).min(LIMIT_MAX)
}

fn silence(limit: Duration, given_up: &mut bool) -> sqlx::Error {
    *given_up = true;
    let text = format!("no answer within {} s", limit.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text).into()
}

/// A session with another limit, for one statement.
#[derive(Debug)]
pub struct Within<'c> {
    session: &'c mut Session,
    limit: Duration,
}

type Step = Either<MySqlQueryResult, MySqlRow>;

impl<'c> Executor<'c> for Within<'c> {
    type Database = MySql;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Step>>
    where
        'c: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        let limit = self.limit;
        if let Err(error) = self.session.check() {
            return stream::once(async { Err(error) }).boxed();
        }
        let Session {
            conn,
            answers,
            given_up,
            ..
        } = self.session;
        let answers = answers.clone();
        let steps = conn.fetch_many(query);
        let state = Some((steps, answers, given_up));
        stream::unfold(state, move |state| async move {
            let (mut steps, answers, given_up) = state?;
            match answers.within(limit, steps.next()).await {
                Some(step) => step.map(|step| (step, Some((steps, answers, given_up)))),
                None => Some((Err(silence(limit, given_up)), None)),
            }
        })
        .boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, sqlx::Result<Option<MySqlRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        let mut steps = self.fetch_many(query);
        async move {
            while let Some(step) = steps.next().await {
                if let Either::Right(row) = step? {
                    return Ok(Some(row));
                }
            }
            Ok(None)
        }
        .boxed()
    }

    fn prepare_with<'e, 'q: 'e>(
        self,
        sql: &'q str,
        parameters: &'e [MySqlTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<MySqlStatement<'q>>>
    where
        'c: 'e,
    {
        let Within { session, limit } = self;
        async move {
            session.check()?;
            let prepared = session.conn.prepare_with(sql, parameters);
            match session.answers.within(limit, prepared).await {
                Some(prepared) => prepared,
                None => Err(silence(limit, &mut session.given_up)),
            }
        }
        .boxed()
    }

    fn describe<'e, 'q: 'e>(self, sql: &'q str) -> BoxFuture<'e, sqlx::Result<Describe<MySql>>>
    where
        'c: 'e,
    {
        let Within { session, limit } = self;
        async move {
            session.check()?;
            match session
                .answers
                .within(limit, session.conn.describe(sql))
                .await
            {
                Some(described) => described,
                None => Err(silence(limit, &mut session.given_up)),
            }
        }
        .boxed()
    }
}

impl<'c> Executor<'c> for &'c mut Session {
    type Database = MySql;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Step>>
    where
        'c: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        self.statement().fetch_many(query)
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, sqlx::Result<Option<MySqlRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        self.statement().fetch_optional(query)
    }

    fn prepare_with<'e, 'q: 'e>(
        self,
        sql: &'q str,
        parameters: &'e [MySqlTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<MySqlStatement<'q>>>
    where
        'c: 'e,
    {
        self.statement().prepare_with(sql, parameters)
    }

    fn describe<'e, 'q: 'e>(self, sql: &'q str) -> BoxFuture<'e, sqlx::Result<Describe<MySql>>>
    where
        'c: 'e,
    {
        self.statement().describe(sql)
    }
}

impl Session {
    /// For an ordinary statement.
    fn statement(&mut self) -> Within<'_> {
        Within {
            limit: grown(self.statement, self.doublings),
            session: self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_double_up_to_six_hours() {
        assert_eq!(grown(STATEMENT, 0), STATEMENT);
        assert_eq!(grown(STATEMENT, 3), 8 * STATEMENT);
        assert_eq!(grown(TABLE, 5), 32 * TABLE);
        for doublings in [10, 31, 32, u32::MAX] {
            assert_eq!(grown(STATEMENT, doublings), LIMIT_MAX, "{doublings}");
        }
    }
}
