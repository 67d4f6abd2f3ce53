//! A record and a policy to the record that third parties see.

use std::collections::BTreeMap;
use std::fmt;

use millrace_events::{Column, DecodeError, Record, Row, Slice, TableId, TableSchema};

use crate::policy::{Action, Policy};

/// Why a record cannot be redacted. It never shows values of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not a record of the log.
    Record(String),
    /// The policy does something else to a key column than hashing it.
    Key,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Record(reason) => f.write_str(reason),
            Refusal::Key => f.write_str("the policy may only hash key columns"),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        Refusal::Record(match error {
            // The kind is part of the input.
            DecodeError::Kind(_) => "record of unknown kind".to_owned(),
            other => other.to_string(),
        })
    }
}

/// The redacted record; nothing if it holds no rows, and nothing of it needs to change.
///
/// Definitions follow: a hashed or masked column is of type `text`, a dropped one is gone. Which
/// columns are keys is known where a definition stands in the record, at each start of capture and
/// snapshot; there a policy that does not suit is refused.
pub fn apply(policy: &Policy, record: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    let mut record = Record::decode(record)?;
    match &mut record {
        Record::Transaction(part) => {
            redact_schemas(policy, part.schemas.iter_mut())?;
            part.slices.retain(|slice| !is_redacted(policy, slice));
            for change in &mut part.changes {
                if let Some(actions) = policy.table(&change.table) {
                    let rows = [&mut change.before, &mut change.after];
                    rows.into_iter()
                        .flatten()
                        .for_each(|row| redact_row(policy, actions, row));
                }
            }
        }
        Record::Chunk(chunk) => {
            chunk.slices.retain(|slice| !is_redacted(policy, slice));
            redact_rows(policy, &chunk.table, &mut chunk.rows);
        }
        Record::Copy(begun) => {
            let definitions = begun.tables.iter_mut().map(|table| &mut table.definition);
            redact_schemas(policy, definitions)?;
        }
        Record::Checkpoint(checkpoint) => {
            let tables = checkpoint.tables.iter_mut();
            redact_schemas(policy, tables.map(|table| &mut table.definition))?;
        }
        // It holds a key, and nobody but capture needs it.
        Record::Plan(plan) if policy.table(&plan.table).is_some() => plan.up_to = None,
        _ => return Ok(None),
    }
    Ok(Some(record.encode()))
}

/// Whatever the policy makes of a value, it is not made of a part of its text.
fn is_redacted(policy: &Policy, slice: &Slice) -> bool {
    let actions = policy.table(&slice.table);
    actions.is_some_and(|actions| actions.contains_key(&slice.column))
}

fn redact_row(policy: &Policy, actions: &BTreeMap<String, Action>, row: &mut Row) {
    let columns = std::mem::take(&mut row.0);
    let redacted = columns.into_iter().filter_map(|(name, value)| {
        let value = match actions.get(&name) {
            Some(action) => policy.redacted(*action, value)?,
            None => value,
        };
        Some((name, value))
    });
    row.0 = redacted.collect();
}

fn redact_rows(policy: &Policy, table: &TableId, rows: &mut [Row]) {
    if let Some(actions) = policy.table(table) {
        rows.iter_mut()
            .for_each(|row| redact_row(policy, actions, row));
    }
}

fn redact_schemas<'a>(
    policy: &Policy,
    schemas: impl Iterator<Item = &'a mut TableSchema>,
) -> Result<(), Refusal> {
    for schema in schemas {
        let Some(actions) = policy.table(&schema.table) else {
            continue;
        };
        let action = |column: &Column| actions.get(&column.name).copied();
        let keeps_key = |column: &Column| matches!(action(column), None | Some(Action::Hash));
        if !schema.key().all(keeps_key) {
            return Err(Refusal::Key);
        }
        schema
            .columns
            .retain(|column| action(column) != Some(Action::Drop));
        for column in &mut schema.columns {
            if let Some(Action::Hash | Action::Mask) = action(column) {
                column.type_name = "text".to_owned();
                column.oid = TEXT_OID;
                column.type_mod = -1;
            }
        }
    }
    Ok(())
}

/// `pg_type.oid` of `text`.
const TEXT_OID: u32 = 25;
