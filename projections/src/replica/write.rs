//! Multi-row statements: upserts, updates, deletes, keys. They are pushed onto a [`Script`]. Which values fit is up to
//! [`upsert`](super::upsert()).
//!
//! Values stand in the statement's text as escaped literals; `examples/write_bench.rs` measures that
//! against placeholders and JSON_TABLE. It knows no limit
//! of 65,535 placeholders. The session's `sql_mode` is pinned, so that the escapes mean what they say.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use millrace_events::{TableId, Value};

use super::names::{key_table, moved_table};
use super::{canonical, ddl, quoted, slices, Column, Kind, Table};
use crate::script::{About, Script, ScriptError};

/// A statement ends when its text grows beyond this.
pub(super) const STATEMENT_BYTES: usize = 512 * 1024;
/// Keys per DELETE: a range for each is planned, and MySQL limits the memory of that.
const KEYS_PER_DELETE: usize = 500;

/// Characters of a text that messages show of a key.
const KEY_CHARS_SHOWN: usize = 100;

/// Rows could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// MySQL has no such value.
    #[error("table {table}, row {key}, column {column}: MySQL cannot hold {reason}")]
    Value {
        /// The table of the source.
        table: TableId,
        /// `column=value` of the primary key.
        key: String,
        /// The column.
        column: String,
        /// Why, without the value.
        reason: Cow<'static, str>,
    },
    /// The row does not fit into a packet.
    #[error("table {table}, row {key}: a statement of {bytes} bytes is beyond the server's max_allowed_packet of {bytes_max}")]
    Packet {
        /// The table of the source.
        table: TableId,
        /// `column=value` of the primary key.
        key: String,
        /// Length of the statement.
        bytes: usize,
        /// The server's limit.
        bytes_max: usize,
    },
    /// The server refused a statement, of these rows or of those before them.
    #[error(transparent)]
    Script(#[from] ScriptError),
}

/// Inserts rows, replacing those with the same key. `tuple` writes all values of a row, in parentheses.
pub(super) async fn insert_all<'a>(
    script: &mut Script<'_>,
    table: &Table,
    rows: impl Iterator<Item = &'a [Value]>,
    tuple: impl FnMut(&mut String, &[Value]) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let names: Vec<&str> = table.names().collect();
    let head = insert_head(&table.name, &names);
    let tail = update_tail(table, &names);
    let key = |row: &[Value]| table.key_of(row);
    insert(script, table, (&head, &tail), rows, key, tuple).await
}

/// Changes rows that are there in some of their columns, the key included. `rows` hold a value per column of `columns`. No
/// value of theirs may go into quarantine.
pub(crate) async fn update<'a>(
    script: &mut Script<'_>,
    table: &Table,
    columns: &[usize],
    rows: impl Iterator<Item = &'a [Value]>,
) -> Result<(), WriteError> {
    let of = columns.iter().map(|&i| &table.columns[i]);
    let names: Vec<&str> = of.clone().map(|column| column.name.as_str()).collect();
    let head = insert_head(&table.name, &names);
    let tail = update_tail(table, &names);
    let key = |row: &[Value]| key_within(table, columns, row);
    let tuple = |sql: &mut String, row: &[Value]| {
        let mut separator = '(';
        for (column, value) in of.clone().zip(row) {
            sql.push(separator);
            separator = ',';
            push_literal(sql, column, value)
                .map_err(|reason| refused(table, column, &key(row), reason.into()))?;
        }
        sql.push(')');
        Ok(())
    };
    insert(script, table, (&head, &tail), rows, key, tuple).await
}

/// Writes a row that was put aside ([`bases::put_aside`](super::bases::put_aside())) at another key. Where `values` has none
/// for a column, the row of the key `base` has it.
pub(crate) async fn move_to(
    script: &mut Script<'_>,
    table: &Table,
    values: &[Option<Value>],
    base: &[Value],
) -> Result<(), WriteError> {
    let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
    let mut sql = format!("{} SELECT ", insert_into(&table.name, &names));
    for (position, (column, value)) in table.columns.iter().zip(values).enumerate() {
        if position > 0 {
            sql.push(',');
        }
        match value {
            Some(value) => literal(&mut sql, table, column, value, base)?,
            None => {
                let _ = write!(sql, "m.{}", quoted(&column.name));
            }
        }
    }
    let _ = write!(sql, " FROM {} m WHERE ", quoted(&moved_table(&table.name)));
    key_condition(&mut sql, table, base)?;
    sql.push_str(&update_tail(table, &names));
    fits(table, sql.len(), script.statement_bytes_max(), &|| {
        base.to_vec()
    })?;
    let about = About::Table(table.source.clone());
    Ok(script.push(&sql, &about).await?)
}

/// Deletes the rows of these keys, whether they exist or not.
pub async fn delete<'a>(
    script: &mut Script<'_>,
    table: &Table,
    keys: impl Iterator<Item = &'a [Value]>,
) -> Result<(), WriteError> {
    let about = About::Table(table.source.clone());
    let head = format!("DELETE FROM {} WHERE ", quoted(&table.name));
    // A key is shorter than 4 KiB, so that the last one is within what is left.
    let bytes_max = STATEMENT_BYTES.min(script.statement_bytes_max() / 2);
    let (mut sql, mut count) = (head.clone(), 0);
    for key in keys {
        sql.push_str(if count > 0 { " OR (" } else { "(" });
        key_condition(&mut sql, table, key)?;
        sql.push(')');
        count += 1;
        if count == KEYS_PER_DELETE || sql.len() > bytes_max {
            script.push(&sql, &about).await?;
            sql.clone_from(&head);
            count = 0;
        }
    }
    if count > 0 {
        script.push(&sql, &about).await?;
    }
    Ok(())
}

/// Deletes all rows but those of these keys.
pub async fn empty(
    script: &mut Script<'_>,
    table: &Table,
    spared: &BTreeSet<Vec<Value>>,
) -> Result<(), WriteError> {
    let (about, name) = (About::Table(table.source.clone()), quoted(&table.name));
    let Some(first) = table.key_columns().next().filter(|_| !spared.is_empty()) else {
        let all = format!("DELETE FROM {name}");
        return Ok(script.push_on_a_table(&all, &about).await?);
    };
    fill_keys(script, table, spared.iter().map(Vec::as_slice)).await?;
    let others = format!(
        "DELETE t FROM {name} t LEFT JOIN {} k ON {} WHERE k.{} IS NULL",
        quoted(&key_table(&table.name)),
        same_key(table),
        quoted(&first.name),
    );
    Ok(script.push_on_a_table(&others, &about).await?)
}

/// Puts keys into the temporary key table of `table`, and nothing else.
pub async fn fill_keys<'a>(
    script: &mut Script<'_>,
    table: &Table,
    keys: impl Iterator<Item = &'a [Value]>,
) -> Result<(), WriteError> {
    let name = key_table(&table.name);
    ddl::new_key_table(script, table, &name, None).await?;
    let names: Vec<&str> = (table.key_columns())
        .map(|column| column.name.as_str())
        .collect();
    let head = insert_head(&name, &names);
    let tuple = |sql: &mut String, key: &[Value]| key_tuple(sql, table, key);
    insert(script, table, (&head, ""), keys, <[Value]>::to_vec, tuple).await
}

/// The condition under which a row `t` of a table has the key in `k`.
pub(super) fn same_key(table: &Table) -> String {
    let names = table.key_columns().map(|column| quoted(&column.name));
    let equal: Vec<String> = names.map(|name| format!("t.{name} = k.{name}")).collect();
    equal.join(" AND ")
}

pub(super) fn key_condition(
    sql: &mut String,
    table: &Table,
    key: &[Value],
) -> Result<(), WriteError> {
    for (position, (column, value)) in table.key_columns().zip(key).enumerate() {
        if position > 0 {
            sql.push_str(" AND ");
        }
        let _ = write!(sql, "{} = ", quoted(&column.name));
        literal(sql, table, column, value, key)?;
    }
    Ok(())
}

/// `column=value, …` of a primary key, for messages.
pub fn describe_key(table: &Table, key: &[Value]) -> String {
    let parts: Vec<String> = table
        .key_columns()
        .zip(key)
        .map(|(column, value)| match value {
            Value::Null => format!("{}=NULL", column.source),
            Value::Bool(value) => format!("{}={value}", column.source),
            Value::Int(value) => format!("{}={value}", column.source),
            Value::Text(value) => format!("{}={}", column.source, shortened(value)),
            Value::Sliced(value) => format!("{}=({} bytes)", column.source, value.bytes),
        })
        .collect();
    parts.join(", ")
}

/// A text in quotes, or how a long one begins.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(KEY_CHARS_SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
    }
}

/// Inserts rows by statements that begin and end alike. `tuple` writes all values of a row, in parentheses; a row that fits
/// into no packet is called by `key`.
pub(crate) async fn insert<'a>(
    script: &mut Script<'_>,
    table: &Table,
    (head, tail): (&str, &str),
    rows: impl Iterator<Item = &'a [Value]>,
    key_of: impl Fn(&[Value]) -> Vec<Value>,
    mut tuple: impl FnMut(&mut String, &[Value]) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let about = About::Table(table.source.clone());
    let bytes_max = script.statement_bytes_max();
    let mut sql = String::new();
    for row in rows {
        let start = sql.len();
        sql.push_str(if start == 0 { head } else { "," });
        let key = || key_of(row);
        tuple(&mut sql, row)?;
        if sql.len() + tail.len() > bytes_max.min(STATEMENT_BYTES) {
            if start > 0 && sql.len() + tail.len() > bytes_max {
                let last = sql.split_off(start);
                sql.push_str(tail);
                script.push(&sql, &about).await?;
                sql.clear();
                sql.push_str(head);
                sql.push_str(&last[1..]);
            }
            sql.push_str(tail);
            fits(table, sql.len(), bytes_max, &key)?;
            script.push(&sql, &about).await?;
            sql.clear();
        }
    }
    if !sql.is_empty() {
        sql.push_str(tail);
        script.push(&sql, &about).await?;
    }
    Ok(())
}

/// A statement of one row that is longer than a packet cannot be sent.
pub(super) fn fits(
    table: &Table,
    bytes: usize,
    bytes_max: usize,
    key: &impl Fn() -> Vec<Value>,
) -> Result<(), WriteError> {
    match bytes > bytes_max {
        true => Err(WriteError::Packet {
            table: table.source.clone(),
            key: describe_key(table, &key()),
            bytes: bytes + 1,
            bytes_max: bytes_max + 1,
        }),
        false => Ok(()),
    }
}

fn key_within(table: &Table, columns: &[usize], row: &[Value]) -> Vec<Value> {
    let value = |key: &usize| {
        let at = columns.iter().position(|column| column == key)?;
        row.get(at).cloned()
    };
    table.key.iter().filter_map(value).collect()
}

fn insert_head(table: &str, names: &[&str]) -> String {
    format!("{} VALUES ", insert_into(table, names))
}

fn insert_into(table: &str, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    format!("INSERT INTO {} ({})", quoted(table), names.join(","))
}

/// What becomes of a row whose key is there already. A row that is met through another key than ours, a unique one that
/// somebody has added, would be overwritten: its key becomes NULL instead, which the server refuses.
fn update_tail(table: &Table, names: &[&str]) -> String {
    let is_key = |name: &&str| table.key_columns().any(|column| column.name == *name);
    let same: Vec<String> = (table.key_columns())
        .map(|column| same_value(table, column))
        .collect();
    let first = table.key_columns().next().map(|column| {
        let name = quoted(&column.name);
        let kept = format!("{}.{name}", quoted(&table.name));
        format!("{name}=IF({},{kept},NULL)", same.join(" AND "))
    });
    // VALUES(c) is deprecated in MySQL 8.0.20, but its successor is unknown to MariaDB.
    let written = names.iter().filter(|name| !is_key(name)).map(|name| {
        let name = quoted(name);
        format!("{name}=VALUES({name})")
    });
    let assignments: Vec<String> = first.into_iter().chain(written).collect();
    format!(" ON DUPLICATE KEY UPDATE {}", assignments.join(","))
}

/// The condition under which the row that is there and the one to be written have the same value in `column`. Texts are
/// compared byte by byte: somebody may have given the column a collation to which others are equal.
fn same_value(table: &Table, column: &Column) -> String {
    let name = quoted(&column.name);
    let (there, new) = (
        format!("{}.{name}", quoted(&table.name)),
        format!("VALUES({name})"),
    );
    match column.kind {
        Kind::VarChar(_) | Kind::BlankPadded(_) | Kind::Uuid => {
            format!("CAST({there} AS BINARY)=CAST({new} AS BINARY)")
        }
        _ => format!("{there}={new}"),
    }
}

fn key_tuple(sql: &mut String, table: &Table, key: &[Value]) -> Result<(), WriteError> {
    let mut separator = '(';
    for (column, value) in table.key_columns().zip(key) {
        sql.push(separator);
        separator = ',';
        literal(sql, table, column, value, key)?;
    }
    sql.push(')');
    Ok(())
}

pub(super) fn literal(
    sql: &mut String,
    table: &Table,
    column: &Column,
    value: &Value,
    key: &[Value],
) -> Result<(), WriteError> {
    push_literal(sql, column, value).map_err(|reason| refused(table, column, key, reason.into()))
}

/// The value cannot be written, and its row not without it.
pub(super) fn refused(
    table: &Table,
    column: &Column,
    key: &[Value],
    reason: Cow<'static, str>,
) -> WriteError {
    WriteError::Value {
        table: table.source.clone(),
        key: describe_key(table, key),
        column: column.source.clone(),
        reason,
    }
}

/// Writes a value as SQL has it; nothing if the column cannot hold it, and why.
pub(super) fn push_literal(
    sql: &mut String,
    column: &Column,
    value: &Value,
) -> Result<(), &'static str> {
    if let Value::Sliced(_) = value {
        return push_absent(sql, column);
    }
    let Some(text) = canonical(value, column).map_err(|error| error.0)? else {
        sql.push_str("NULL");
        return Ok(());
    };
    match column.kind {
        Kind::SmallInt | Kind::Int | Kind::BigInt | Kind::Bool => sql.push_str(&text),
        // An exact literal: digits, a point and a sign only, as `canonical` has checked.
        Kind::Decimal { .. } | Kind::DecimalAny => sql.push_str(&text),
        Kind::LongBlob | Kind::VarBinary(_) => {
            sql.push_str("x'");
            sql.push_str(&text);
            sql.push('\'');
        }
        _ => push_string(sql, &text),
    }
    Ok(())
}

/// In place of a value that came in slices: [`fill`](super::fill()) puts it there once the row is written.
fn push_absent(sql: &mut String, column: &Column) -> Result<(), &'static str> {
    if !slices::may_stand_in(column) {
        return Err("a long text in a column of this type");
    }
    sql.push_str("NULL");
    Ok(())
}

/// Writes a text as SQL has it.
pub(crate) fn push_string(sql: &mut String, text: &str) {
    sql.push('\'');
    let mut plain = 0;
    for (i, byte) in text.bytes().enumerate() {
        let escaped = match byte {
            0 => "\\0",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\\' => "\\\\",
            b'\'' => "\\'",
            0x1a => "\\Z",
            _ => continue,
        };
        sql.push_str(&text[plain..i]);
        sql.push_str(escaped);
        plain = i + 1;
    }
    sql.push_str(&text[plain..]);
    sql.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_cannot_leave_their_quotes() {
        let mut sql = String::new();
        push_string(&mut sql, "it's \\ ü\n\0\u{1a}\"");
        assert_eq!(sql, "'it\\'s \\\\ ü\\n\\0\\Z\"'");
    }
}
