//! What becomes of which column.

use std::collections::BTreeMap;
use std::fmt;

use millrace_events::{TableId, Value};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

/// What becomes of a column's values. NULL stays NULL under each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// SHA-256 of salt and text form, in hexadecimal. Equal values stay equal across columns and
    /// tables, so that they can still be joined.
    Hash,
    /// The first character and `***`; only `***` for numbers, booleans and up to three characters.
    Mask,
    /// NULL.
    Null,
    /// The column is gone.
    Drop,
}

/// Actions by table and column, and the salt of hashes.
///
/// JSON, with the text of a [`TableId`] as key: `{"source.users":{"email":"hash","phone":"null","last_name":"mask","first_name":"drop"}}`.
#[derive(Clone)]
pub struct Policy {
    tables: BTreeMap<TableId, BTreeMap<String, Action>>,
    salt: String,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The salt is a secret.
        f.debug_struct("Policy")
            .field("tables", &self.tables)
            .finish_non_exhaustive()
    }
}

/// The text is no policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// Not a JSON object of objects.
    Shape,
    /// This key is not the text of a table.
    Key(String),
    /// The action of this table's column is none.
    Action(String, String),
    /// The policy hashes, but there is no salt: hashes of guessable values would be readable.
    Salt,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyError::Shape => {
                f.write_str(r#"policy is not JSON such as {"public.accounts": {"email": "hash"}}"#)
            }
            PolicyError::Key(key) => write!(
                f,
                "policy names {key:?}, which is no table; write its schema too, as in public.accounts"
            ),
            PolicyError::Action(table, column) => write!(
                f,
                "policy of {table:?}, column {column:?}, is none of hash, mask, null, drop"
            ),
            PolicyError::Salt => f.write_str("the policy hashes: parameter salt is needed"),
        }
    }
}

impl std::error::Error for PolicyError {}

impl Policy {
    /// Reads the JSON form.
    pub fn parse(text: &str, salt: Option<&str>) -> Result<Policy, PolicyError> {
        let Ok(Json::Object(json)) = serde_json::from_str(text) else {
            return Err(PolicyError::Shape);
        };
        let mut tables = BTreeMap::new();
        for (table, columns) in json {
            let Json::Object(columns) = columns else {
                return Err(PolicyError::Shape);
            };
            let Ok(id) = table.parse() else {
                return Err(PolicyError::Key(table));
            };
            let mut actions = BTreeMap::new();
            for (column, action) in columns {
                let Some(action) = Action::parse(&action) else {
                    return Err(PolicyError::Action(table, column));
                };
                actions.insert(column, action);
            }
            tables.insert(id, actions);
        }
        let hashes = tables
            .values()
            .flat_map(BTreeMap::values)
            .any(|action| *action == Action::Hash);
        let salt = salt.unwrap_or_default().to_owned();
        if hashes && salt.is_empty() {
            return Err(PolicyError::Salt);
        }
        Ok(Policy { tables, salt })
    }

    pub(crate) fn table(&self, id: &TableId) -> Option<&BTreeMap<String, Action>> {
        self.tables.get(id)
    }

    /// What stands in place of a value; nothing if the column is dropped.
    pub(crate) fn redacted(&self, action: Action, value: Value) -> Option<Value> {
        Some(match (action, value) {
            (Action::Drop, _) => return None,
            (Action::Null, _) | (_, Value::Null) => Value::Null,
            (Action::Hash, value) => match text(value) {
                Some(text) => Value::Text(self.hash(&text)),
                None => Value::Null,
            },
            (Action::Mask, Value::Text(text)) => Value::Text(mask(&text)),
            (Action::Mask, _) => Value::Text("***".to_owned()),
        })
    }

    fn hash(&self, text: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(self.salt.as_bytes());
        // Neither the salt, a parameter, nor Postgres' text holds this byte.
        hash.update([0]);
        hash.update(text.as_bytes());
        format!("{:x}", hash.finalize())
    }
}

impl Action {
    fn parse(json: &Json) -> Option<Action> {
        Some(match json.as_str()? {
            "hash" => Action::Hash,
            "mask" => Action::Mask,
            "null" => Action::Null,
            "drop" => Action::Drop,
            _ => return None,
        })
    }
}

/// What is hashed. The text of a sliced value stands in other records, so there is nothing to hash.
fn text(value: Value) -> Option<String> {
    match value {
        Value::Null | Value::Sliced(_) => None,
        Value::Bool(value) => Some(value.to_string()),
        Value::Int(value) => Some(value.to_string()),
        Value::Text(value) => Some(value),
    }
}

fn mask(text: &str) -> String {
    let mut characters = text.chars();
    match (characters.next(), characters.nth(2)) {
        (Some(first), Some(_)) => format!("{first}***"),
        _ => "***".to_owned(),
    }
}
