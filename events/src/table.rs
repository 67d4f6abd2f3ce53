//! The name of a source table.

use std::fmt;
use std::str::FromStr;

use serde::{de, Deserialize, Deserializer, Serialize, Serializer};

/// A table of the source database: its schema and its name, as the catalog spells them.
///
/// Text: `schema.name`, where a part that is no plain lower-case identifier stands in double quotes, as in
/// `sales."Order lines"`; a quote inside is doubled. JSON: that text, in records of the log and as a key alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId {
    /// The Postgres schema, such as `source`.
    pub schema: String,
    /// The name within the schema, such as `orders`.
    pub name: String,
}

impl TableId {
    /// The table `name` of `schema`.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> TableId {
        TableId {
            schema: schema.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_identifier(f, &self.schema)?;
        f.write_str(".")?;
        write_identifier(f, &self.name)
    }
}

fn write_identifier(f: &mut fmt::Formatter<'_>, identifier: &str) -> fmt::Result {
    if is_plain(identifier) {
        return f.write_str(identifier);
    }
    write!(f, "\"{}\"", identifier.replace('"', "\"\""))
}

/// What Postgres reads the same way with and without quotes.
fn is_plain(identifier: &str) -> bool {
    let mut bytes = identifier.bytes();
    let first = bytes.next();
    first.is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_')
        && bytes.all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'$'
        })
}

/// The text names no table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no table; write schema.table, a part with other than lower-case letters, digits and _ in double quotes")]
pub struct ParseTableIdError {
    text: String,
}

impl FromStr for TableId {
    type Err = ParseTableIdError;

    fn from_str(text: &str) -> Result<TableId, ParseTableIdError> {
        let parsed = identifier(text).and_then(|(schema, rest)| {
            let (name, rest) = identifier(rest.strip_prefix('.')?)?;
            rest.is_empty().then_some(TableId { schema, name })
        });
        parsed.ok_or_else(|| ParseTableIdError { text: text.into() })
    }
}

/// The identifier at the start of `text`, and what follows it.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find('.').unwrap_or(text.len());
        let (plain, rest) = text.split_at(end);
        return is_plain(plain).then(|| (plain.to_owned(), rest));
    };
    let mut name = String::new();
    loop {
        let (part, behind) = rest.split_once('"')?;
        name.push_str(part);
        match behind.strip_prefix('"') {
            Some(behind) => {
                name.push('"');
                rest = behind;
            }
            None => return (!name.is_empty()).then_some((name, behind)),
        }
    }
}

impl Serialize for TableId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TableId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = TableId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table such as \"public.accounts\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<TableId, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_names_the_same_table_again(schema in "\\PC{1,20}", name in "[a-z\".A-Z_ ]{1,20}") {
            let table = TableId::new(schema, name);
            prop_assert_eq!(table.to_string().parse(), Ok(table));
        }
    }

    #[test]
    fn only_what_postgres_would_fold_stands_in_quotes() {
        for (schema, name, text) in [
            ("source", "orders", "source.orders"),
            ("sales", "Order lines", "sales.\"Order lines\""),
            ("a.b", "c\"d", "\"a.b\".\"c\"\"d\""),
            ("s", "2fast", "s.\"2fast\""),
        ] {
            assert_eq!(TableId::new(schema, name).to_string(), text);
        }
    }

    #[test]
    fn text_that_names_no_table_is_refused_and_shown() {
        for text in [
            "",
            "orders",
            "a.",
            ".b",
            "a.b.c",
            "a.\"b",
            "Source.orders",
            "a.\"\"",
            "a.\"b\"c",
        ] {
            let error = text.parse::<TableId>().expect_err(text);
            assert!(error.to_string().contains(&format!("{text:?}")));
        }
    }
}
