//! Values that came in slices ([`Slice`]). They are put together inside of the server, so that no more than a slice is ever
//! here: staged in a table as they come, and joined by one UPDATE once their row is written.
//!
//! What an expression gives is limited by `max_allowed_packet`, and both servers make NULL of what is longer, with a
//! warning only. So the size is compared before, and looked at afterwards.

use std::collections::BTreeSet;

use millrace_events::{Slice, Sliced, Value};
use millrace_sessions::mysql::{Session, GROUP_CONCAT_BYTES_MAX};
use sqlx::{Executor, Row};

use super::write::{self, WriteError};
use super::{quoted, Column, Kind, Table, Unfit};

/// Where slices stand until their row comes, and the definition of its columns.
pub(crate) const STAGE: (&str, &str) = (
    "millrace_slices",
    "value VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, slice INT UNSIGNED NOT NULL, \
     data LONGBLOB NOT NULL, PRIMARY KEY (value, slice)",
);

/// Puts a slice of a value of `table` on the stage.
pub(crate) async fn stage(
    conn: &mut Session,
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
            let digits =
                digits(slice).map_err(|it| write::refused(table, column, &[], it.into()))?;
            sql.push_str(&format!("x'{digits}'"));
        }
        _ => write::push_string(&mut sql, &slice.text),
    }
    sql.push(')');
    conn.execute(sql.as_str()).await?;
    Ok(())
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

/// Puts the sliced values of rows that were just written where they belong. Of rows with one key the last one counts. Returns what is
/// too large for the server, where the columns' policies let the rows go on without it.
pub(crate) async fn fill(
    conn: &mut Session,
    table: &Table,
    rows: &[&[Value]],
) -> Result<Vec<Unfit>, WriteError> {
    let mut unfit = Vec::new();
    if !rows.iter().any(|row| row.iter().any(is_sliced)) {
        return Ok(unfit);
    }
    let mut seen = BTreeSet::new();
    for (number, row) in rows.iter().enumerate().rev() {
        if !seen.insert(table.key_of(row)) {
            continue;
        }
        for (position, value) in row.iter().enumerate() {
            let Value::Sliced(value) = value else {
                continue;
            };
            let cell = Cell {
                table,
                column: &table.columns[position],
                row,
                value,
            };
            if let Some(reason) = cell.fill(conn).await? {
                unfit.push(Unfit {
                    row: number,
                    column: position,
                    text: String::new(),
                    reason: reason.into(),
                });
            }
        }
    }
    Ok(unfit)
}

/// Takes slices from the stage.
pub(crate) async fn clear<'a>(
    conn: &mut Session,
    values: impl Iterator<Item = &'a str>,
) -> sqlx::Result<()> {
    for value in values {
        let sql = format!("DELETE FROM {} WHERE value = ?", STAGE.0);
        conn.on_a_table()
            .execute(sqlx::query(&sql).bind(value))
            .await?;
    }
    Ok(())
}

/// The names of the sliced values of a row.
pub(crate) fn names(row: &[Value]) -> impl Iterator<Item = &str> {
    row.iter().filter_map(|value| match value {
        Value::Sliced(value) => Some(value.sliced.as_str()),
        _ => None,
    })
}

fn is_sliced(value: &Value) -> bool {
    matches!(value, Value::Sliced(_))
}

/// A sliced value and its place.
struct Cell<'a> {
    table: &'a Table,
    column: &'a Column,
    row: &'a [Value],
    value: &'a Sliced,
}

impl Cell<'_> {
    /// Returns why not, if the row goes on without the value.
    async fn fill(&self, conn: &mut Session) -> Result<Option<String>, WriteError> {
        let bytes_max = conn.server().packet_bytes_max as u64;
        if self.bytes() > bytes_max {
            return self.too_large(bytes_max);
        }
        let column = quoted(&self.column.name);
        let (table, key) = (quoted(&self.table.name), self.key()?);
        let sql = format!(
            "UPDATE {table} SET {column} = ({}) WHERE {key}",
            self.joined()
        );
        self.with_room(conn, &sql).await?;
        let sql =
            format!("SELECT CAST(OCTET_LENGTH({column}) AS UNSIGNED) FROM {table} WHERE {key}");
        let found = conn.on_a_table().fetch_optional(sql.as_str()).await?;
        let found: Option<u64> = match found {
            Some(row) => row.try_get(0)?,
            None => None,
        };
        match found {
            Some(found) if self.is_whole(found) => Ok(None),
            found => Err(self.refused(format!(
                "{} of the {} bytes that came in slices",
                found.unwrap_or_default(),
                self.bytes()
            ))),
        }
    }

    /// The session's limit on joined texts is raised for one statement.
    async fn with_room(&self, conn: &mut Session, sql: &str) -> Result<(), WriteError> {
        let room = self.bytes().max(4);
        let raised = format!("SET SESSION group_concat_max_len = {room}");
        let pinned = format!("SET SESSION group_concat_max_len = {GROUP_CONCAT_BYTES_MAX}");
        conn.execute(raised.as_str()).await?;
        let written = conn.on_a_table().execute(sql).await;
        let restored = conn.execute(pinned.as_str()).await;
        written?;
        restored?;
        Ok(())
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

    /// Bytes of the value in its column.
    fn bytes(&self) -> u64 {
        match self.column.kind {
            // Behind `\x` two digits a byte.
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

    fn key(&self) -> Result<String, WriteError> {
        write::key_condition(self.table, &self.table.key_of(self.row))
    }

    fn too_large(&self, bytes_max: u64) -> Result<Option<String>, WriteError> {
        let reason = format!(
            "a value of {} bytes, more than its max_allowed_packet of {bytes_max}: raise that (1 GB is the most) and copy the table again",
            self.bytes()
        );
        match self.column.policy.quarantines() {
            true => Ok(Some(reason)),
            false => Err(self.refused(reason)),
        }
    }

    fn refused(&self, reason: String) -> WriteError {
        let key = self.table.key_of(self.row);
        write::refused(self.table, self.column, &key, reason.into())
    }
}

#[cfg(test)]
mod tests {
    use millrace_events::TableId;

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
