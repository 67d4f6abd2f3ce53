//! A page of a mart: sorted, searched, in an order that is the same each time.

use millrace_events::Lsn;
use serde::Serialize;
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::Row;

use super::{begin, columns, position, quoted, Column, Error};

const LIMIT_MAX: u64 = 500;
const SEARCH_CHARS_MAX: usize = 200;

/// What is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Browse {
    pub(crate) sort: Option<String>,
    pub(crate) direction: Direction,
    /// Part of any column's text; case does not matter.
    pub(crate) search: Option<String>,
    pub(crate) offset: u64,
    pub(crate) limit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Ascending,
    Descending,
}

/// Rows with values as MySQL prints them, and the position that they are at.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    name: String,
    columns: Vec<Column>,
    rows: Vec<Vec<Option<String>>>,
    /// Rows that match, on all pages.
    total: u64,
    lsn: Option<Lsn>,
}

pub(super) async fn page(
    conn: &mut MySqlConnection,
    name: &str,
    wanted: &Browse,
) -> Result<Page, Error> {
    begin(conn).await?;
    let columns = columns(conn, name).await?;
    if columns.is_empty() {
        return Err(Error::NotThere(name.to_owned()));
    }
    check(wanted, &columns)?;
    let lsn = position(conn).await?;
    let condition = condition(&columns, wanted.search.as_deref());
    let table = quoted(name);
    let count = format!("SELECT COUNT(*) FROM {table}{condition}");
    let mut count = sqlx::query_scalar::<_, i64>(&count);
    let select = select(&table, &condition, &columns, wanted);
    let mut rows = sqlx::query(&select);
    if let Some(search) = &wanted.search {
        let pattern = pattern(search);
        for _ in &columns {
            count = count.bind(pattern.clone());
            rows = rows.bind(pattern.clone());
        }
    }
    let total = count.fetch_one(&mut *conn).await?;
    let rows = rows.fetch_all(&mut *conn).await?;
    let rows: Result<_, sqlx::Error> = rows.iter().map(texts).collect();
    Ok(Page {
        name: name.to_owned(),
        rows: rows?,
        columns,
        total: u64::try_from(total).unwrap_or(0),
        lsn,
    })
}

fn check(wanted: &Browse, columns: &[Column]) -> Result<(), Error> {
    let refuse = |message: String| Err(Error::Request(message));
    if !(1..=LIMIT_MAX).contains(&wanted.limit) {
        return refuse(format!("limit is 1 to {LIMIT_MAX}"));
    }
    if i64::try_from(wanted.offset).is_err() {
        return refuse("offset is too large".to_owned());
    }
    let search = wanted.search.as_deref().unwrap_or("");
    if search.chars().count() > SEARCH_CHARS_MAX {
        return refuse(format!("search is at most {SEARCH_CHARS_MAX} characters"));
    }
    let is_column = |sort: &String| columns.iter().any(|column| column.name == *sort);
    if wanted.sort.as_ref().is_some_and(|sort| !is_column(sort)) {
        return refuse("sort is no column of this mart".to_owned());
    }
    Ok(())
}

/// Ties are broken by all columns, so that no row is on two pages or on none.
fn select(table: &str, condition: &str, columns: &[Column], wanted: &Browse) -> String {
    let direction = match wanted.direction {
        Direction::Ascending => "ASC",
        Direction::Descending => "DESC",
    };
    let names = || columns.iter().map(|column| quoted(&column.name));
    let values: Vec<String> = names().map(|name| as_text(&name)).collect();
    let sort = wanted.sort.as_ref();
    let first = sort.map(|sort| format!("{table}.{} {direction}", quoted(sort)));
    let ties = names().map(|name| format!("{table}.{name}"));
    let order: Vec<String> = first.into_iter().chain(ties).collect();
    format!(
        "SELECT {} FROM {table}{condition} ORDER BY {} LIMIT {} OFFSET {}",
        values.join(", "),
        order.join(", "),
        wanted.limit,
        wanted.offset
    )
}

/// One placeholder per column.
fn condition(columns: &[Column], search: Option<&str>) -> String {
    if search.is_none() {
        return String::new();
    }
    let matches = |column: &Column| {
        let text = as_text(&quoted(&column.name));
        format!("{text} COLLATE utf8mb4_general_ci LIKE ? ESCAPE '!'")
    };
    let matches: Vec<String> = columns.iter().map(matches).collect();
    format!(" WHERE ({})", matches.join(" OR "))
}

fn as_text(quoted: &str) -> String {
    format!("CONVERT(CAST({quoted} AS CHAR) USING utf8mb4)")
}

/// The text itself anywhere, its wildcards taken literally.
fn pattern(search: &str) -> String {
    let mut pattern = String::from("%");
    for letter in search.chars() {
        if matches!(letter, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

fn texts(row: &MySqlRow) -> Result<Vec<Option<String>>, sqlx::Error> {
    let text = |index| -> Result<Option<String>, sqlx::Error> {
        let bytes: Option<Vec<u8>> = row.try_get_unchecked(index)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    (0..row.len()).map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Column> {
        let column = |name: &str| Column {
            name: name.to_owned(),
            numeric: false,
        };
        vec![column("a"), column("b`c")]
    }

    fn wanted(sort: Option<&str>, limit: u64) -> Browse {
        Browse {
            sort: sort.map(str::to_owned),
            direction: Direction::Descending,
            search: None,
            offset: 10,
            limit,
        }
    }

    #[test]
    fn wildcards_of_a_search_are_letters() {
        assert_eq!(pattern("50%_!"), "%50!%!_!!%");
    }

    #[test]
    fn only_a_column_of_the_mart_is_sorted_by_and_only_so_many_rows_are_given() {
        assert!(check(&wanted(Some("b`c"), 500), &columns()).is_ok());
        for (sort, limit) in [(Some("a DESC"), 5), (Some(""), 5), (None, 0), (None, 501)] {
            let refused = check(&wanted(sort, limit), &columns());
            assert!(
                matches!(refused, Err(Error::Request(_))),
                "{sort:?} {limit}"
            );
        }
    }

    #[test]
    fn names_are_quoted_and_ties_are_broken_by_all_columns() {
        let statement = select("`t`", "", &columns(), &wanted(Some("a"), 5));
        assert_eq!(
            statement,
            "SELECT CONVERT(CAST(`a` AS CHAR) USING utf8mb4), CONVERT(CAST(`b``c` AS CHAR) USING utf8mb4) \
             FROM `t` ORDER BY `t`.`a` DESC, `t`.`a`, `t`.`b``c` LIMIT 5 OFFSET 10"
        );
    }
}
