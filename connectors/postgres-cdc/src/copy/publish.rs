//! The publication, where tables come to it and leave it.

use std::time::Duration;

use millrace_events::TableId;
use millrace_sessions::postgres::{qualified, quoted, PgSession};
use sqlx::Executor;
use tokio::time::sleep;

use crate::{publication, Config, Error, Unsuitable};

const POLL: Duration = Duration::from_millis(50);

/// Publishes those of the tables that are not published.
pub(crate) async fn add(
    session: &mut PgSession,
    config: &Config,
    tables: &[TableId],
) -> Result<(), Error> {
    let published = publication::tables(session, config).await?;
    let missing = tables.iter().filter(|table| !published.contains(table));
    let list: Vec<_> = missing
        .map(|table| format!("ONLY {}", sql(table)))
        .collect();
    if list.is_empty() {
        return Ok(());
    }
    alter(session, config, &format!("ADD TABLE {}", list.join(", "))).await
}

/// Publishes a table no longer.
pub(crate) async fn remove(
    session: &mut PgSession,
    config: &Config,
    table: &TableId,
) -> Result<(), Error> {
    let published = publication::tables(session, config).await?;
    if !published.contains(table) {
        return Ok(());
    }
    alter(session, config, &format!("DROP TABLE ONLY {}", sql(table))).await
}

async fn alter(session: &mut PgSession, config: &Config, change: &str) -> Result<(), Error> {
    let statement = format!("ALTER PUBLICATION {} {change}", quoted(&config.publication));
    match session.execute(statement.as_str()).await {
        Ok(_) => Ok(()),
        Err(error) => Err(publication::denied(config, error, statement)),
    }
}

// Whoever has written to a table holds this lock, or a stronger one, until its transaction is visible; a prepared transaction too.
const WRITERS: &str = "
    SELECT DISTINCT l.virtualtransaction FROM pg_locks l
     WHERE l.locktype = 'relation' AND l.relation = ANY ($1::text[]::regclass[]::oid[]) AND l.granted
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')";

/// Waits for all transactions that have written to the tables up to now: if they were published only a moment ago, what
/// those have changed does not come through the stream.
pub(crate) async fn until_written(
    session: &mut PgSession,
    tables: &[TableId],
) -> Result<(), Error> {
    let names: Vec<_> = tables.iter().map(sql).collect();
    let mut writers = writers(session, &names).await?;
    while !writers.is_empty() {
        sleep(POLL).await;
        let now = self::writers(session, &names).await?;
        writers.retain(|writer| now.contains(writer));
    }
    Ok(())
}

async fn writers(session: &mut PgSession, names: &[String]) -> Result<Vec<String>, Error> {
    let query = sqlx::query_scalar(WRITERS).bind(names);
    Ok(query.fetch_all(session).await?)
}

/// There is no such table.
pub(crate) fn missing(table: &TableId) -> Error {
    Error::Unsuitable(vec![Unsuitable {
        table: table.clone(),
        reason: "does not exist".to_owned(),
        remedy: "create it".to_owned(),
    }])
}

fn sql(table: &TableId) -> String {
    qualified(&table.schema, &table.name)
}
