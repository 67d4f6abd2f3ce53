//! A session whose statements never wait for ever.
//!
//! The driver does not notice a server that vanished without a packet (a failover, a proxy, a firewall): the answer just
//! does not come. Here every wait for the next piece of an answer has a limit. It is a limit on silence, not on the
//! whole statement, so that a long copy that brings rows may take as long as it needs.

use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use futures_util::FutureExt;
use sqlx::postgres::{PgConnection, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Connection, Describe, Either, Execute, Executor, Postgres};
use tokio::time::timeout;

/// A session that gives up when the server is silent for too long. After that error its state is unknown: drop it
/// and connect again.
pub struct PgSession {
    connection: PgConnection,
    silence_max: Duration,
}

impl PgSession {
    /// `silence_max`: how long the next piece of an answer may take.
    pub(super) fn new(connection: PgConnection, silence_max: Duration) -> Self {
        PgSession {
            connection,
            silence_max,
        }
    }

    /// The connection without the limit, for those who put a limit around what they do with it.
    pub fn into_inner(self) -> PgConnection {
        self.connection
    }

    /// Streams the output of a `COPY … TO STDOUT`, as long as it makes progress.
    pub async fn copy_out<'c>(
        &'c mut self,
        sql: &str,
    ) -> Result<BoxStream<'c, Result<Bytes, sqlx::Error>>, sqlx::Error> {
        let limit = self.silence_max;
        let lines = in_time(limit, self.connection.copy_out_raw(sql)).await?;
        Ok(steadily(limit, lines))
    }

    /// Says goodbye to the server, if it listens.
    pub async fn close(self) -> Result<(), sqlx::Error> {
        in_time(self.silence_max, self.connection.close()).await
    }
}

impl fmt::Debug for PgSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgSession")
            .field("silence_max", &self.silence_max)
            .finish_non_exhaustive()
    }
}

impl<'c> Executor<'c> for &'c mut PgSession {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        steadily(self.silence_max, self.connection.fetch_many(query))
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let answer = self.connection.fetch_optional(query);
        in_time(self.silence_max, answer).boxed()
    }

    fn prepare_with<'e, 'q: 'e>(
        self,
        sql: &'q str,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement<'q>, sqlx::Error>>
    where
        'c: 'e,
    {
        let answer = self.connection.prepare_with(sql, parameters);
        in_time(self.silence_max, answer).boxed()
    }

    fn describe<'e, 'q: 'e>(
        self,
        sql: &'q str,
    ) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        in_time(self.silence_max, self.connection.describe(sql)).boxed()
    }
}

/// Awaits one answer for a limited time.
pub async fn in_time<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(silent(limit)),
    }
}

/// The same stream, which fails when its next item takes too long.
fn steadily<'e, T: Send + 'e>(
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
fn silent(limit: Duration) -> sqlx::Error {
    let text = format!("the server has not answered for {} s", limit.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn silence_ends_a_stream_and_progress_keeps_it_alive() {
        let limit = Duration::from_millis(300);
        // Five times a third of the limit is more than the limit.
        let items = stream::iter(0..5).then(move |n| async move {
            tokio::time::sleep(limit / 3).await;
            Ok::<_, sqlx::Error>(n)
        });
        let items = items.chain(stream::pending());
        let mut items = steadily(limit, items.boxed());
        for expected in 0..5 {
            let item = items.next().await.expect("an item");
            assert_eq!(item.expect("in time"), expected);
        }
        let error = items.next().await.expect("an item").expect_err("silent");
        assert!(error.to_string().contains("has not answered"), "{error}");
        assert!(items.next().await.is_none(), "and nothing behind it");
    }
}
