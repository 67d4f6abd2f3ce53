//! Keys that have to be read again at the end of a copy. Pure.
//!
//! An UPDATE of the key does not send a value that it leaves unchanged and that is stored out of line (TOAST). If the chunk of the
//! old key already shows the update and the chunk of the new key does not yet, the value is in neither. So the new keys
//! of such updates are noted while a table is copied.

use std::collections::{BTreeSet, HashMap};

use millrace_events::{Change, Op, Row, TableId, TableSchema, Value};

use super::keys::Key;

/// Keys that are noted of one table. Beyond, the copy of the table begins again.
const MOVED_KEYS_MAX: usize = 100_000;

/// The keys of the tables that are being copied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moved {
    tables: HashMap<TableId, Noted>,
}

#[derive(Clone, Debug)]
struct Noted {
    definition: TableSchema,
    keys: MovedKeys,
}

/// The keys of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MovedKeys {
    /// These, each once.
    Keys(BTreeSet<Key>),
    /// More than can be kept.
    TooMany,
}

impl Moved {
    /// A copy of the table begins; nothing is known of an older one any more.
    pub(crate) fn watch(&mut self, definition: &TableSchema) {
        let noted = Noted {
            definition: definition.clone(),
            keys: MovedKeys::Keys(BTreeSet::new()),
        };
        self.tables.insert(definition.table.clone(), noted);
    }

    /// The table is copied, or not captured any more.
    pub(crate) fn forget(&mut self, table: &TableId) {
        self.tables.remove(table);
    }

    /// A change of the log.
    pub(crate) fn note(&mut self, change: &Change) {
        if change.op != Op::Update || self.tables.is_empty() {
            return;
        }
        let Some(noted) = self.tables.get_mut(&change.table) else {
            return;
        };
        let Some(key) = moved_key(change, &noted.definition) else {
            return;
        };
        if let MovedKeys::Keys(keys) = &mut noted.keys {
            keys.insert(key);
            if keys.len() > MOVED_KEYS_MAX {
                noted.keys = MovedKeys::TooMany;
            }
        }
    }

    /// What was noted of a table since its copy began.
    pub(crate) fn keys(&self, table: &TableId) -> MovedKeys {
        match self.tables.get(table) {
            Some(noted) => noted.keys.clone(),
            None => MovedKeys::Keys(BTreeSet::new()),
        }
    }
}

/// The new key of an update that changes it and does not send the whole row.
fn moved_key(change: &Change, definition: &TableSchema) -> Option<Key> {
    let (before, after) = (change.before.as_ref()?, change.after.as_ref()?);
    let whole = definition
        .columns
        .iter()
        .all(|column| after.get(&column.name).is_some());
    let mut names = definition.key().map(|column| column.name.as_str());
    let same = names.all(|name| before.get(name) == after.get(name));
    if whole || same {
        return None;
    }
    key_of(after, definition)
}

/// The text of the key of a row that has it.
pub(super) fn key_of(row: &Row, definition: &TableSchema) -> Option<Key> {
    let text = |name: &str| match row.get(name)? {
        Value::Null | Value::Sliced(_) => None,
        Value::Bool(value) => Some(value.to_string()),
        Value::Int(value) => Some(value.to_string()),
        Value::Text(value) => Some(value.clone()),
    };
    definition.key().map(|column| text(&column.name)).collect()
}

#[cfg(test)]
mod tests {
    use millrace_events::{Column, SchemaId};

    use super::*;

    fn table() -> TableId {
        TableId::new("s", "t")
    }

    fn definition() -> TableSchema {
        let column = |name: &str, key| Column {
            name: name.into(),
            type_name: "text".into(),
            oid: 25,
            type_mod: -1,
            key,
        };
        TableSchema {
            id: SchemaId(1),
            table: table(),
            columns: vec![column("a", true), column("b", true), column("big", false)],
        }
    }

    fn row(columns: &[(&str, i64)]) -> Option<Row> {
        let row = columns
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::Int(*value)));
        Some(Row(row.collect()))
    }

    fn update(before: &[(&str, i64)], after: &[(&str, i64)]) -> Change {
        Change {
            table: table(),
            op: Op::Update,
            schema: SchemaId(1),
            before: if before.is_empty() { None } else { row(before) },
            after: row(after),
        }
    }

    fn noted(changes: &[Change]) -> Vec<Key> {
        let mut moved = Moved::default();
        moved.watch(&definition());
        changes.iter().for_each(|change| moved.note(change));
        match moved.keys(&table()) {
            MovedKeys::Keys(keys) => keys.into_iter().collect(),
            MovedKeys::TooMany => panic!("too many"),
        }
    }

    #[test]
    fn only_a_new_key_without_the_whole_row_is_noted() {
        let key = [("a", 1), ("b", 1)];
        let moved = update(&key, &[("a", 1), ("b", 2)]);
        let whole = update(&key, &[("a", 1), ("b", 3), ("big", 9)]);
        let in_place = update(&[], &key);
        // REPLICA IDENTITY FULL sends the key with every update.
        let full = update(&key, &key);
        let twice = moved.clone();
        assert_eq!(noted(&[whole, in_place, full, moved, twice]), [["1", "2"]]);
    }

    #[test]
    fn a_table_that_is_not_being_copied_costs_nothing() {
        let mut moved = Moved::default();
        let change = update(&[("a", 1), ("b", 1)], &[("a", 1), ("b", 2)]);
        moved.note(&change);
        assert_eq!(moved.keys(&table()), MovedKeys::Keys(BTreeSet::new()));
        moved.watch(&definition());
        moved.note(&change);
        moved.watch(&definition());
        assert_eq!(moved.keys(&table()), MovedKeys::Keys(BTreeSet::new()));
    }

    #[test]
    fn more_keys_than_can_be_kept_are_said_to_be_too_many() {
        let mut moved = Moved::default();
        moved.watch(&definition());
        for n in 0..=MOVED_KEYS_MAX as i64 {
            moved.note(&update(&[("a", 0), ("b", 0)], &[("a", n), ("b", 1)]));
        }
        assert_eq!(moved.keys(&table()), MovedKeys::TooMany);
        moved.forget(&table());
        assert_eq!(moved.keys(&table()), MovedKeys::Keys(BTreeSet::new()));
    }
}
