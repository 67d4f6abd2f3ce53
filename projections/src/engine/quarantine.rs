//! Values that MySQL cannot hold stand in `millrace_quarantine`, and their columns are NULL (ADR 24).
//!
//! A row there is written, moved and removed in the MySQL transaction that writes its row in the replica, so the two
//! never disagree. What is in quarantine is found by the name of the MySQL table, shadows included, a digest of the row's
//! key, and the column.

mod gaps;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use millrace_events::{Lsn, Value};
use millrace_sessions::mysql::Session;
use sha2::{Digest as _, Sha256};
use sqlx::{Executor, Row};

use super::error::Error;
use crate::replica::write::{self, push_string, WriteError};
use crate::replica::{canonical, exact, fill_quarantine, Table, Unfit};
use crate::script::Script;

/// Rows with values in quarantine of which the digests are known here; of a table with more, MySQL is asked.
const KNOWN_MAX: usize = 100_000;
/// Digests in one statement.
const DIGESTS_PER_STATEMENT: usize = 500;
/// Names of the columns.
const COLUMNS: &str = "name, digest, column_name, source, row_key, lsn, value, reason, at";

/// Of the key of a row: SHA-256 over the canonical texts of its columns.
pub(crate) type Digest = [u8; 32];

/// What is known of `millrace_quarantine`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quarantine {
    /// By MySQL table.
    tables: BTreeMap<String, Known>,
    /// By how much the open transaction changes the number of values.
    uncommitted: BTreeMap<String, i64>,
    moves: Vec<Move>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    /// Values, as MySQL has them.
    values: u64,
    /// Rows that may have one. Others have none. `None`: any row may.
    rows: Option<BTreeSet<Digest>>,
}

/// What becomes of all values of a MySQL table. It is written together with the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Move {
    Forget(String),
    Rename { from: String, to: String },
}

impl Quarantine {
    /// Reads how much there is.
    pub(crate) async fn read(conn: &mut Session) -> Result<Quarantine, Error> {
        let sql =
            "SELECT name, COUNT(*), COUNT(DISTINCT digest) FROM millrace_quarantine GROUP BY name";
        let counts = conn.fetch_all(sql).await.map_err(failed)?;
        let (mut quarantine, mut room) = (Quarantine::default(), KNOWN_MAX);
        for row in &counts {
            let name: String = row.try_get_unchecked(0).map_err(failed)?;
            let values: i64 = row.try_get(1).map_err(failed)?;
            let rows: i64 = row.try_get(2).map_err(failed)?;
            let known = Known {
                values: values.unsigned_abs(),
                rows: match room.checked_sub(rows.unsigned_abs() as usize) {
                    Some(left) => {
                        room = left;
                        Some(read_digests(conn, &name).await?)
                    }
                    None => None,
                },
            };
            quarantine.tables.insert(name, known);
        }
        Ok(quarantine)
    }

    /// True if a value of this MySQL table may stand there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }

    /// How many values of this MySQL table stand there.
    pub(crate) fn values(&self, name: &str) -> u64 {
        self.tables.get(name).map_or(0, |known| known.values)
    }

    /// A MySQL transaction begins. What the last one did was committed, or is void.
    pub(crate) fn begin(&mut self) {
        self.uncommitted.clear();
    }

    /// It is committed; true if values came or went.
    pub(crate) fn committed(&mut self) -> bool {
        self.moves.clear();
        let changes = std::mem::take(&mut self.uncommitted);
        for (name, change) in &changes {
            let known = self.known(name);
            known.values = known.values.saturating_add_signed(*change);
        }
        changes.values().any(|change| *change != 0)
    }

    /// The MySQL table begins anew, or is kept no longer.
    pub(crate) fn forget(&mut self, name: &str) {
        if self.tables.contains_key(name) {
            self.moves.push(Move::Forget(name.to_owned()));
        }
    }

    /// One MySQL table takes the place of another.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        self.forget(to);
        if let Some(rows) = self.tables.get(from).map(|known| known.rows.clone()) {
            let (from, to) = (from.to_owned(), to.to_owned());
            self.known(&to).take_in(rows);
            self.moves.push(Move::Rename { from, to });
        }
    }

    /// Writes what was decided of whole tables, in the open transaction.
    pub(crate) async fn save(&mut self, conn: &mut Session) -> Result<(), Error> {
        for step in self.moves.clone() {
            let (name, sql) = match &step {
                Move::Forget(name) => (name, "DELETE FROM millrace_quarantine WHERE name = ?"),
                Move::Rename { from, .. } => (
                    from,
                    "UPDATE millrace_quarantine SET name = ? WHERE name = ?",
                ),
            };
            let query = match &step {
                Move::Forget(_) => sqlx::query(sql),
                Move::Rename { to, .. } => sqlx::query(sql).bind(to),
            };
            let done = query.bind(name).execute(conn.on_a_table()).await;
            let changed = done.map_err(failed)?.rows_affected() as i64;
            self.count(name, -changed);
            if let Move::Rename { to, .. } = &step {
                self.count(to, changed);
            }
        }
        Ok(())
    }

    /// True if something of these rows was in quarantine, or is now.
    pub(crate) fn concerns(&self, table: &Table, unfit: &[(&Unfit, &[Value])]) -> bool {
        !unfit.is_empty() || self.tables.contains_key(&table.name)
    }

    /// What is now in quarantine of these rows, which were written or deleted. `keys` are those of the rows, in order.
    pub(crate) async fn replace<'k>(
        &mut self,
        script: &mut Script<'_>,
        table: &Table,
        keys: impl Iterator<Item = &'k [Value]>,
        written: Written<'_>,
    ) -> Result<(), Error> {
        if !self.concerns(table, written.unfit) {
            return Ok(());
        }
        let known = self.tables.get(&table.name);
        let mut gone = Vec::new();
        for key in keys {
            let digest = digest(table, key)?;
            if known.is_some_and(|known| known.may_have(&digest)) {
                gone.push(digest);
            }
        }
        if gone.is_empty() && written.unfit.is_empty() {
            return Ok(());
        }
        if !gone.is_empty() {
            self.remove(script.session().await?, &table.name, &gone)
                .await?;
        }
        self.add(script, table, written).await
    }

    /// All rows were deleted but those of these keys.
    pub(crate) async fn empty(
        &mut self,
        script: &mut Script<'_>,
        table: &Table,
        spared: &BTreeSet<Vec<Value>>,
    ) -> Result<(), Error> {
        if !self.tables.contains_key(&table.name) {
            return Ok(());
        }
        let conn = script.session().await?;
        let mut sql = format!(
            "DELETE FROM millrace_quarantine WHERE name = {}",
            literal(&table.name)
        );
        if !spared.is_empty() {
            let digests: Result<Vec<Digest>, Error> =
                spared.iter().map(|key| digest(table, key)).collect();
            let _ = write!(sql, " AND digest NOT IN ({})", hex_list(&digests?));
        }
        let deleted = conn.on_a_table().execute(sql.as_str()).await;
        let deleted = deleted.map_err(failed)?.rows_affected();
        self.count(&table.name, -(deleted as i64));
        Ok(())
    }

    async fn remove(
        &mut self,
        conn: &mut Session,
        name: &str,
        rows: &[Digest],
    ) -> Result<(), Error> {
        for rows in rows.chunks(DIGESTS_PER_STATEMENT) {
            let sql = format!(
                "DELETE FROM millrace_quarantine WHERE name = {} AND digest IN ({})",
                literal(name),
                hex_list(rows)
            );
            let deleted = conn.execute(sql.as_str()).await.map_err(failed)?;
            self.count(name, -(deleted.rows_affected() as i64));
        }
        Ok(())
    }

    async fn add(
        &mut self,
        script: &mut Script<'_>,
        table: &Table,
        written: Written<'_>,
    ) -> Result<(), Error> {
        let mut tuples = Vec::new();
        for (unfit, row) in written.unfit {
            let digest = digest(table, &table.key_of(row))?;
            self.known(&table.name).note(digest);
            self.count(&table.name, 1);
            tuples.push(tuple(table, (row, &digest), unfit, written.lsn)?);
        }
        let head = format!("INSERT INTO millrace_quarantine ({COLUMNS}) VALUES ");
        let (rows, mut tuples) = (written.unfit.iter().map(|(_, row)| *row), tuples.iter());
        let push = |sql: &mut String, _: &[Value]| {
            tuples.next().map_or(Ok(()), |tuple| {
                sql.push_str(tuple);
                Ok(())
            })
        };
        let key = |row: &[Value]| table.key_of(row);
        let inserted = write::insert(script, table, (&head, ""), rows, key, push);
        inserted.await.map_err(Error::written)?;
        for (unfit, row) in written.unfit {
            let digest = hex(&digest(table, &table.key_of(row))?);
            let filled = fill_quarantine(script, table, unfit, row, &digest);
            filled.await.map_err(Error::written)?;
        }
        Ok(())
    }

    fn known(&mut self, name: &str) -> &mut Known {
        let none = || Known {
            values: 0,
            rows: Some(BTreeSet::new()),
        };
        self.tables.entry(name.to_owned()).or_insert_with(none)
    }

    fn count(&mut self, name: &str, change: i64) {
        *self.uncommitted.entry(name.to_owned()).or_default() += change;
    }
}

/// What was written.
#[derive(Clone, Copy)]
pub(crate) struct Written<'a> {
    /// What did not fit, with its row. Of one key only what its last row had.
    pub(crate) unfit: &'a [(&'a Unfit, &'a [Value])],
    /// Where the tables stand with it.
    pub(crate) lsn: Lsn,
}

impl Known {
    fn may_have(&self, row: &Digest) -> bool {
        self.rows.as_ref().is_none_or(|rows| rows.contains(row))
    }

    fn note(&mut self, row: Digest) {
        if let Some(rows) = &mut self.rows {
            rows.insert(row);
        }
        self.limit();
    }

    fn take_in(&mut self, rows: Option<BTreeSet<Digest>>) {
        match (&mut self.rows, rows) {
            (Some(own), Some(rows)) => own.extend(rows),
            (own, _) => *own = None,
        }
        self.limit();
    }

    fn limit(&mut self) {
        self.rows.take_if(|rows| rows.len() > KNOWN_MAX);
    }
}

/// Of each key, what its last row had: a copy may bring a row more than once. `rows` are what was written, in order.
pub(crate) fn of_last_rows<'a>(
    table: &Table,
    rows: &[&'a [Value]],
    unfit: &'a [Unfit],
) -> Result<Vec<(&'a Unfit, &'a [Value])>, Error> {
    if unfit.is_empty() {
        return Ok(Vec::new());
    }
    let mut last: BTreeMap<Digest, usize> = BTreeMap::new();
    for (number, row) in rows.iter().enumerate() {
        last.insert(digest(table, &table.key_of(row))?, number);
    }
    let mut kept = Vec::new();
    for unfit in unfit {
        let row = rows[unfit.row];
        if last.get(&digest(table, &table.key_of(row))?) == Some(&unfit.row) {
            kept.push((unfit, row));
        }
    }
    Ok(kept)
}

/// Equal keys have equal digests, however Postgres prints them.
pub(crate) fn digest(table: &Table, key: &[Value]) -> Result<Digest, Error> {
    let mut hasher = Sha256::new();
    for (column, value) in table.key_columns().zip(key) {
        let text = canonical(value, column).map_err(|reason| {
            let key = crate::replica::write::describe_key(table, key);
            Error::Value(WriteError::Value {
                table: table.source.clone(),
                key,
                column: column.name.clone(),
                reason: reason.0.into(),
            })
        })?;
        let text = text.unwrap_or_default();
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    Ok(hasher.finalize().into())
}

pub(crate) fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A row of the table, as SQL.
fn tuple(
    table: &Table,
    (row, digest): (&[Value], &Digest),
    unfit: &Unfit,
    lsn: Lsn,
) -> Result<String, Error> {
    let texts = [
        &table.name,
        &hex(digest),
        &table.columns[unfit.column].name,
        &table.source.to_string(),
        &key_json(table, &table.key_of(row))?,
    ];
    let mut sql = String::from("(");
    for text in texts {
        push_string(&mut sql, text);
        sql.push(',');
    }
    let _ = write!(sql, "{},", lsn.0);
    // Slices are put together behind it.
    push_string(&mut sql, &exact(&unfit.value).unwrap_or_default());
    sql.push(',');
    push_string(&mut sql, &unfit.reason);
    sql.push_str(",UTC_TIMESTAMP(6))");
    Ok(sql)
}

/// `{"id":"7"}`, for people and programs.
fn key_json(table: &Table, key: &[Value]) -> Result<String, Error> {
    let mut object = serde_json::Map::new();
    for (column, value) in table.key_columns().zip(key) {
        let text = exact(value).map(|text| text.into_owned());
        object.insert(column.name.clone(), text.into());
    }
    serde_json::to_string(&object).map_err(|error| Error::Bookkeeping(error.to_string()))
}

async fn read_digests(conn: &mut Session, name: &str) -> Result<BTreeSet<Digest>, Error> {
    let rows = sqlx::query("SELECT DISTINCT UNHEX(digest) FROM millrace_quarantine WHERE name = ?")
        .bind(name)
        .fetch_all(conn)
        .await
        .map_err(failed)?;
    let digest = |row: &sqlx::mysql::MySqlRow| {
        let bytes: Vec<u8> = row.try_get_unchecked(0).map_err(failed)?;
        let digest: Result<Digest, _> = bytes.try_into();
        digest.map_err(|_| Error::Bookkeeping("a digest in millrace_quarantine is none".into()))
    };
    rows.iter().map(digest).collect()
}

fn hex_list(rows: &[Digest]) -> String {
    let texts: Vec<String> = rows.iter().map(|row| format!("'{}'", hex(row))).collect();
    texts.join(",")
}

fn literal(text: &str) -> String {
    let mut sql = String::new();
    push_string(&mut sql, text);
    sql
}

fn failed(source: sqlx::Error) -> Error {
    Error::sql("the quarantine of values")(source)
}
