//! Selecting rows of which single values may be too large for a line of `COPY`, as SQL. Pure.
//!
//! Whether a value is large, Postgres knows for text and bytes without reading it, and asks only where what is stored is
//! not small. Of a row that is too large as a whole, the long values stay out of the line, whose last cell lists them;
//! they are selected one by one, in slices, in the same transaction.

use millrace_events::{Column, TableSchema};
use millrace_sessions::postgres::quoted;

use crate::wide::{CELL_BYTES_MAX, SLICE_BYTES};

/// A row whose texts are longer than this together has its long values left out.
const ROW_BYTES_MAX: usize = 1 << 20;
/// What is stored in less has, compressed as well as it may be, a text of ordinary size.
const STORED_BYTES_MIN: usize = 1_000;

/// `pg_type.oid`.
mod oid {
    /// Types whose text is short: boolean, numbers, times, `uuid`, names and addresses.
    pub(super) const SHORT: [u32; 20] = [
        16, 18, 19, 20, 21, 23, 26, 650, 700, 701, 790, 829, 869, 1082, 1083, 1114, 1184, 1186,
        1266, 2950,
    ];
    pub(super) const BYTEA: u32 = 17;
    pub(super) const TEXT: u32 = 25;
    pub(super) const VARCHAR: u32 = 1043;
}

/// What is selected of a table.
#[derive(Clone, Debug)]
pub(super) struct Wide {
    /// Columns, as they are in the table.
    columns: Vec<String>,
    /// The positions of those whose values may be large, with what says how large their text is.
    large: Vec<(usize, String)>,
}

impl Wide {
    pub(super) fn of(definition: &TableSchema) -> Wide {
        let may_be_large = |column: &Column| !column.key && !oid::SHORT.contains(&column.oid);
        let columns = definition.columns.iter();
        let large = columns
            .clone()
            .enumerate()
            .filter(|(_, column)| may_be_large(column));
        Wide {
            large: large.map(|(i, column)| (i, text_bytes(column))).collect(),
            columns: columns.map(|column| quoted(&column.name)).collect(),
        }
    }

    /// True if lines have one more cell, which lists the positions of the values that were left out.
    pub(super) fn lists(&self) -> bool {
        !self.large.is_empty()
    }

    /// A query for the rows of `table` that `filter` selects.
    pub(super) fn rows(&self, table: &str, filter: &str) -> String {
        let columns = self.columns.join(", ");
        if !self.lists() {
            return format!("SELECT {columns} FROM {table}{filter}");
        }
        let sizes: Vec<_> = self.large.iter().map(|(_, bytes)| bytes.as_str()).collect();
        let named = (0..self.columns.len()).map(|i| format!("c{i}"));
        let named = named.chain(self.large.iter().map(|(i, _)| format!("n{i}")));
        let named = named.collect::<Vec<_>>().join(", ");
        let cells = (0..self.columns.len()).map(|i| self.cell(i));
        let cells = cells.collect::<Vec<_>>().join(", ");
        let listed = self.large.iter();
        let listed =
            listed.map(|(i, _)| format!("CASE WHEN {} THEN {i} END", self.is_left_out(*i)));
        let listed = listed.collect::<Vec<_>>().join(", ");
        // OFFSET 0 has each size computed once.
        format!(
            "SELECT {cells}, concat_ws(',', {listed}) FROM (SELECT {columns}, {} FROM {table}{filter} OFFSET 0) AS t ({named})",
            sizes.join(", ")
        )
    }

    fn cell(&self, column: usize) -> String {
        match self.large.iter().any(|(large, _)| *large == column) {
            true => format!(
                "CASE WHEN {} THEN NULL ELSE c{column} END",
                self.is_left_out(column)
            ),
            false => format!("c{column}"),
        }
    }

    fn is_left_out(&self, column: usize) -> String {
        let sizes = self.large.iter();
        let sizes = sizes.map(|(i, _)| format!("coalesce(n{i}, 0)::int8"));
        let row = sizes.collect::<Vec<_>>().join(" + ");
        format!("n{column} > {CELL_BYTES_MAX} AND {row} > {ROW_BYTES_MAX}")
    }

    /// A query for the text of one value of a row of `table`, in UTF-8 and in slices. The text is made once.
    pub(super) fn slices(&self, column: usize, table: &str, filter: &str) -> String {
        let column = self.columns.get(column).map_or("NULL", String::as_str);
        format!(
            "SELECT i, substring(t.v FROM i FOR {SLICE_BYTES}) FROM \
             (SELECT convert_to(concat({column}), 'UTF8') FROM {table}{filter} OFFSET 0) AS t (v), \
             generate_series(1, octet_length(t.v), {SLICE_BYTES}) AS i"
        )
    }
}

/// Bytes of the text that a type's output function prints. `concat` calls that; a cast to text may be another function.
fn text_bytes(column: &Column) -> String {
    let name = quoted(&column.name);
    let bytes = match column.oid {
        oid::TEXT | oid::VARCHAR => format!("octet_length({name})"),
        oid::BYTEA => format!("octet_length({name}) * 2 + 2"),
        _ => format!("octet_length(concat({name}))"),
    };
    format!("CASE WHEN pg_column_size({name}) > {STORED_BYTES_MIN} THEN {bytes} END")
}

#[cfg(test)]
mod tests {
    use millrace_events::{SchemaId, TableId};

    use super::*;

    fn wide(columns: &[(&str, u32, bool)]) -> Wide {
        let column = |(name, oid, key): &(&str, u32, bool)| Column {
            name: (*name).into(),
            type_name: "text".into(),
            oid: *oid,
            type_mod: -1,
            key: *key,
        };
        Wide::of(&TableSchema {
            id: SchemaId(1),
            table: TableId::new("s", "t"),
            columns: columns.iter().map(column).collect(),
        })
    }

    #[test]
    fn a_table_of_short_values_is_selected_as_it_is() {
        let wide = wide(&[("id", 25, true), ("n", 23, false)]);
        assert!(!wide.lists());
        assert_eq!(
            wide.rows("T", " WHERE x"),
            "SELECT \"id\", \"n\" FROM T WHERE x"
        );
    }

    #[test]
    fn of_a_large_row_the_long_values_are_listed_instead() {
        let wide = wide(&[("id", 23, true), ("b", 17, false), ("t", 25, false)]);
        let left_out = |column| {
            format!("n{column} > 65536 AND coalesce(n1, 0)::int8 + coalesce(n2, 0)::int8 > 1048576")
        };
        let (b, t) = (left_out(1), left_out(2));
        assert_eq!(
            wide.rows("T", " WHERE x"),
            format!(
                "SELECT c0, CASE WHEN {b} THEN NULL ELSE c1 END, CASE WHEN {t} THEN NULL ELSE c2 END, \
                 concat_ws(',', CASE WHEN {b} THEN 1 END, CASE WHEN {t} THEN 2 END) FROM (SELECT \"id\", \"b\", \"t\", \
                 CASE WHEN pg_column_size(\"b\") > 1000 THEN octet_length(\"b\") * 2 + 2 END, \
                 CASE WHEN pg_column_size(\"t\") > 1000 THEN octet_length(\"t\") END \
                 FROM T WHERE x OFFSET 0) AS t (c0, c1, c2, n1, n2)"
            )
        );
    }
}
