use super::*;

const INTRODUCTION: &str = "# Types

What becomes of a value on its way: Postgres type → JSON in a record of the log → MySQL type → what is lost. A domain is its base type.
Every type that is not named here is the exact text that Postgres prints. This page is printed from the table in
`projections/src/replica/known.rs`; a test compares them, and `MILLRACE_BLESS=1` lets it write the page anew. Another test,
`tests/tests/e2e/types.rs`, sends normal, extreme, NULL and hostile values of each through copy and stream, on MariaDB and on MySQL.

A column keeps its name where MySQL takes it. Where it does not (a blank at the end, a character beyond U+FFFF, names of InnoDB's such as
`DB_TRX_ID`), or takes it for that of an earlier column (`id` and `ID`), a hash of it stands at its end.

What does not fit follows the policy of its column: see [values](values.md). In a primary key, texts and bytes share the 3,072 bytes
that an index entry may have.

| Postgres | in a record | MySQL | in a primary key | what is lost |
|---|---|---|---|---|
";

#[test]
fn the_page_of_types_is_what_this_table_says() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/types.md");
    let printed = format!("{INTRODUCTION}{}", types_as_markdown());
    if std::env::var_os("MILLRACE_BLESS").is_some() {
        std::fs::write(&page, &printed).expect("the page can be written");
    }
    let kept = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        kept == printed,
        "docs/types.md is not what the code says; MILLRACE_BLESS=1 writes it anew"
    );
}

/// So no row of the page is about a type that another entry holds, or that is held in another way.
#[test]
fn what_is_shown_of_a_type_is_of_that_entry_and_held_alike() {
    for known in TYPES {
        for name in known.shown.iter().flat_map(|(names, _)| names.split(", ")) {
            let first = TYPES.iter().find(|entry| entry.holds(name));
            assert_eq!(first.map(|entry| entry.shown), Some(known.shown), "{name}");
        }
        for (names, _) in known.shown {
            let mut held = names.split(", ").map(|name| kind_of(name, false));
            let first = held.next();
            assert!(held.all(|kind| Some(kind) == first), "{names}");
        }
    }
}

#[test]
fn a_numeric_is_exact_as_number_or_as_text() {
    let exact = |precision, scale| Kind::Decimal { precision, scale };
    let cases = [
        ("numeric(12,2)", exact(12, 2)),
        ("numeric(65,30)", exact(65, 30)),
        ("numeric(65,0)", exact(65, 0)),
        ("numeric(8,0)", exact(8, 0)),
        ("numeric(3,-2)", Kind::DecimalAny),
        ("numeric(3,5)", Kind::DecimalAny),
        ("numeric(30,-5)", Kind::DecimalAny),
        ("numeric(31,-5)", Kind::LongText),
        ("numeric(66,31)", Kind::LongText),
        ("numeric(66,0)", Kind::LongText),
        ("numeric(2,31)", Kind::LongText),
        ("numeric(1000,0)", Kind::LongText),
        ("numeric", Kind::DecimalAny),
    ];
    for (name, kind) in cases {
        assert_eq!(kind_of(name, false), kind, "{name}");
    }
    assert_eq!(kind_of("numeric(80,2)", true), Kind::VarChar(KEY_CHARS_MAX));
}

#[test]
fn a_type_that_only_looks_like_another_one_is_text() {
    for name in [
        "public.numeric",
        "\"char\"",
        "name",
        "bit(3)",
        "interval day to second(3)",
        "timestamp without time zone[]",
        "public.\"odd(3)\"",
        "public.geometry(Point,4326)",
        "public.vector(3)",
    ] {
        assert_eq!(kind_of(name, false), Kind::LongText, "{name}");
    }
    let zoned = "timestamp(3) with time zone";
    assert_eq!(kind_of(zoned, false), Kind::DateTime);
}
