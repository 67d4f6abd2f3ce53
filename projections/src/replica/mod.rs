//! How Postgres tables, types and values look in MySQL and MariaDB.
//!
//! - [`Table`], [`Column`]: a replica table as derived from its source definition;
//! - [`canonical`]: the one text form of a value, used for writing and for comparing;
//! - [`Policies`]: what becomes of values that MySQL cannot hold;
//! - [`mod@naming`]: what a source table is called in MySQL;
//! - [`mod@names`]: what the tables beside it are called;
//! - `bases`: rows that updates build upon;
//! - [`ddl`]: creating tables, and leaving foreign ones alone;
//! - [`upsert()`]: writing rows, and finding what does not fit;
//! - [`slices`]: values that came in slices;
//! - [`fill()`]: putting them together;
//! - [`mod@write`]: multi-row statements.

pub(crate) mod bases;
pub mod ddl;
mod fill;
mod known;
pub mod names;
pub mod naming;
mod policy;
pub(crate) mod refusal;
mod row;
pub(crate) mod slices;
pub(crate) mod temporary;
mod text;
mod types;
mod upsert;
pub mod write;

pub(crate) use fill::{fill, fill_quarantine};
pub use known::types_as_markdown;
pub use policy::{ParsePoliciesError, Policies, Policy, TablePolicies};
pub use slices::{Kept, KeptIn};
pub use text::{canonical, exact, from_server, Unrepresentable};
pub use types::{Beside, Column, Kind, Table, TableError};
pub use upsert::{upsert, Unfit};

/// The texts of a result's first column. Unchecked: sqlx takes text of a binary collation for bytes.
pub(crate) fn texts(rows: &[sqlx::mysql::MySqlRow]) -> sqlx::Result<Vec<String>> {
    use sqlx::Row;
    rows.iter().map(|row| row.try_get_unchecked(0)).collect()
}

/// Writes an identifier in backticks.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
