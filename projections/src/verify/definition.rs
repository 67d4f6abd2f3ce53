//! The columns of a table on both sides, and the keys of the replica's.
//!
//! A unique key that somebody added in MySQL is a difference even while all rows are equal: an upsert that meets it changes
//! another row than its own.

use std::collections::BTreeMap;

use millrace_sessions::mysql::Session;
use millrace_sessions::postgres::PgSession;
use serde_json::{json, Map, Value};
use sqlx::mysql::MySqlRow;
use sqlx::Row as _;

use super::report::{Difference, DifferenceKind};
use super::{mysql, postgres, Config, Error};
use crate::replica::Table;

/// MySQL's name of every primary key.
const PRIMARY: &str = "PRIMARY";
const READING: &str = "reading a table's definition";

/// What exists on either side, in order.
pub(super) struct Definition {
    source: Vec<String>,
    replica: Vec<String>,
    /// The columns of each unique key of the replica, by its name.
    keys: BTreeMap<String, Vec<String>>,
}

impl Definition {
    pub(super) async fn read(
        postgres_conn: &mut PgSession,
        mysql_conn: &mut Session,
        table: &Table,
    ) -> Result<Definition, Error> {
        Ok(Definition {
            source: in_source(postgres_conn, table).await?,
            replica: in_replica(mysql_conn, table).await?,
            keys: keys(mysql_conn, table).await?,
        })
    }

    /// What is not as the projector keeps it.
    pub(super) fn differences(&self, config: &Config, table: &Table) -> Vec<Difference> {
        if !self.has_columns(config, table) {
            let expected = self.planned(config, table);
            return vec![difference(table, json!(expected), json!(self.replica))];
        }
        let expected = BTreeMap::from([(PRIMARY.to_owned(), primary_key(table))]);
        match self.keys == expected {
            true => Vec::new(),
            false => {
                let (expected, found) = (json!({ "keys": expected }), json!({ "keys": self.keys }));
                vec![difference(table, expected, found)]
            }
        }
    }

    /// Whether the rows can be held against each other.
    pub(super) fn is_comparable(&self, config: &Config, table: &Table) -> bool {
        let has_key = self.keys.get(PRIMARY) == Some(&primary_key(table));
        has_key && self.has_columns(config, table)
    }

    fn has_columns(&self, config: &Config, table: &Table) -> bool {
        let kept = table.columns.iter().map(|column| &column.source);
        self.planned(config, table).into_iter().eq(kept) && self.replica.iter().eq(table.names())
    }

    /// The columns of the source that are captured.
    fn planned(&self, config: &Config, table: &Table) -> Vec<&String> {
        let planned = config.columns.get(&table.source.to_string());
        let planned = planned.and_then(Value::as_array);
        let is_planned = |column: &&String| {
            planned.is_none_or(|planned| planned.iter().any(|name| name == column.as_str()))
        };
        self.source.iter().filter(is_planned).collect()
    }
}

fn primary_key(table: &Table) -> Vec<String> {
    let columns = table.key_columns();
    columns.map(|column| column.name.clone()).collect()
}

fn difference(table: &Table, expected: Value, found: Value) -> Difference {
    Difference {
        table: table.source.to_string(),
        kind: DifferenceKind::Definition,
        key: Map::new(),
        column: "*".into(),
        expected,
        found,
    }
}

async fn in_source(session: &mut PgSession, table: &Table) -> Result<Vec<String>, Error> {
    // Stored generated columns are not in the log.
    sqlx::query_scalar(
        "SELECT a.attname::text FROM pg_attribute a \
         JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped \
         AND a.attgenerated = '' ORDER BY a.attnum",
    )
    .bind(&table.source.schema)
    .bind(&table.source.name)
    .fetch_all(session)
    .await
    .map_err(postgres(READING))
}

async fn in_replica(session: &mut Session, table: &Table) -> Result<Vec<String>, Error> {
    let rows = sqlx::query(
        "SELECT CAST(column_name AS CHAR) FROM information_schema.columns \
         WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position",
    )
    .bind(&table.name)
    .fetch_all(session)
    .await
    .map_err(mysql(READING))?;
    let names = rows.iter().map(|row| text(row, 0));
    names.collect::<sqlx::Result<_>>().map_err(mysql(READING))
}

async fn keys(
    session: &mut Session,
    table: &Table,
) -> Result<BTreeMap<String, Vec<String>>, Error> {
    // A part of a key that is an expression has no name.
    let rows = sqlx::query(
        "SELECT CAST(index_name AS CHAR), CAST(COALESCE(column_name, '(expression)') AS CHAR) \
         FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = ? \
         AND non_unique = 0 ORDER BY index_name, seq_in_index",
    )
    .bind(&table.name)
    .fetch_all(session)
    .await
    .map_err(mysql(READING))?;
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &rows {
        let name = text(row, 0).map_err(mysql(READING))?;
        let column = text(row, 1).map_err(mysql(READING))?;
        keys.entry(name).or_default().push(column);
    }
    Ok(keys)
}

/// Unchecked: sqlx takes text of a binary collation for bytes.
fn text(row: &MySqlRow, column: usize) -> sqlx::Result<String> {
    row.try_get_unchecked(column)
}
