//! Rows that updates build upon, because they did not send all columns (unchanged TOAST values).
//!
//! Their keys go into a temporary table, each with its number, and are joined with the replica: one statement for a batch.

use std::collections::BTreeSet;

use millrace_events::Value;
use sqlx::mysql::MySqlRow;
use sqlx::Row;

use super::names::{base_table, moved_table};
use super::write::{literal, same_key, WriteError, STATEMENT_BYTES};
use super::{ddl, quoted, temporary, Column, Kind, Table};
use crate::script::{About, Script, ScriptError};

/// Column with the number of a key.
const NUMBER: &str = "millrace_number";
/// Bytes of a value that is brought here.
pub(crate) const VALUE_BYTES_MAX: u64 = 1 << 20;

/// The numbers of those of `keys` that `table` has no row of, counted from 0. The rows that there are stay locked until the
/// transaction ends.
pub(crate) async fn missing(
    script: &mut Script<'_>,
    table: &Table,
    keys: &[&[Value]],
) -> Result<BTreeSet<usize>, WriteError> {
    fill(script, table, keys).await?;
    let Some(first) = table.key_columns().next() else {
        return Ok(BTreeSet::new());
    };
    let sql = format!(
        "SELECT CAST(k.{NUMBER} AS UNSIGNED) FROM {} k LEFT JOIN {} t ON {} WHERE t.{} IS NULL FOR UPDATE",
        quoted(&base_table(&table.name)),
        quoted(&table.name),
        same_key(table),
        quoted(&first.name),
    );
    let rows = ask(script, table, &sql).await?;
    rows.iter().map(|row| number(row, table)).collect()
}

/// Puts the rows of the first `count` keys, given to [`missing`] before, aside, from where [`write::move_to`] takes what
/// it needs of them: their values never leave the server.
///
/// [`write::move_to`]: super::write::move_to
pub(crate) async fn put_aside(
    script: &mut Script<'_>,
    table: &Table,
    count: usize,
) -> Result<(), WriteError> {
    let (moved, about) = (moved_table(&table.name), About::Table(table.source.clone()));
    let like = format!("LIKE {}", quoted(&table.name));
    temporary::anew(script, &moved, &like, &about).await?;
    let sql = format!(
        "INSERT INTO {} SELECT t.* FROM {} k STRAIGHT_JOIN {} t ON {} WHERE k.{NUMBER} < {count}",
        quoted(&moved),
        quoted(&base_table(&table.name)),
        quoted(&table.name),
        same_key(table),
    );
    Ok(script.push(&sql, &about).await?)
}

/// What the rows of the first `count` keys, given to [`missing`] before, hold in these columns. Each row of the result begins
/// with its number, and ends with the bytes of each value, where there may be many: one of more than [`VALUE_BYTES_MAX`] is
/// NULL here.
pub(crate) async fn values(
    script: &mut Script<'_>,
    table: &Table,
    columns: &[usize],
    count: usize,
) -> Result<Vec<(usize, MySqlRow)>, WriteError> {
    let wanted = || columns.iter().map(|&i| &table.columns[i]);
    let values = wanted().map(unless_large);
    let expressions = values.chain(wanted().map(|column| format!(", {}", size(column))));
    let sql = format!(
        "SELECT CAST(k.{NUMBER} AS UNSIGNED){} FROM {} k STRAIGHT_JOIN {} t ON {} WHERE k.{NUMBER} < {count}",
        expressions.collect::<String>(),
        quoted(&base_table(&table.name)),
        quoted(&table.name),
        same_key(table),
    );
    let rows = ask(script, table, &sql).await?;
    let numbered = |row: MySqlRow| Ok((number(&row, table)?, row));
    rows.into_iter().map(numbered).collect()
}

fn unless_large(column: &Column) -> String {
    let (size, value) = (size(column), column.select_expression());
    format!(", IF({size} > {VALUE_BYTES_MAX}, NULL, {value})")
}

fn size(column: &Column) -> String {
    match column.kind {
        Kind::LongText | Kind::LongBlankPadded | Kind::LongBlob => {
            format!("CAST(OCTET_LENGTH({}) AS UNSIGNED)", quoted(&column.name))
        }
        _ => "CAST(NULL AS UNSIGNED)".to_owned(),
    }
}

async fn fill(script: &mut Script<'_>, table: &Table, keys: &[&[Value]]) -> Result<(), WriteError> {
    let (name, about) = (base_table(&table.name), About::Table(table.source.clone()));
    ddl::new_key_table(script, table, &name, Some(NUMBER)).await?;
    let head = format!("INSERT INTO {} VALUES ", quoted(&name));
    let bytes_max = STATEMENT_BYTES.min(script.statement_bytes_max() / 2);
    let mut sql = String::new();
    for (number, key) in keys.iter().enumerate() {
        sql.push_str(if sql.is_empty() { &head } else { "," });
        sql.push_str(&format!("({number}"));
        for (column, value) in table.key_columns().zip(*key) {
            sql.push(',');
            literal(&mut sql, table, column, value, key)?;
        }
        sql.push(')');
        if sql.len() > bytes_max {
            script.push(&sql, &about).await?;
            sql.clear();
        }
    }
    if !sql.is_empty() {
        script.push(&sql, &about).await?;
    }
    Ok(())
}

async fn ask(
    script: &mut Script<'_>,
    table: &Table,
    sql: &str,
) -> Result<Vec<MySqlRow>, WriteError> {
    script
        .push(sql, &About::Table(table.source.clone()))
        .await?;
    Ok(script.send().await?)
}

fn number(row: &MySqlRow, table: &Table) -> Result<usize, WriteError> {
    let number: u64 = row
        .try_get_unchecked(0)
        .map_err(|source| ScriptError::Refused {
            about: About::Table(table.source.clone()),
            source,
        })?;
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}
