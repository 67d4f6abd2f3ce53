//! The publication, where tables come to it and leave it.

use millrace_events::TableId;
use millrace_sessions::postgres::{qualified, quoted, PgSession};
use sqlx::Executor;

use crate::{publication, Config, Error, Unsuitable};

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
