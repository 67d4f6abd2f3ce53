//! Creating tables, and leaving alone those that are not ours.

use std::collections::BTreeSet;

use millrace_sessions::mysql::{Server, Session};
use sqlx::Executor;

use super::names::{derived, suffixed};
use super::{quoted, temporary, texts, Column, Kind, Table};
use crate::script::{About, Script, ScriptError};

/// Characters of a long text that an index covers.
const INDEX_PREFIX_CHARS: u32 = 191;

/// Creates an empty replica table, in place of one of that name.
pub async fn recreate(conn: &mut Session, table: &Table, suffix: &str) -> sqlx::Result<()> {
    let name = suffixed(&table.name, suffix);
    drop_table(conn, &name).await?;
    let sql = create_statement(conn.server(), table, &name);
    conn.on_a_table().execute(sql.as_str()).await?;
    Ok(())
}

/// Drops a table of ours.
pub async fn drop_table(conn: &mut Session, name: &str) -> sqlx::Result<()> {
    let name = quoted(name);
    conn.on_a_table()
        .execute(format!("DROP TABLE IF EXISTS {name}").as_str())
        .await?;
    Ok(())
}

/// Makes an empty temporary table `name` for keys of `table`: by those keys, or by a number in a column of that name.
pub(super) async fn new_key_table(
    script: &mut Script<'_>,
    table: &Table,
    name: &str,
    number: Option<&str>,
) -> Result<(), ScriptError> {
    let numbers = number.map(|name| format!("{} INT UNSIGNED NOT NULL", quoted(name)));
    let columns: Vec<String> = (numbers.into_iter())
        .chain(table.key_columns().map(key_definition))
        .collect();
    let definition = format!(
        "({}, PRIMARY KEY ({})) ENGINE=InnoDB {}",
        columns.join(", "),
        number.map_or_else(|| key_list(table), quoted),
        charset(script.server()),
    );
    let about = About::Table(table.source.clone());
    temporary::anew(script, name, &definition, &about).await
}

/// Adds plain indexes on `columns`, skipping those that a killed attempt left behind.
pub async fn add_indexes(
    conn: &mut Session,
    table: &Table,
    suffix: &str,
    columns: &[String],
) -> sqlx::Result<()> {
    let physical = suffixed(&table.name, suffix);
    for column in columns {
        let Some(found) = table.column(column) else {
            continue;
        };
        let index = derived("millrace_", column, "");
        if has_index(conn, &physical, &index).await? {
            continue;
        }
        let sql = format!(
            "CREATE INDEX {} ON {} ({})",
            quoted(&index),
            quoted(&physical),
            indexed(found),
        );
        conn.on_a_table().execute(sql.as_str()).await?;
    }
    Ok(())
}

/// Those of `names` that exist as tables or views.
pub async fn existing(conn: &mut Session, names: &[String]) -> sqlx::Result<BTreeSet<String>> {
    let sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()";
    let rows = sqlx::query(sql).fetch_all(&mut *conn).await?;
    let form = |name: &String| conn.server().table_name(name);
    let all: BTreeSet<String> = texts(&rows)?.iter().map(form).collect();
    let there = names.iter().filter(|name| all.contains(&form(name)));
    Ok(there.cloned().collect())
}

async fn has_index(conn: &mut Session, table: &str, index: &str) -> sqlx::Result<bool> {
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
    let beside = table.beside.iter();
    let beside = beside.map(|beside| format!("{} LONGTEXT NULL", quoted(&beside.name)));
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|column| match column.key {
            true => key_definition(column),
            false => format!("{} {} NULL", quoted(&column.name), column.sql_type()),
        })
        .chain(beside)
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
        Kind::LongText | Kind::LongBlankPadded | Kind::LongBlob => {
            format!("{name}({INDEX_PREFIX_CHARS})")
        }
        Kind::VarChar(n) | Kind::BlankPadded(n) if n > 768 => {
            format!("{name}({INDEX_PREFIX_CHARS})")
        }
        _ => name,
    }
}
