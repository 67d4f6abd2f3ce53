//! What people did with rejected events: table `millrace.rejected_actions`, one row per record.
//!
//! | row | state of the record |
//! |---|---|
//! | none | open |
//! | `done_at` is set | retried or discarded, as `action` says |
//! | `retry`, `done_at` is null | open, and a retry has begun that did not say how it ended |
//!
//! The last comes from a kill, or from a broker that did not answer: the event may have been sent or not.
//! After [`IN_DOUBT`] it may be sent again; users are stored by email, so that twice does no harm.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

use super::index::Digest;
use crate::bookkeeping;

/// A retry that has not said how it ended after this time never will.
pub(crate) const IN_DOUBT: Duration = Duration::from_secs(60);

const NAME: &str = "millrace.rejected_actions";
const TABLE: &str = "CREATE TABLE IF NOT EXISTS millrace.rejected_actions (
    topic           text        NOT NULL,
    rejected_offset bigint      NOT NULL CHECK (rejected_offset >= 0),
    digest          bytea       NOT NULL,
    action          text        NOT NULL CHECK (action IN ('retry', 'discard')),
    at              timestamptz NOT NULL,
    done_at         timestamptz,
    sent_offset     bigint,
    PRIMARY KEY (topic, rejected_offset)
)";

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Retry,
    Discard,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Retry => "retry",
            Kind::Discard => "discard",
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) kind: Kind,
    pub(crate) at: DateTime<Utc>,
    pub(crate) done: bool,
    digest: Vec<u8>,
}

impl Action {
    /// False if it was about a record of an earlier topic of the same name.
    pub(crate) fn is_about(&self, digest: Digest) -> bool {
        self.digest == digest.0
    }
}

/// A record in a topic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) topic: &'a str,
    pub(crate) offset: i64,
    pub(crate) digest: Digest,
}

/// Creates the table where it is missing.
pub(crate) async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    bookkeeping::ensure(connection, NAME, TABLE).await
}

/// The rows of a topic with offsets from `first` to before `end`.
pub(crate) async fn load(
    connection: &mut PgConnection,
    topic: &str,
    first: i64,
    end: i64,
) -> Result<HashMap<i64, Action>, sqlx::Error> {
    let sql = "SELECT rejected_offset, action, at, done_at IS NOT NULL, digest \
               FROM millrace.rejected_actions \
               WHERE topic = $1 AND rejected_offset >= $2 AND rejected_offset < $3";
    let query = sqlx::query(sql).bind(topic).bind(first).bind(end);
    let rows = query.fetch_all(connection).await?;
    let action = |row: &sqlx::postgres::PgRow| {
        let kind = match row.try_get::<&str, _>(1)? {
            "retry" => Kind::Retry,
            _ => Kind::Discard,
        };
        let action = Action {
            kind,
            at: row.try_get(2)?,
            done: row.try_get(3)?,
            digest: row.try_get(4)?,
        };
        Ok((row.try_get(0)?, action))
    };
    rows.iter().map(action).collect()
}

/// Takes an open record; nothing if it is not open, or if somebody is at it. The time names the claim.
pub(crate) async fn claim(
    connection: &mut PgConnection,
    place: Place<'_>,
    kind: Kind,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let sql = "INSERT INTO millrace.rejected_actions AS old \
                   (topic, rejected_offset, digest, action, at, done_at) \
               VALUES ($1, $2, $3, $4, clock_timestamp(), \
                   CASE WHEN $4 = 'discard' THEN clock_timestamp() END) \
               ON CONFLICT (topic, rejected_offset) DO UPDATE \
               SET digest = EXCLUDED.digest, action = EXCLUDED.action, at = EXCLUDED.at, \
                   done_at = EXCLUDED.done_at, sent_offset = NULL \
               WHERE old.digest <> EXCLUDED.digest \
                  OR (old.done_at IS NULL AND old.at < clock_timestamp() - make_interval(secs => $5)) \
               RETURNING at";
    sqlx::query_scalar(sql)
        .bind(place.topic)
        .bind(place.offset)
        .bind(&place.digest.0[..])
        .bind(kind.as_str())
        .bind(IN_DOUBT.as_secs_f64())
        .fetch_optional(connection)
        .await
}

/// The event of a claim is in the users topic, at `sent_offset`.
pub(crate) async fn done(
    connection: &mut PgConnection,
    place: Place<'_>,
    claim: DateTime<Utc>,
    sent_offset: i64,
) -> Result<(), sqlx::Error> {
    let sql = "UPDATE millrace.rejected_actions SET done_at = clock_timestamp(), sent_offset = $4 \
               WHERE topic = $1 AND rejected_offset = $2 AND at = $3 AND done_at IS NULL";
    let query = sqlx::query(sql).bind(place.topic).bind(place.offset);
    query
        .bind(claim)
        .bind(sent_offset)
        .execute(connection)
        .await?;
    Ok(())
}

/// Nothing was sent for a claim: the record is open as before.
pub(crate) async fn give_back(
    connection: &mut PgConnection,
    place: Place<'_>,
    claim: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let sql = "DELETE FROM millrace.rejected_actions \
               WHERE topic = $1 AND rejected_offset = $2 AND at = $3 AND done_at IS NULL";
    let query = sqlx::query(sql).bind(place.topic).bind(place.offset);
    query.bind(claim).execute(connection).await?;
    Ok(())
}
