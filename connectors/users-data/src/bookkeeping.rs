//! What ingest keeps in Postgres beside the users: tables of schema `millrace`.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

use crate::{Config, Error};

/// Connecting to Postgres, and each statement there.
pub(crate) const POSTGRES_TIMEOUT: Duration = Duration::from_secs(20);

/// Statements end by themselves, and so does a transaction whose ingest is gone without a word.
pub(crate) fn options(config: &Config, application: &str) -> Result<PgConnectOptions, Error> {
    let limit = POSTGRES_TIMEOUT.as_millis().to_string();
    let options = PgConnectOptions::from_str(&config.postgres_url)
        .map_err(|_| Error::Config("postgres_url is no postgres:// URL".to_owned()))?;
    Ok(options.application_name(application).options([
        ("TimeZone", "UTC"),
        ("statement_timeout", limit.as_str()),
        ("idle_in_transaction_session_timeout", "60000"),
    ]))
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
