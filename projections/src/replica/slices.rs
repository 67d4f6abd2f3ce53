//! Values that came in slices ([`Slice`]). They are put together inside of the server, so that no more than a slice is ever
//! here: staged in a table as they come, and joined once their row is written ([`fill`](super::fill())).

use millrace_events::{Slice, TableId, Value};

use super::write::{self, WriteError};
use super::{quoted, Column, Kind, Table};
use crate::script::{About, Script, ScriptError};

/// Where slices stand until their row comes, and the definition of its columns.
pub(crate) const STAGE: (&str, &str) = (
    "millrace_slices",
    "value VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, slice INT UNSIGNED NOT NULL, \
     data LONGBLOB NOT NULL, PRIMARY KEY (value, slice)",
);

/// A value that stays in the server while its row is written anew: it is one slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name on the stage.
    pub name: String,
    /// Its table in the source.
    pub table: TableId,
    /// Position of its column.
    pub column: usize,
    /// Where it is until then.
    pub from: KeptIn,
}

/// Where a value is that stays in the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptIn {
    /// In its column, in the row of this key.
    Row(Vec<Value>),
    /// In quarantine, under this digest of its row's key.
    Quarantine(String),
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
    let mut sql = format!("REPLACE INTO {} (value, slice, data) VALUES (", STAGE.0);
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

/// Puts a value of `table` that is in the server on the stage.
pub(crate) async fn keep(
    script: &mut Script<'_>,
    table: &Table,
    kept: &Kept,
) -> Result<(), WriteError> {
    let column = &table.columns[kept.column];
    let mut name = String::new();
    write::push_string(&mut name, &kept.name);
    let (data, place) = match &kept.from {
        KeptIn::Row(key) => {
            let (of, key) = (quoted(&table.name), key_condition(table, key)?);
            (quoted(&column.name), format!("{of} WHERE {key}"))
        }
        KeptIn::Quarantine(digest) => {
            let data = match column.kind {
                Kind::LongBlob => "UNHEX(SUBSTR(value, 3))",
                _ => "value",
            };
            (data.to_owned(), in_quarantine(table, column, digest))
        }
    };
    let sql = format!(
        "REPLACE INTO {} (value, slice, data) SELECT {name}, 0, {data} FROM {place}",
        STAGE.0
    );
    Ok(script.push_on_a_table(&sql, &about(table)).await?)
}

/// The row of the quarantine that has the value of a column.
pub(crate) fn in_quarantine(table: &Table, column: &Column, digest: &str) -> String {
    let mut sql = String::from("millrace_quarantine WHERE name = ");
    for (text, behind) in [
        (table.name.as_str(), " AND digest = "),
        (digest, " AND column_name = "),
        (column.name.as_str(), ""),
    ] {
        write::push_string(&mut sql, text);
        sql.push_str(behind);
    }
    sql
}

/// True if a value that comes in slices may stand in the column.
pub(crate) fn may_stand_in(column: &Column) -> bool {
    let is_text = matches!(
        column.kind,
        Kind::LongText
            | Kind::LongBlankPadded
            | Kind::LongBlob
            | Kind::VarChar(_)
            | Kind::BlankPadded(_)
    );
    is_text && !column.key
}

pub(super) fn key_condition(table: &Table, key: &[Value]) -> Result<String, WriteError> {
    let mut sql = String::new();
    write::key_condition(&mut sql, table, key)?;
    Ok(sql)
}

pub(super) fn about(table: &Table) -> About {
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
