//! The description of a mart, from which its maintenance is generated.

use serde::Deserialize;

use crate::replica::names::derived;

/// Digest of the group columns: in both levels, and as the invisible primary key of the visible table.
pub(crate) const KEY: &str = "millrace_key";
/// Column of the inner level that holds the fact's join value.
pub(crate) const JOIN: &str = "millrace_join";
/// Fact rows, non-NULL values, exact sum of the values.
pub(crate) const FIGURES: [&str; 3] = ["millrace_n", "millrace_nn", "millrace_sum"];

/// A mart of the form `SELECT … FROM dimension JOIN fact … GROUP BY …`.
///
/// The maintained table equals the result of [`Mart::definition`] as long as the description says
/// the same as the SQL; a test holds the one against the other.
#[derive(Clone, Debug)]
pub struct Mart {
    pub(crate) name: String,
    pub(crate) definition: String,
    pub(crate) description: Description,
}

/// What stands in `NAME.json`. Tables go by their names in MySQL, as in the SQL.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    pub(crate) fact: Fact,
    pub(crate) dimension: Dimension,
    /// The visible columns, in order.
    pub(crate) columns: Vec<Column>,
    #[serde(default)]
    pub(crate) chart: Option<Chart>,
    #[serde(default)]
    pub(crate) summary: Option<Summary>,
}

/// The table of which a mart counts rows. Its rows without join value belong to nobody.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fact {
    pub(crate) table: String,
    /// Primary key.
    pub(crate) key: Vec<String>,
    /// Column that refers to the dimension.
    pub(crate) join: String,
    /// Column that is summed or averaged; an exact number.
    pub(crate) value: String,
}

/// The table that a fact refers to by a key of one column.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dimension {
    pub(crate) table: String,
    pub(crate) key: String,
}

/// A visible column. Group columns have the name that they have in their table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Column {
    /// Group column of the dimension.
    Dimension(String),
    /// Group column of the fact.
    Fact(String),
    /// `COUNT(*)`.
    Count(String),
    /// `SUM(value)`.
    Sum(String),
    /// `AVG(value)`.
    Average(String),
}

/// How the page draws a mart.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chart {
    /// What is shown.
    pub title: String,
    /// What the values count.
    pub unit: String,
    /// A `SELECT` with the columns category, series and value, in the order wanted. `{table}` stands for the mart.
    pub sql: String,
}

/// One number that sums a mart up, for the terminal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// What it is.
    pub title: String,
    /// A `SELECT` of one row and one column. `{table}` stands for the mart.
    pub sql: String,
}

impl Column {
    pub(crate) fn name(&self) -> &str {
        match self {
            Column::Dimension(name)
            | Column::Fact(name)
            | Column::Count(name)
            | Column::Sum(name)
            | Column::Average(name) => name,
        }
    }

    pub(super) fn is_group(&self) -> bool {
        matches!(self, Column::Dimension(_) | Column::Fact(_))
    }
}

impl Mart {
    /// Name of the visible table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The defining statement: documentation and oracle.
    pub fn definition(&self) -> &str {
        &self.definition
    }

    /// How the page draws it, if it does.
    pub fn chart(&self) -> Option<&Chart> {
        self.description.chart.as_ref()
    }

    /// The number that the terminal shows of it, if any.
    pub fn summary(&self) -> Option<&Summary> {
        self.description.summary.as_ref()
    }

    /// The tables that it reads.
    pub fn reads(&self) -> Vec<String> {
        vec![self.fact().table.clone(), self.dimension().table.clone()]
    }

    pub(crate) fn fact(&self) -> &Fact {
        &self.description.fact
    }

    pub(crate) fn dimension(&self) -> &Dimension {
        &self.description.dimension
    }

    /// The visible columns, in order.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.description.columns
    }

    /// The group columns, in visible order.
    pub(crate) fn group(&self) -> impl Iterator<Item = &Column> {
        self.columns().iter().filter(|column| column.is_group())
    }

    /// The group columns that the fact brings.
    pub(crate) fn fact_group(&self) -> Vec<&str> {
        let of_fact = |column: &&Column| matches!(column, Column::Fact(_));
        self.group().filter(of_fact).map(Column::name).collect()
    }

    /// The columns that identify a visible row, by which readers sort. The dimension's key, where it is among the group
    /// columns, stands for all that the dimension brings.
    pub fn identity(&self) -> Vec<&str> {
        if !self.per_dimension_row() {
            return self.group().map(Column::name).collect();
        }
        let mut identity = vec![self.dimension().key.as_str()];
        identity.extend(self.fact_group());
        identity
    }

    /// True if a group never spans two dimension rows.
    pub(crate) fn per_dimension_row(&self) -> bool {
        let is_key = |column: &Column| matches!(column, Column::Dimension(name) if *name == self.dimension().key);
        self.columns().iter().any(is_key)
    }

    /// Columns of the inner level's table, in order.
    pub(crate) fn subtotal_columns(&self) -> Vec<String> {
        let group = self.fact_group();
        names([JOIN, KEY].into_iter().chain(group).chain(FIGURES))
    }

    /// True for the columns of the inner level that identify a row, but for their digest.
    pub(crate) fn identifies_subtotal(&self, column: &str) -> bool {
        column == JOIN || self.fact_group().contains(&column)
    }

    /// Columns of the outer level's table, in order.
    pub(crate) fn group_columns(&self) -> Vec<String> {
        let group = self.group().map(Column::name);
        names([KEY].into_iter().chain(group).chain(FIGURES))
    }

    /// Name of the table of the inner level.
    pub(crate) fn subtotals(&self) -> String {
        subtotals(&self.name)
    }

    /// Name of the table of the outer level.
    pub(crate) fn groups(&self) -> String {
        groups(&self.name)
    }
}

pub(super) fn subtotals(mart: &str) -> String {
    derived("millrace_", mart, "_subtotals")
}

pub(super) fn groups(mart: &str) -> String {
    derived("millrace_", mart, "_groups")
}

fn names<'a>(columns: impl Iterator<Item = &'a str>) -> Vec<String> {
    columns.map(str::to_owned).collect()
}
