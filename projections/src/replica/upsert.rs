//! Writing rows, and finding the values among them that MySQL cannot hold.

use std::borrow::Cow;

use millrace_events::Value;
use millrace_sessions::mysql::server_code;

use super::policy::Policy;
use super::refusal::is_of_a_value;
use super::write::{self, WriteError};
use super::{exact, Column, Table};
use crate::script::{Script, ScriptError};

/// A value that does not stand in its column, which is NULL instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Number of its row among those that were written.
    pub row: usize,
    /// Position of its column.
    pub column: usize,
    /// The value, text that Postgres prints or slices of it.
    pub value: Value,
    /// Why, without the value.
    pub reason: Cow<'static, str>,
}

/// A column that must be NULL, and why.
type Without = (usize, Cow<'static, str>);

/// Inserts rows, replacing those with the same key; of those with one key the last one counts. `rows` hold a value per
/// column of `table`. Returns what does not fit, where the columns' policies let the rows go on without it.
///
/// Nearly all of that is known from the types beforehand. Where the server refuses a value all the same, a careful
/// script sends the rows by halves until it is found; another one is to be repeated carefully.
pub async fn upsert(
    script: &mut Script<'_>,
    table: &Table,
    rows: &[&[Value]],
) -> Result<Vec<Unfit>, WriteError> {
    let tuples = Tuples::new(table, 0, &[]);
    if !script.is_careful() || !table.quarantines() {
        return push(script, tuples, rows).await;
    }
    script.send().await?;
    match attempt(script, tuples, rows).await {
        Err(error) if value_refused(&error).is_some() => by_halves(script, table, rows).await,
        written => written,
    }
}

/// The server's refusal of a value.
pub(super) fn value_refused(error: &WriteError) -> Option<&sqlx::Error> {
    match error {
        WriteError::Script(ScriptError::Refused { source, .. }) => {
            Some(source).filter(|source| is_of_a_value(source))
        }
        _ => None,
    }
}

async fn attempt(
    script: &mut Script<'_>,
    tuples: Tuples<'_>,
    rows: &[&[Value]],
) -> Result<Vec<Unfit>, WriteError> {
    let unfit = push(script, tuples, rows).await?;
    script.send().await?;
    Ok(unfit)
}

async fn push(
    script: &mut Script<'_>,
    mut tuples: Tuples<'_>,
    rows: &[&[Value]],
) -> Result<Vec<Unfit>, WriteError> {
    let rows = rows.iter().copied();
    write::insert_all(script, tuples.table, rows, |sql, row| tuples.push(sql, row)).await?;
    Ok(tuples.unfit)
}

/// What an attempt that failed had written is written again, which changes nothing.
async fn by_halves(
    script: &mut Script<'_>,
    table: &Table,
    rows: &[&[Value]],
) -> Result<Vec<Unfit>, WriteError> {
    let mut unfit = Vec::new();
    let mut left = vec![(0, rows)];
    while let Some((first, rows)) = left.pop() {
        let error = match attempt(script, Tuples::new(table, first, &[]), rows).await {
            Ok(found) => {
                unfit.extend(found);
                continue;
            }
            Err(error) if value_refused(&error).is_some() => error,
            Err(error) => return Err(error),
        };
        match rows {
            [row] => unfit.extend(one_without(script, table, (first, row), error).await?),
            rows => {
                let (start, end) = rows.split_at(rows.len() / 2);
                left.push((first + start.len(), end));
                left.push((first, start));
            }
        }
    }
    Ok(unfit)
}

/// Writes a row without the values that the server refuses. One column after the other becomes NULL until it takes the
/// row; then those get their values back without which it does, too.
async fn one_without(
    script: &mut Script<'_>,
    table: &Table,
    (number, row): (usize, &[Value]),
    refusal: WriteError,
) -> Result<Vec<Unfit>, WriteError> {
    let reason = reason(&refusal);
    let may_go = |&i: &usize| table.columns[i].policy.quarantines() && row[i] != Value::Null;
    let mut without: Vec<Without> = Vec::new();
    let mut written = Err(refusal);
    for column in (0..row.len()).filter(may_go) {
        without.push((column, reason.clone()));
        written = attempt(script, Tuples::new(table, number, &without), &[row]).await;
        if written.is_ok() {
            break;
        }
    }
    let mut unfit = written?;
    // The last one was needed.
    for at in (0..without.len().saturating_sub(1)).rev() {
        let mut fewer = without.clone();
        fewer.remove(at);
        if let Ok(found) = attempt(script, Tuples::new(table, number, &fewer), &[row]).await {
            (unfit, without) = (found, fewer);
        }
    }
    Ok(unfit)
}

pub(super) fn reason(refusal: &WriteError) -> Cow<'static, str> {
    match value_refused(refusal).and_then(server_code) {
        Some(code) => format!("a value that the server refuses with error {code}").into(),
        None => "a value that the server refuses".into(),
    }
}

/// Makes the rows of a statement, and notes what does not fit.
struct Tuples<'t> {
    table: &'t Table,
    /// Number of the next row.
    next: usize,
    without: &'t [Without],
    unfit: Vec<Unfit>,
}

impl<'t> Tuples<'t> {
    fn new(table: &'t Table, next: usize, without: &'t [Without]) -> Tuples<'t> {
        Tuples {
            table,
            next,
            without,
            unfit: Vec::new(),
        }
    }

    fn push(&mut self, sql: &mut String, row: &[Value]) -> Result<(), WriteError> {
        let first = self.unfit.len();
        let columns = self.table.columns.iter().zip(row).enumerate();
        for (position, (column, value)) in columns {
            sql.push(if position == 0 { '(' } else { ',' });
            let Err(reason) = self.push_value(sql, position, value) else {
                continue;
            };
            if column.policy == Policy::Stop {
                return Err(self.refused(column, row, reason));
            }
            sql.push_str("NULL");
            self.unfit.push(Unfit {
                row: self.next,
                column: position,
                value: value.clone(),
                reason,
            });
        }
        self.push_beside(sql, first);
        sql.push(')');
        self.next += 1;
        Ok(())
    }

    fn push_value(
        &self,
        sql: &mut String,
        position: usize,
        value: &Value,
    ) -> Result<(), Cow<'static, str>> {
        match self.without.iter().find(|(column, _)| *column == position) {
            Some((_, reason)) => Err(reason.clone()),
            None => write::push_literal(sql, &self.table.columns[position], value)
                .map_err(Cow::Borrowed),
        }
    }

    /// The texts of what does not fit, from `first` on, in the columns beside.
    fn push_beside(&self, sql: &mut String, first: usize) {
        for beside in &self.table.beside {
            sql.push(',');
            let text = self.unfit[first..].iter().find(|it| it.column == beside.of);
            match text.and_then(|unfit| exact(&unfit.value)) {
                Some(text) => write::push_string(sql, &text),
                None => sql.push_str("NULL"),
            }
        }
    }

    fn refused(&self, column: &Column, row: &[Value], reason: Cow<'static, str>) -> WriteError {
        write::refused(self.table, column, &self.table.key_of(row), reason)
    }
}
