//! How Postgres tables, types and values look in MySQL and MariaDB.
//!
//! - [`Server`]: which of the two it is, and the session settings that results depend on;
//! - [`Table`], [`Column`]: a replica table as derived from its source definition;
//! - [`canonical`]: the one text form of a value, used for writing and for comparing;
//! - [`ddl`]: creating and naming tables, and leaving foreign ones alone;
//! - [`mod@write`]: multi-row statements.

pub mod ddl;
mod flavour;
mod text;
mod types;
pub mod write;

pub use flavour::{connect, ConnectError, Flavour, Isolation, Server};
pub use text::{canonical, from_server, Unrepresentable};
pub use types::{Column, Kind, Table, TableError};

/// Appended to a table's name while it is loaded.
pub const SHADOW: &str = "__shadow";
/// Appended to a table's name between the swap and its removal.
pub const RETIRED: &str = "__retired";

/// The texts of a result's first column. Unchecked: sqlx takes text of a binary collation for bytes.
pub(crate) fn texts(rows: &[sqlx::mysql::MySqlRow]) -> sqlx::Result<Vec<String>> {
    use sqlx::Row;
    rows.iter().map(|row| row.try_get_unchecked(0)).collect()
}

/// Writes an identifier in backticks.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
