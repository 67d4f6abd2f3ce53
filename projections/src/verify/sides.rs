//! Rows as they come from either server, always as the text that it prints.

use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt};
use millrace_sessions::mysql::Session;
use millrace_sessions::postgres::PgSession;
use sqlx::mysql::MySqlRow;
use sqlx::postgres::{PgRow, PgValueFormat};
use sqlx::{Executor, Row as _, ValueRef};

use super::checksum::Sums;
use super::key::Key;
use super::merge::Row;
use super::{mysql, postgres, Error};

/// The values of a row.
pub(super) type Texts = Vec<Option<String>>;

/// Streams the rows of a query; `row` makes something of their texts.
pub(super) fn from_postgres<'c>(
    session: &'c mut PgSession,
    sql: &'c str,
    row: impl Fn(Texts) -> Row + 'c,
) -> impl Stream<Item = Result<Row, Error>> + 'c {
    // The simple protocol prints every value as text.
    sqlx::raw_sql(sql).fetch(session).map(move |fetched| {
        let fetched = fetched.map_err(postgres("reading rows"))?;
        let texts = postgres_texts(&fetched).map_err(postgres("reading rows"))?;
        Ok(row(texts))
    })
}

/// Streams the rows of a query; `row` makes something of their texts.
pub(super) fn from_mysql<'c>(
    conn: &'c mut Session,
    sql: &'c str,
    row: impl Fn(Texts) -> Row + 'c,
) -> impl Stream<Item = Result<Row, Error>> + 'c {
    sqlx::raw_sql(sql).fetch(conn).map(move |fetched| {
        let fetched = fetched.map_err(mysql("reading rows"))?;
        let texts = mysql_texts(&fetched, 0).map_err(mysql("reading rows"))?;
        Ok(row(texts))
    })
}

/// The sums that Postgres answers with.
pub(super) fn sums_from_postgres<'c>(
    session: &'c mut PgSession,
    sql: &'c str,
) -> BoxFuture<'c, Result<Sums, Error>> {
    Box::pin(async move {
        let asking = postgres("asking for sums of digests");
        let rows = session.fetch_all(sql).await;
        let rows = rows.map_err(&asking)?;
        let texts: sqlx::Result<Vec<Texts>> = rows.iter().map(postgres_texts).collect();
        summed(&texts.map_err(&asking)?)
    })
}

/// The sums that MySQL answers with.
pub(super) fn sums_from_mysql<'c>(
    conn: &'c mut Session,
    sql: &'c str,
) -> BoxFuture<'c, Result<Sums, Error>> {
    Box::pin(async move { summed(&all_from_mysql(conn, sql).await?) })
}

/// All rows of a short answer.
pub(super) fn all_from_mysql<'c>(
    conn: &'c mut Session,
    sql: &'c str,
) -> BoxFuture<'c, Result<Vec<Texts>, Error>> {
    Box::pin(async move {
        let asking = mysql("asking for sums of digests");
        let rows = conn.fetch_all(sql).await;
        let rows = rows.map_err(&asking)?;
        let texts: sqlx::Result<Vec<Texts>> = rows.iter().map(|row| mysql_texts(row, 0)).collect();
        texts.map_err(&asking)
    })
}

fn summed(answers: &[Texts]) -> Result<Sums, Error> {
    let mut sums = Sums::default();
    for answer in answers {
        let wrong = || Error::Bookkeeping(format!("{answer:?} is no sum of digests"));
        sums.add(answer).ok_or_else(wrong)?;
    }
    Ok(sums)
}

/// The rows of a query whose first column is the bytes by which it is ordered.
pub(super) fn from_mysql_by_digest<'c>(
    conn: &'c mut Session,
    sql: &'c str,
) -> impl Stream<Item = Result<Row, Error>> + 'c {
    sqlx::raw_sql(sql).fetch(conn).map(move |fetched| {
        let fetched = fetched.map_err(mysql("reading a mart"))?;
        let digest: Option<Vec<u8>> = fetched
            .try_get_unchecked(0)
            .map_err(mysql("reading a mart"))?;
        let cells = mysql_texts(&fetched, 1).map_err(mysql("reading a mart"))?;
        Ok(Row {
            order: vec![Key::Bytes(digest.unwrap_or_default())],
            cells,
            unfit: Vec::new(),
        })
    })
}

fn postgres_texts(row: &PgRow) -> sqlx::Result<Texts> {
    let text = |i: usize| {
        let value = row.try_get_raw(i)?;
        if value.is_null() {
            return Ok(None);
        }
        debug_assert_eq!(value.format(), PgValueFormat::Text);
        let text = value.as_str().map_err(sqlx::Error::Decode)?;
        Ok(Some(text.to_owned()))
    };
    (0..row.len()).map(text).collect()
}

/// Values of the text protocol, unchecked because `String` decodes any of them. Bytes that are no
/// text, which our tables cannot hold, are escaped.
fn mysql_texts(row: &MySqlRow, first: usize) -> sqlx::Result<Texts> {
    let text = |i: usize| {
        let bytes: Option<Vec<u8>> = row.try_get_unchecked(i)?;
        Ok(bytes.map(|bytes| match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => error.as_bytes().escape_ascii().to_string(),
        }))
    };
    (first..row.len()).map(text).collect()
}
