use super::*;
use crate::replica::names::NAME_CHARS_MAX;
use millrace_events::{Column as SourceColumn, SchemaId};

fn schema(columns: &[(&str, &str, bool)]) -> TableSchema {
    TableSchema {
        id: SchemaId(1),
        table: TableId::new("source", "t"),
        columns: columns
            .iter()
            .map(|(name, type_name, key)| SourceColumn {
                name: (*name).into(),
                type_name: (*type_name).into(),
                oid: 0,
                type_mod: -1,
                key: *key,
            })
            .collect(),
    }
}

fn table(columns: &[(&str, &str, bool)]) -> Result<Table, TableError> {
    Table::of(&schema(columns), "t", &TablePolicies::default())
}

#[test]
fn texts_beside_have_names_of_their_own_and_take_their_share_of_the_row() {
    let long = "n".repeat(NAME_CHARS_MAX);
    let schema = schema(&[
        ("id", "integer", true),
        ("total", "numeric(12,2)", false),
        ("TOTAL__text", "text", false),
        (long.as_str(), "date", false),
    ]);
    let policies: crate::replica::Policies = "text,s.t.id=text".parse().expect("policies");
    let table = Table::of(&schema, "t", &policies.of(&schema)).expect("replicable");
    let names: Vec<&str> = table.names().collect();
    assert_eq!(names.len(), 4 + 3, "{names:?}");
    let distinct: BTreeSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
    assert_eq!(distinct.len(), names.len(), "{names:?}");
    assert!(names
        .iter()
        .all(|name| name.chars().count() <= NAME_CHARS_MAX));
    assert!(
        names[4].starts_with("total_") && names[4].ends_with("__text"),
        "{names:?}"
    );
    let wide: Vec<String> = (0..120).map(|n| format!("c{n}")).collect();
    let mut columns = vec![("id", "bigint", true)];
    columns.extend(wide.iter().map(|name| (name.as_str(), "text", false)));
    let wide = self::schema(&columns);
    assert!(Table::of(&wide, "t", &TablePolicies::default()).is_ok());
    let error = Table::of(&wide, "t", &policies.of(&wide)).expect_err("twice as wide");
    assert!(error.to_string().contains("of a page"), "{error}");
}

#[test]
fn postgres_types_map_to_mysql_types() {
    let cases = [
        ("smallint", "SMALLINT"),
        ("integer", "INT"),
        ("bigint", "BIGINT"),
        ("boolean", "TINYINT(1)"),
        ("numeric(12,2)", "DECIMAL(12,2)"),
        ("numeric(8,0)", "DECIMAL(8,0)"),
        ("numeric", "DECIMAL(65,30)"),
        ("numeric(80,2)", "LONGTEXT"),
        ("numeric(3,-2)", "DECIMAL(65,30)"),
        ("real", "DOUBLE"),
        ("double precision", "DOUBLE"),
        ("text", "LONGTEXT"),
        ("character varying(255)", "VARCHAR(255)"),
        ("character varying", "LONGTEXT"),
        ("character(3)", "CHAR(3)"),
        ("date", "DATE"),
        ("timestamp without time zone", "DATETIME(6)"),
        ("timestamp(3) with time zone", "DATETIME(6)"),
        ("time without time zone", "TIME(6)"),
        ("time with time zone", "LONGTEXT"),
        ("uuid", "CHAR(36)"),
        ("jsonb", "LONGTEXT"),
        ("bytea", "LONGBLOB"),
        ("integer[]", "LONGTEXT"),
        ("numeric(10,2)[]", "LONGTEXT"),
        ("source.order_status", "LONGTEXT"),
    ];
    for (source, expected) in cases {
        let table = table(&[("id", "integer", true), ("c", source, false)]);
        let table = table.expect("replicable");
        assert_eq!(table.columns[1].sql_type(), expected, "{source}");
    }
}

#[test]
fn text_keys_fit_into_an_index_entry() {
    let one = table(&[("k", "text", true)]).expect("replicable");
    assert_eq!(one.columns[0].sql_type(), "VARCHAR(768)");
    let two = table(&[("a", "text", true), ("b", "text", true)]);
    let bytes: u32 = two
        .expect("replicable")
        .columns
        .iter()
        .map(|c| match c.kind {
            Kind::VarChar(n) => 4 * n,
            _ => 0,
        })
        .sum();
    assert!(bytes <= 3072, "{bytes}");
}

#[test]
fn more_short_texts_than_fit_on_a_page_become_long_ones() {
    let names: Vec<String> = (0..45).map(|n| format!("extra_{n}")).collect();
    let mut columns = vec![("id", "bigint", true)];
    columns.extend(
        names
            .iter()
            .map(|name| (name.as_str(), "character varying(50)", false)),
    );
    let table = table(&columns).expect("replicable");
    assert!(table.columns.iter().any(|c| c.kind == Kind::LongText));
    assert!(table.columns.iter().any(|c| c.kind == Kind::VarChar(50)));
}

#[test]
fn tables_that_mysql_cannot_hold_are_named() {
    let error = table(&[("a", "text", false)]).expect_err("no key");
    assert!(error.to_string().contains("no primary key"));
}
