//! The marts themselves, read from MySQL.
//!
//! Names of tables come from the configuration and names of columns from the server, never from the
//! request. Rows and position are of one snapshot.

mod browse;
mod chart;
mod pool;

use std::time::Duration;

use millrace_events::Lsn;
use millrace_sessions::mysql::{Pool, Pooled};
use serde::Serialize;
use sqlx::mysql::MySqlConnection;
use sqlx::{Executor, Row};
use tokio::time::error::Elapsed;
use tokio::time::{timeout_at, Instant};

use crate::collect;
use crate::config::Mart;

pub(crate) use browse::{Browse, Direction, Page};
pub(crate) use chart::Chart;

/// All of a request to MySQL. The server stops a single statement earlier.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// A mart cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no mart {0:?}")]
    Unknown(String),
    #[error("{0} is not in MySQL yet")]
    NotThere(String),
    #[error("the description of {0} has none")]
    NoChart(String),
    #[error("{0}")]
    Request(String),
    #[error("MySQL")]
    Sql(#[from] sqlx::Error),
    #[error("MySQL did not answer within {} s", ANSWER_WITHIN.as_secs())]
    Timeout,
}

/// A column of a mart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) numeric: bool,
}

/// A mart with its size.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    name: String,
    rows: u64,
    columns: Vec<Column>,
}

/// Reads marts.
pub(crate) struct Marts {
    pool: Option<Pool>,
    marts: Vec<Mart>,
}

impl Marts {
    /// Connects when first asked.
    pub(crate) fn new(url: &str, marts: &[Mart]) -> Marts {
        Marts {
            pool: pool::lazy(url),
            marts: marts.to_vec(),
        }
    }

    /// Those that are in MySQL.
    pub(crate) async fn list(&self) -> Result<Vec<Listed>, Error> {
        let (mut conn, until) = self.connection().await?;
        let listed = timeout_at(until, list(&mut conn, &self.marts)).await;
        settled(listed, conn)
    }

    /// A page of rows.
    pub(crate) async fn browse(&self, name: &str, wanted: &Browse) -> Result<Page, Error> {
        let mart = self.known(name)?;
        let (mut conn, until) = self.connection().await?;
        let page = timeout_at(until, browse::page(&mut conn, &mart.name, wanted)).await;
        settled(page, conn)
    }

    /// Its chart.
    pub(crate) async fn chart(&self, name: &str) -> Result<Chart, Error> {
        let mart = self.known(name)?;
        let no_chart = || Error::NoChart(mart.name.clone());
        let recipe = mart.chart.as_ref().ok_or_else(no_chart)?;
        let (mut conn, until) = self.connection().await?;
        let chart = timeout_at(until, chart::draw(&mut conn, &mart.name, recipe)).await;
        settled(chart, conn)
    }

    /// A connection, and when everything that is asked on it must be answered.
    async fn connection(&self) -> Result<(Pooled, Instant), Error> {
        let until = Instant::now() + ANSWER_WITHIN;
        let pool = self
            .pool
            .as_ref()
            .ok_or_else(|| sqlx::Error::Configuration("its URL cannot be used".into()))?;
        let conn = timeout_at(until, pool.session()).await;
        Ok((conn.map_err(|_| Error::Timeout)??, until))
    }

    fn known(&self, name: &str) -> Result<&Mart, Error> {
        let known = self.marts.iter().find(|mart| mart.name == name);
        known.ok_or_else(|| Error::Unknown(name.chars().take(64).collect()))
    }
}

async fn list(conn: &mut MySqlConnection, marts: &[Mart]) -> Result<Vec<Listed>, Error> {
    begin(conn).await?;
    let mut listed = Vec::new();
    for Mart { name, .. } in marts {
        let columns = columns(conn, name).await?;
        if columns.is_empty() {
            continue;
        }
        let count = format!("SELECT COUNT(*) FROM {}", quoted(name));
        let rows: i64 = sqlx::query_scalar(&count).fetch_one(&mut *conn).await?;
        listed.push(Listed {
            name: name.clone(),
            rows: u64::try_from(rows).unwrap_or(0),
            columns,
        });
    }
    Ok(listed)
}

/// Everything read on the connection until the next begin is of one state. Another transaction that
/// was left open is ended.
async fn begin(conn: &mut MySqlConnection) -> Result<(), Error> {
    conn.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        .await?;
    Ok(())
}

/// The position that the rows of the open snapshot are at.
async fn position(conn: &mut MySqlConnection) -> Result<Option<Lsn>, Error> {
    Ok(collect::applied(&mut *conn).await?)
}

/// Columns in order, as `SELECT *` would show them; none if there is no such table.
async fn columns(conn: &mut MySqlConnection, table: &str) -> Result<Vec<Column>, Error> {
    let rows = sqlx::query(
        "SELECT CAST(column_name AS CHAR), CAST(data_type AS CHAR) FROM information_schema.columns \
         WHERE table_schema = DATABASE() AND table_name = ? AND extra NOT LIKE '%INVISIBLE%' \
         ORDER BY ordinal_position",
    )
    .bind(table)
    .fetch_all(conn)
    .await?;
    let column = |row: &sqlx::mysql::MySqlRow| {
        let kind: String = row.try_get_unchecked(1)?;
        Ok(Column {
            name: row.try_get_unchecked(0)?,
            numeric: is_numeric(&kind),
        })
    };
    rows.iter().map(column).collect()
}

fn is_numeric(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    let numeric = ["int", "decimal", "float", "double", "numeric"];
    numeric.iter().any(|word| kind.contains(word)) && kind != "point"
}

/// An identifier in backquotes.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Takes the answer, if it came in time. Else the connection still owes it.
fn settled<T>(answer: Result<Result<T, Error>, Elapsed>, conn: Pooled) -> Result<T, Error> {
    answer.unwrap_or_else(|_| {
        conn.give_up();
        Err(Error::Timeout)
    })
}
