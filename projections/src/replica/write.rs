//! Multi-row statements: upserts, deletes, keys. Which values fit is up to [`upsert`](super::upsert()).
//!
//! Values stand in the statement's text as escaped literals; `examples/write_bench.rs` measures that
//! against placeholders and JSON_TABLE. It knows no limit
//! of 65,535 placeholders. The session's `sql_mode` is pinned, so that the escapes mean what they say.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use millrace_events::{TableId, Value};
use millrace_sessions::mysql::Session;
use sqlx::Executor;

use super::names::key_table;
use super::{canonical, ddl, quoted, Column, Kind, Table};

/// A statement is sent when its text grows beyond this.
const STATEMENT_BYTES: usize = 512 * 1024;
/// Keys per DELETE: a range for each is planned, and MySQL limits the memory of that.
const KEYS_PER_DELETE: usize = 500;

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
    /// The server refused the statement.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// Inserts rows, replacing those with the same key. `tuple` writes all values of a row, in parentheses.
pub(super) async fn insert_all<'a>(
    conn: &mut Session,
    table: &Table,
    rows: impl Iterator<Item = &'a [Value]>,
    tuple: impl FnMut(&mut String, &[Value]) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let head = insert_head(&table.name, table.names());
    let tail = update_tail(table);
    let key = |row: &[Value]| {
        table
            .key
            .iter()
            .filter_map(|&i| row.get(i).cloned())
            .collect()
    };
    insert(conn, table, (&head, &tail), rows, key, tuple).await
}

/// Deletes the rows of these keys, whether they exist or not.
pub async fn delete<'a>(
    conn: &mut Session,
    table: &Table,
    keys: impl Iterator<Item = &'a [Value]>,
) -> Result<(), WriteError> {
    let head = format!("DELETE FROM {} WHERE ", quoted(&table.name));
    let mut sql = head.clone();
    let mut count = 0;
    for key in keys {
        sql.push_str(if count > 0 { " OR (" } else { "(" });
        for (position, (column, value)) in table.key_columns().zip(key).enumerate() {
            if position > 0 {
                sql.push_str(" AND ");
            }
            let _ = write!(sql, "{} = ", quoted(&column.name));
            literal(&mut sql, table, column, value, key)?;
        }
        sql.push(')');
        count += 1;
        if count == KEYS_PER_DELETE {
            conn.execute(sql.as_str()).await?;
            sql.clone_from(&head);
            count = 0;
        }
    }
    if count > 0 {
        conn.execute(sql.as_str()).await?;
    }
    Ok(())
}

/// Deletes all rows but those of these keys.
pub async fn empty(
    conn: &mut Session,
    table: &Table,
    spared: &BTreeSet<Vec<Value>>,
) -> Result<(), WriteError> {
    let mut sql = format!("DELETE FROM {}", quoted(&table.name));
    for (n, key) in spared.iter().enumerate() {
        sql.push_str(if n == 0 { " WHERE NOT (" } else { " AND NOT (" });
        sql.push_str(&key_condition(table, key)?);
        sql.push(')');
    }
    conn.on_a_table().execute(sql.as_str()).await?;
    Ok(())
}

/// Puts keys into the temporary key table of `table`, and nothing else.
pub async fn fill_keys<'a>(
    conn: &mut Session,
    table: &Table,
    keys: impl Iterator<Item = &'a [Value]>,
) -> Result<(), WriteError> {
    ddl::new_key_table(conn, table).await?;
    let names = table.key_columns().map(|column| column.name.as_str());
    let head = insert_head(&key_table(&table.name), names);
    let tuple = |sql: &mut String, key: &[Value]| key_tuple(sql, table, key);
    insert(conn, table, (&head, ""), keys, <[Value]>::to_vec, tuple).await
}

/// A comparison of the key columns with `key`, for a WHERE clause.
pub fn key_condition(table: &Table, key: &[Value]) -> Result<String, WriteError> {
    let mut sql = String::new();
    for (position, (column, value)) in table.key_columns().zip(key).enumerate() {
        if position > 0 {
            sql.push_str(" AND ");
        }
        let _ = write!(sql, "{} = ", quoted(&column.name));
        literal(&mut sql, table, column, value, key)?;
    }
    Ok(sql)
}

/// `column=value, …` of a primary key, for messages.
pub fn describe_key(table: &Table, key: &[Value]) -> String {
    let parts: Vec<String> = table
        .key_columns()
        .zip(key)
        .map(|(column, value)| match value {
            Value::Null => format!("{}=NULL", column.name),
            Value::Bool(value) => format!("{}={value}", column.name),
            Value::Int(value) => format!("{}={value}", column.name),
            Value::Text(value) => format!("{}={value:?}", column.name),
            Value::Sliced(value) => format!("{}=({} bytes)", column.name, value.bytes),
        })
        .collect();
    parts.join(", ")
}

async fn insert<'a>(
    conn: &mut Session,
    table: &Table,
    (head, tail): (&str, &str),
    rows: impl Iterator<Item = &'a [Value]>,
    key_of: impl Fn(&[Value]) -> Vec<Value>,
    mut tuple: impl FnMut(&mut String, &[Value]) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let packet_bytes_max = conn.server().packet_bytes_max;
    let mut sql = String::with_capacity(STATEMENT_BYTES + STATEMENT_BYTES / 8);
    for row in rows {
        let start = sql.len();
        sql.push_str(if start == 0 { head } else { "," });
        let key = || key_of(row);
        tuple(&mut sql, row)?;
        if sql.len() + tail.len() > packet_bytes_max.min(STATEMENT_BYTES) {
            if start > 0 && sql.len() + tail.len() > packet_bytes_max {
                let last = sql.split_off(start);
                send(conn, table, &mut sql, tail, &key).await?;
                sql.push_str(head);
                sql.push_str(&last[1..]);
            }
            send(conn, table, &mut sql, tail, &key).await?;
        }
    }
    if !sql.is_empty() {
        sql.push_str(tail);
        conn.execute(sql.as_str()).await?;
    }
    Ok(())
}

async fn send(
    conn: &mut Session,
    table: &Table,
    sql: &mut String,
    tail: &str,
    key: &impl Fn() -> Vec<Value>,
) -> Result<(), WriteError> {
    sql.push_str(tail);
    let bytes_max = conn.server().packet_bytes_max;
    // One byte of the packet is the command.
    if sql.len() + 1 > bytes_max {
        return Err(WriteError::Packet {
            table: table.source.clone(),
            key: describe_key(table, &key()),
            bytes: sql.len() + 1,
            bytes_max,
        });
    }
    conn.execute(sql.as_str()).await?;
    sql.clear();
    Ok(())
}

fn insert_head<'n>(table: &str, names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.map(quoted).collect();
    format!(
        "INSERT INTO {} ({}) VALUES ",
        quoted(table),
        names.join(",")
    )
}

fn update_tail(table: &Table) -> String {
    let is_key = |name: &str| table.key_columns().any(|column| column.name == name);
    let mut written: Vec<&str> = table.names().filter(|name| !is_key(name)).collect();
    if written.is_empty() {
        written = table.names().take(1).collect();
    }
    // VALUES(c) is deprecated in MySQL 8.0.20, but its successor is unknown to MariaDB.
    let assignments: Vec<String> = written
        .iter()
        .map(|name| {
            let name = quoted(name);
            format!("{name}=VALUES({name})")
        })
        .collect();
    format!(" ON DUPLICATE KEY UPDATE {}", assignments.join(","))
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

fn literal(
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
        column: column.name.clone(),
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

/// In place of a value that came in slices: [`slices`](super::slices) puts it there once the row is written.
fn push_absent(sql: &mut String, column: &Column) -> Result<(), &'static str> {
    let is_long = matches!(
        column.kind,
        Kind::LongText | Kind::LongBlankPadded | Kind::LongBlob
    );
    if !is_long || column.key {
        return Err("a text of more than 65,536 bytes in a column of this type");
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
