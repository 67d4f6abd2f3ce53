//! Table definitions, which travel in the log before the first row that uses them.

use serde::{Deserialize, Serialize};

use crate::TableId;

/// Number of a table definition within one epoch. A changed table gets a new number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SchemaId(pub u32);

/// The definition of a source table, valid from the record that carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// Number that [`crate::Change::schema`] refers to.
    pub id: SchemaId,
    /// The table.
    pub table: TableId,
    /// Columns in the order of the table.
    pub columns: Vec<Column>,
}

impl TableSchema {
    /// The columns of the primary key, in the order of the table.
    pub fn key(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.key)
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// True when both define the same table in the same way, whatever their numbers. Types are compared by OID and
    /// modifier: how a type is printed depends on settings of the session that asked.
    pub fn same_shape(&self, other: &TableSchema) -> bool {
        self.table == other.table
            && self.columns.len() == other.columns.len()
            && self
                .columns
                .iter()
                .zip(&other.columns)
                .all(|(one, other)| one.same_shape(other))
    }
}

/// One column of a source table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Column name.
    pub name: String,
    /// Postgres type as `format_type()` prints it, such as `numeric(12,2)`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// `pg_type.oid` of the type.
    pub oid: u32,
    /// `pg_attribute.atttypmod`; -1 where the type has none.
    #[serde(
        rename = "mod",
        default = "no_modifier",
        skip_serializing_if = "is_no_modifier"
    )]
    pub type_mod: i32,
    /// Part of the primary key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub key: bool,
}

impl Column {
    fn same_shape(&self, other: &Column) -> bool {
        (&self.name, self.oid, self.type_mod, self.key)
            == (&other.name, other.oid, other.type_mod, other.key)
    }
}

fn no_modifier() -> i32 {
    -1
}

// serde's `skip_serializing_if` hands out references.
fn is_no_modifier(type_mod: &i32) -> bool {
    *type_mod == -1
}
