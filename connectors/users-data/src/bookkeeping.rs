//! What ingest keeps in Postgres beside the users: tables of schema `millrace`.

use std::future::Future;
use std::io;
use std::time::Duration;

use millrace_sessions::postgres::Server;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use crate::{Config, Error};

/// One piece of work in Postgres, of a few statements that the server limits one by one. Only a server that has
/// vanished takes longer.
pub(crate) const POSTGRES_TIME_MAX: Duration = Duration::from_secs(120);

/// A piece of work that needs Postgres, within [`POSTGRES_TIME_MAX`]: a server that has vanished never answers.
pub(crate) async fn limited<T, E: From<sqlx::Error>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match timeout(POSTGRES_TIME_MAX, work).await {
        Ok(answer) => answer,
        Err(_) => Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into()).into()),
    }
}

/// The database that ingest writes to.
pub(crate) fn server(config: &Config) -> Result<Server, Error> {
    Server::parse(&config.postgres_url)
        .map_err(|error| Error::Config(format!("postgres_url: {error}")))
}

/// True if there is such a table.
pub(crate) async fn exists(
    connection: &mut PgConnection,
    table: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(table)
        .fetch_one(connection)
        .await
}

/// Creates a table of schema `millrace` where it is missing, and the schema. Two services that start
/// together may both try.
pub(crate) async fn ensure(
    connection: &mut PgConnection,
    table: &str,
    definition: &str,
) -> Result<(), sqlx::Error> {
    if exists(connection, table).await? {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    // Whatever else keeps its books in the schema takes the same lock, or has none and is rare.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('millrace.schema'))")
        .execute(&mut *transaction)
        .await?;
    let schema = "SELECT to_regnamespace('millrace') IS NOT NULL";
    if !sqlx::query_scalar::<_, bool>(schema)
        .fetch_one(&mut *transaction)
        .await?
    {
        sqlx::query("CREATE SCHEMA IF NOT EXISTS millrace")
            .execute(&mut *transaction)
            .await?;
    }
    sqlx::query(definition).execute(&mut *transaction).await?;
    transaction.commit().await
}
