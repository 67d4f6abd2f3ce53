//! What a source table is called in MySQL. Pure.
//!
//! A table of the main schema keeps its name, one of another schema is `schema__table`. Where MySQL would not take that
//! name, or something else has it already, a hash of the source's name stands behind it. A name is given once, when the
//! table is first loaded, and kept with the position: later tables go around it.

use std::collections::BTreeSet;

use millrace_events::TableId;

use super::names::{hash, LAST_NAME_CHAR, NAME_CHARS_MAX, RETIRED, SHADOW};

/// Begins every table that millrace keeps for itself.
const OURS: &str = "millrace_";
/// Stands before a name that would begin like one of ours.
const NOT_OURS: &str = "source_";
/// A table is a file: its name with the longest suffix and `.ibd` takes at most 255 bytes.
const FILE_BYTES_MAX: usize = 240;
/// In a file's name, whatever is no ASCII letter, digit or underscore takes so many bytes at most.
const ENCODED_BYTES: usize = 5;

/// Gives each table a name that no other table has, whatever MySQL makes of upper and lower case.
#[derive(Clone, Debug)]
pub struct Naming {
    main_schema: Option<String>,
    /// In lower case.
    taken: BTreeSet<String>,
}

impl Naming {
    /// `taken` are the names that are in use: of tables that were named before, of marts and of their state.
    pub fn new(main_schema: Option<&str>, taken: impl IntoIterator<Item = String>) -> Naming {
        Naming {
            main_schema: main_schema.map(str::to_owned),
            taken: taken.into_iter().map(|name| name.to_lowercase()).collect(),
        }
    }

    /// Names a table; the name is taken from then on.
    pub fn name(&mut self, table: &TableId) -> String {
        let plain = self.plain(table);
        let hashed = |attempt: u32| with_hash(&plain, table, attempt);
        let candidates = std::iter::once(plain.clone()).chain((0..).map(hashed));
        let free = candidates.into_iter().find(|name| self.is_free(name));
        let name = free.unwrap_or(plain);
        self.taken.insert(name.to_lowercase());
        name
    }

    /// Names several tables at once, those of the main schema first: their names are the ones that people expect.
    /// In the order of `tables`.
    pub fn names<'a>(&mut self, tables: impl IntoIterator<Item = &'a TableId>) -> Vec<String> {
        let tables: Vec<&TableId> = tables.into_iter().collect();
        let (main, others): (Vec<usize>, Vec<usize>) =
            (0..tables.len()).partition(|&at| self.is_main(tables[at]));
        let mut names = vec![String::new(); tables.len()];
        for at in main.into_iter().chain(others) {
            names[at] = self.name(tables[at]);
        }
        names
    }

    fn is_main(&self, table: &TableId) -> bool {
        self.main_schema.as_ref() == Some(&table.schema)
    }

    fn plain(&self, table: &TableId) -> String {
        match self.is_main(table) {
            true => table.name.clone(),
            false => format!("{}__{}", table.schema, table.name),
        }
    }

    fn is_free(&self, name: &str) -> bool {
        is_allowed(name) && !self.taken.contains(&name.to_lowercase())
    }
}

/// True if MySQL takes the name, and no table beside it that we make has it.
fn is_allowed(name: &str) -> bool {
    let lower = name.to_lowercase();
    name.chars().count() <= NAME_CHARS_MAX
        && file_bytes(name) <= FILE_BYTES_MAX
        && name.chars().all(|c| c <= LAST_NAME_CHAR)
        && !name.ends_with(' ')
        && !lower.starts_with(OURS)
        && ![SHADOW, RETIRED].iter().any(|end| lower.ends_with(end))
}

/// The start of a name with a hash of the table's own name behind it.
fn with_hash(plain: &str, table: &TableId, attempt: u32) -> String {
    let hash = match attempt {
        0 => hash(&table.to_string()),
        attempt => hash(&format!("{table} {attempt}")),
    };
    let mut start: String = match plain.to_lowercase().starts_with(OURS) {
        true => format!("{NOT_OURS}{plain}"),
        false => plain.to_owned(),
    };
    start = start
        .chars()
        .map(|c| if c <= LAST_NAME_CHAR { c } else { '_' })
        .collect();
    loop {
        let name = format!("{start}_{hash}");
        let fits = name.chars().count() <= NAME_CHARS_MAX && file_bytes(&name) <= FILE_BYTES_MAX;
        if fits || start.pop().is_none() {
            return name;
        }
    }
}

fn file_bytes(name: &str) -> usize {
    let bytes = |c: char| match c.is_ascii_alphanumeric() || c == '_' {
        true => 1,
        false => ENCODED_BYTES,
    };
    name.chars().map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tables(names: &[(&str, &str)]) -> Vec<TableId> {
        let table = |(schema, name): &(&str, &str)| TableId::new(*schema, *name);
        names.iter().map(table).collect()
    }

    fn named(main: Option<&str>, taken: &[&str], names: &[(&str, &str)]) -> Vec<String> {
        let taken = taken.iter().map(|name| (*name).to_owned());
        Naming::new(main, taken).names(&tables(names))
    }

    /// `start`, an underscore and a hash.
    fn is_hashed(name: &str, start: &str) -> bool {
        let hash = name
            .strip_prefix(start)
            .and_then(|rest| rest.strip_prefix('_'));
        hash.is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
    }

    #[test]
    fn equal_names_of_several_schemas_stay_apart() {
        let names = [("sales", "lines"), ("public", "lines"), ("hr", "lines")];
        assert_eq!(
            named(Some("public"), &[], &names),
            ["sales__lines", "lines", "hr__lines"]
        );
        assert_eq!(named(None, &[], &names[1..2]), ["public__lines"]);
    }

    #[test]
    fn a_table_of_the_main_schema_keeps_a_name_that_another_schema_would_need() {
        let found = named(
            Some("public"),
            &[],
            &[("sales", "lines"), ("public", "sales__lines")],
        );
        assert!(is_hashed(&found[0], "sales__lines"), "{found:?}");
        assert_eq!(found[1], "sales__lines");
    }

    #[test]
    fn names_that_differ_by_case_only_stay_apart() {
        let found = named(
            Some("s"),
            &[],
            &[("s", "Lines"), ("s", "lines"), ("S", "lines")],
        );
        assert_eq!(found[0], "Lines");
        assert!(is_hashed(&found[1], "lines"), "{found:?}");
        assert_eq!(found[2], "S__lines");
    }

    #[test]
    fn long_names_and_names_with_emoji_are_ones_that_mysql_takes() {
        let emoji = format!("{}abc", "🙂".repeat(15));
        let umlauts = "ü".repeat(31);
        let long = "n".repeat(63);
        for name in [&emoji, &umlauts, &long] {
            for schema in ["public", &long] {
                let found = named(Some("public"), &[], &[(schema, name)]);
                assert!(is_allowed(&found[0]), "{found:?}");
            }
        }
        assert_eq!(named(Some("public"), &[], &[("public", &long)]), [long]);
    }

    #[test]
    fn tables_of_ours_and_marts_are_left_their_names() {
        for (name, start) in [
            ("millrace_position", "source_millrace_position"),
            ("Millrace_x", "source_Millrace_x"),
            ("lines__shadow", "lines__shadow"),
            ("lines__RETIRED", "lines__RETIRED"),
            ("lines ", "lines "),
            ("turnover", "turnover"),
        ] {
            let found = named(Some("s"), &["Turnover"], &[("s", name)]);
            assert!(is_hashed(&found[0], start), "{name}: {found:?}");
            assert!(is_allowed(&found[0]), "{found:?}");
        }
        // A schema of that name as well.
        let found = named(None, &[], &[("millrace", "jobs")]);
        assert!(is_hashed(&found[0], "source_millrace__jobs"), "{found:?}");
    }

    #[test]
    fn a_table_that_comes_later_goes_around_the_names_that_are_given() {
        let mut naming = Naming::new(Some("public"), []);
        let first = naming.names(&tables(&[("sales", "lines")]));
        let mut later = Naming::new(Some("public"), first.clone());
        let found = later.names(&tables(&[("public", "sales__lines")]));
        assert_eq!(first, ["sales__lines"]);
        assert!(is_hashed(&found[0], "sales__lines"), "{found:?}");
    }

    proptest! {
        #[test]
        fn every_table_gets_an_allowed_name_of_its_own(
            names in prop::collection::btree_set(("[a-bA-B_]{1,3}", "\\PC{1,20}|[a-bA-B_]{1,4}"), 1..20),
        ) {
            let ids: Vec<TableId> = names.iter().map(|(s, n)| TableId::new(s, n)).collect();
            let found = Naming::new(Some("a"), []).names(&ids);
            let distinct: BTreeSet<String> = found.iter().map(|name| name.to_lowercase()).collect();
            prop_assert_eq!(distinct.len(), ids.len());
            prop_assert!(found.iter().all(|name| is_allowed(name)), "{:?}", found);
        }
    }
}
