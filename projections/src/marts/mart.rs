//! The description of a mart, from which its maintenance is generated.

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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mart {
    /// Name of the visible table.
    pub(crate) name: &'static str,
    /// The defining statement: documentation and oracle.
    pub(crate) definition: &'static str,
    pub(crate) fact: Fact,
    pub(crate) dimension: Dimension,
    /// The visible columns, in order.
    pub(crate) columns: &'static [Column],
}

/// The table of which a mart counts rows. Its rows without join value belong to nobody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fact {
    pub(crate) table: &'static str,
    /// Primary key.
    pub(crate) key: &'static [&'static str],
    /// Column that refers to the dimension.
    pub(crate) join: &'static str,
    /// Column that is summed or averaged; an exact number.
    pub(crate) value: &'static str,
}

/// The table that a fact refers to by a key of one column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dimension {
    pub(crate) table: &'static str,
    pub(crate) key: &'static str,
}

/// A visible column. Group columns have the name that they have in their table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// Group column of the dimension.
    Dimension(&'static str),
    /// Group column of the fact.
    Fact(&'static str),
    /// `COUNT(*)`.
    Count(&'static str),
    /// `SUM(value)`.
    Sum(&'static str),
    /// `AVG(value)`.
    Average(&'static str),
}

impl Column {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Column::Dimension(name)
            | Column::Fact(name)
            | Column::Count(name)
            | Column::Sum(name)
            | Column::Average(name) => name,
        }
    }

    fn is_group(&self) -> bool {
        matches!(self, Column::Dimension(_) | Column::Fact(_))
    }
}

impl Mart {
    /// The group columns, in visible order.
    pub(crate) fn group(&self) -> impl Iterator<Item = Column> {
        self.columns.iter().copied().filter(Column::is_group)
    }

    /// The group columns that the fact brings.
    pub(crate) fn fact_group(&self) -> Vec<&'static str> {
        let of_fact = |column: Column| matches!(column, Column::Fact(_)).then(|| column.name());
        self.group().filter_map(of_fact).collect()
    }

    /// The columns that identify a visible row. The dimension's key, where it is among the group
    /// columns, stands for all that the dimension brings.
    pub(crate) fn identity(&self) -> Vec<&'static str> {
        if !self.per_dimension_row() {
            return self.group().map(|column| column.name()).collect();
        }
        let mut identity = vec![self.dimension.key];
        identity.extend(self.fact_group());
        identity
    }

    /// True if a group never spans two dimension rows.
    pub(crate) fn per_dimension_row(&self) -> bool {
        self.columns
            .contains(&Column::Dimension(self.dimension.key))
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
        let group = self.group().map(|column| column.name());
        names([KEY].into_iter().chain(group).chain(FIGURES))
    }

    /// Name of the table of the inner level.
    pub(crate) fn subtotals(&self) -> String {
        derived("millrace_", self.name, "_subtotals")
    }

    /// Name of the table of the outer level.
    pub(crate) fn groups(&self) -> String {
        derived("millrace_", self.name, "_groups")
    }
}

fn names<'a>(columns: impl Iterator<Item = &'a str>) -> Vec<String> {
    columns.map(str::to_owned).collect()
}
