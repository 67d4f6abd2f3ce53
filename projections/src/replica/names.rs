//! Names of what we make beside a table, all of them no longer than a server allows.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

/// MySQL: no name is longer.
pub(crate) const NAME_CHARS_MAX: usize = 64;
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

/// Name of the column beside another one. `taken` are the names of the table's columns in lower case.
pub(super) fn beside(column: &str, taken: &BTreeSet<String>) -> String {
    let plain = derived("", column, BESIDE);
    let hashed = |attempt: u32| {
        let hash = hash(&format!("{column} {attempt}"));
        derived("", &format!("{column}_{hash}"), BESIDE)
    };
    let candidates = std::iter::once(plain.clone()).chain((0..).map(hashed));
    let free = candidates
        .into_iter()
        .find(|name| !taken.contains(&name.to_lowercase()));
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
