//! Reading one chunk: its rows, and the snapshot that says what they contain.
//!
//! Each chunk is read in a transaction of its own, which is short. The table is locked before the snapshot is taken, so that no
//! TRUNCATE and no rewrite can fall between them: those are not MVCC-safe for a reader with an older snapshot.

use futures_util::TryStreamExt;
use millrace_events::{
    CapturedTable, Lsn, Row, Slice, Sliced, TableId, TableSchema, Value, Visibility,
};
use millrace_sessions::postgres::PgSession;
use sqlx::{Executor, Row as _};

use super::fence;
use super::keys::{Key, Keys};
use super::moved::key_of;
use super::output::Output;
use super::sessions::Copying;
use crate::catalog::{self, Types};
use crate::cell::{copy_cells, value};
use crate::wide::whole_characters;
use crate::{Error, Unsuitable};

/// What a transaction that reads a table sees.
#[derive(Clone, Debug)]
pub(crate) struct Seal {
    pub(crate) visible: Visibility,
    /// What is visible was committed before this.
    pub(crate) lsn: Lsn,
}

/// A table as it is read: its definition does not change while its copy runs.
#[derive(Clone, Debug)]
pub(crate) struct TableSource {
    pub(crate) definition: TableSchema,
    /// `pg_class.oid`, if the log says it.
    oid: Option<u32>,
    pub(crate) keys: Keys,
    /// Where the types of the key and their operators are.
    search_path: String,
}

impl TableSource {
    pub(crate) async fn of(session: &mut PgSession, table: &CapturedTable) -> Result<Self, Error> {
        let definition = table.definition.clone();
        let keys = Keys::of(&definition);
        let search_path = search_path(session, &definition).await?;
        Ok(TableSource {
            definition,
            oid: table.oid,
            keys,
            search_path,
        })
    }

    /// Begins a transaction in which the table is as its copy was begun with. An error if somebody changes its definition
    /// for too long.
    pub(crate) async fn begin(&self, copying: &mut Copying) -> Result<Seal, Error> {
        let Copying { session, types } = copying;
        let search_path = &self.search_path;
        let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = {search_path}");
        session.execute(begin.as_str()).await?;
        let lock = format!("LOCK TABLE {} IN ACCESS SHARE MODE", self.keys.table());
        session.execute(lock.as_str()).await?;
        let seal = seal(session).await?;
        self.check(session, types).await?;
        Ok(seal)
    }

    async fn check(&self, session: &mut PgSession, types: &mut Types) -> Result<(), Error> {
        let expected = &self.definition;
        let redefined = || Error::TableRedefined {
            table: expected.table.clone(),
        };
        let table = catalog::table(session, &expected.table).await?;
        let table = table.ok_or_else(redefined)?;
        if self.oid.is_some_and(|oid| i64::from(oid) != table.oid) {
            return Err(replaced(&expected.table));
        }
        let found = catalog::schema(session, types, expected.id, &table).await?;
        match found.same_shape(expected) {
            true => Ok(()),
            false => Err(redefined()),
        }
    }

    /// The last key of the next `rows` rows behind `after`; `None` if there are not so many. In the order of the index: a
    /// sort would read all that is left of the table for each chunk.
    pub(crate) async fn bound(
        &self,
        session: &mut PgSession,
        after: Option<&Key>,
        rows: u64,
    ) -> Result<Option<Key>, Error> {
        let begin = format!(
            "BEGIN READ ONLY; SET LOCAL enable_sort = off; SET LOCAL search_path = {}",
            self.search_path
        );
        session.execute(begin.as_str()).await?;
        let sql = self.keys.bound(after, rows);
        let row = sqlx::query(&sql)
            .persistent(false)
            .fetch_optional(&mut *session)
            .await?;
        session.execute("COMMIT").await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let key: Result<Key, _> = (0..row.len()).map(|column| row.try_get(column)).collect();
        Ok(Some(key?))
    }

    /// Reads the rows that `sql` selects into a chunk; rows with values that are too large for a line come last. Returns
    /// how many there were.
    pub(crate) async fn rows(
        &self,
        session: &mut PgSession,
        sql: &str,
        out: &mut Output<'_>,
    ) -> Result<u64, Error> {
        let mut lines = session.copy_out(sql).await?;
        let (mut rows, mut wide) = (0, Vec::new());
        while let Some(line) = lines.try_next().await? {
            rows += 1;
            let line = parse(&self.definition, self.keys.lists_large(), &line)?;
            match line.left_out.is_empty() {
                true => out.push(&self.definition, line.row).await?,
                false => wide.push(line),
            }
        }
        drop(lines);
        for line in wide {
            self.wide_row(session, line, out).await?;
        }
        Ok(rows)
    }

    /// A row whose long values are read by themselves. The transaction's snapshot is that of the line.
    async fn wide_row(
        &self,
        session: &mut PgSession,
        line: Line,
        out: &mut Output<'_>,
    ) -> Result<(), Error> {
        let Line { mut row, left_out } = line;
        let table = &self.definition.table;
        let key = key_of(&row, &self.definition);
        let key = key.ok_or_else(|| Error::Protocol(format!("a row of {table} has no key")))?;
        for position in left_out {
            let (column, value) = row
                .0
                .get_mut(position)
                .ok_or_else(|| no_such_column(table))?;
            let sql = self.keys.slices(position, &key);
            *value = Value::Sliced(self.value(session, &sql, column, out).await?);
        }
        out.push(&self.definition, row).await
    }

    /// Reads a value, and sends it in slices.
    async fn value(
        &self,
        session: &mut PgSession,
        sql: &str,
        column: &str,
        out: &mut Output<'_>,
    ) -> Result<Sliced, Error> {
        let table = &self.definition.table;
        let mut value = Sliced {
            sliced: out.name(),
            slices: 0,
            bytes: 0,
        };
        let mut rest = Vec::new();
        let mut found = sqlx::query(sql).persistent(false).fetch(session);
        while let Some(slice) = found.try_next().await? {
            if slice.try_get::<i32, _>(0)? as u64 != value.bytes + rest.len() as u64 + 1 {
                return Err(Error::Protocol(format!(
                    "slices of {table} came out of order"
                )));
            }
            rest.extend_from_slice(slice.try_get::<&[u8], _>(1)?);
            let behind = rest.split_off(whole_characters(&rest));
            self.slice(
                std::mem::replace(&mut rest, behind),
                column,
                &mut value,
                out,
            )
            .await?;
        }
        match rest.is_empty() {
            true => Ok(value),
            false => Err(not_utf8(table, column)),
        }
    }

    async fn slice(
        &self,
        text: Vec<u8>,
        column: &str,
        value: &mut Sliced,
        out: &mut Output<'_>,
    ) -> Result<(), Error> {
        let table = &self.definition.table;
        let bytes = text.len() as u64;
        let slice = Slice {
            table: table.clone(),
            column: column.to_owned(),
            value: value.sliced.clone(),
            slice: value.slices,
            text: String::from_utf8(text).map_err(|_| not_utf8(table, column))?,
        };
        value.slices += 1;
        value.bytes += bytes;
        out.push_slice(&slice).await
    }
}

/// Commits are written to the WAL before they become visible, but not always flushed before.
async fn seal(session: &mut PgSession) -> Result<Seal, Error> {
    let sql = "SELECT pg_current_snapshot()::text, (pg_current_wal_insert_lsn() - '0/0')::int8";
    let row = sqlx::query(sql).fetch_one(session).await?;
    let visible: String = row.try_get(0)?;
    Ok(Seal {
        visible: fence::parsed(&visible)?,
        lsn: Lsn(row.try_get::<i64, _>(1)? as u64),
    })
}

const KEY_SCHEMAS: &str = "
    SELECT DISTINCT quote_ident(n.nspname) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
     WHERE t.oid = ANY ($1::int8[]::oid[]) AND n.nspname <> 'pg_catalog' ORDER BY 1";

/// Operators of an extension's type are in its schema. Without it Postgres would take those of a type that it can be read
/// as, which may order otherwise: `text` for `citext`.
async fn search_path(session: &mut PgSession, definition: &TableSchema) -> Result<String, Error> {
    let types: Vec<i64> = definition.key().map(|column| column.oid.into()).collect();
    let query = sqlx::query_scalar(KEY_SCHEMAS).bind(types);
    let mut path = vec!["pg_catalog".to_owned()];
    path.extend(query.fetch_all(session).await?);
    Ok(path.join(", "))
}

/// The rows of another table do not belong to the copy, even if it is put back later.
fn replaced(table: &TableId) -> Error {
    Error::Unsuitable(vec![Unsuitable {
        table: table.clone(),
        reason: "is another table than the one whose copy was begun".to_owned(),
        remedy: format!("rename them back, or run `millrace tables resnapshot {table}`"),
    }])
}

/// One line of `COPY`.
struct Line {
    row: Row,
    /// Positions of values that are not in it.
    left_out: Vec<usize>,
}

fn not_utf8(table: &TableId, column: &str) -> Error {
    Error::Value {
        table: table.clone(),
        column: column.into(),
        reason: "the text is not UTF-8".into(),
    }
}

fn no_such_column(table: &TableId) -> Error {
    Error::Protocol(format!(
        "a line of COPY of {table} lists a column that it does not have"
    ))
}

fn parse(definition: &TableSchema, lists: bool, line: &[u8]) -> Result<Line, Error> {
    let table = &definition.table;
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = std::str::from_utf8(line).map_err(|_| not_utf8(table, "(any)"))?;
    let mut row = Vec::with_capacity(definition.columns.len());
    let mut cells = copy_cells(line);
    for column in &definition.columns {
        let cell = cells.next().transpose();
        let cell = cell.map_err(|error| Error::cell(table, &column.name, error))?;
        let value = match cell.flatten() {
            None => Value::Null,
            Some(text) => {
                value(column.oid, &text).map_err(|error| Error::cell(table, &column.name, error))?
            }
        };
        row.push((column.name.clone(), value));
    }
    let listed = match lists {
        true => cells.next().transpose(),
        false => Ok(None),
    };
    let listed = listed.map_err(|error| Error::cell(table, "(large values)", error))?;
    let listed = listed.flatten().unwrap_or_default();
    let positions = listed.split(',').filter(|text| !text.is_empty());
    let left_out = positions.map(|text| text.parse().map_err(|_| no_such_column(table)));
    let left_out = left_out.collect::<Result<_, _>>()?;
    match cells.next() {
        None => Ok(Line {
            row: Row(row),
            left_out,
        }),
        Some(_) => Err(Error::Protocol(format!(
            "a line of COPY of {table} has too many cells"
        ))),
    }
}
