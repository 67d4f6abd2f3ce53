//! What becomes of a value that MySQL cannot hold: a policy for each column. Pure.
//!
//! A setting says it for all tables ([`Policies`]). What counts for a table is taken from there when a copy of it is
//! announced ([`TablePolicies`]) and kept with the table: its columns are made for it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use millrace_events::{split_unquoted, Glob, TableId, TableSchema};
use serde::{Deserialize, Serialize};

/// What becomes of a value that MySQL cannot hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// It takes its table out of what is live.
    #[default]
    Stop,
    /// The column is NULL, and the value stands in quarantine.
    Null,
    /// The same; and a column beside this one holds the value's text.
    Text,
}

const WORDS: [(&str, Policy); 3] = [
    ("stop", Policy::Stop),
    ("null", Policy::Null),
    ("text", Policy::Text),
];

/// A longer word is no near miss of one of these.
const NEAR_BYTES_MAX: usize = 6;

impl Policy {
    /// True if the value goes into quarantine and its row goes on.
    pub fn quarantines(self) -> bool {
        self != Policy::Stop
    }

    fn parse(word: &str) -> Result<Policy, ParsePoliciesError> {
        let found = WORDS.iter().find(|(known, _)| *known == word);
        found
            .map(|(_, policy)| *policy)
            .ok_or_else(|| ParsePoliciesError::Word {
                word: word.to_owned(),
                meant: meant(word),
            })
    }
}

/// The word that another one is a near miss of: they all begin with letters of their own.
fn meant(word: &str) -> Option<&'static str> {
    let first = word.chars().next()?.to_ascii_lowercase();
    if word.len() > NEAR_BYTES_MAX {
        return None;
    }
    let known = WORDS.iter().find(|(known, _)| known.starts_with(first));
    known.map(|(known, _)| *known)
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = WORDS.iter().find(|(_, policy)| policy == self);
        f.write_str(found.map_or("", |(word, _)| word))
    }
}

/// Policies for the columns of all tables: `null`, or `*=null,public.orders.total=text,public.audit.*=stop`.
///
/// Of several patterns that mean a column the last one counts; a column that none of them means has the policy `stop`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    columns: Columns,
    policy: Policy,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Columns {
    All,
    Of {
        schema: Glob,
        table: Glob,
        column: Glob,
    },
}

/// A text that says no policies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePoliciesError {
    /// It is empty, or a part of it is.
    #[error("there is nothing between two commas, or nothing at all; write stop, null or text, or PATTERN=POLICY")]
    Nothing,
    /// A part has a word that is no policy.
    #[error("{word:?} is no policy{}; write stop, null or text", .meant.map(|word| format!(", did you mean {word}?")).unwrap_or_default())]
    Word {
        /// What stands there.
        word: String,
        /// A policy that begins alike.
        meant: Option<&'static str>,
    },
    /// A pattern has no policy.
    #[error("{0:?} has no policy; write {0}=null, or another one of stop, null and text")]
    NoPolicy(String),
    /// A pattern does not say which columns it means.
    #[error(
        "{0:?} names no columns; write {0}.* for all columns of a table, or schema.table.column"
    )]
    Table(String),
    /// A pattern is none.
    #[error("{0:?} is no pattern of columns; write * or schema.table.column, with * for any characters; a part with other than lower-case letters, digits, _ and * stands in double quotes")]
    Pattern(String),
}

impl Policies {
    /// The policies of a table's columns. A key has none but `stop`: it cannot be NULL.
    pub fn of(&self, schema: &TableSchema) -> TablePolicies {
        let columns = schema.columns.iter().filter(|column| !column.key);
        let policies = columns.map(|column| {
            let policy = self.of_column(&schema.table, &column.name);
            (column.name.clone(), policy)
        });
        TablePolicies(
            policies
                .filter(|(_, policy)| policy.quarantines())
                .collect(),
        )
    }

    fn of_column(&self, table: &TableId, column: &str) -> Policy {
        let means = |rule: &&Rule| rule.columns.mean(table, column);
        let found = self.0.iter().rev().find(means);
        found.map(|rule| rule.policy).unwrap_or_default()
    }
}

impl Columns {
    fn parse(text: &str) -> Result<Columns, ParsePoliciesError> {
        if text == "*" {
            return Ok(Columns::All);
        }
        let wrong = || ParsePoliciesError::Pattern(text.to_owned());
        let parts: Option<Vec<Glob>> = split_unquoted(text, '.').map(Glob::parse).collect();
        let parts: Result<[Glob; 3], Vec<Glob>> = parts.ok_or_else(wrong)?.try_into();
        match parts {
            Ok([schema, table, column]) => Ok(Columns::Of {
                schema,
                table,
                column,
            }),
            Err(parts) if parts.len() == 2 => Err(ParsePoliciesError::Table(text.to_owned())),
            Err(_) => Err(wrong()),
        }
    }

    fn mean(&self, id: &TableId, name: &str) -> bool {
        match self {
            Columns::All => true,
            Columns::Of {
                schema,
                table,
                column,
            } => schema.matches(&id.schema) && table.matches(&id.name) && column.matches(name),
        }
    }
}

impl FromStr for Policies {
    type Err = ParsePoliciesError;

    fn from_str(text: &str) -> Result<Policies, ParsePoliciesError> {
        let rules = split_unquoted(text, ',').map(str::trim).map(Rule::parse);
        rules.collect::<Result<_, _>>().map(Policies)
    }
}

impl Rule {
    /// A policy alone is one for all columns.
    fn parse(text: &str) -> Result<Rule, ParsePoliciesError> {
        if text.is_empty() {
            return Err(ParsePoliciesError::Nothing);
        }
        let (columns, policy) = match text.rsplit_once('=') {
            Some((pattern, policy)) => (Columns::parse(pattern.trim())?, policy.trim()),
            None if text.contains('.') => {
                return Err(ParsePoliciesError::NoPolicy(text.to_owned()))
            }
            None => (Columns::All, text),
        };
        let policy = Policy::parse(policy)?;
        Ok(Rule { columns, policy })
    }
}

impl fmt::Display for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Policy::Stop.fmt(f);
        }
        for (number, Rule { columns, policy }) in self.0.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{columns}={policy}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Columns::All => f.write_str("*"),
            Columns::Of {
                schema,
                table,
                column,
            } => write!(f, "{schema}.{table}.{column}"),
        }
    }
}

/// The policies of one table's columns, as they were when its copy was announced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TablePolicies(BTreeMap<String, Policy>);

impl TablePolicies {
    /// The policy of a column.
    pub fn of(&self, column: &str) -> Policy {
        self.0.get(column).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(text: &str, column: &str) -> Policy {
        let policies: Policies = text.parse().expect(text);
        policies.of_column(&TableId::new("public", "orders"), column)
    }

    #[test]
    fn the_last_pattern_that_means_a_column_counts() {
        for (text, column, expected) in [
            ("stop", "total", Policy::Stop),
            ("null", "total", Policy::Null),
            ("*=null", "total", Policy::Null),
            ("*=null, public.orders.total = text", "total", Policy::Text),
            ("*=null,public.orders.total=text", "tax", Policy::Null),
            ("public.orders.total=text,*=stop", "total", Policy::Stop),
            ("*.*.t*=text", "total", Policy::Text),
            ("*.*.\"T\"*=text", "total", Policy::Stop),
            ("sales.orders.*=text", "total", Policy::Stop),
            ("public.orders.\"a,b=c.d\"=null", "a,b=c.d", Policy::Null),
        ] {
            assert_eq!(policy(text, column), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_was_meant() {
        for (text, parts) in [
            ("", &["nothing"][..]),
            ("null,,text", &["nothing"]),
            ("nul", &["\"nul\"", "did you mean null?"]),
            ("*=TEXT", &["\"TEXT\"", "did you mean text?"]),
            ("*=nothing", &["\"nothing\" is no policy; write stop"]),
            ("*=quarantine", &["\"quarantine\" is no policy; write stop"]),
            ("public.orders=null", &["write public.orders.* for"]),
            ("orders=null", &["\"orders\" is no pattern"]),
            ("a.b.c.d=null", &["\"a.b.c.d\" is no pattern"]),
            (
                "public.Orders.*=null",
                &["\"public.Orders.*\"", "double quotes"],
            ),
            ("public.orders.total", &["write public.orders.total=null"]),
        ] {
            let error = text.parse::<Policies>().expect_err(text).to_string();
            for part in parts {
                assert!(error.contains(part), "{text}: {error}");
            }
        }
    }

    #[test]
    fn a_key_has_no_policy_but_to_stop() {
        let column = |name: &str, key| millrace_events::Column {
            name: name.into(),
            type_name: "text".into(),
            oid: 25,
            type_mod: -1,
            key,
        };
        let schema = TableSchema {
            id: millrace_events::SchemaId(1),
            table: TableId::new("public", "orders"),
            columns: vec![column("id", true), column("note", false)],
        };
        let policies = "null".parse::<Policies>().expect("policies").of(&schema);
        assert_eq!(policies.of("id"), Policy::Stop);
        assert_eq!(policies.of("note"), Policy::Null);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_as_the_same(rules in prop::collection::vec(("[a-z*]{1,3}", "[a-z=,.\" *]{1,4}", 0..3usize), 1..4)) {
            let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
            let texts: Vec<String> = rules
                .iter()
                .map(|(table, column, word)| format!("s.{table}.{}={}", quoted(column), WORDS[*word].0))
                .collect();
            let policies: Policies = texts.join(",").parse().expect("policies");
            prop_assert_eq!(policies.to_string().parse::<Policies>(), Ok(policies));
        }
    }
}
