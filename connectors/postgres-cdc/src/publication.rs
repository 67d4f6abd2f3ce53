//! The publication: created for exactly the captured tables, or refused. Never altered.

use millrace_sessions::postgres::{qualified, quoted, PgSession};
use sqlx::{Executor, Row};

use crate::{Config, Error};

/// Makes sure that the publication exists and publishes what it should.
pub(crate) async fn ensure(connection: &mut PgSession, config: &Config) -> Result<(), Error> {
    if !exists(connection, config).await? {
        create(connection, config).await?;
    }
    match difference(connection, config).await? {
        None => Ok(()),
        Some(difference) => Err(Error::PublicationDiffers {
            publication: config.publication.clone(),
            difference,
        }),
    }
}

async fn exists(connection: &mut PgSession, config: &Config) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = $1)";
    let row = sqlx::query(sql)
        .bind(&config.publication)
        .fetch_one(connection)
        .await?;
    Ok(row.try_get(0)?)
}

/// Partitioned tables are not captured, but their partitions may be. Via the root, a publication of
/// the partitioned table cannot pass for one of its partitions, which would lose those detached.
///
/// `ONLY`, here, in the snapshot and in verify: a table is its own rows. Those of tables that inherit from it are
/// theirs, whether they were attached before or after the publication was made.
fn statement(config: &Config) -> String {
    let tables: Vec<_> = config
        .tables
        .iter()
        .map(|table| format!("ONLY {}", qualified(&config.schema, table)))
        .collect();
    format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)",
        quoted(&config.publication),
        tables.join(", ")
    )
}

async fn create(connection: &mut PgSession, config: &Config) -> Result<(), Error> {
    let statement = statement(config);
    match connection.execute(statement.as_str()).await {
        Ok(_) => Ok(()),
        Err(error) => match error.as_database_error() {
            Some(database) if database.code().as_deref() == Some("42501") => {
                Err(Error::PublicationDenied {
                    publication: config.publication.clone(),
                    reason: database.message().into(),
                    statement,
                })
            }
            _ => Err(error.into()),
        },
    }
}

const SHAPE: &str = "
    SELECT puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot
      FROM pg_publication WHERE pubname = $1";
// Row filters and column lists exist from PostgreSQL 15 on; through JSON one query fits all.
const TABLES: &str = "
    SELECT t.schemaname || '.' || t.tablename, to_jsonb(t) ->> 'rowfilter' FROM pg_publication_tables t
     WHERE t.pubname = $1 ORDER BY 1";
const COLUMN_LISTS: &str = "
    SELECT EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
                    WHERE p.pubname = $1 AND to_jsonb(r) ->> 'prattrs' IS NOT NULL)";

async fn difference(connection: &mut PgSession, config: &Config) -> Result<Option<String>, Error> {
    let name = &config.publication;
    let shape = sqlx::query(SHAPE)
        .bind(name)
        .fetch_one(&mut *connection)
        .await?;
    if shape.try_get(0)? {
        return Ok(Some("publishes all tables".into()));
    }
    if !shape.try_get::<bool, _>(1)? {
        return Ok(Some(
            "does not publish inserts, updates, deletes and truncates".into(),
        ));
    }
    if !shape.try_get::<bool, _>(2)? {
        return Ok(Some("does not publish via the partition root".into()));
    }
    let lists = sqlx::query(COLUMN_LISTS)
        .bind(name)
        .fetch_one(&mut *connection)
        .await?;
    if lists.try_get(0)? {
        return Ok(Some("has column lists".into()));
    }
    let mut found = Vec::new();
    for row in sqlx::query(TABLES).bind(name).fetch_all(connection).await? {
        if row.try_get::<Option<String>, _>(1)?.is_some() {
            return Ok(Some("has row filters".into()));
        }
        found.push(row.try_get::<String, _>(0)?);
    }
    let mut wanted: Vec<_> = config
        .tables
        .iter()
        .map(|t| format!("{}.{t}", config.schema))
        .collect();
    wanted.sort();
    found.sort();
    if wanted == found {
        return Ok(None);
    }
    Ok(Some(format!(
        "publishes {}, not {}",
        found.join(", "),
        wanted.join(", ")
    )))
}
