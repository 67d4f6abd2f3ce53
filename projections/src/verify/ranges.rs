//! Parts of a table between two keys, as conditions for both servers. Pure.
//!
//! Both servers have to mean the same rows by a range. Numbers, times, UUIDs and bytes have the same order on both. A
//! text has it where Postgres compares it by its bytes (collation "C"), as the replica does; Postgres cannot use an
//! index of another collation for that, so that such a key does not cut the table on both sides: see [`Cut::alike`].

use millrace_sessions::postgres::quoted as name;

use crate::replica::{quoted, Column, Kind};

use super::checksum::is_text;

/// A part of a table: the keys behind one and up to another, open where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) after: Option<Key>,
    pub(super) until: Option<Key>,
}

/// The texts of the first columns of a key, as [`Column::select_expression`] prints them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(pub(super) Vec<String>);

/// Columns by which a table is cut: the first ones of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut<'a> {
    columns: Vec<&'a Column>,
    /// Both servers have the same order of them, and Postgres an index in that order.
    pub(super) alike: bool,
    /// They are the whole key. Otherwise a range may have any number of rows.
    pub(super) whole: bool,
}

/// A column of an index in Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Indexed {
    pub(super) name: String,
    /// Its texts, if it has any, are compared by their bytes.
    pub(super) by_bytes: bool,
}

impl<'a> Cut<'a> {
    /// The most columns of the key, in its order, that an index in Postgres begins with and that both servers order
    /// alike. Without any, the whole key, which cuts the replica only. Each column comes with its type in Postgres.
    pub(super) fn of(key: &[(&'a Column, &str)], indexes: &[Vec<Indexed>]) -> Cut<'a> {
        let lengths = indexes.iter().map(|index| {
            let pairs = key.iter().zip(index);
            pairs
                .take_while(|((column, type_name), indexed)| {
                    indexed.name == column.source && is_alike(column, type_name, indexed.by_bytes)
                })
                .count()
        });
        let length = lengths.max().unwrap_or_default();
        let columns = key.iter().map(|(column, _)| *column);
        match length {
            0 => Cut {
                columns: columns.collect(),
                alike: false,
                whole: true,
            },
            length => Cut {
                columns: columns.take(length).collect(),
                alike: true,
                whole: length == key.len(),
            },
        }
    }

    /// A query in MySQL for the last key of the next range, which has `rows` rows, or more if the key is cut within;
    /// no answer: what is left is less.
    pub(super) fn next(&self, table: &str, after: Option<&Key>, rows: u64) -> String {
        let expressions: Vec<String> = self
            .columns
            .iter()
            .map(|column| column.select_expression())
            .collect();
        let order: Vec<String> = self.columns.iter().map(|c| quoted(&c.name)).collect();
        let range = Range {
            after: after.cloned(),
            until: None,
        };
        format!(
            "SELECT {} FROM {} t FORCE INDEX (PRIMARY) WHERE {} ORDER BY {} LIMIT 1 OFFSET {}",
            expressions.join(", "),
            quoted(table),
            self.in_replica(&range),
            order.join(", "),
            rows.saturating_sub(1),
        )
    }

    /// The condition in Postgres. Only for a cut that is [`Cut::alike`].
    pub(super) fn in_source(&self, range: &Range) -> String {
        let row: Vec<String> = self
            .columns
            .iter()
            .map(|column| format!("t.{}", name(&column.source)))
            .collect();
        let side = |operator: &str, key: &Key| {
            let values = self.columns.iter().zip(&key.0);
            let values: Vec<String> = values.map(|(c, text)| source_literal(c, text)).collect();
            format!(
                "ROW({}) {operator} ROW({})",
                row.join(", "),
                values.join(", ")
            )
        };
        both(range, |key| side(">", key), |key| side("<=", key))
    }

    /// The condition in MySQL, which finds no index for the comparison of rows.
    pub(super) fn in_replica(&self, range: &Range) -> String {
        both(
            range,
            |key| self.nested('>', ">", key),
            |key| self.nested('<', "<=", key),
        )
    }

    /// `a >= 1 AND (a > 1 OR (a = 1 AND b > 2))`; the last column has an operator of its own.
    fn nested(&self, operator: char, last: &str, key: &Key) -> String {
        let pairs: Vec<(String, String)> = self
            .columns
            .iter()
            .zip(&key.0)
            .map(|(column, text)| {
                let name = format!("t.{}", quoted(&column.name));
                (name, replica_literal(column, text))
            })
            .collect();
        let mut pairs = pairs.into_iter().rev();
        let Some((name, value)) = pairs.next() else {
            return always();
        };
        pairs.fold(format!("{name} {last} {value}"), |inner, (name, value)| {
            format!(
                "{name} {operator}= {value} AND ({name} {operator} {value} OR ({name} = {value} AND {inner}))"
            )
        })
    }
}

/// The condition in Postgres that a row is in these blocks of its table; `until` is the first one behind them.
pub(super) fn in_blocks(from: u64, until: Option<u64>) -> String {
    let from = format!("t.ctid >= '({from},0)'::tid");
    match until {
        Some(until) => format!("{from} AND t.ctid < '({until},0)'::tid"),
        None => from,
    }
}

/// Both servers understand it.
fn always() -> String {
    "1 = 1".to_owned()
}

fn both(range: &Range, after: impl Fn(&Key) -> String, until: impl Fn(&Key) -> String) -> String {
    let sides = [
        range.after.as_ref().map(after),
        range.until.as_ref().map(until),
    ];
    let sides: Vec<String> = sides.into_iter().flatten().collect();
    match sides.is_empty() {
        true => always(),
        false => sides.join(" AND "),
    }
}

/// Whether both servers have the same order of a key's column. Floating point has it too, but not every literal means
/// the same number on both.
fn is_alike(column: &Column, type_name: &str, by_bytes: bool) -> bool {
    match column.kind {
        Kind::SmallInt
        | Kind::Int
        | Kind::BigInt
        | Kind::Bool
        | Kind::Decimal { .. }
        | Kind::DecimalAny
        | Kind::Uuid
        | Kind::Date
        | Kind::DateTime
        | Kind::Time
        | Kind::VarBinary(_) => true,
        Kind::VarChar(_) => by_bytes && is_text(type_name),
        Kind::BlankPadded(_) => by_bytes,
        Kind::Double | Kind::LongText | Kind::LongBlankPadded | Kind::LongBlob => false,
    }
}

/// Of no type: Postgres reads it as what it is compared with.
fn source_literal(column: &Column, text: &str) -> String {
    let prefix = match column.kind {
        Kind::VarBinary(_) => "\\x",
        _ => "",
    };
    format!("'{prefix}{}'", text.replace('\'', "''"))
}

fn replica_literal(column: &Column, text: &str) -> String {
    match column.kind {
        Kind::VarBinary(_) => format!("x'{text}'"),
        Kind::SmallInt
        | Kind::Int
        | Kind::BigInt
        | Kind::Bool
        | Kind::Decimal { .. }
        | Kind::DecimalAny
        | Kind::Double => text.to_owned(),
        _ => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: Kind) -> Column {
        Column {
            source: name.into(),
            name: name.into(),
            key: true,
            kind,
            policy: crate::replica::Policy::Stop,
        }
    }

    fn index(columns: &[(&str, bool)]) -> Vec<Indexed> {
        let indexed = |(name, by_bytes): &(&str, bool)| Indexed {
            name: (*name).to_owned(),
            by_bytes: *by_bytes,
        };
        columns.iter().map(indexed).collect()
    }

    fn key(texts: &[&str]) -> Key {
        Key(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    fn names<'a>(cut: &'a Cut) -> Vec<&'a str> {
        cut.columns
            .iter()
            .map(|column| column.name.as_str())
            .collect()
    }

    #[test]
    fn a_table_is_cut_by_what_both_servers_order_alike() {
        let (shop, code) = (column("shop", Kind::Int), column("code", Kind::VarChar(9)));
        let key = [(&shop, "integer"), (&code, "text")];
        for (indexes, expected, alike) in [
            (
                vec![index(&[("shop", false), ("code", true)])],
                vec!["shop", "code"],
                true,
            ),
            (
                vec![index(&[("shop", false), ("code", false)])],
                vec!["shop"],
                true,
            ),
            // The index has another order of columns: a range would read all of it.
            (
                vec![index(&[("code", true), ("shop", false)])],
                vec!["shop", "code"],
                false,
            ),
            (
                vec![index(&[("code", true)]), index(&[("shop", false)])],
                vec!["shop"],
                true,
            ),
            (vec![], vec!["shop", "code"], false),
        ] {
            let cut = Cut::of(&key, &indexes);
            assert_eq!((names(&cut), cut.alike), (expected, alike), "{indexes:?}");
        }
    }

    #[test]
    fn a_text_of_another_type_than_text_has_an_order_of_its_own() {
        let (status, padded) = (
            column("s", Kind::VarChar(768)),
            column("s", Kind::BlankPadded(3)),
        );
        let indexes = [index(&[("s", true)])];
        assert!(!Cut::of(&[(&status, "source.order_status")], &indexes).alike);
        assert!(Cut::of(&[(&status, "character varying(768)")], &indexes).alike);
        assert!(Cut::of(&[(&padded, "character(3)")], &indexes).alike);
    }

    #[test]
    fn the_ends_of_a_table_are_open() {
        let id = column("id", Kind::Int);
        let cut = Cut::of(&[(&id, "integer")], &[index(&[("id", false)])]);
        let mut range = Range::default();
        assert_eq!(
            (cut.in_source(&range), cut.in_replica(&range)),
            ("1 = 1".into(), "1 = 1".into())
        );
        range.after = Some(key(&["7"]));
        assert_eq!(cut.in_source(&range), "ROW(t.\"id\") > ROW('7')");
        assert_eq!(cut.in_replica(&range), "t.`id` > 7");
        range.until = Some(key(&["9"]));
        assert_eq!(
            cut.in_source(&range),
            "ROW(t.\"id\") > ROW('7') AND ROW(t.\"id\") <= ROW('9')"
        );
        assert_eq!(cut.in_replica(&range), "t.`id` > 7 AND t.`id` <= 9");
    }

    #[test]
    fn a_composite_key_is_compared_column_by_column_where_rows_use_no_index() {
        let columns = [
            column("a", Kind::Int),
            column("b", Kind::Date),
            column("c", Kind::VarChar(9)),
        ];
        let typed = [
            (&columns[0], "integer"),
            (&columns[1], "date"),
            (&columns[2], "text"),
        ];
        let cut = Cut::of(&typed, &[index(&[("a", false), ("b", false), ("c", true)])]);
        let range = Range {
            after: None,
            until: Some(key(&["1", "2024-01-01", "x"])),
        };
        assert_eq!(
            cut.in_replica(&range),
            "t.`a` <= 1 AND (t.`a` < 1 OR (t.`a` = 1 AND t.`b` <= '2024-01-01' AND (t.`b` < '2024-01-01' OR \
             (t.`b` = '2024-01-01' AND t.`c` <= 'x'))))"
        );
        assert_eq!(
            cut.in_source(&range),
            "ROW(t.\"a\", t.\"b\", t.\"c\") <= ROW('1', '2024-01-01', 'x')"
        );
    }

    #[test]
    fn hostile_keys_stay_literals() {
        let (text, bytes) = (
            column("k", Kind::VarChar(9)),
            column("k", Kind::VarBinary(9)),
        );
        let hostile = r"a\' OR 1=1 -- ";
        assert_eq!(source_literal(&text, hostile), r"'a\'' OR 1=1 -- '");
        assert_eq!(replica_literal(&text, hostile), r"'a\\'' OR 1=1 -- '");
        assert_eq!(source_literal(&bytes, "00FF"), r"'\x00FF'");
        assert_eq!(replica_literal(&bytes, "00FF"), "x'00FF'");
    }
}
