//! Key ranges of a table, as SQL. Pure.
//!
//! Postgres compares and orders the keys, by the operators of its index; nobody outside of it could, of text for
//! example. Keys travel as text, which reads back in a session whose settings are pinned. A row that is moved to another page
//! stays in its range, which it would not in a range of pages.

use millrace_events::{Column, TableSchema};
use millrace_sessions::postgres::{qualified, quoted};

use super::wide::Wide;

/// The text of a key, by key column.
pub(crate) type Key = Vec<String>;

/// Rows whose key is greater than `after`, and not greater than `up_to`; `None` is the end of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) after: Option<Key>,
    pub(crate) up_to: Option<Key>,
}

/// How the rows of a table are told apart and read.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    table: String,
    columns: Wide,
    key: Vec<KeyColumn>,
}

#[derive(Clone, Debug)]
struct KeyColumn {
    name: String,
    type_name: String,
}

impl Keys {
    pub(crate) fn of(definition: &TableSchema) -> Keys {
        let table = &definition.table;
        Keys {
            table: format!("ONLY {}", qualified(&table.schema, &table.name)),
            columns: Wide::of(definition),
            key: definition.key().map(KeyColumn::of).collect(),
        }
    }

    /// The table, as `LOCK TABLE` and `FROM` want it.
    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    /// Asks for the text of the last key of the next `rows` rows behind `after`; no row if there are not so many.
    pub(crate) fn bound(&self, after: Option<&Key>, rows: u64) -> String {
        let texts = self.listed(|column| format!("{}::text", column.name));
        let order = self.listed(|column| column.name.clone());
        let range = Range {
            after: after.cloned(),
            up_to: None,
        };
        let (table, filter, skipped) = (&self.table, self.filter(&range), rows.saturating_sub(1));
        format!("SELECT {texts} FROM {table}{filter} ORDER BY {order} OFFSET {skipped} LIMIT 1")
    }

    /// Reads the rows of a range.
    pub(crate) fn copy(&self, range: &Range) -> String {
        self.copy_where(&self.filter(range))
    }

    /// Reads the rows of these keys, of which there is at least one.
    pub(crate) fn copy_keys(&self, keys: &[Key]) -> String {
        let row = self.listed(|column| column.name.clone());
        let listed: Vec<_> = keys
            .iter()
            .map(|key| format!("({})", self.literals(key)))
            .collect();
        self.copy_where(&format!(" WHERE ({row}) IN ({})", listed.join(", ")))
    }

    fn copy_where(&self, filter: &str) -> String {
        format!(
            "COPY ({}) TO STDOUT",
            self.columns.rows(&self.table, filter)
        )
    }

    /// True if lines have one more cell, which lists the positions of the values that are too large for a line.
    pub(crate) fn lists_large(&self) -> bool {
        self.columns.lists()
    }

    /// Reads one value of the row of this key, in slices: where each begins, from 1, and its bytes.
    pub(crate) fn slices(&self, column: usize, key: &Key) -> String {
        let row = self.listed(|column| column.name.clone());
        let filter = format!(" WHERE ({row}) IN (({}))", self.literals(key));
        self.columns.slices(column, &self.table, &filter)
    }

    fn filter(&self, range: &Range) -> String {
        let row = self.listed(|column| column.name.clone());
        let side =
            |operator: &str, key: &Key| format!("({row}) {operator} ({})", self.literals(key));
        let after = range.after.as_ref().map(|key| side(">", key));
        let up_to = range.up_to.as_ref().map(|key| side("<=", key));
        let sides: Vec<_> = after.into_iter().chain(up_to).collect();
        match sides.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", sides.join(" AND ")),
        }
    }

    fn literals(&self, key: &Key) -> String {
        let literal = |(column, text): (&KeyColumn, &String)| column.literal(text);
        let literals: Vec<_> = self.key.iter().zip(key).map(literal).collect();
        literals.join(", ")
    }

    fn listed(&self, of: impl Fn(&KeyColumn) -> String) -> String {
        self.key.iter().map(of).collect::<Vec<_>>().join(", ")
    }
}

impl KeyColumn {
    fn of(column: &Column) -> KeyColumn {
        KeyColumn {
            name: quoted(&column.name),
            type_name: column.type_name.clone(),
        }
    }

    /// `standard_conforming_strings` is pinned: a backslash is itself.
    fn literal(&self, text: &str) -> String {
        format!("'{}'::{}", text.replace('\'', "''"), self.type_name)
    }
}

#[cfg(test)]
mod tests {
    use millrace_events::{SchemaId, TableId};

    use super::*;

    fn keys(key: &[(&str, &str)]) -> Keys {
        let column = |name: &str, type_name: &str, key| Column {
            name: name.into(),
            type_name: type_name.into(),
            oid: 25,
            type_mod: -1,
            key,
        };
        let mut columns: Vec<_> = key
            .iter()
            .map(|(name, of)| column(name, of, true))
            .collect();
        columns.push(Column {
            oid: 23,
            ..column("note", "integer", false)
        });
        Keys::of(&TableSchema {
            id: SchemaId(1),
            table: TableId::new("sales", "Order lines"),
            columns,
        })
    }

    fn key(texts: &[&str]) -> Key {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_table_is_read_whole_from_both_ends_and_between() {
        let keys = keys(&[("id", "integer")]);
        let range = |after: Option<&str>, up_to: Option<&str>| Range {
            after: after.map(|text| key(&[text])),
            up_to: up_to.map(|text| key(&[text])),
        };
        let read = "COPY (SELECT \"id\", \"note\" FROM ONLY \"sales\".\"Order lines\"";
        for (range, filter) in [
            (range(None, None), ""),
            (range(None, Some("7")), " WHERE (\"id\") <= ('7'::integer)"),
            (range(Some("-1"), None), " WHERE (\"id\") > ('-1'::integer)"),
            (
                range(Some("1"), Some("7")),
                " WHERE (\"id\") > ('1'::integer) AND (\"id\") <= ('7'::integer)",
            ),
        ] {
            assert_eq!(keys.copy(&range), format!("{read}{filter}) TO STDOUT"));
        }
    }

    #[test]
    fn keys_of_several_columns_are_compared_as_rows() {
        let keys = keys(&[
            ("a", "character varying(9)"),
            ("B", "timestamp with time zone"),
        ]);
        let after = key(&["it's \\", "2026-01-02 03:04:05+00"]);
        let literal = "('it''s \\'::character varying(9), '2026-01-02 03:04:05+00'::timestamp with time zone)";
        assert_eq!(
            keys.bound(Some(&after), 500),
            format!(
                "SELECT \"a\"::text, \"B\"::text FROM ONLY \"sales\".\"Order lines\" WHERE (\"a\", \"B\") > {literal} \
                 ORDER BY \"a\", \"B\" OFFSET 499 LIMIT 1"
            )
        );
        let again = keys.copy_keys(&[after.clone(), after]);
        assert!(
            again.contains(&format!(
                " WHERE (\"a\", \"B\") IN ({literal}, {literal})) TO STDOUT"
            )),
            "{again}"
        );
    }
}
