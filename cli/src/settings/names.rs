//! What a pipeline's topics, publication and slot are called: each by its own setting, or after the pipeline.

use super::table::{
    MILLRACE_NAME, MILLRACE_PUBLICATION, MILLRACE_SLOT, MILLRACE_TOPIC_CHANGES,
    MILLRACE_TOPIC_SNAPSHOT,
};
use super::Settings;

/// The names in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Topic of the change log.
    pub changes: String,
    /// Prefix of the snapshot topics; `-N` follows.
    pub snapshot_prefix: String,
    /// Publication in Postgres.
    pub publication: String,
    /// Replication slot in Postgres.
    pub slot: String,
}

impl Names {
    /// What the settings say.
    #[must_use]
    pub fn of(settings: &Settings) -> Names {
        let pipeline = settings.get(MILLRACE_NAME);
        let pipeline = pipeline.as_str();
        // A slot takes no hyphen, and no name of a pipeline has an underscore: two of them stay apart.
        let in_postgres = format!("millrace_{}", pipeline.replace('-', "_"));
        let or = |own: Option<_>, derived: String| own.map_or(derived, String::from);
        Names {
            changes: or(
                settings.get(MILLRACE_TOPIC_CHANGES),
                format!("{pipeline}-changes"),
            ),
            snapshot_prefix: or(
                settings.get(MILLRACE_TOPIC_SNAPSHOT),
                format!("{pipeline}-snapshot"),
            ),
            publication: or(settings.get(MILLRACE_PUBLICATION), in_postgres.clone()),
            slot: or(settings.get(MILLRACE_SLOT), in_postgres),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pairs: &[(&str, &str)]) -> [String; 4] {
        let pairs = pairs.iter().map(|(a, b)| ((*a).into(), (*b).into()));
        let settings = Settings::resolve(None, pairs.collect()).unwrap();
        let names = Names::of(&settings);
        [
            names.changes,
            names.snapshot_prefix,
            names.publication,
            names.slot,
        ]
    }

    #[test]
    fn all_names_follow_that_of_the_pipeline() {
        assert_eq!(
            names(&[("MILLRACE_NAME", "erp-2")]),
            [
                "erp-2-changes",
                "erp-2-snapshot",
                "millrace_erp_2",
                "millrace_erp_2"
            ]
        );
    }

    #[test]
    fn a_name_of_its_own_stands_above_the_derived_one_and_an_empty_one_does_not() {
        let own = [
            ("MILLRACE_NAME", "erp"),
            ("MILLRACE_SLOT", "reader"),
            ("MILLRACE_TOPIC_CHANGES", "log"),
            ("MILLRACE_PUBLICATION", ""),
        ];
        assert_eq!(
            names(&own),
            ["log", "erp-snapshot", "millrace_erp", "reader"]
        );
    }

    #[test]
    fn what_a_topic_or_a_slot_could_not_be_named_after_is_refused() {
        for name in ["", "Shop", "a_b", "-a", "a-", "a b", &"a".repeat(41)] {
            let pairs = vec![("MILLRACE_NAME".to_owned(), name.to_owned())];
            let error = Settings::resolve(None, pairs).unwrap_err().to_string();
            assert!(error.contains("lower-case letters"), "{error}");
        }
    }
}
