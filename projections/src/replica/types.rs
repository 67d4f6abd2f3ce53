//! Replica tables: which MySQL type holds which Postgres type.

use std::collections::BTreeSet;

use millrace_events::{TableId, TableSchema, Value};

use super::known::{kind_of, KEY_BYTES_MAX, KEY_CHARS_MAX};
use super::names::{alike, beside, column_names};
use super::policy::{Policy, TablePolicies};
use super::{quoted, row};

/// InnoDB: columns of a table.
const COLUMNS_MAX: usize = 1017;

/// How a column is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `smallint`.
    SmallInt,
    /// `integer`.
    Int,
    /// `bigint`.
    BigInt,
    /// `boolean`, as 0 and 1.
    Bool,
    /// `numeric(p,s)` that fits MySQL.
    Decimal {
        /// Digits.
        precision: u32,
        /// Digits behind the point.
        scale: u32,
    },
    /// `numeric` without modifier, or with a scale that MySQL lacks: `DECIMAL(65,30)`.
    DecimalAny,
    /// `real` and `double precision`. Both as DOUBLE: MySQL prints a FLOAT with six digits only.
    Double,
    /// `varchar(n)` that fits into a row, and text of a key.
    VarChar(u32),
    /// `char(n)`; trailing blanks are not significant.
    BlankPadded(u32),
    /// `char(n)` that does not fit into a row: the same text in a LONGTEXT.
    LongBlankPadded,
    /// Text of any length: `text`, `json`, `jsonb`, and Postgres' text output of every other type.
    LongText,
    /// `uuid`.
    Uuid,
    /// `date`.
    Date,
    /// `timestamp`, and `timestamptz` in UTC.
    DateTime,
    /// `time`.
    Time,
    /// `bytea`.
    LongBlob,
    /// `bytea` of a key.
    VarBinary(u32),
}

/// A column of a replica table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in Postgres.
    pub source: String,
    /// Its name in MySQL: the same where MySQL takes it ([`super::names`]).
    pub name: String,
    /// Part of the primary key.
    pub key: bool,
    /// How it is stored.
    pub kind: Kind,
    /// What becomes of a value that it cannot hold.
    pub policy: Policy,
}

/// A replica table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The table of the source.
    pub source: TableId,
    /// Its name in MySQL, as [`Naming`](super::naming::Naming) gave it.
    pub name: String,
    /// In the order of the source.
    pub columns: Vec<Column>,
    /// Positions of the key columns in `columns`; never empty.
    pub key: Vec<usize>,
    /// Behind `columns`: those that hold the texts of values that do not fit.
    pub beside: Vec<Beside>,
}

/// A column of our own, which may be NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// Position of the column that it stands beside.
    pub of: usize,
    /// Its name.
    pub name: String,
}

/// This table cannot be replicated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("table {table} cannot be replicated: {reason}")]
pub struct TableError {
    /// The table of the source.
    pub table: TableId,
    /// What is in the way.
    pub reason: String,
}

impl Table {
    /// Derives the replica of a source table, which is called `name`.
    pub fn of(
        schema: &TableSchema,
        name: &str,
        policies: &TablePolicies,
    ) -> Result<Table, TableError> {
        let fail = |reason: String| TableError {
            table: schema.table.clone(),
            reason,
        };
        if schema.columns.len() > COLUMNS_MAX {
            return Err(fail(format!("it has more than {COLUMNS_MAX} columns")));
        }
        let names = column_names(schema.columns.iter().map(|column| column.name.as_str()));
        let mut columns: Vec<Column> = (schema.columns.iter().zip(names))
            .map(|(column, name)| Column {
                source: column.name.clone(),
                name,
                key: column.key,
                kind: kind_of(&column.type_name, column.key),
                policy: policies.of(&column.name),
            })
            .collect();
        let key: Vec<usize> = (0..columns.len()).filter(|&i| columns[i].key).collect();
        if key.is_empty() {
            return Err(fail("it has no primary key".into()));
        }
        narrow_key(&mut columns, &key);
        let beside = beside_columns(&columns);
        fit(&mut columns, &beside).map_err(fail)?;
        Ok(Table {
            source: schema.table.clone(),
            name: name.to_owned(),
            columns,
            key,
            beside,
        })
    }

    /// The names of all columns that it has in MySQL, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let columns = self.columns.iter().map(|column| column.name.as_str());
        columns.chain(self.beside.iter().map(|beside| beside.name.as_str()))
    }

    /// True if a value of it may stand in quarantine.
    pub fn quarantines(&self) -> bool {
        self.columns.iter().any(|c| c.policy.quarantines())
    }

    /// The key columns, in order.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().map(|&i| &self.columns[i])
    }

    /// The key of a row, which has a value per column.
    pub fn key_of(&self, row: &[Value]) -> Vec<Value> {
        self.key.iter().map(|&i| row[i].clone()).collect()
    }

    /// Position of the column that Postgres calls so.
    pub fn position(&self, source: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.source == source)
    }

    /// The column that MySQL calls so.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }
}

impl Kind {
    /// As DDL, without the collation that its table gives.
    pub(super) fn sql_type(&self) -> String {
        match self {
            Kind::SmallInt => "SMALLINT".into(),
            Kind::Int => "INT".into(),
            Kind::BigInt => "BIGINT".into(),
            Kind::Bool => "TINYINT(1)".into(),
            Kind::Decimal { precision, scale } => format!("DECIMAL({precision},{scale})"),
            Kind::DecimalAny => "DECIMAL(65,30)".into(),
            Kind::Double => "DOUBLE".into(),
            Kind::VarChar(n) => format!("VARCHAR({n})"),
            Kind::BlankPadded(n) if *n <= 255 => format!("CHAR({n})"),
            Kind::BlankPadded(n) => format!("VARCHAR({n})"),
            Kind::LongText | Kind::LongBlankPadded => "LONGTEXT".into(),
            Kind::Uuid => "CHAR(36)".into(),
            Kind::Date => "DATE".into(),
            Kind::DateTime => "DATETIME(6)".into(),
            Kind::Time => "TIME(6)".into(),
            Kind::LongBlob => "LONGBLOB".into(),
            Kind::VarBinary(n) => format!("VARBINARY({n})"),
        }
    }
}

impl Column {
    /// The column's type as DDL, without the collation that its table gives.
    pub fn sql_type(&self) -> String {
        self.kind.sql_type()
    }

    /// An expression over the column, whose text [`super::from_server`] turns into the canonical form.
    pub fn select_expression(&self) -> String {
        let name = quoted(&self.name);
        match self.kind {
            Kind::LongBlob | Kind::VarBinary(_) => format!("HEX({name})"),
            Kind::LongText
            | Kind::VarChar(_)
            | Kind::BlankPadded(_)
            | Kind::LongBlankPadded
            | Kind::Uuid => name,
            _ => format!("CAST({name} AS CHAR)"),
        }
    }

    fn is_text(&self) -> bool {
        matches!(
            self.kind,
            Kind::LongText | Kind::VarChar(_) | Kind::BlankPadded(_)
        )
    }
}

/// The columns beside those with the policy `text`, in the order of these.
fn beside_columns(columns: &[Column]) -> Vec<Beside> {
    let mut taken: BTreeSet<String> = columns.iter().map(|c| alike(&c.name)).collect();
    let texts = columns.iter().enumerate();
    texts
        .filter(|(_, column)| column.policy == Policy::Text && !column.key)
        .map(|(of, column)| {
            let name = beside(&column.name, &taken);
            taken.insert(alike(&name));
            Beside { of, name }
        })
        .collect()
}

/// Makes the columns fit into a row together with those beside them.
fn fit(columns: &mut Vec<Column>, beside: &[Beside]) -> Result<(), String> {
    let own = columns.len();
    if own + beside.len() > COLUMNS_MAX {
        return Err(format!(
            "it has more than {COLUMNS_MAX} columns, with those beside columns of the policy text"
        ));
    }
    columns.extend(beside.iter().map(|beside| Column {
        source: String::new(),
        name: beside.name.clone(),
        key: false,
        kind: Kind::LongText,
        policy: Policy::Stop,
    }));
    let fits = row::fit(columns);
    columns.truncate(own);
    fits
}

/// Text and bytes of a composite key share what an index entry may hold.
fn narrow_key(columns: &mut [Column], key: &[usize]) {
    let wide = key
        .iter()
        .filter(|&&i| columns[i].is_text() || matches!(columns[i].kind, Kind::VarBinary(_)))
        .count();
    if wide == 0 {
        return;
    }
    // 16 bytes hold any number, date or time; a UUID takes 144.
    let fixed: usize = key
        .iter()
        .map(|&i| match columns[i].kind {
            Kind::Uuid => 144,
            Kind::DecimalAny | Kind::Decimal { .. } => 32,
            _ => 16,
        })
        .sum();
    let share = (KEY_BYTES_MAX.saturating_sub(fixed + 16 * wide) / wide).max(16) as u32;
    for &i in key {
        columns[i].kind = match columns[i].kind {
            Kind::VarChar(n) if key.len() > 1 || n > KEY_CHARS_MAX => {
                Kind::VarChar(n.min(share / 4))
            }
            Kind::BlankPadded(n) => Kind::BlankPadded(n.min(share / 4)),
            Kind::VarBinary(n) if key.len() > 1 => Kind::VarBinary(n.min(share)),
            Kind::LongText => Kind::VarChar(share / 4),
            other => other,
        };
    }
}

#[cfg(test)]
#[path = "types_tests.rs"]
mod tests;
