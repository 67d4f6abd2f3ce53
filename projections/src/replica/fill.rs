//! Putting values together that came in slices, where they belong.
//!
//! What an expression gives is limited by `max_allowed_packet` on both servers, which make NULL of what is longer, with a
//! warning only. GROUP_CONCAT is not: its limit is `group_concat_max_len`, which our sessions pin to 1 GB, more than Postgres
//! sends, and beyond it is an error. Whatever the server does, the size is looked at afterwards.

use std::collections::BTreeSet;

use millrace_events::{Sliced, Value};
use sqlx::Row;

use super::slices::{about, in_quarantine, key_condition, names, STAGE};
use super::upsert::{reason, value_refused, Unfit};
use super::write::{self, WriteError};
use super::{quoted, Column, Kind, Table};
use crate::script::{Script, ScriptError};

/// Puts the sliced values of rows that were just written, with values for these columns, where they belong. Of rows with
/// one key the last one counts. What does not fit is added to `unfit`, where a careful script finds it and the policy of its
/// column lets the row go on; its text goes beside the column, if there is a place for it.
pub(crate) async fn fill(
    script: &mut Script<'_>,
    table: &Table,
    columns: &[usize],
    rows: &[&[Value]],
    unfit: &mut Vec<Unfit>,
) -> Result<(), WriteError> {
    if !rows.iter().any(|row| names(row).next().is_some()) {
        return Ok(());
    }
    let mut seen = BTreeSet::new();
    for (number, row) in rows.iter().enumerate().rev() {
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
                position: column,
                key: &key,
                value,
            };
            cell.fill(script, number, unfit).await?;
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

/// Puts the text of a sliced value into the quarantine, where it has a row.
pub(crate) async fn fill_quarantine(
    script: &mut Script<'_>,
    table: &Table,
    unfit: &Unfit,
    row: &[Value],
    digest: &str,
) -> Result<(), WriteError> {
    let Value::Sliced(value) = &unfit.value else {
        return Ok(());
    };
    let cell = Cell {
        table,
        position: unfit.column,
        key: &table.key_of(row),
        value,
    };
    let place = in_quarantine(table, cell.column(), digest);
    let (table, condition) = place.split_once(" WHERE ").unwrap_or((&place, "1 = 0"));
    cell.put(script, (table, "value", condition), Form::Text)
        .await
}

/// A sliced value and the column that it is of.
struct Cell<'a> {
    table: &'a Table,
    position: usize,
    key: &'a [Value],
    value: &'a Sliced,
}

/// What of a value is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As its column holds it.
    Stored,
    /// As Postgres prints it.
    Text,
}

impl Cell<'_> {
    fn column(&self) -> &Column {
        &self.table.columns[self.position]
    }

    /// `number` is that of its row, for which `unfit` may say already that the value does not fit.
    async fn fill(
        &self,
        script: &mut Script<'_>,
        number: usize,
        unfit: &mut Vec<Unfit>,
    ) -> Result<(), WriteError> {
        let is_this = |unfit: &Unfit| unfit.row == number && unfit.column == self.position;
        if !unfit.iter().any(is_this) {
            let Some(refusal) = self.put_into_column(script).await? else {
                return Ok(());
            };
            unfit.push(Unfit {
                row: number,
                column: self.position,
                value: Value::Sliced(self.value.clone()),
                reason: reason(&refusal),
            });
        }
        let beside = self.table.beside.iter();
        for beside in beside.filter(|beside| beside.of == self.position) {
            self.put_into_row(script, &beside.name, Form::Text).await?;
        }
        Ok(())
    }

    /// Returns the server's refusal of the value, if the row may go on without it.
    async fn put_into_column(
        &self,
        script: &mut Script<'_>,
    ) -> Result<Option<WriteError>, WriteError> {
        let may_go = script.is_careful() && self.column().policy.quarantines();
        if may_go {
            // What stands before is not refused for this value.
            script.send().await?;
        }
        let name = &self.column().name;
        match self.put_into_row(script, name, Form::Stored).await {
            Err(error) if may_go && value_refused(&error).is_some() => Ok(Some(error)),
            put => put.map(|()| None),
        }
    }

    async fn put_into_row(
        &self,
        script: &mut Script<'_>,
        column: &str,
        form: Form,
    ) -> Result<(), WriteError> {
        let table = quoted(&self.table.name);
        let key = key_condition(self.table, self.key)?;
        self.put(script, (&table, &quoted(column), &key), form)
            .await
    }

    /// Puts the value into a column of the row that meets a condition.
    async fn put(
        &self,
        script: &mut Script<'_>,
        (table, column, condition): (&str, &str, &str),
        form: Form,
    ) -> Result<(), WriteError> {
        let about = about(self.table);
        let joined = self.joined(form);
        let update = format!("UPDATE {table} SET {column} = ({joined}) WHERE {condition}");
        script.push_on_a_table(&update, &about).await?;
        let size = format!(
            "SELECT CAST(OCTET_LENGTH({column}) AS UNSIGNED) FROM {table} WHERE {condition}"
        );
        script.push_on_a_table(&size, &about).await?;
        let found = script.send().await?;
        let found: Option<u64> = match found.last() {
            Some(row) => row
                .try_get_unchecked(0)
                .map_err(|source| ScriptError::Refused { about, source })?,
            None => None,
        };
        let bytes = self.bytes(form);
        match found {
            Some(found) if found == bytes || (found < bytes && self.loses_blanks(form)) => Ok(()),
            found => Err(self.refused(format!(
                "{} of the {bytes} bytes that came in slices",
                found.unwrap_or_default()
            ))),
        }
    }

    fn joined(&self, form: Form) -> String {
        let mut name = String::new();
        write::push_string(&mut name, &self.value.sliced);
        let data = match (form, self.column().kind) {
            // What was staged of bytes are bytes.
            (Form::Text, Kind::LongBlob) => {
                "IF(slice = 0, CONCAT(x'5c78', LOWER(HEX(data))), LOWER(HEX(data)))"
            }
            _ => "data",
        };
        let slices = format!("GROUP_CONCAT({data} ORDER BY slice SEPARATOR '')");
        let joined = match self.loses_blanks(form) {
            true => format!("TRIM(TRAILING ' ' FROM {slices})"),
            false => slices,
        };
        let count = self.value.slices;
        format!(
            "SELECT {joined} FROM {} WHERE value = {name} AND slice < {count}",
            STAGE.0
        )
    }

    fn loses_blanks(&self, form: Form) -> bool {
        let kind = self.column().kind;
        form == Form::Stored && matches!(kind, Kind::LongBlankPadded | Kind::BlankPadded(_))
    }

    /// Of bytes, the text has two digits each behind `\x`.
    fn bytes(&self, form: Form) -> u64 {
        match (form, self.column().kind) {
            (Form::Stored, Kind::LongBlob) => self.value.bytes.saturating_sub(2) / 2,
            _ => self.value.bytes,
        }
    }

    fn refused(&self, reason: String) -> WriteError {
        write::refused(self.table, self.column(), self.key, reason.into())
    }
}
