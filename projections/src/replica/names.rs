//! Names of what we make beside a table, all of them no longer than a server allows.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

/// MySQL: no name is longer.
pub(crate) const NAME_CHARS_MAX: usize = 64;
/// The last character that MySQL allows in a name.
pub(super) const LAST_NAME_CHAR: char = '\u{FFFF}';
/// InnoDB keeps these for itself, in upper case.
const RESERVED: [&str; 4] = ["DB_ROW_ID", "DB_TRX_ID", "DB_ROLL_PTR", "FTS_DOC_ID"];
/// Hexadecimal digits that stand for the rest of a name.
const HASH_CHARS: usize = 16;

/// Appended to a table's name while it is loaded.
pub const SHADOW: &str = "__shadow";
/// Appended to a table's name between the swap and its removal.
pub const RETIRED: &str = "__retired";

/// Appended to a column's name for the one that holds the texts of its values.
const BESIDE: &str = "__text";

/// `prefix`, `name` and `suffix` in one. Where that is too long, the end of `name` becomes a hash of all of it, so that
/// names which begin alike stay apart.
pub fn derived(prefix: &str, name: &str, suffix: &str) -> String {
    let whole = format!("{prefix}{name}{suffix}");
    if whole.chars().count() <= NAME_CHARS_MAX {
        return whole;
    }
    let taken = prefix.chars().count() + suffix.chars().count() + HASH_CHARS + 1;
    let kept = NAME_CHARS_MAX.saturating_sub(taken);
    let start: String = name.chars().take(kept).collect();
    format!("{prefix}{start}_{}{suffix}", hash(name))
}

/// The table of that name and suffix, such as [`SHADOW`].
pub fn suffixed(name: &str, suffix: &str) -> String {
    derived("", name, suffix)
}

/// The names in MySQL of a table's columns, in their order. Each keeps its own, unless MySQL does not take it, or takes
/// it for that of an earlier column; then a hash of it stands at its end.
pub(super) fn column_names<'a>(columns: impl Iterator<Item = &'a str>) -> Vec<String> {
    let columns: Vec<&str> = columns.collect();
    // Those that can keep theirs come first: a hash never takes the name of another column.
    let mut taken = BTreeSet::new();
    let kept: Vec<bool> = (columns.iter())
        .map(|name| is_column_name(name) && taken.insert(alike(name)))
        .collect();
    let name = |(name, kept): (&&str, bool)| match kept {
        true => (*name).to_owned(),
        false => {
            let hashed = (0..).map(|attempt| with_hash(name, attempt));
            let mut free = hashed.filter(|name| taken.insert(alike(name)));
            free.next().unwrap_or_default()
        }
    };
    columns.iter().zip(kept).map(name).collect()
}

fn is_column_name(name: &str) -> bool {
    name.chars().count() <= NAME_CHARS_MAX
        && !name.ends_with(' ')
        && name.chars().all(|c| c <= LAST_NAME_CHAR)
        && !RESERVED.contains(&name.to_uppercase().as_str())
}

fn with_hash(name: &str, attempt: u32) -> String {
    let hash = match attempt {
        0 => hash(name),
        attempt => hash(&format!("{name} {attempt}")),
    };
    let allowed = name.chars().map(|c| match c <= LAST_NAME_CHAR {
        true => c,
        false => '_',
    });
    let kept = NAME_CHARS_MAX - HASH_CHARS - 1;
    let start: String = allowed.take(kept).collect();
    format!("{start}_{hash}")
}

/// Equal for all names that a server may take for one: it ignores case, and folds characters in ways of its own.
pub(super) fn alike(name: &str) -> String {
    let folded = name.to_uppercase().to_lowercase();
    let dot_above = '\u{307}';
    folded.chars().filter(|c| *c != dot_above).collect()
}

/// Name of the column beside another one. `taken` are the names of the table's columns, as [`alike`] gives them.
pub(super) fn beside(column: &str, taken: &BTreeSet<String>) -> String {
    let plain = derived("", column, BESIDE);
    let hashed = |attempt: u32| {
        let hash = hash(&format!("{column} {attempt}"));
        derived("", &format!("{column}_{hash}"), BESIDE)
    };
    let candidates = std::iter::once(plain.clone()).chain((0..).map(hashed));
    let free = candidates
        .into_iter()
        .find(|name| !taken.contains(&alike(name)));
    free.unwrap_or(plain)
}

/// Name of the temporary table with the keys that a batch touches in `table`.
pub fn key_table(table: &str) -> String {
    derived("millrace_keys_", table, "")
}

/// Name of the temporary table with the rows of `table` that move to other keys in part.
pub(super) fn moved_table(table: &str) -> String {
    derived("millrace_moved_", table, "")
}

/// Name of the temporary table with the keys of the rows in `table` that updates build upon.
pub(super) fn base_table(table: &str) -> String {
    derived("millrace_bases_", table, "")
}

pub(super) fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.chars().take(HASH_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_kept_as_they_are() {
        assert_eq!(key_table("things"), "millrace_keys_things");
        assert_eq!(suffixed("things", SHADOW), "things__shadow");
        assert_eq!(suffixed("things", ""), "things");
    }

    #[test]
    fn columns_keep_their_names_where_mysql_takes_them() {
        let long = "ü".repeat(NAME_CHARS_MAX + 1);
        let columns = [
            "id",
            "ID",
            "trailing ",
            "🙂",
            "db_trx_id",
            "a`b\"c",
            "İ",
            "i",
            "ı",
            "Kelvin",
            "\u{212a}elvin",
            " leading",
            &long,
        ];
        let names = column_names(columns.into_iter());
        let kept = ["id", "a`b\"c", "İ", "Kelvin", " leading"];
        for (column, name) in columns.iter().zip(&names) {
            assert_eq!(kept.contains(column), column == name, "{column} is {name}");
            assert!(is_column_name(name), "{name}");
        }
        let distinct: BTreeSet<String> = names.iter().map(|name| alike(name)).collect();
        assert_eq!(distinct.len(), columns.len(), "{names:?}");
    }

    #[test]
    fn a_hashed_name_never_takes_that_of_another_column() {
        let hashed = with_hash("ID", 0);
        let names = column_names(["id", "ID", &hashed].into_iter());
        assert_eq!((&names[0], &names[2]), (&"id".to_owned(), &hashed));
        assert_ne!(names[1], names[2]);
    }

    #[test]
    fn long_names_are_shortened_and_stay_apart() {
        for (prefix, suffix) in [
            ("millrace_keys_", ""),
            ("", SHADOW),
            ("millrace_", "_delta"),
        ] {
            let [one, other] = ["a", "b"].map(|end| {
                let name = format!("{}{end}", "ü".repeat(NAME_CHARS_MAX - 2));
                derived(prefix, &name, suffix)
            });
            assert_ne!(one, other);
            for name in [one, other] {
                assert!(name.chars().count() <= NAME_CHARS_MAX, "{name}");
                assert!(name.starts_with(prefix) && name.ends_with(suffix), "{name}");
            }
        }
    }
}
