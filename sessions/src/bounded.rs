//! A connection whose statements never wait for ever.
//!
//! Neither driver notices a server that vanished without a packet (a failover, a proxy, a firewall): the answer just
//! does not come. Here every wait for the next piece of an answer has a limit. It is a limit on silence, not on the
//! whole statement, so that a long copy that brings rows may take as long as it needs.

use std::fmt;
use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use sqlx::{Connection, Database, Either, Execute, Executor};
use tokio::time::timeout;

/// A connection that gives up when the server is silent for too long. After that error its state is unknown: drop it
/// and connect again.
pub struct Bounded<C> {
    inner: C,
    silence_max: Duration,
}

impl<C> Bounded<C> {
    /// `silence_max`: how long the next piece of an answer may take.
    pub fn new(inner: C, silence_max: Duration) -> Self {
        Bounded { inner, silence_max }
    }

    /// The connection without the limit, for those who put a limit around what they do with it.
    pub fn into_inner(self) -> C {
        self.inner
    }

    /// The connection, and the limit that its user has to keep.
    pub(crate) fn parts(&mut self) -> (&mut C, Duration) {
        (&mut self.inner, self.silence_max)
    }
}

impl<C: Connection> Bounded<C> {
    /// Says goodbye to the server, if it listens.
    pub async fn close(self) -> Result<(), sqlx::Error> {
        let limit = self.silence_max;
        in_time(limit, self.inner.close()).await
    }
}

impl<C> fmt::Debug for Bounded<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounded")
            .field("silence_max", &self.silence_max)
            .finish_non_exhaustive()
    }
}

impl<'c, C, DB> Executor<'c> for &'c mut Bounded<C>
where
    DB: Database,
    C: Send,
    for<'a> &'a mut C: Executor<'a, Database = DB>,
{
    type Database = DB;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<DB::QueryResult, DB::Row>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, DB>,
    {
        let limit = self.silence_max;
        steadily(limit, (&mut self.inner).fetch_many(query))
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<DB::Row>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, DB>,
    {
        let limit = self.silence_max;
        Box::pin(in_time(limit, (&mut self.inner).fetch_optional(query)))
    }

    fn prepare_with<'e, 'q: 'e>(
        self,
        sql: &'q str,
        parameters: &'e [DB::TypeInfo],
    ) -> BoxFuture<'e, Result<DB::Statement<'q>, sqlx::Error>>
    where
        'c: 'e,
    {
        let limit = self.silence_max;
        Box::pin(in_time(
            limit,
            (&mut self.inner).prepare_with(sql, parameters),
        ))
    }

    fn describe<'e, 'q: 'e>(
        self,
        sql: &'q str,
    ) -> BoxFuture<'e, Result<sqlx::Describe<DB>, sqlx::Error>>
    where
        'c: 'e,
    {
        let limit = self.silence_max;
        Box::pin(in_time(limit, (&mut self.inner).describe(sql)))
    }
}

/// Awaits one answer for a limited time.
pub async fn in_time<T>(
    limit: Duration,
    answer: impl std::future::Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(silent(limit)),
    }
}

/// The same stream, which fails when its next item takes too long.
pub(crate) fn steadily<'e, T: Send + 'e>(
    limit: Duration,
    items: BoxStream<'e, Result<T, sqlx::Error>>,
) -> BoxStream<'e, Result<T, sqlx::Error>> {
    let next = move |items: Option<BoxStream<'e, Result<T, sqlx::Error>>>| async move {
        let mut items = items?;
        match timeout(limit, items.next()).await {
            Ok(item) => item.map(|item| (item, Some(items))),
            Err(_) => Some((Err(silent(limit)), None)),
        }
    };
    stream::unfold(Some(items), next).boxed()
}

/// What a server is accused of that does not answer.
pub fn silent(limit: Duration) -> sqlx::Error {
    let text = format!("the server has not answered for {} s", limit.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_stream_and_progress_keeps_it_alive() {
        let second = Duration::from_secs(1);
        let items = stream::iter(0..5).then(move |n| async move {
            let wait = if n < 4 { second } else { second * 100 };
            tokio::time::sleep(wait).await;
            Ok::<_, sqlx::Error>(n)
        });
        let mut items = steadily(second * 2, items.boxed());
        for expected in 0..4 {
            let item = items.next().await.expect("an item");
            assert_eq!(item.expect("in time"), expected);
        }
        let error = items.next().await.expect("an item").expect_err("silent");
        assert!(error.to_string().contains("not answered for 2 s"), "{error}");
        assert!(items.next().await.is_none(), "and nothing behind it");
    }
}
