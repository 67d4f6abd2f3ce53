//! The chart of a mart, as its description draws it.

use millrace_events::Lsn;
use serde::Serialize;
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::Row;

use super::{begin, columns, position, quoted, Error};
use crate::config::Chart as Recipe;

/// More than a person can tell apart.
const CATEGORIES_MAX: usize = 50;
const SERIES_MAX: usize = 12;
/// What NULL is called as a category.
const NONE: &str = "(none)";

/// Values of each series by category; a missing one is `None`.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Chart {
    title: String,
    unit: String,
    categories: Vec<String>,
    series: Vec<Series>,
    lsn: Option<Lsn>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Series {
    name: String,
    values: Vec<Option<f64>>,
}

pub(super) async fn draw(
    conn: &mut MySqlConnection,
    mart: &str,
    recipe: &Recipe,
) -> Result<Chart, Error> {
    begin(conn).await?;
    if columns(conn, mart).await?.is_empty() {
        return Err(Error::NotThere(mart.to_owned()));
    }
    let lsn = position(conn).await?;
    let statement = recipe.sql.replace("{table}", &quoted(mart));
    let rows = sqlx::query(&statement).fetch_all(conn).await?;
    let cells: Result<Vec<Cell>, sqlx::Error> = rows.iter().map(cell).collect();
    let (categories, series) = arrange(cells?);
    Ok(Chart {
        title: recipe.title.clone(),
        unit: recipe.unit.clone(),
        categories,
        series,
        lsn,
    })
}

struct Cell {
    category: String,
    series: String,
    value: Option<f64>,
}

fn cell(row: &MySqlRow) -> Result<Cell, sqlx::Error> {
    let text = |index: usize| -> Result<String, sqlx::Error> {
        let bytes: Option<Vec<u8>> = row.try_get_unchecked(index)?;
        let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(text.unwrap_or_else(|| NONE.to_owned()))
    };
    Ok(Cell {
        category: text(0)?,
        series: text(1)?,
        value: row.try_get_unchecked(2)?,
    })
}

/// Categories and series in the order of their first cells; beyond the limits they are left out.
fn arrange(cells: Vec<Cell>) -> (Vec<String>, Vec<Series>) {
    let mut categories: Vec<String> = Vec::new();
    let mut series: Vec<Series> = Vec::new();
    for cell in cells {
        let Some(column) = index(&mut categories, cell.category, CATEGORIES_MAX) else {
            continue;
        };
        let mut names = series.iter().map(|series| series.name.as_str());
        let row = match names.position(|name| name == cell.series) {
            Some(row) => row,
            None if series.len() >= SERIES_MAX => continue,
            None => {
                series.push(Series {
                    name: cell.series,
                    values: Vec::new(),
                });
                series.len() - 1
            }
        };
        let values = &mut series[row].values;
        values.resize(values.len().max(column + 1), None);
        values[column] = cell.value;
    }
    for series in &mut series {
        series.values.resize(categories.len(), None);
    }
    (categories, series)
}

fn index(names: &mut Vec<String>, name: String, max: usize) -> Option<usize> {
    if let Some(index) = names.iter().position(|known| *known == name) {
        return Some(index);
    }
    if names.len() >= max {
        return None;
    }
    names.push(name);
    Some(names.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_combination_that_does_not_occur_has_no_value() {
        let cell = |category: &str, series: &str, value| Cell {
            category: category.into(),
            series: series.into(),
            value: Some(value),
        };
        let cells = vec![
            cell("new", "gold", 1.0),
            cell("paid", "gold", 2.0),
            cell("paid", "silver", 3.0),
        ];
        let (categories, series) = arrange(cells);
        assert_eq!(categories, ["new", "paid"]);
        assert_eq!(series[0].values, [Some(1.0), Some(2.0)]);
        assert_eq!(series[1].values, [None, Some(3.0)]);
    }
}
