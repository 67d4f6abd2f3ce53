//! Creating tables, and leaving alone those that are not ours.

use std::collections::BTreeSet;

use sqlx::{Executor, MySqlConnection};

use super::{quoted, texts, Column, Kind, Server, Table};

/// Characters of a long text that an index covers.
const INDEX_PREFIX_CHARS: u32 = 191;

/// Creates an empty replica table, in place of one of that name.
pub async fn recreate(
    conn: &mut MySqlConnection,
    server: &Server,
    table: &Table,
    suffix: &str,
) -> sqlx::Result<()> {
    let name = format!("{}{suffix}", table.name);
    drop_table(conn, &name).await?;
    conn.execute(create_statement(server, table, &name).as_str())
        .await?;
    Ok(())
}

/// Drops a table of ours.
pub async fn drop_table(conn: &mut MySqlConnection, name: &str) -> sqlx::Result<()> {
    let name = quoted(name);
    conn.execute(format!("DROP TABLE IF EXISTS {name}").as_str())
        .await?;
    Ok(())
}

/// Creates the temporary table that holds the keys of the rows a batch touches.
pub async fn create_key_table(
    conn: &mut MySqlConnection,
    server: &Server,
    table: &Table,
) -> sqlx::Result<()> {
    let name = quoted(&key_table(&table.name));
    let columns: Vec<String> = table.key_columns().map(key_definition).collect();
    let sql = format!(
        "CREATE TEMPORARY TABLE IF NOT EXISTS {name} ({}, PRIMARY KEY ({})) ENGINE=InnoDB {}",
        columns.join(", "),
        key_list(table),
        charset(server),
    );
    conn.execute(sql.as_str()).await?;
    Ok(())
}

/// Name of the temporary table with the keys that a batch touches in `table`.
pub fn key_table(table: &str) -> String {
    format!("millrace_keys_{table}")
}

/// Adds plain indexes on `columns`, skipping those that a killed attempt left behind.
pub async fn add_indexes(
    conn: &mut MySqlConnection,
    table: &Table,
    suffix: &str,
    columns: &[String],
) -> sqlx::Result<()> {
    let physical = format!("{}{suffix}", table.name);
    for column in columns {
        let Some(position) = table.position(column) else {
            continue;
        };
        let index = format!("millrace_{column}");
        if has_index(conn, &physical, &index).await? {
            continue;
        }
        let sql = format!(
            "CREATE INDEX {} ON {} ({})",
            quoted(&index),
            quoted(&physical),
            indexed(&table.columns[position]),
        );
        conn.execute(sql.as_str()).await?;
    }
    Ok(())
}

/// Those of `names` that exist as tables or views.
pub async fn existing(
    conn: &mut MySqlConnection,
    names: &[String],
) -> sqlx::Result<BTreeSet<String>> {
    let sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()";
    let rows = sqlx::query(sql).fetch_all(conn).await?;
    let all: BTreeSet<String> = texts(&rows)?.into_iter().collect();
    Ok(names.iter().filter(|n| all.contains(*n)).cloned().collect())
}

async fn has_index(conn: &mut MySqlConnection, table: &str, index: &str) -> sqlx::Result<bool> {
    let found: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.statistics \
         WHERE table_schema = DATABASE() AND table_name = ? AND index_name = ?",
    )
    .bind(table)
    .bind(index)
    .fetch_one(conn)
    .await?;
    Ok(found > 0)
}

fn create_statement(server: &Server, table: &Table, name: &str) -> String {
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|column| match column.key {
            true => key_definition(column),
            false => format!("{} {} NULL", quoted(&column.name), column.sql_type()),
        })
        .collect();
    format!(
        "CREATE TABLE {} ({}, PRIMARY KEY ({})) ENGINE=InnoDB ROW_FORMAT=DYNAMIC {} \
         COMMENT='millrace replica; written by the projector only'",
        quoted(name),
        columns.join(", "),
        key_list(table),
        charset(server),
    )
}

fn key_definition(column: &Column) -> String {
    format!("{} {} NOT NULL", quoted(&column.name), column.sql_type())
}

fn key_list(table: &Table) -> String {
    let names: Vec<String> = table.key_columns().map(|c| quoted(&c.name)).collect();
    names.join(", ")
}

fn charset(server: &Server) -> String {
    let collation = server.collation();
    format!("DEFAULT CHARACTER SET utf8mb4 COLLATE {collation}")
}

fn indexed(column: &Column) -> String {
    let name = quoted(&column.name);
    match column.kind {
        Kind::LongText | Kind::LongBlob => format!("{name}({INDEX_PREFIX_CHARS})"),
        Kind::VarChar(n) | Kind::BlankPadded(n) if n > 768 => {
            format!("{name}({INDEX_PREFIX_CHARS})")
        }
        _ => name,
    }
}
