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
    large: Vec<Large>,
}

/// A column whose values may be large.
#[derive(Clone, Debug)]
struct Large {
    /// Among the columns.
    position: usize,
    /// What is stored of a value, in bytes.
    stored: String,
    /// How large its text is.
    bytes: String,
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
            large: large.map(|(i, column)| Large::of(i, column)).collect(),
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
        let named: Vec<_> = (0..self.columns.len()).map(|i| format!("c{i}")).collect();
        let cells: Vec<_> = (0..self.columns.len()).map(|i| self.cell(i)).collect();
        // OFFSET 0 has the list made once for each row.
        format!(
            "SELECT {}, array_to_string(l, ',') FROM (SELECT {columns}, {} FROM {table}{filter} OFFSET 0) AS t ({}, l)",
            cells.join(", "),
            self.list(),
            named.join(", ")
        )
    }

    /// `l` lists what is left out of the row, and is NULL for nearly all rows.
    fn cell(&self, column: usize) -> String {
        match self.large.iter().any(|large| large.position == column) {
            true => format!("CASE WHEN {column} = ANY (l) THEN NULL ELSE c{column} END"),
            false => format!("c{column}"),
        }
    }

    /// The positions of the long values of a row, if it is large as a whole. In one expression: Postgres selects no more
    /// than 1,664, and a table may have 1,600 columns.
    fn list(&self) -> String {
        let of = |what: fn(&Large) -> String| {
            let all: Vec<_> = self.large.iter().map(what).collect();
            all.join(", ")
        };
        format!(
            "CASE WHEN greatest({}) > {STORED_BYTES_MIN} THEN (SELECT array_agg(i ORDER BY i) FROM \
             (SELECT n, i, sum(n) OVER () AS row_bytes FROM unnest(ARRAY[{}]::int8[], ARRAY[{}]) AS sizes (n, i)) AS sizes \
             WHERE n > {CELL_BYTES_MAX} AND row_bytes > {ROW_BYTES_MAX}) END",
            of(|large| large.stored.clone()),
            of(|large| large.bytes.clone()),
            of(|large| large.position.to_string()),
        )
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

impl Large {
    /// The text is what the type's output function prints. `concat` calls that; a cast to text may be another function.
    fn of(position: usize, column: &Column) -> Large {
        let name = quoted(&column.name);
        let stored = format!("pg_column_size({name})");
        let bytes = match column.oid {
            oid::TEXT | oid::VARCHAR => format!("octet_length({name})"),
            oid::BYTEA => format!("octet_length({name})::int8 * 2 + 2"),
            _ => format!("octet_length(concat({name}))"),
        };
        Large {
            position,
            bytes: format!("CASE WHEN {stored} > {STORED_BYTES_MIN} THEN {bytes} END"),
            stored,
        }
    }
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
        assert_eq!(
            wide.rows("T", " WHERE x"),
            "SELECT c0, CASE WHEN 1 = ANY (l) THEN NULL ELSE c1 END, CASE WHEN 2 = ANY (l) THEN NULL ELSE c2 END, \
             array_to_string(l, ',') FROM (SELECT \"id\", \"b\", \"t\", \
             CASE WHEN greatest(pg_column_size(\"b\"), pg_column_size(\"t\")) > 1000 THEN \
             (SELECT array_agg(i ORDER BY i) FROM (SELECT n, i, sum(n) OVER () AS row_bytes FROM unnest(ARRAY[\
             CASE WHEN pg_column_size(\"b\") > 1000 THEN octet_length(\"b\")::int8 * 2 + 2 END, \
             CASE WHEN pg_column_size(\"t\") > 1000 THEN octet_length(\"t\") END]::int8[], ARRAY[1, 2]) AS sizes (n, i)) AS sizes \
             WHERE n > 65536 AND row_bytes > 1048576) END FROM T WHERE x OFFSET 0) AS t (c0, c1, c2, l)"
        );
    }
}
