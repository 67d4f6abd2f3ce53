//! The rows in which the projector keeps what it knows: `millrace_tables`, `millrace_copies`, `millrace_again`,
//! `millrace_marts`, and the names that it has claimed. One row a thing, so that a person can read them.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, Utc};
use millrace_events::{Copied, CopyId, Epoch, Lsn, TableId, TableSchema};
use millrace_sessions::mysql::Session;
use millrace_topic::Offset;
use sqlx::mysql::MySqlRow;
use sqlx::{Executor, Row};

use super::catalog::{Catalog, Dirty};
use super::error::Error;
use super::quarantine::Quarantine;
use super::rows::{CopyRow, CopyStep, MartRow, MartState, NextCopy, Place, TableRow, TableState};
use crate::replica::{ddl, slices, texts};

/// Names of the bookkeeping tables, and their columns.
const TABLES: [(&str, &str); 10] = [
    slices::STAGE,
    (
        "millrace_position",
        "id TINYINT UNSIGNED NOT NULL PRIMARY KEY, owner VARCHAR(64) NOT NULL, \
         incarnation VARCHAR(190) NOT NULL, log_offset BIGINT UNSIGNED NOT NULL, \
         end_lsn BIGINT UNSIGNED NOT NULL, epoch BIGINT UNSIGNED NOT NULL, \
         source_at DATETIME(6) NULL, heard BIGINT UNSIGNED NOT NULL, smartmodule LONGTEXT NOT NULL",
    ),
    (
        "millrace_tables",
        "source VARCHAR(300) NOT NULL PRIMARY KEY, name VARCHAR(64) NOT NULL, \
         state VARCHAR(16) NOT NULL, since DATETIME(6) NOT NULL, reason LONGTEXT NULL, \
         definition LONGTEXT NULL, rows_copied BIGINT UNSIGNED NOT NULL, \
         copy BIGINT UNSIGNED NOT NULL, next_step VARCHAR(16) NULL, next_definition LONGTEXT NULL, \
         next_rows_estimated BIGINT UNSIGNED NULL, next_chunks_loaded BIGINT UNSIGNED NULL, \
         next_rows_loaded BIGINT UNSIGNED NULL, next_chunks BIGINT UNSIGNED NULL, \
         next_rows BIGINT UNSIGNED NULL, next_complete_at BIGINT UNSIGNED NULL, \
         next_offset BIGINT UNSIGNED NULL, next_lsn BIGINT UNSIGNED NULL, \
         next_epoch BIGINT UNSIGNED NULL, policies LONGTEXT NOT NULL, next_policies LONGTEXT NULL",
    ),
    (
        "millrace_copies",
        "copy BIGINT UNSIGNED NOT NULL PRIMARY KEY, topic VARCHAR(255) NOT NULL, \
         next_offset BIGINT UNSIGNED NOT NULL, chunks LONGTEXT NOT NULL",
    ),
    (
        "millrace_again",
        "copy BIGINT UNSIGNED NOT NULL, source VARCHAR(300) NOT NULL, digest CHAR(64) NOT NULL, \
         chunk BIGINT UNSIGNED NOT NULL, row_key LONGTEXT NOT NULL, PRIMARY KEY (copy, source, digest)",
    ),
    (
        "millrace_marts",
        "name VARCHAR(64) NOT NULL PRIMARY KEY, state VARCHAR(16) NOT NULL, \
         since DATETIME(6) NOT NULL, reason LONGTEXT NULL, version VARCHAR(64) NOT NULL, \
         joining TINYINT(1) NOT NULL",
    ),
    (
        "millrace_quarantine",
        "name VARCHAR(64) NOT NULL, digest CHAR(64) NOT NULL, column_name VARCHAR(64) NOT NULL, \
         source VARCHAR(300) NOT NULL, row_key LONGTEXT NOT NULL, lsn BIGINT UNSIGNED NOT NULL, \
         value LONGTEXT NOT NULL, reason VARCHAR(255) NOT NULL, at DATETIME(6) NOT NULL, \
         PRIMARY KEY (name, digest, column_name)",
    ),
    ("millrace_names", "name VARCHAR(64) NOT NULL PRIMARY KEY"),
    (
        "millrace_paused",
        "id TINYINT UNSIGNED NOT NULL PRIMARY KEY, since DATETIME(6) NOT NULL",
    ),
    (
        "millrace_verified",
        "id TINYINT UNSIGNED NOT NULL PRIMARY KEY, at DATETIME(6) NOT NULL, \
         incarnation VARCHAR(190) NULL, lsn BIGINT UNSIGNED NULL, answer VARCHAR(16) NOT NULL, \
         detail LONGTEXT NOT NULL",
    ),
];
/// The start of their comment, by which we know them again.
const OURS: &str = "millrace bookkeeping, format ";
/// The rest of it.
const FORMAT: &str = "5";

/// Creates the bookkeeping tables; refuses tables of those names that are not ours, or not of this version.
pub(crate) async fn prepare(conn: &mut Session) -> Result<(), Error> {
    let comments = sqlx::query(
        "SELECT CAST(table_name AS CHAR), CAST(table_comment AS CHAR) \
         FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_name LIKE 'millrace\\_%'",
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(Error::sql("a look at the existing tables"))?;
    let mut foreign = Vec::new();
    for row in &comments {
        let [name, comment] = [text(row, 0)?, text(row, 1)?];
        if !TABLES.iter().any(|(ours, _)| *ours == name) {
            continue;
        }
        match comment.strip_prefix(OURS) {
            Some(FORMAT) => {}
            Some(other) => {
                return Err(Error::Bookkeeping(format!(
                    "{name} is of format {other}, and this version writes format {FORMAT}"
                )))
            }
            None => foreign.push(name),
        }
    }
    if !foreign.is_empty() {
        return Err(Error::ForeignTables(foreign));
    }
    let collation = conn.server().collation();
    for (name, columns) in TABLES {
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {name} ({columns}) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 \
             COLLATE {collation} COMMENT='{OURS}{FORMAT}'"
        );
        let made = conn.execute(sql.as_str()).await;
        made.map_err(Error::sql("its bookkeeping tables"))?;
    }
    Ok(())
}

/// The names that we have claimed.
pub(crate) async fn claimed(conn: &mut Session) -> Result<Vec<String>, Error> {
    let rows = sqlx::query("SELECT name FROM millrace_names").fetch_all(conn);
    let names = rows.await.and_then(|rows| texts(&rows));
    names.map_err(Error::sql("a look at its tables"))
}

/// Claims table names; returns those that exist without a claim of ours, and claims nothing then.
pub(crate) async fn claim(conn: &mut Session, names: &[String]) -> Result<Vec<String>, Error> {
    let owned = claimed(conn).await?;
    let foreign: Vec<String> = ddl::existing(conn, names)
        .await
        .map_err(Error::sql("a look at the existing tables"))?
        .into_iter()
        .filter(|name| !owned.contains(name))
        .collect();
    if !foreign.is_empty() {
        return Ok(foreign);
    }
    for name in names.iter().filter(|name| !owned.contains(name)) {
        sqlx::query("INSERT IGNORE INTO millrace_names (name) VALUES (?)")
            .bind(name)
            .execute(&mut *conn)
            .await
            .map_err(Error::sql("a claim on a table"))?;
    }
    Ok(foreign)
}

/// Gives a name back.
pub(crate) async fn unclaim(conn: &mut Session, name: &str) -> Result<(), Error> {
    let query = sqlx::query("DELETE FROM millrace_names WHERE name = ?");
    run(conn, query.bind(name)).await
}

impl Catalog {
    /// Reads all rows.
    pub(crate) async fn read(conn: &mut Session) -> Result<Catalog, Error> {
        let mut catalog = Catalog {
            tables: read_tables(conn).await?,
            marts: read_marts(conn).await?,
            quarantine: Quarantine::read(conn).await?,
            ..Catalog::default()
        };
        for row in rows(conn, "SELECT * FROM millrace_copies").await? {
            let chunks = text(&row, "chunks")?;
            let copy = CopyRow {
                topic: text(&row, "topic")?,
                next: Offset(number(&row, "next_offset")?),
                reader: parse_json(&chunks)?,
            };
            catalog.copies.insert(CopyId(number(&row, "copy")?), copy);
        }
        Ok(catalog)
    }

    /// Writes the rows that have changed, in the open transaction. [`Catalog::saved`] follows its COMMIT.
    pub(crate) async fn save(&mut self, conn: &mut Session) -> Result<(), Error> {
        self.quarantine.save(conn).await?;
        for table in &self.dirty.tables {
            match self.tables.get(table) {
                Some(row) => write_table(conn, table, row).await?,
                None => forget_table(conn, table).await?,
            }
        }
        for copy in &self.dirty.copies {
            match self.copies.get(copy) {
                Some(row) => write_copy(conn, *copy, row).await?,
                None => forget_copy(conn, *copy).await?,
            }
        }
        for name in &self.dirty.marts {
            match self.marts.get(name) {
                Some(row) => write_mart(conn, name, row).await?,
                None => {
                    run(
                        conn,
                        sqlx::query("DELETE FROM millrace_marts WHERE name = ?").bind(name),
                    )
                    .await?
                }
            }
        }
        Ok(())
    }

    /// What was changed is in MySQL.
    pub(crate) fn saved(&mut self) {
        self.changed |= !self.dirty.is_empty();
        self.changed |= self.quarantine.committed();
        self.dirty = Dirty::default();
    }
}

/// The tables, for whoever only reads them.
pub(crate) async fn read_tables(conn: &mut Session) -> Result<BTreeMap<TableId, TableRow>, Error> {
    let mut tables = BTreeMap::new();
    for row in rows(conn, "SELECT * FROM millrace_tables").await? {
        let source = text(&row, "source")?;
        let source = source.parse();
        let source: TableId = source.map_err(|error| Error::Bookkeeping(format!("{error}")))?;
        tables.insert(source, table_row(&row)?);
    }
    Ok(tables)
}

/// The marts, for whoever only reads them.
pub(crate) async fn read_marts(conn: &mut Session) -> Result<BTreeMap<String, MartRow>, Error> {
    let mut marts = BTreeMap::new();
    for row in rows(conn, "SELECT * FROM millrace_marts").await? {
        let mart = MartRow {
            state: word(&MART_STATES, &text(&row, "state")?)?,
            since: at(&row, "since")?,
            reason: optional_text(&row, "reason")?,
            version: text(&row, "version")?,
            joining: row.try_get("joining").map_err(broken)?,
        };
        marts.insert(text(&row, "name")?, mart);
    }
    Ok(marts)
}

fn table_row(row: &MySqlRow) -> Result<TableRow, Error> {
    let definition = optional_text(row, "definition")?;
    let next = match optional_text(row, "next_step")? {
        Some(step) => Some(next_copy(row, word(&STEPS, &step)?)?),
        None => None,
    };
    Ok(TableRow {
        name: text(row, "name")?,
        state: word(&TABLE_STATES, &text(row, "state")?)?,
        since: at(row, "since")?,
        reason: optional_text(row, "reason")?,
        definition: definition.as_deref().map(parse_json).transpose()?,
        policies: parse_json(&text(row, "policies")?)?,
        rows: number(row, "rows_copied")?,
        copy: CopyId(number(row, "copy")?),
        next,
    })
}

fn next_copy(row: &MySqlRow, step: CopyStep) -> Result<NextCopy, Error> {
    let small = |name| {
        let number = u32::try_from(number(row, name)?);
        number.map_err(|error| Error::Bookkeeping(error.to_string()))
    };
    let complete_at: Option<u64> = row.try_get("next_complete_at").map_err(broken)?;
    let copied = match complete_at {
        Some(lsn) => Some(Copied {
            chunks: small("next_chunks")?,
            rows: number(row, "next_rows")?,
            lsn: Lsn(lsn),
        }),
        None => None,
    };
    let definition: TableSchema = parse_json(&text(row, "next_definition")?)?;
    Ok(NextCopy {
        definition,
        policies: parse_json(&text(row, "next_policies")?)?,
        estimated_rows: number(row, "next_rows_estimated")?,
        step,
        chunks: small("next_chunks_loaded")?,
        rows: number(row, "next_rows_loaded")?,
        copied,
        place: Place {
            offset: Offset(number(row, "next_offset")?),
            end_lsn: Lsn(number(row, "next_lsn")?),
            epoch: Epoch(number(row, "next_epoch")?),
        },
    })
}

async fn forget_table(conn: &mut Session, source: &TableId) -> Result<(), Error> {
    let query = sqlx::query("DELETE FROM millrace_tables WHERE source = ?");
    run(conn, query.bind(source.to_string())).await
}

async fn write_table(conn: &mut Session, source: &TableId, row: &TableRow) -> Result<(), Error> {
    let definition = row.definition.as_ref().map(json).transpose()?;
    let next = row.next.as_ref();
    let next_definition = next.map(|next| json(&next.definition)).transpose()?;
    let next_policies = next.map(|next| json(&next.policies)).transpose()?;
    let copied = next.and_then(|next| next.copied);
    let query = sqlx::query(
        "REPLACE INTO millrace_tables (source, name, state, since, reason, definition, rows_copied, copy, \
         next_step, next_definition, next_rows_estimated, next_chunks_loaded, next_rows_loaded, \
         next_chunks, next_rows, next_complete_at, next_offset, next_lsn, next_epoch, \
         policies, next_policies) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(source.to_string())
    .bind(&row.name)
    .bind(text_of(&TABLE_STATES, row.state))
    .bind(row.since.naive_utc())
    .bind(&row.reason)
    .bind(definition)
    .bind(row.rows)
    .bind(row.copy.0)
    .bind(next.map(|next| text_of(&STEPS, next.step)))
    .bind(next_definition)
    .bind(next.map(|next| next.estimated_rows))
    .bind(next.map(|next| u64::from(next.chunks)))
    .bind(next.map(|next| next.rows))
    .bind(copied.map(|copied| u64::from(copied.chunks)))
    .bind(copied.map(|copied| copied.rows))
    .bind(copied.map(|copied| copied.lsn.0))
    .bind(next.map(|next| next.place.offset.0))
    .bind(next.map(|next| next.place.end_lsn.0))
    .bind(next.map(|next| next.place.epoch.0))
    .bind(json(&row.policies)?)
    .bind(next_policies);
    run(conn, query).await
}

async fn write_copy(conn: &mut Session, copy: CopyId, row: &CopyRow) -> Result<(), Error> {
    let query = sqlx::query(
        "REPLACE INTO millrace_copies (copy, topic, next_offset, chunks) VALUES (?, ?, ?, ?)",
    )
    .bind(copy.0)
    .bind(&row.topic)
    .bind(row.next.0)
    .bind(json(&row.reader)?);
    run(conn, query).await
}

async fn forget_copy(conn: &mut Session, copy: CopyId) -> Result<(), Error> {
    for sql in [
        "DELETE FROM millrace_copies WHERE copy = ?",
        "DELETE FROM millrace_again WHERE copy = ?",
    ] {
        run(conn, sqlx::query(sql).bind(copy.0)).await?;
    }
    // Of values whose rows did not come.
    let sql = format!("DELETE FROM {} WHERE value LIKE ?", slices::STAGE.0);
    let names = format!("{}%", copy.value_prefix());
    run(conn, sqlx::query(&sql).bind(names)).await
}

async fn write_mart(conn: &mut Session, name: &str, row: &MartRow) -> Result<(), Error> {
    let query = sqlx::query(
        "REPLACE INTO millrace_marts (name, state, since, reason, version, joining) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(name)
    .bind(text_of(&MART_STATES, row.state))
    .bind(row.since.naive_utc())
    .bind(&row.reason)
    .bind(&row.version)
    .bind(row.joining);
    run(conn, query).await
}

const TABLE_STATES: [(TableState, &str); 5] = [
    (TableState::Loading, "loading"),
    (TableState::CatchingUp, "catching_up"),
    (TableState::Live, "live"),
    (TableState::SetAside, "set_aside"),
    (TableState::Removed, "removed"),
];
const STEPS: [(CopyStep, &str); 4] = [
    (CopyStep::Announced, "announced"),
    (CopyStep::Loading, "loading"),
    (CopyStep::CatchingUp, "catching_up"),
    (CopyStep::Joining, "joining"),
];
const MART_STATES: [(MartState, &str); 3] = [
    (MartState::Waiting, "waiting"),
    (MartState::Live, "live"),
    (MartState::SetAside, "set_aside"),
];

fn word<T: Copy>(words: &[(T, &str)], text: &str) -> Result<T, Error> {
    let found = words.iter().find(|(_, word)| *word == text);
    let unknown = || Error::Bookkeeping(format!("unknown word {text:?}"));
    found.map(|(value, _)| *value).ok_or_else(unknown)
}

fn text_of<T: PartialEq>(words: &[(T, &'static str)], value: T) -> &'static str {
    let found = words.iter().find(|(known, _)| *known == value);
    found.map_or("", |(_, word)| word)
}

type Query<'q> = sqlx::query::Query<'q, sqlx::MySql, sqlx::mysql::MySqlArguments>;

pub(super) async fn run(conn: &mut Session, query: Query<'_>) -> Result<(), Error> {
    let done = query.execute(conn).await;
    done.map(|_| ()).map_err(Error::sql("its bookkeeping"))
}

async fn rows(conn: &mut Session, sql: &str) -> Result<Vec<MySqlRow>, Error> {
    let rows = sqlx::query(sql).fetch_all(conn).await;
    rows.map_err(Error::sql("its bookkeeping"))
}

fn broken(error: sqlx::Error) -> Error {
    Error::Bookkeeping(error.to_string())
}

/// Unchecked: sqlx takes text of a binary collation for bytes.
pub(super) fn text(
    row: &MySqlRow,
    column: impl sqlx::ColumnIndex<MySqlRow>,
) -> Result<String, Error> {
    row.try_get_unchecked(column).map_err(broken)
}

fn optional_text(row: &MySqlRow, column: &str) -> Result<Option<String>, Error> {
    row.try_get_unchecked(column).map_err(broken)
}

pub(super) fn number(row: &MySqlRow, column: &str) -> Result<u64, Error> {
    row.try_get(column).map_err(broken)
}

fn at(row: &MySqlRow, column: &str) -> Result<DateTime<Utc>, Error> {
    let at: NaiveDateTime = row.try_get(column).map_err(broken)?;
    Ok(at.and_utc())
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Bookkeeping(error.to_string()))
}

pub(super) fn parse_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Bookkeeping(error.to_string()))
}
