//! Which relations of the stream are captured. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use millrace_events::{Copies, TableId};

use crate::pgoutput::Message;
use crate::wide::Slice;

/// What a relation of the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its rows go into the log.
    Captured,
    /// It was captured; what still comes of it is dropped.
    Removed,
    /// Its rows are left out.
    Stranger,
}

/// The tables of a session, which change while it works.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relations {
    tables: BTreeMap<TableId, Standing>,
    /// The names that the stream gave them.
    named: HashMap<u32, TableId>,
    removed: BTreeSet<u32>,
}

impl Relations {
    /// At the start of a session: the published `tables`, as far as they were not removed.
    pub(crate) fn of(tables: &[TableId], copies: &Copies) -> Self {
        let mut relations = Relations::default();
        for table in tables {
            let standing = match copies.is_removed(table) {
                true => Standing::Removed,
                false => Standing::Captured,
            };
            relations.set(table.clone(), standing);
        }
        relations
    }

    /// These are captured.
    pub(crate) fn expect(&mut self, tables: impl IntoIterator<Item = TableId>) {
        for table in tables {
            self.set(table, Standing::Captured);
        }
    }

    /// This is not captured any more.
    pub(crate) fn remove(&mut self, table: TableId) {
        self.set(table, Standing::Removed);
    }

    fn set(&mut self, table: TableId, standing: Standing) {
        let of_table = |(_, name): &(&u32, &TableId)| **name == table;
        let relations = self
            .named
            .iter()
            .filter(of_table)
            .map(|(relation, _)| *relation);
        for relation in relations {
            match standing {
                Standing::Removed => self.removed.insert(relation),
                _ => self.removed.remove(&relation),
            };
        }
        self.tables.insert(table, standing);
    }

    /// The stream describes a relation.
    pub(crate) fn describe(&mut self, relation: u32, table: &TableId) -> Standing {
        self.named.insert(relation, table.clone());
        let standing = self
            .tables
            .get(table)
            .copied()
            .unwrap_or(Standing::Stranger);
        match standing {
            Standing::Removed => self.removed.insert(relation),
            _ => self.removed.remove(&relation),
        };
        standing
    }

    /// The message without what it says of removed tables; nothing if it says nothing else.
    pub(crate) fn admit(&self, message: Message) -> Option<Message> {
        if self.removed.is_empty() {
            return Some(message);
        }
        match message {
            Message::Insert { relation, .. }
            | Message::Update { relation, .. }
            | Message::Delete { relation, .. }
            | Message::Slice(Slice { relation, .. })
                if self.removed.contains(&relation) =>
            {
                None
            }
            Message::Truncate { mut relations } => {
                relations.retain(|relation| !self.removed.contains(relation));
                (!relations.is_empty()).then_some(Message::Truncate { relations })
            }
            other => Some(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> TableId {
        TableId::new("s", name)
    }

    fn truncate(relations: &[u32]) -> Message {
        Message::Truncate {
            relations: relations.to_vec(),
        }
    }

    #[test]
    fn a_removed_table_is_dropped_in_silence_and_a_stranger_is_not() {
        let mut relations = Relations::default();
        relations.expect([table("a"), table("b")]);
        assert_eq!(relations.describe(1, &table("a")), Standing::Captured);
        assert_eq!(relations.describe(2, &table("b")), Standing::Captured);
        assert_eq!(relations.describe(3, &table("c")), Standing::Stranger);
        relations.remove(table("a"));
        assert_eq!(relations.admit(truncate(&[1])), None);
        assert_eq!(relations.admit(truncate(&[1, 2])), Some(truncate(&[2])));
        assert_eq!(relations.admit(truncate(&[3])), Some(truncate(&[3])));
        assert_eq!(relations.describe(4, &table("a")), Standing::Removed);
    }

    #[test]
    fn a_table_that_is_added_again_comes_again() {
        let mut relations = Relations::default();
        relations.expect([table("a")]);
        relations.describe(1, &table("a"));
        relations.remove(table("a"));
        relations.expect([table("a")]);
        assert_eq!(relations.admit(truncate(&[1])), Some(truncate(&[1])));
        assert_eq!(relations.describe(1, &table("a")), Standing::Captured);
    }
}
