//! Rows that are here as a whole and may be too large for a record: their longer texts leave them, in slices. Pure.
//!
//! Of rows with a large value the value has left already (see [`wide`](crate::wide)). What comes here has very many
//! values of ordinary size.

use millrace_events::{Row, Slice, Sliced, TableSchema, Value};

use crate::wide::SLICE_BYTES;

/// Texts of at most this size stay in their row. A page of Postgres has room for some 450 longer ones, even if all are stored
/// out of line; so what stays fits into a record.
const TEXT_BYTES_MIN: usize = 2 << 10;
/// JSON makes so many bytes of one, at most.
const JSON_BYTES: usize = 6;
/// `pg_type.oid` of `numeric`, whose text may mean the same as a shorter one.
const NUMERIC: u32 = 1700;

/// A text that has left its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LongText {
    column: String,
    name: String,
    text: String,
}

/// Makes a change fit into `bytes_max` bytes of a record, if it may not: the row before it keeps nothing but its key, and
/// of the row behind it texts leave, which are returned. `name` gives each a name that no other value has.
pub(crate) fn fit(
    (before, after): (Option<&mut Row>, Option<&mut Row>),
    definition: &TableSchema,
    bytes_max: usize,
    name: impl FnMut() -> String,
) -> Vec<LongText> {
    let size = |row: &Option<&mut Row>| row.as_deref().map_or(0, bytes);
    if (size(&before) + size(&after)) * JSON_BYTES <= bytes_max {
        return Vec::new();
    }
    let mut kept = 0;
    if let Some(before) = before {
        let is_key = |name: &str| definition.key().any(|column| column.name == name);
        before.0.retain(|(column, _)| is_key(column));
        kept = bytes(before);
    }
    match after {
        Some(after) if (kept + bytes(after)) * JSON_BYTES > bytes_max => {
            long_texts(after, definition, name)
        }
        _ => Vec::new(),
    }
}

fn bytes(row: &Row) -> usize {
    let text = |(_, value): (&str, &Value)| match value {
        Value::Text(text) => text.len(),
        _ => 0,
    };
    row.iter().map(text).sum()
}

fn long_texts(
    row: &mut Row,
    definition: &TableSchema,
    mut name: impl FnMut() -> String,
) -> Vec<LongText> {
    let may_leave = |name: &str| {
        let mut columns = definition.columns.iter();
        let column = columns.find(|column| column.name == name);
        column.is_some_and(|column| !column.key && column.oid != NUMERIC)
    };
    let mut texts = Vec::new();
    for (column, value) in &mut row.0 {
        let Value::Text(text) = value else { continue };
        if text.len() <= TEXT_BYTES_MIN || !may_leave(column) {
            continue;
        }
        let long = LongText {
            column: column.clone(),
            name: name(),
            text: std::mem::take(text),
        };
        *value = Value::Sliced(long.sliced());
        texts.push(long);
    }
    texts
}

impl LongText {
    fn sliced(&self) -> Sliced {
        Sliced {
            sliced: self.name.clone(),
            slices: pieces(&self.text).count() as u32,
            bytes: self.text.len() as u64,
        }
    }

    /// The slices, which stand before the row in the log.
    pub(crate) fn slices<'a>(
        &'a self,
        definition: &'a TableSchema,
    ) -> impl Iterator<Item = Slice> + 'a {
        (0..).zip(pieces(&self.text)).map(|(slice, text)| Slice {
            table: definition.table.clone(),
            column: self.column.clone(),
            value: self.name.clone(),
            slice,
            text: text.to_owned(),
        })
    }
}

/// Whole characters; of ASCII, such as the digits of bytes, an even number.
fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let mut end = SLICE_BYTES.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, rest) = text.split_at(end);
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use millrace_events::{Column, SchemaId, TableId};

    use super::*;

    fn definition() -> TableSchema {
        let column = |(name, oid, key): (&str, u32, bool)| Column {
            name: name.into(),
            type_name: "text".into(),
            oid,
            type_mod: -1,
            key,
        };
        TableSchema {
            id: SchemaId(1),
            table: TableId::new("s", "t"),
            columns: [("k", 25, true), ("n", NUMERIC, false), ("a", 25, false)]
                .map(column)
                .into(),
        }
    }

    fn row(texts: &[(&str, &str)]) -> Row {
        let cell = |(name, text): &(&str, &str)| ((*name).into(), Value::Text((*text).into()));
        Row(texts.iter().map(cell).collect())
    }

    fn fitted(before: &mut Row, after: &mut Row, bytes_max: usize) -> Vec<LongText> {
        let mut names = (0..).map(|n| format!("v{n}"));
        let name = || names.next().expect("there are more");
        fit((Some(before), Some(after)), &definition(), bytes_max, name)
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let long = "x".repeat(5_000);
        let (mut before, mut after) = (row(&[("k", "1"), ("a", "old")]), row(&[("a", &long)]));
        let as_they_were = (before.clone(), after.clone());
        assert_eq!(fitted(&mut before, &mut after, 50_000), []);
        assert_eq!((before, after), as_they_were);
    }

    #[test]
    fn the_row_before_goes_first() {
        let long = "x".repeat(5_000);
        let mut before = row(&[("k", "1"), ("a", &long)]);
        let mut after = before.clone();
        assert_eq!(fitted(&mut before, &mut after, 40_000), []);
        assert_eq!(before, row(&[("k", "1")]));
        assert_eq!(after, row(&[("k", "1"), ("a", &long)]));
    }

    #[test]
    fn neither_keys_nor_numbers_leave_their_row() {
        let long = "ä".repeat(400_000);
        let texts = [("k", &*long), ("n", &*long), ("a", &*long)];
        let (mut before, mut after) = (row(&[]), row(&texts));
        let left = fitted(&mut before, &mut after, 1_000);
        let [long_text] = &left[..] else {
            panic!("{} texts", left.len());
        };
        let definition = definition();
        let slices: Vec<_> = long_text.slices(&definition).collect();
        let joined: String = slices.iter().map(|slice| slice.text.as_str()).collect();
        assert!(joined == long, "the text comes back");
        let sliced = Sliced {
            sliced: "v0".into(),
            slices: slices.len() as u32,
            bytes: 800_000,
        };
        assert_eq!(after.get("a"), Some(&Value::Sliced(sliced)));
        assert_eq!(after.get("n"), Some(&Value::Text(long.clone())));
        assert_eq!(after.get("k"), Some(&Value::Text(long)));
        assert_eq!(slices[1].slice, 1);
    }
}
