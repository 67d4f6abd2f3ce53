//! What the columns of a mart are made of: the types that the replica has.

use std::collections::HashMap;

use millrace_sessions::mysql::Session;
use sqlx::Row;

use super::Error;

/// A replica column, as `information_schema` describes it.
#[derive(Clone, Debug)]
pub(super) struct ReplicaColumn {
    /// Type with character set and collation, ready for a column definition.
    definition: String,
    text: bool,
    /// Decimal digits and those behind the point, for exact numbers.
    exact: Option<(u32, u32)>,
}

/// Digits that a visible index takes of a text column, which may be longer than an index allows.
const INDEXED_CHARACTERS: u32 = 64;

impl ReplicaColumn {
    /// Type without name.
    pub(super) fn definition(&self) -> &str {
        &self.definition
    }

    /// How the column stands in an index.
    pub(super) fn index_part(&self, name: &str) -> String {
        if self.text {
            format!("`{name}`({INDEXED_CHARACTERS})")
        } else {
            format!("`{name}`")
        }
    }
}

/// The columns of one replica table.
pub(super) struct ReplicaTable {
    name: String,
    columns: HashMap<String, ReplicaColumn>,
}

impl ReplicaTable {
    /// Reads the definition of a table of the current database.
    pub(super) async fn read(conn: &mut Session, name: String) -> Result<Self, Error> {
        let rows = sqlx::query(
            "SELECT CAST(column_name AS CHAR), CAST(column_type AS CHAR), CAST(data_type AS CHAR), \
             CAST(character_set_name AS CHAR), CAST(collation_name AS CHAR), \
             CAST(character_maximum_length AS SIGNED), \
             CAST(numeric_precision AS SIGNED), CAST(numeric_scale AS SIGNED) \
             FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ?",
        )
        .bind(&name)
        .fetch_all(conn)
        .await?;
        let mut columns = HashMap::new();
        for row in rows {
            columns.insert(text(&row, 0)?.unwrap_or_default(), replica_column(&row)?);
        }
        Ok(ReplicaTable { name, columns })
    }

    pub(super) fn column(&self, name: &str) -> Result<&ReplicaColumn, Error> {
        self.columns.get(name).ok_or_else(|| Error::NoColumn {
            table: self.name.clone(),
            column: name.to_owned(),
        })
    }

    /// Precision and scale of a column that is to be summed.
    pub(super) fn exact(&self, name: &str) -> Result<(u32, u32), Error> {
        self.column(name)?.exact.ok_or_else(|| Error::NotExact {
            table: self.name.clone(),
            column: name.to_owned(),
        })
    }
}

fn replica_column(row: &sqlx::mysql::MySqlRow) -> Result<ReplicaColumn, Error> {
    let column_type = text(row, 1)?.unwrap_or_default();
    let data_type = text(row, 2)?.unwrap_or_default();
    let charset = text(row, 3)?;
    let collation = text(row, 4)?;
    let length: Option<i64> = row.try_get(5)?;
    let definition = match (charset, collation) {
        (Some(charset), Some(collation)) => {
            format!("{column_type} CHARACTER SET {charset} COLLATE {collation}")
        }
        _ => column_type,
    };
    let digits = (
        row.try_get::<Option<i64>, _>(6)?,
        row.try_get::<Option<i64>, _>(7)?,
    );
    Ok(ReplicaColumn {
        definition,
        text: length.is_some_and(|length| length > i64::from(INDEXED_CHARACTERS)),
        exact: exact(&data_type.to_ascii_lowercase(), digits),
    })
}

/// Text, unchecked: sqlx takes text of a binary collation for bytes.
fn text(row: &sqlx::mysql::MySqlRow, column: usize) -> sqlx::Result<Option<String>> {
    row.try_get_unchecked(column)
}

fn exact(data_type: &str, digits: (Option<i64>, Option<i64>)) -> Option<(u32, u32)> {
    let number = |digits: Option<i64>| digits.and_then(|digits| u32::try_from(digits).ok());
    match data_type {
        "tinyint" | "smallint" | "mediumint" | "int" => Some((10, 0)),
        "bigint" => Some((20, 0)),
        "decimal" => Some((number(digits.0)?, number(digits.1)?)),
        _ => None,
    }
}
