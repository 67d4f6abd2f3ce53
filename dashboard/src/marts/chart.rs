//! A chart for each of the shop's marts.

use millrace_events::Lsn;
use serde::Serialize;
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::Row;

use super::{begin, columns, position, quoted, Error};

/// More than a person can tell apart.
const CATEGORIES_MAX: usize = 50;
const SERIES_MAX: usize = 12;
/// What NULL is called as a category.
const NONE: &str = "(none)";

/// Values of each series by category; a missing one is `None`.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Chart {
    title: &'static str,
    unit: &'static str,
    categories: Vec<String>,
    series: Vec<Series>,
    lsn: Option<Lsn>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Series {
    name: String,
    values: Vec<Option<f64>>,
}

/// How a mart is drawn: a statement with the columns category, series, value, in the order wanted.
struct Recipe {
    title: &'static str,
    unit: &'static str,
    /// `{table}` stands for the mart.
    statement: &'static str,
}

fn recipe(mart: &str) -> Option<Recipe> {
    let (title, unit, statement) = match mart {
        "mart_average_check" => (
            "Average check by order status and loyalty status",
            "per order",
            "SELECT status, loyalty_status, CAST(average_check AS DOUBLE) \
             FROM {table} ORDER BY 1, 2",
        ),
        "mart_user_activity" => (
            "Orders by status",
            "orders",
            "SELECT status, 'orders', CAST(SUM(order_count) AS DOUBLE) \
             FROM {table} GROUP BY status ORDER BY 1",
        ),
        "mart_product_rating" => (
            "Products by average rating",
            "products",
            "SELECT CONCAT(CAST(step / 2 AS DECIMAL(3,1)), ' – ', CAST(step / 2 + 0.5 AS DECIMAL(3,1))), \
             'products', CAST(COUNT(*) AS DOUBLE) \
             FROM (SELECT LEAST(FLOOR(rating * 2), 9) AS step FROM {table} WHERE rating IS NOT NULL) AS steps \
             GROUP BY step ORDER BY step",
        ),
        "mart_user_loyalty_points" => (
            "Loyalty points by loyalty status",
            "points",
            "SELECT loyalty_status, 'points', CAST(SUM(total_loyalty_points) AS DOUBLE) \
             FROM {table} GROUP BY loyalty_status ORDER BY 1",
        ),
        _ => return None,
    };
    Some(Recipe {
        title,
        unit,
        statement,
    })
}

pub(super) async fn draw(conn: &mut MySqlConnection, mart: &str) -> Result<Chart, Error> {
    let recipe = recipe(mart).ok_or_else(|| Error::NoChart(mart.to_owned()))?;
    begin(conn).await?;
    if columns(conn, mart).await?.is_empty() {
        return Err(Error::NotThere(mart.to_owned()));
    }
    let lsn = position(conn).await?;
    let statement = recipe.statement.replace("{table}", &quoted(mart));
    let rows = sqlx::query(&statement).fetch_all(conn).await?;
    let cells: Result<Vec<Cell>, sqlx::Error> = rows.iter().map(cell).collect();
    let (categories, series) = arrange(cells?);
    Ok(Chart {
        title: recipe.title,
        unit: recipe.unit,
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
