//! A mart against its SQL, and its state against what it stands for.

use millrace_sessions::mysql::Session;
use sqlx::Executor;

use super::checksum::selected_sums;
use super::descent::{BEGIN, END};
use super::merge::{merge, Shape};
use super::position::exist;
use super::report::{Subject, Tally};
use super::sides::{from_mysql_by_digest, sums_from_mysql};
use super::{mysql, Config, Error, Method};
use crate::marts::{digest, recomputed_groups, recomputed_subtotals, Mart, KEY};
use crate::replica::quoted;

/// Two queries that should give the same rows, and two for sums of their digests.
struct Pair {
    shape: Shape,
    expected: String,
    found: String,
    expected_sums: String,
    found_sums: String,
}

/// Compares a mart and its state tables; `None` if one of them is not there. Both connections see
/// the same commit.
pub(super) async fn compare(
    config: &Config,
    conn: &mut Session,
    other: &mut Session,
    mart: &Mart,
) -> Result<Option<Subject>, Error> {
    let (subtotals_table, groups_table) = (mart.subtotals(), mart.groups());
    if !exist(conn, &[&mart.name, &subtotals_table, &groups_table]).await? {
        return Ok(None);
    }
    let mut tally = Tally::new(&mart.name, config.differences_max);
    let mut rows = None;
    savepoint(conn, other, BEGIN).await?;
    for pair in [visible(mart), subtotals(mart), groups(mart)] {
        let count = match config.method {
            Method::Sums => equal_rows(conn, other, &pair).await?,
            Method::Rows => None,
        };
        let count = match count {
            Some(count) => count,
            None => {
                let expected = from_mysql_by_digest(conn, &pair.expected);
                let found = from_mysql_by_digest(other, &pair.found);
                merge(&pair.shape, &mut tally, expected, found).await?
            }
        };
        rows.get_or_insert(count);
    }
    savepoint(conn, other, END).await?;
    Ok(Some(tally.finish(rows.unwrap_or_default())))
}

/// Locks on tables last no longer than the comparison of one mart.
async fn savepoint(
    conn: &mut Session,
    other: &mut Session,
    statement: &'static str,
) -> Result<(), Error> {
    for session in [conn, other] {
        let done = session.execute(statement).await;
        done.map_err(mysql("comparing a mart"))?;
    }
    Ok(())
}

/// How many rows both queries give, if the sums of their digests say that they are the same.
async fn equal_rows(
    conn: &mut Session,
    other: &mut Session,
    pair: &Pair,
) -> Result<Option<u64>, Error> {
    let (expected, found) = tokio::try_join!(
        sums_from_mysql(conn, &pair.expected_sums),
        sums_from_mysql(other, &pair.found_sums),
    )?;
    let equal = expected.differing(&found).is_empty();
    Ok(equal.then(|| expected.rows()))
}

/// The key is part of it: the projector finds the row of a group by it alone, so a wrong one would leave that row behind.
fn visible(mart: &Mart) -> Pair {
    let mut columns: Vec<String> = mart
        .columns()
        .iter()
        .map(|column| column.name().to_owned())
        .collect();
    columns.push(KEY.to_owned());
    let identity = mart.identity();
    let group: Vec<String> = mart.group().map(|column| quoted(column.name())).collect();
    // The files end without semicolon; one that a person adds does no harm.
    let definition = mart.definition.trim().trim_end_matches(';');
    let keyed = format!(
        "SELECT shown.*, {} FROM ({definition}\n) AS shown",
        digest(&group)
    );
    pair(&mart.name, columns, &identity, &keyed)
}

fn subtotals(mart: &Mart) -> Pair {
    let columns = mart.subtotal_columns();
    let identity: Vec<&str> = columns
        .iter()
        .filter(|c| mart.identifies_subtotal(c))
        .map(String::as_str)
        .collect();
    pair(
        &mart.subtotals(),
        columns.clone(),
        &identity,
        &recomputed_subtotals(mart),
    )
}

fn groups(mart: &Mart) -> Pair {
    let columns = mart.group_columns();
    let identity: Vec<&str> = mart.group().map(|column| column.name()).collect();
    pair(&mart.groups(), columns, &identity, &recomputed_groups(mart))
}

/// Both sides ordered by a digest of what identifies a row: the merge then needs to know nothing of
/// types, NULLs and collations, and it is the servers' disk that sorts.
fn pair(table: &str, columns: Vec<String>, identity: &[&str], expected: &str) -> Pair {
    let names: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
    let identity_columns: Vec<String> = identity.iter().map(|column| quoted(column)).collect();
    let cells: Vec<String> = columns.iter().map(|column| cell(column)).collect();
    let select = format!(
        "SELECT {} AS millrace_order, {}",
        digest(&identity_columns),
        cells.join(", "),
    );
    let with = format!("WITH expected ({}) AS ({expected}\n)", names.join(", "));
    let found = quoted(table);
    let position = |name: &&str| columns.iter().position(|column| column == name);
    Pair {
        expected: format!("{with} {select} FROM expected ORDER BY millrace_order"),
        found: format!("{select} FROM {found} ORDER BY millrace_order"),
        expected_sums: format!("{with} {}", selected_sums("expected", &cells)),
        found_sums: selected_sums(&found, &cells),
        shape: Shape {
            table: table.to_owned(),
            key: identity.iter().filter_map(position).collect(),
            columns,
        },
    }
}

fn cell(column: &str) -> String {
    if column == KEY {
        format!("HEX({})", quoted(column))
    } else {
        quoted(column)
    }
}
