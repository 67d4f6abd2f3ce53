//! Values that came in slices ([`Slice`]). They are put together inside of the server, so that no more than a slice is ever
//! here: staged in a table as they come, and joined by one UPDATE once their row is written.
//!
//! What an expression gives is limited by `max_allowed_packet` on both servers, which make NULL of what is longer, with a
//! warning only. GROUP_CONCAT is not: its limit is `group_concat_max_len`, which our sessions pin to 1 GB, more than Postgres
//! sends, and beyond it is an error. Whatever the server does, the size is looked at afterwards.

use std::collections::BTreeSet;

use millrace_events::{Slice, Sliced, TableId, Value};
use sqlx::Row;

use super::write::{self, WriteError};
use super::{quoted, Column, Kind, Table};
use crate::script::{About, Script, ScriptError};

/// Where slices stand until their row comes, and the definition of its columns.
pub(crate) const STAGE: (&str, &str) = (
    "millrace_slices",
    "value VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, slice INT UNSIGNED NOT NULL, \
     data LONGBLOB NOT NULL, PRIMARY KEY (value, slice)",
);

/// A value that stays in the server while its row moves to another key: it is one slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name on the stage.
    pub name: String,
    /// Its table in the source.
    pub table: TableId,
    /// Position of its column.
    pub column: usize,
    /// Key of the row that has it.
    pub key: Vec<Value>,
}

/// Puts a slice of a value of `table` on the stage.
pub(crate) async fn stage(
    script: &mut Script<'_>,
    table: &Table,
    slice: &Slice,
) -> Result<(), WriteError> {
    // A column that the table does not have is noticed with the row.
    let Some(column) = table.position(&slice.column) else {
        return Ok(());
    };
    let column = &table.columns[column];
    let mut sql = format!("INSERT INTO {} (value, slice, data) VALUES (", STAGE.0);
    write::push_string(&mut sql, &slice.value);
    sql.push_str(&format!(",{},", slice.slice));
    match column.kind {
        Kind::LongBlob => {
            let digits = digits(slice);
            let digits = digits.map_err(|reason| write::refused(table, column, &[], reason.into()));
            sql.push_str(&format!("x'{}'", digits?));
        }
        _ => write::push_string(&mut sql, &slice.text),
    }
    sql.push(')');
    write::fits(table, sql.len(), script.statement_bytes_max(), &Vec::new)?;
    Ok(script.push(&sql, &about(table)).await?)
}

/// Puts a value that is in `table` on the stage.
pub(crate) async fn keep(
    script: &mut Script<'_>,
    table: &Table,
    kept: &Kept,
) -> Result<(), WriteError> {
    let mut name = String::new();
    write::push_string(&mut name, &kept.name);
    let sql = format!(
        "INSERT INTO {} (value, slice, data) SELECT {name}, 0, {} FROM {} WHERE {}",
        STAGE.0,
        quoted(&table.columns[kept.column].name),
        quoted(&table.name),
        key_condition(table, &kept.key)?,
    );
    Ok(script.push_on_a_table(&sql, &about(table)).await?)
}

fn key_condition(table: &Table, key: &[Value]) -> Result<String, WriteError> {
    let mut sql = String::new();
    write::key_condition(&mut sql, table, key)?;
    Ok(sql)
}

fn about(table: &Table) -> About {
    About::Table(table.source.clone())
}

/// The hexadecimal digits of a slice of bytes.
fn digits(slice: &Slice) -> Result<&str, &'static str> {
    let digits = match slice.slice {
        0 => slice.text.strip_prefix("\\x"),
        _ => Some(slice.text.as_str()),
    };
    digits
        .filter(|digits| digits.len() % 2 == 0 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .ok_or("bytes that are not in hexadecimal form")
}

/// Puts the sliced values of rows that were just written, with values for these columns, where they belong. Of rows with
/// one key the last one counts.
pub(crate) async fn fill(
    script: &mut Script<'_>,
    table: &Table,
    columns: &[usize],
    rows: &[&[Value]],
) -> Result<(), WriteError> {
    if !rows.iter().any(|row| names(row).next().is_some()) {
        return Ok(());
    }
    let mut seen = BTreeSet::new();
    for row in rows.iter().rev() {
        let key = key_of(table, columns, row);
        if !seen.insert(key.clone()) {
            continue;
        }
        for (&column, value) in columns.iter().zip(*row) {
            let Value::Sliced(value) = value else {
                continue;
            };
            let cell = Cell {
                table,
                column: &table.columns[column],
                key: &key,
                value,
            };
            cell.fill(script).await?;
        }
    }
    Ok(())
}

fn key_of(table: &Table, columns: &[usize], row: &[Value]) -> Vec<Value> {
    let value = |key: &usize| {
        let at = columns.iter().position(|column| column == key)?;
        row.get(at).cloned()
    };
    table.key.iter().filter_map(value).collect()
}

/// Takes slices from the stage.
pub(crate) async fn clear<'a>(
    script: &mut Script<'_>,
    values: impl Iterator<Item = &'a str>,
) -> Result<(), ScriptError> {
    for value in values {
        let mut sql = format!("DELETE FROM {} WHERE value = ", STAGE.0);
        write::push_string(&mut sql, value);
        let about = About::Work("what is left of large values");
        script.push_on_a_table(&sql, &about).await?;
    }
    Ok(())
}

/// Bytes of the text of a value that takes so many in its column: of bytes, two digits each behind `\x`.
pub(crate) fn text_bytes(column: &Column, bytes: u64) -> u64 {
    match column.kind {
        Kind::LongBlob => 2 + 2 * bytes,
        _ => bytes,
    }
}

/// The names of the sliced values of a row.
pub(crate) fn names(row: &[Value]) -> impl Iterator<Item = &str> {
    row.iter().filter_map(|value| match value {
        Value::Sliced(value) => Some(value.sliced.as_str()),
        _ => None,
    })
}

/// A sliced value and its place.
struct Cell<'a> {
    table: &'a Table,
    column: &'a Column,
    key: &'a [Value],
    value: &'a Sliced,
}

impl Cell<'_> {
    async fn fill(&self, script: &mut Script<'_>) -> Result<(), WriteError> {
        let (table, column) = (quoted(&self.table.name), quoted(&self.column.name));
        let key = key_condition(self.table, self.key)?;
        let joined = self.joined();
        let update = format!("UPDATE {table} SET {column} = ({joined}) WHERE {key}");
        script.push_on_a_table(&update, &about(self.table)).await?;
        let size =
            format!("SELECT CAST(OCTET_LENGTH({column}) AS UNSIGNED) FROM {table} WHERE {key}");
        script.push_on_a_table(&size, &about(self.table)).await?;
        let found = script.send().await?;
        let found: Option<u64> = match found.last() {
            Some(row) => row
                .try_get_unchecked(0)
                .map_err(|source| ScriptError::Refused {
                    about: about(self.table),
                    source,
                })?,
            None => None,
        };
        match found {
            Some(found) if self.is_whole(found) => Ok(()),
            found => Err(self.refused(format!(
                "{} of the {} bytes that came in slices",
                found.unwrap_or_default(),
                self.bytes()
            ))),
        }
    }

    fn joined(&self) -> String {
        let mut name = String::new();
        write::push_string(&mut name, &self.value.sliced);
        let slices = "GROUP_CONCAT(data ORDER BY slice SEPARATOR '')";
        let joined = match self.column.kind {
            Kind::LongBlankPadded => format!("TRIM(TRAILING ' ' FROM {slices})"),
            _ => slices.to_owned(),
        };
        format!("SELECT {joined} FROM {} WHERE value = {name}", STAGE.0)
    }

    /// Bytes of the value in its column: see [`text_bytes`].
    fn bytes(&self) -> u64 {
        match self.column.kind {
            Kind::LongBlob => self.value.bytes.saturating_sub(2) / 2,
            _ => self.value.bytes,
        }
    }

    fn is_whole(&self, bytes: u64) -> bool {
        match self.column.kind {
            Kind::LongBlankPadded => bytes <= self.bytes(),
            _ => bytes == self.bytes(),
        }
    }

    fn refused(&self, reason: String) -> WriteError {
        write::refused(self.table, self.column, self.key, reason.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(slice: u32, text: &str) -> Slice {
        Slice {
            table: TableId::new("s", "t"),
            column: "c".into(),
            value: "1-1-0".into(),
            slice,
            text: text.into(),
        }
    }

    #[test]
    fn only_the_first_slice_of_bytes_has_their_prefix() {
        assert_eq!(digits(&slice(0, "\\x00fF")), Ok("00fF"));
        assert_eq!(digits(&slice(1, "abcd")), Ok("abcd"));
        for wrong in [
            slice(0, "00ff"),
            slice(1, "\\x00"),
            slice(1, "abc"),
            slice(1, "xy"),
        ] {
            digits(&wrong).expect_err(&wrong.text);
        }
    }
}
