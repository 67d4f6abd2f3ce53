//! Multi-row statements: upserts, deletes, keys.
//!
//! Values stand in the statement's text as escaped literals; `examples/write_bench.rs` measures that
//! against placeholders and JSON_TABLE. It knows no limit
//! of 65,535 placeholders. The session's `sql_mode` is pinned, so that the escapes mean what they say.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use millrace_events::{TableId, Value};
use millrace_sessions::mysql::Session;
use sqlx::Executor;

use super::names::{key_table, suffixed};
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
        reason: &'static str,
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

/// Inserts rows, replacing those with the same key. `rows` hold a value per column of `table`.
pub async fn upsert<'a>(
    conn: &mut Session,
    table: &Table,
    suffix: &str,
    rows: impl Iterator<Item = &'a [Value]>,
) -> Result<(), WriteError> {
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let head = insert_head(table, &suffixed(&table.name, suffix), &all);
    let tail = update_tail(table);
    insert(conn, table, (&head, &tail), &all, rows).await
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
    let head = insert_head(table, &key_table(&table.name), &table.key);
    insert(conn, table, (&head, ""), &table.key, keys).await
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
        })
        .collect();
    parts.join(", ")
}

async fn insert<'a>(
    conn: &mut Session,
    table: &Table,
    (head, tail): (&str, &str),
    columns: &[usize],
    rows: impl Iterator<Item = &'a [Value]>,
) -> Result<(), WriteError> {
    let packet_bytes_max = conn.server().packet_bytes_max;
    let mut sql = String::with_capacity(STATEMENT_BYTES + STATEMENT_BYTES / 8);
    for row in rows {
        let start = sql.len();
        sql.push_str(if start == 0 { head } else { "," });
        let key = || key_within(table, columns, row);
        tuple(&mut sql, table, columns, row, &key)?;
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

fn key_within(table: &Table, columns: &[usize], row: &[Value]) -> Vec<Value> {
    if columns.len() == row.len() && columns == table.key {
        return row.to_vec();
    }
    table
        .key
        .iter()
        .filter_map(|&i| row.get(i).cloned())
        .collect()
}

fn insert_head(table: &Table, name: &str, columns: &[usize]) -> String {
    let names: Vec<String> = columns
        .iter()
        .map(|&i| quoted(&table.columns[i].name))
        .collect();
    format!("INSERT INTO {} ({}) VALUES ", quoted(name), names.join(","))
}

fn update_tail(table: &Table) -> String {
    let mut written: Vec<&Column> = table.columns.iter().filter(|c| !c.key).collect();
    if written.is_empty() {
        written = table.key_columns().take(1).collect();
    }
    // VALUES(c) is deprecated in MySQL 8.0.20, but its successor is unknown to MariaDB.
    let assignments: Vec<String> = written
        .iter()
        .map(|column| {
            let name = quoted(&column.name);
            format!("{name}=VALUES({name})")
        })
        .collect();
    format!(" ON DUPLICATE KEY UPDATE {}", assignments.join(","))
}

fn tuple(
    sql: &mut String,
    table: &Table,
    columns: &[usize],
    row: &[Value],
    key: &impl Fn() -> Vec<Value>,
) -> Result<(), WriteError> {
    let mut separator = '(';
    for (&position, value) in columns.iter().zip(row) {
        sql.push(separator);
        separator = ',';
        let column = &table.columns[position];
        push_literal(sql, column, value)
            .map_err(|reason| refused(table, column, &key(), reason))?;
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
    push_literal(sql, column, value).map_err(|reason| refused(table, column, key, reason))
}

fn refused(table: &Table, column: &Column, key: &[Value], reason: &'static str) -> WriteError {
    WriteError::Value {
        table: table.source.clone(),
        key: describe_key(table, key),
        column: column.name.clone(),
        reason,
    }
}

fn push_literal(sql: &mut String, column: &Column, value: &Value) -> Result<(), &'static str> {
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

fn push_string(sql: &mut String, text: &str) {
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
