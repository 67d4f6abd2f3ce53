//! How far the topic is stored: table `millrace.ingest_position`, one row per topic.

use sha2::{Digest, Sha256};
use sqlx::{PgConnection, Row};

use crate::bookkeeping;
use crate::error::SessionError;

const PARTITION: i32 = 0;
const NAME: &str = "millrace.ingest_position";

const TABLE: &str = "CREATE TABLE IF NOT EXISTS millrace.ingest_position (
    topic         text        NOT NULL,
    partition     integer     NOT NULL,
    next_offset   bigint      NOT NULL CHECK (next_offset >= 0),
    anchor_offset bigint,
    anchor_digest bytea,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
)";

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) next_offset: i64,
    pub(crate) anchor: Option<Anchor>,
}

/// A record that was read from the topic. If something else stands there later, it is another
/// topic of the same name, or one that lost records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Anchor {
    pub(crate) offset: i64,
    pub(crate) digest: Vec<u8>,
}

impl Anchor {
    /// Over the bytes as they were sent, and their time: events repeat.
    pub(crate) fn of(offset: i64, timestamp_ms: i64, value: &[u8]) -> Anchor {
        let mut hash = Sha256::new();
        hash.update(timestamp_ms.to_be_bytes());
        hash.update(value);
        let digest = hash.finalize().to_vec();
        Anchor { offset, digest }
    }
}

/// Creates the table where it is missing.
pub(crate) async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    bookkeeping::ensure(connection, NAME, TABLE).await
}

/// The offset of the next event to be stored, as any observer may ask; nothing if the topic was never
/// read from this database.
pub async fn stored_offset(
    connection: &mut PgConnection,
    topic: &str,
) -> Result<Option<i64>, sqlx::Error> {
    if !bookkeeping::exists(connection, NAME).await? {
        return Ok(None);
    }
    let stored = load(connection, topic).await?;
    Ok(stored.map(|position| position.next_offset))
}

/// The stored position; nothing if the topic was never read.
pub(crate) async fn load(
    connection: &mut PgConnection,
    topic: &str,
) -> Result<Option<Position>, sqlx::Error> {
    let sql = "SELECT next_offset, anchor_offset, anchor_digest FROM millrace.ingest_position \
               WHERE topic = $1 AND partition = $2";
    let row = sqlx::query(sql)
        .bind(topic)
        .bind(PARTITION)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let anchor = (
        row.try_get::<Option<i64>, _>(1)?,
        row.try_get::<Option<Vec<u8>>, _>(2)?,
    );
    Ok(Some(Position {
        next_offset: row.try_get(0)?,
        anchor: match anchor {
            (Some(offset), Some(digest)) => Some(Anchor { offset, digest }),
            _ => None,
        },
    }))
}

/// Moves the position within a transaction, if it still stands where this ingest left it.
pub(crate) async fn advance(
    connection: &mut PgConnection,
    topic: &str,
    from: Option<i64>,
    to: i64,
) -> Result<(), SessionError> {
    let sql = match from {
        Some(_) => {
            "UPDATE millrace.ingest_position SET next_offset = $3, updated_at = now() \
             WHERE topic = $1 AND partition = $2 AND next_offset = $4"
        }
        None => {
            "INSERT INTO millrace.ingest_position (topic, partition, next_offset) \
             SELECT $1, $2, $3 WHERE $4::bigint IS NULL ON CONFLICT DO NOTHING"
        }
    };
    let moved = sqlx::query(sql)
        .bind(topic)
        .bind(PARTITION)
        .bind(to)
        .bind(from);
    match moved.execute(connection).await?.rows_affected() {
        1 => Ok(()),
        _ => Err(SessionError::MovedElsewhere),
    }
}

/// Remembers a record before the position.
pub(crate) async fn drop_anchor(
    connection: &mut PgConnection,
    topic: &str,
    anchor: &Anchor,
) -> Result<(), sqlx::Error> {
    let sql = "UPDATE millrace.ingest_position SET anchor_offset = $3, anchor_digest = $4 \
               WHERE topic = $1 AND partition = $2 AND next_offset > $3";
    let query = sqlx::query(sql)
        .bind(topic)
        .bind(PARTITION)
        .bind(anchor.offset);
    query.bind(&anchor.digest).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_tells_equal_events_of_different_times_apart() {
        let anchor = Anchor::of(5, 1000, b"event");
        assert_eq!(anchor, Anchor::of(5, 1000, b"event"));
        assert_ne!(anchor, Anchor::of(5, 1001, b"event"));
        assert_ne!(anchor, Anchor::of(5, 1000, b"Event"));
    }
}
