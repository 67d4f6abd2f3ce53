//! The comparison itself: two streams of rows in the same order.

use std::cmp::Ordering;

use futures_util::{Stream, TryStreamExt};
use serde_json::{Map, Value};

use super::key::{self, Key};
use super::report::{Difference, DifferenceKind, Tally};
use super::{long, Error};

/// A row of either side: where it stands in the order, and its values as text.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) order: Vec<Key>,
    pub(super) cells: Vec<Option<String>>,
    /// Values that MySQL cannot hold: their cells are NULL.
    pub(super) unfit: Vec<Unfit>,
}

/// A value that has to stand in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    /// By which its row is found there.
    pub(super) digest: String,
    /// The column.
    pub(super) column: String,
    /// What Postgres prints.
    pub(super) text: String,
}

/// What is compared.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// What differences call it.
    pub(super) table: String,
    /// Names of the cells.
    pub(super) columns: Vec<String>,
    /// Positions of those that identify a row.
    pub(super) key: Vec<usize>,
}

/// Reads both streams to their end. Rows of the same key are held against each other, cell by cell.
pub(super) async fn merge(
    shape: &Shape,
    tally: &mut Tally,
    expected: impl Stream<Item = Result<Row, Error>>,
    found: impl Stream<Item = Result<Row, Error>>,
) -> Result<u64, Error> {
    futures_util::pin_mut!(expected, found);
    let mut rows = 0;
    let mut left = expected.try_next().await?;
    let mut right = found.try_next().await?;
    loop {
        let order = match (&left, &right) {
            (None, None) => return Ok(rows),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => key::compare(&left.order, &right.order),
        };
        match order {
            Ordering::Less => shape.missing(tally, left.as_ref()),
            Ordering::Greater => shape.unexpected(tally, right.as_ref()),
            Ordering::Equal => shape.compare(tally, left.as_ref(), right.as_ref()),
        }
        if order.is_le() {
            rows += 1;
            left = expected.try_next().await?;
        }
        if order.is_ge() {
            right = found.try_next().await?;
        }
    }
}

impl Shape {
    fn compare(&self, tally: &mut Tally, left: Option<&Row>, right: Option<&Row>) {
        let (Some(left), Some(right)) = (left, right) else {
            return;
        };
        let cells = left.cells.iter().zip(&right.cells).zip(&self.columns);
        for ((expected, found), column) in cells.filter(|((expected, found), _)| expected != found)
        {
            tally.add(Difference {
                table: self.table.clone(),
                kind: DifferenceKind::Value,
                key: self.key_of(left),
                column: column.clone(),
                expected: json(expected),
                found: json(found),
            });
        }
        for unfit in &left.unfit {
            tally.unfit.add(|| self.key_of(left), unfit);
        }
    }

    fn missing(&self, tally: &mut Tally, row: Option<&Row>) {
        let Some(row) = row else { return };
        tally.add(self.whole(DifferenceKind::Missing, row, self.object(row), Value::Null));
    }

    fn unexpected(&self, tally: &mut Tally, row: Option<&Row>) {
        let Some(row) = row else { return };
        tally.add(self.whole(
            DifferenceKind::Unexpected,
            row,
            Value::Null,
            self.object(row),
        ));
    }

    fn whole(&self, kind: DifferenceKind, row: &Row, expected: Value, found: Value) -> Difference {
        Difference {
            table: self.table.clone(),
            kind,
            key: self.key_of(row),
            column: "*".into(),
            expected,
            found,
        }
    }

    fn key_of(&self, row: &Row) -> Map<String, Value> {
        self.entries(row, self.key.iter().copied())
    }

    fn object(&self, row: &Row) -> Value {
        Value::Object(self.entries(row, 0..self.columns.len()))
    }

    fn entries(&self, row: &Row, positions: impl Iterator<Item = usize>) -> Map<String, Value> {
        let entry = |i: usize| Some((self.columns.get(i)?.clone(), json(row.cells.get(i)?)));
        positions.filter_map(entry).collect()
    }
}

fn json(cell: &Option<String>) -> Value {
    let shown = cell.as_deref().map(long::shown);
    shown.map_or(Value::Null, Value::String)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::report::Subject;

    fn shape() -> Shape {
        Shape {
            table: "t".into(),
            columns: vec!["id".into(), "v".into()],
            key: vec![0],
        }
    }

    fn side(rows: &[(i64, &str)]) -> impl Stream<Item = Result<Row, Error>> {
        let rows: Vec<_> = rows
            .iter()
            .map(|(id, value)| {
                Ok(Row {
                    order: vec![Key::Int(*id)],
                    cells: vec![
                        Some(id.to_string()),
                        (!value.is_empty()).then(|| value.to_string()),
                    ],
                    unfit: Vec::new(),
                })
            })
            .collect();
        futures_util::stream::iter(rows)
    }

    async fn differences(expected: &[(i64, &str)], found: &[(i64, &str)]) -> (u64, Subject) {
        let mut tally = Tally::new("t", 10);
        let rows = merge(&shape(), &mut tally, side(expected), side(found))
            .await
            .expect("no error");
        (rows, tally.finish(rows))
    }

    #[tokio::test]
    async fn equal_sides_have_no_differences() {
        let rows = [(1, "a"), (2, ""), (3, "c")];
        let (count, subject) = differences(&rows, &rows).await;
        assert!(subject.equal);
        assert_eq!(count, 3);
    }

    #[tokio::test]
    async fn every_kind_of_difference_is_named() {
        let (count, subject) = differences(
            &[(1, "a"), (2, "b"), (4, "")],
            &[(1, "x"), (3, "c"), (4, "d"), (4, "")],
        )
        .await;
        assert_eq!(count, 3);
        let found: Vec<_> = subject
            .differences
            .iter()
            .map(|d| {
                (
                    d.kind,
                    d.key["id"].as_str().unwrap_or_default(),
                    d.column.as_str(),
                    d.expected.to_string(),
                    d.found.to_string(),
                )
            })
            .collect();
        let text = |text: &str| text.to_owned();
        assert_eq!(
            found,
            [
                (
                    DifferenceKind::Value,
                    "1",
                    "v",
                    text("\"a\""),
                    text("\"x\"")
                ),
                (
                    DifferenceKind::Missing,
                    "2",
                    "*",
                    text(r#"{"id":"2","v":"b"}"#),
                    text("null")
                ),
                (
                    DifferenceKind::Unexpected,
                    "3",
                    "*",
                    text("null"),
                    text(r#"{"id":"3","v":"c"}"#)
                ),
                (DifferenceKind::Value, "4", "v", text("null"), text("\"d\"")),
                (
                    DifferenceKind::Unexpected,
                    "4",
                    "*",
                    text("null"),
                    text(r#"{"id":"4","v":null}"#)
                ),
            ]
        );
    }

    #[tokio::test]
    async fn differences_beyond_the_limit_are_counted_only() {
        let found: Vec<(i64, &str)> = (0..25).map(|id| (id, "x")).collect();
        let (_, subject) = differences(&[], &found).await;
        assert_eq!(
            (subject.differences.len(), subject.differences_total),
            (10, 25)
        );
    }
}
