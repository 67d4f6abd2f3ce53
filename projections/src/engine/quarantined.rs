//! Showing what stands in quarantine, a page at a time.

use chrono::{DateTime, NaiveDateTime, Utc};
use millrace_control::time;
use millrace_events::{Lsn, TableId};
use millrace_sessions::mysql::{connect, Purpose};
use serde::Serialize;
use sqlx::mysql::MySqlRow;
use sqlx::Row;

use super::error::Error;
use super::handle::Handle;

/// Values on a page.
const LIMIT_MAX: u32 = 200;
/// Of a longer value so many characters are shown; MySQL has all of it.
const VALUE_CHARS_MAX: u32 = 4_096;

/// Which values are wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Of this table of the source only.
    pub table: Option<TableId>,
    /// No more than these.
    pub limit: u32,
    /// Those behind this one, as the page before says it.
    pub after: Option<String>,
}

/// Some of the values in quarantine.
#[derive(Clone, Debug, Serialize)]
pub struct Page {
    /// In the order of tables and of digests of keys.
    pub values: Vec<QuarantinedValue>,
    /// How many there are, those included that are not on this page.
    pub total: u64,
    /// Where the next page begins; `None`: this is the last one.
    pub next_after: Option<String>,
}

/// A value that MySQL cannot hold.
#[derive(Clone, Debug, Serialize)]
pub struct QuarantinedValue {
    /// In the source, as `schema.table`.
    pub table: String,
    /// In MySQL.
    pub name: String,
    /// Key of the row: column names and values.
    pub key: serde_json::Value,
    /// The column that is NULL.
    pub column: String,
    /// What Postgres prints for the value, or how that begins.
    pub value: String,
    /// Length of all of it.
    pub value_bytes: u64,
    /// Why, without the value.
    pub reason: String,
    /// Where the table stood when it came.
    pub lsn: Lsn,
    /// When that was.
    #[serde(serialize_with = "time::serialize")]
    pub at: DateTime<Utc>,
}

/// They cannot be shown now.
#[derive(Debug, thiserror::Error)]
pub enum QuarantinedError {
    /// MySQL did not answer in time.
    #[error("MySQL does not answer; try again when it does")]
    Silent,
    /// It refused.
    #[error("the quarantine cannot be read")]
    Read(#[source] Box<Error>),
}

impl Handle {
    /// The values in quarantine of the tables that are there. Shadows have theirs when they have taken their places.
    pub async fn quarantined(&self, wanted: &Wanted) -> Result<Page, QuarantinedError> {
        let (url, within) = self.0.pause.target();
        let page = tokio::time::timeout(within, read(url, wanted)).await;
        let page = page.map_err(|_| QuarantinedError::Silent)?;
        page.map_err(|error| QuarantinedError::Read(Box::new(error)))
    }
}

const FROM: &str = "FROM millrace_quarantine q JOIN millrace_tables t ON t.name = q.name \
     WHERE (? IS NULL OR q.source = ?)";

async fn read(url: &str, wanted: &Wanted) -> Result<Page, Error> {
    let mut conn = connect(url, Purpose::Look).await?;
    let table = wanted.table.as_ref().map(TableId::to_string);
    let total: i64 = sqlx::query_scalar(&format!("SELECT COUNT(*) {FROM}"))
        .bind(&table)
        .bind(&table)
        .fetch_one(&mut conn)
        .await
        .map_err(failed)?;
    let limit = wanted.limit.clamp(1, LIMIT_MAX);
    let sql = format!(
        "SELECT CONCAT(q.name, '/', q.digest, '/', q.column_name), q.source, q.name, q.row_key, q.column_name, \
         LEFT(q.value, {VALUE_CHARS_MAX}), OCTET_LENGTH(q.value), q.reason, q.lsn, q.at {FROM} \
         AND CONCAT(q.name, '/', q.digest, '/', q.column_name) > ? ORDER BY 1 LIMIT {}",
        limit + 1
    );
    let rows = sqlx::query(&sql)
        .bind(&table)
        .bind(&table)
        .bind(wanted.after.as_deref().unwrap_or_default())
        .fetch_all(&mut conn)
        .await
        .map_err(failed)?;
    let shown = &rows[..rows.len().min(limit as usize)];
    let next_after = match (rows.len() > shown.len(), shown.last()) {
        (true, Some(last)) => Some(text(last, 0)?),
        _ => None,
    };
    Ok(Page {
        values: shown.iter().map(value).collect::<Result<_, _>>()?,
        total: total.unsigned_abs(),
        next_after,
    })
}

fn value(row: &MySqlRow) -> Result<QuarantinedValue, Error> {
    let key = text(row, 3)?;
    let bytes: i64 = row.try_get(6).map_err(failed)?;
    let at: NaiveDateTime = row.try_get(9).map_err(failed)?;
    Ok(QuarantinedValue {
        table: text(row, 1)?,
        name: text(row, 2)?,
        key: serde_json::from_str(&key).unwrap_or(serde_json::Value::String(key)),
        column: text(row, 4)?,
        value: text(row, 5)?,
        value_bytes: bytes.unsigned_abs(),
        reason: text(row, 7)?,
        lsn: Lsn(row.try_get(8).map_err(failed)?),
        at: at.and_utc(),
    })
}

/// Unchecked: sqlx takes text of a binary collation for bytes.
fn text(row: &MySqlRow, column: usize) -> Result<String, Error> {
    row.try_get_unchecked(column).map_err(failed)
}

fn failed(source: sqlx::Error) -> Error {
    Error::sql("a look at the quarantine of values")(source)
}
