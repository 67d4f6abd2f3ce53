//! Which tables are captured: patterns over schemas and names. Pure.

use std::fmt;
use std::str::FromStr;

use millrace_events::{split_unquoted, Glob, TableId};

/// What is captured, as a list of patterns: `public.*,sales.orders,!public.audit_*`.
///
/// A table is selected if one pattern includes it and none excludes it, in whatever order they stand. `*` stands for
/// any characters, none included. What is written in double quotes stands for itself, and a quote inside is doubled,
/// as in [`TableId`]; so do lower-case letters, digits, `_` and `$` without them. A schema that is written with a `*`
/// is never one of the system's or millrace's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    included: Vec<Pattern>,
    excluded: Vec<Pattern>,
}

impl Selection {
    /// Whether a table of this name is selected.
    pub fn matches(&self, table: &TableId) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(table));
        any(&self.included) && !any(&self.excluded)
    }

    /// The schema of the first pattern that includes tables; `None` if it is written with a `*`.
    pub fn main_schema(&self) -> Option<&str> {
        self.included.first()?.schema.exact()
    }

    /// The selected tables that are written without a `*`.
    pub(crate) fn named(&self) -> impl Iterator<Item = TableId> + '_ {
        let named = self.included.iter().filter_map(Pattern::exact);
        named.filter(|table| self.matches(table))
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let included = self.included.iter().map(|pattern| ("", pattern));
        let excluded = self.excluded.iter().map(|pattern| ("!", pattern));
        for (number, (sign, pattern)) in included.chain(excluded).enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{sign}{}.{}", pattern.schema, pattern.name)?;
        }
        Ok(())
    }
}

/// The text selects no tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSelectionError {
    /// A part of it is no pattern.
    #[error("{0:?} is no pattern of tables; write schema.table or schema.*, with ! in front to leave tables out; a part with other than lower-case letters, digits, _ and * stands in double quotes")]
    Pattern(String),
    /// It only leaves tables out, or says nothing at all.
    #[error("no pattern includes a table; write which ones to capture, such as public.*")]
    Nothing,
}

impl FromStr for Selection {
    type Err = ParseSelectionError;

    fn from_str(text: &str) -> Result<Selection, ParseSelectionError> {
        let mut selection = Selection {
            included: Vec::new(),
            excluded: Vec::new(),
        };
        if text.trim().is_empty() {
            return Err(ParseSelectionError::Nothing);
        }
        for one in split_unquoted(text, ',').map(str::trim) {
            let (list, pattern) = match one.strip_prefix('!') {
                Some(pattern) => (&mut selection.excluded, pattern),
                None => (&mut selection.included, one),
            };
            let parsed = Pattern::parse(pattern);
            list.push(parsed.ok_or_else(|| ParseSelectionError::Pattern(one.to_owned()))?);
        }
        if selection.included.is_empty() {
            return Err(ParseSelectionError::Nothing);
        }
        Ok(selection)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    schema: Glob,
    name: Glob,
}

impl Pattern {
    fn parse(text: &str) -> Option<Pattern> {
        let mut parts = split_unquoted(text, '.').map(Glob::parse);
        let pattern = Pattern {
            schema: parts.next()??,
            name: parts.next()??,
        };
        parts.next().is_none().then_some(pattern)
    }

    fn matches(&self, table: &TableId) -> bool {
        let open = self.schema.exact().is_some() || !is_reserved(&table.schema);
        open && self.schema.matches(&table.schema) && self.name.matches(&table.name)
    }

    fn exact(&self) -> Option<TableId> {
        Some(TableId::new(self.schema.exact()?, self.name.exact()?))
    }
}

/// Schemas whose tables nobody means by `*.*`.
fn is_reserved(schema: &str) -> bool {
    schema.starts_with("pg_") || matches!(schema, "information_schema" | "millrace")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selection(text: &str) -> Selection {
        text.parse().expect(text)
    }

    fn selects(text: &str, table: &str) -> bool {
        selection(text).matches(&table.parse().expect(table))
    }

    #[test]
    fn a_table_is_selected_if_it_is_included_and_not_excluded() {
        let text = " !public.audit_* , public.*, sales.orders,shop.\"Order*\"*, !public.\"Old\"";
        for table in [
            "public.users",
            "sales.orders",
            "shop.\"Order*lines\"",
            "public.audit",
            "public.\"old\"",
        ] {
            assert!(selects(text, table), "{table}");
        }
        for table in [
            "public.audit_log",
            "sales.items",
            "shop.\"Orderlines\"",
            "public.\"Old\"",
            "other.users",
        ] {
            assert!(!selects(text, table), "{table}");
        }
    }

    #[test]
    fn stars_stand_for_any_characters_and_for_none() {
        for (pattern, name, matches) in [
            ("s.*", "a", true),
            ("s.a*", "a", true),
            ("s.a*a", "a", false),
            ("s.a*b*c", "a_b_b_c", true),
            ("s.a*b*c", "a_c_b", false),
            ("s.*_2024_*", "log_2024_01", true),
            ("s.**", "a", true),
        ] {
            let table = TableId::new("s", name);
            assert_eq!(
                selection(pattern).matches(&table),
                matches,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn schemas_of_the_system_have_to_be_named() {
        for table in [
            "pg_catalog.pg_class",
            "information_schema.t",
            "millrace.rejected_actions",
        ] {
            assert!(!selects("*.*", table), "{table}");
        }
        assert!(selects("millrace.*", "millrace.rejected_actions"));
        assert!(selects("*.*", "public.users"));
    }

    #[test]
    fn the_main_schema_is_that_of_the_first_including_pattern() {
        assert_eq!(
            selection("!a.b,public.*,sales.*").main_schema(),
            Some("public")
        );
        assert_eq!(selection("\"My shop\".t").main_schema(), Some("My shop"));
        assert_eq!(selection("s*.t,public.*").main_schema(), None);
    }

    #[test]
    fn tables_without_a_star_are_named_unless_they_are_excluded() {
        let selection = selection("a.b,c.*,a.\"*\",a.d,!a.d");
        let named: Vec<_> = selection.named().map(|table| table.to_string()).collect();
        assert_eq!(named, ["a.b", "a.\"*\""]);
    }

    #[test]
    fn text_that_selects_nothing_is_refused_and_shown() {
        for text in ["", "  ", "!a.b"] {
            assert_eq!(text.parse::<Selection>(), Err(ParseSelectionError::Nothing));
        }
        for text in [
            "users",
            "a.",
            ".b",
            "a.b.c",
            "a.\"b",
            "Public.users",
            "a.\"\"",
            "a.b,",
            "a b.c",
        ] {
            let error = text.parse::<Selection>().expect_err(text);
            assert!(matches!(error, ParseSelectionError::Pattern(_)), "{text}");
        }
        let error = "a.b,Public.users"
            .parse::<Selection>()
            .expect_err("refused");
        assert!(error.to_string().contains("\"Public.users\""), "{error}");
    }

    proptest! {
        #[test]
        fn any_table_can_be_named_and_excluded_by_its_text(schema in "\\PC{1,12}", name in "[a-z\".*,!A-Z_ ]{1,12}") {
            let table = TableId::new(schema, name);
            let named = selection(&table.to_string());
            prop_assert!(named.matches(&table));
            prop_assert_eq!(named.named().collect::<Vec<_>>(), [table.clone()]);
            let excluded = format!("a.*,{table},!{table}");
            prop_assert!(!selection(&excluded).matches(&table));
        }

        #[test]
        fn a_selection_is_shown_as_it_is_read(text in "[a-c\"*]{1,8}[.][a-c\"*$]{1,8}(,!?[a-c\"*]{1,5}[.][a-c\"A*]{1,5}){0,2}") {
            if let Ok(selection) = text.parse::<Selection>() {
                prop_assert_eq!(selection.to_string().parse(), Ok(selection));
            }
        }
    }
}
