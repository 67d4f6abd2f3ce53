//! How Postgres tables, types and values look in MySQL and MariaDB.
//!
//! - [`Table`], [`Column`]: a replica table as derived from its source definition;
//! - [`canonical`]: the one text form of a value, used for writing and for comparing;
//! - [`mod@naming`]: what a source table is called in MySQL;
//! - [`mod@names`]: what the tables beside it are called;
//! - `bases`: rows that updates build upon;
//! - [`ddl`]: creating tables, and leaving foreign ones alone;
//! - [`mod@write`]: multi-row statements.

pub(crate) mod bases;
pub mod ddl;
pub mod names;
pub mod naming;
mod row;
pub(crate) mod temporary;
mod text;
mod types;
pub mod write;

pub use text::{canonical, from_server, Unrepresentable};
pub use types::{Column, Kind, Table, TableError};

/// The texts of a result's first column. Unchecked: sqlx takes text of a binary collation for bytes.
pub(crate) fn texts(rows: &[sqlx::mysql::MySqlRow]) -> sqlx::Result<Vec<String>> {
    use sqlx::Row;
    rows.iter().map(|row| row.try_get_unchecked(0)).collect()
}

/// Writes an identifier in backticks.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
