//! What to keep.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use millrace_events::TableId;
use serde_json::Value;

use crate::scan::Text;

/// The tables and columns that a reader needs.
///
/// JSON: `{"source.users": ["user_id", "email"], "source.orders": "*"}`, with the text of a [`TableId`] as key. Tables
/// that are not named fall. The columns of a table have to include those of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan(BTreeMap<Vec<u8>, Columns>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Columns {
    All,
    Named(Vec<Vec<u8>>),
}

/// The text is no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// Not a JSON object.
    NotAnObject,
    /// This key is not the text of a table.
    Key(String),
    /// The value of this table is neither `"*"` nor an array of column names.
    Table(String),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::NotAnObject => f.write_str(
                r#"plan is not a JSON object such as {"public.accounts": ["id", "email"]}"#,
            ),
            PlanError::Key(key) => write!(
                f,
                "plan names {key:?}, which is no table; write its schema too, as in public.accounts"
            ),
            PlanError::Table(table) => write!(
                f,
                r#"plan of table {table:?} is neither "*" nor an array of column names"#
            ),
        }
    }
}

impl std::error::Error for PlanError {}

impl Plan {
    /// Reads the JSON form.
    pub fn parse(text: &str) -> Result<Plan, PlanError> {
        let Ok(Value::Object(tables)) = serde_json::from_str(text) else {
            return Err(PlanError::NotAnObject);
        };
        let mut plan = BTreeMap::new();
        for (table, columns) in tables {
            let Some(columns) = Columns::parse(&columns) else {
                return Err(PlanError::Table(table));
            };
            // Records have the one text that a table is written with.
            let Ok(id) = table.parse::<TableId>() else {
                return Err(PlanError::Key(table));
            };
            plan.insert(id.to_string().into_bytes(), columns);
        }
        Ok(Plan(plan))
    }

    /// What stays of a table; nothing if the plan does not name it.
    pub(crate) fn table(&self, name: Text<'_>) -> Option<&Columns> {
        self.0.get(plain(&name).as_ref())
    }
}

impl Columns {
    fn parse(columns: &Value) -> Option<Columns> {
        match columns {
            Value::String(star) if star == "*" => Some(Columns::All),
            Value::Array(names) => names
                .iter()
                .map(|name| Some(name.as_str()?.as_bytes().to_vec()))
                .collect::<Option<_>>()
                .map(Columns::Named),
            _ => None,
        }
    }
}

/// Looks names up in the order of the table: rows repeat it, so that the first guess is mostly
/// right when the plan keeps that order too.
pub(crate) struct Lookup<'p> {
    names: &'p [Vec<u8>],
    next: usize,
}

impl<'p> Lookup<'p> {
    pub(crate) fn new(names: &'p [Vec<u8>]) -> Self {
        Lookup { names, next: 0 }
    }

    #[inline]
    pub(crate) fn contains(&mut self, name: Text<'_>) -> bool {
        let name = plain(&name);
        let (before, after) = self.names.split_at(self.next.min(self.names.len()));
        let found = after
            .iter()
            .position(|known| known.as_slice() == name.as_ref())
            .map(|index| index + before.len())
            .or_else(|| before.iter().position(|known| known == name.as_ref()));
        if let Some(index) = found {
            self.next = index + 1;
        }
        found.is_some()
    }
}

/// The text without its escapes. What cannot be unescaped equals no name.
#[inline]
fn plain<'a>(text: &Text<'a>) -> Cow<'a, [u8]> {
    if !text.escaped {
        return Cow::Borrowed(text.raw);
    }
    let quoted = [b"\"", text.raw, b"\""].concat();
    match serde_json::from_slice::<String>(&quoted) {
        Ok(name) => Cow::Owned(name.into_bytes()),
        Err(_) => Cow::Borrowed(text.raw),
    }
}
