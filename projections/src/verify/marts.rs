//! A mart against its SQL, and its state against what it stands for.

use millrace_sessions::mysql::Session;

use super::merge::{merge, Shape};
use super::position::exist;
use super::report::{Subject, Tally};
use super::sides::from_mysql_by_digest;
use super::{Config, Error};
use crate::marts::{digest, recomputed_groups, recomputed_subtotals, Mart, KEY};
use crate::replica::quoted;

/// Two queries that should give the same rows.
struct Pair {
    shape: Shape,
    expected: String,
    found: String,
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
    for pair in [visible(mart), subtotals(mart), groups(mart)] {
        let expected = from_mysql_by_digest(conn, &pair.expected);
        let found = from_mysql_by_digest(other, &pair.found);
        let count = merge(&pair.shape, &mut tally, expected, found).await?;
        rows.get_or_insert(count);
    }
    Ok(Some(tally.finish(rows.unwrap_or_default())))
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
    let select = format!(
        "SELECT {} AS millrace_order, {}",
        digest(&identity_columns),
        columns
            .iter()
            .map(|column| cell(column))
            .collect::<Vec<_>>()
            .join(", "),
    );
    let position = |name: &&str| columns.iter().position(|column| column == name);
    Pair {
        expected: format!(
            "WITH expected ({}) AS ({expected}\n) {select} FROM expected ORDER BY millrace_order",
            names.join(", ")
        ),
        found: format!("{select} FROM {} ORDER BY millrace_order", quoted(table)),
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
