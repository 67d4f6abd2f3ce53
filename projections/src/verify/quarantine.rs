//! What stands in quarantine of a table, against the values of the source that MySQL cannot hold.

use std::collections::BTreeMap;

use millrace_sessions::mysql::Session;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::checksum::{selected_sums, Sums};
use super::merge::Unfit;
use super::report::{Difference, DifferenceKind, Tally};
use super::sides::{all_from_mysql, sums_from_mysql};
use super::Error;
use crate::engine::quarantine::hex;
use crate::replica::write::push_string;
use crate::replica::Table;

/// Rows that are asked for at once.
const ROWS_PER_QUERY: usize = 200;

/// So many of the first values are kept, to name those that differ.
const KEPT_MAX: usize = 20_000;
/// And no more than so many bytes of them.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The values of the source that have to stand in quarantine.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// How many there are.
    pub(super) total: u64,
    /// All of them, as [`selected_sums`] sums up what stands there.
    sums: Sums,
    /// The first of them, with the keys of their rows.
    kept: Vec<(Map<String, Value>, Unfit)>,
    kept_bytes: usize,
}

impl Expected {
    /// Adds a value.
    pub(super) fn add(&mut self, key: impl FnOnce() -> Map<String, Value>, unfit: &Unfit) {
        self.total += 1;
        self.sums.add_digest(&row_digest(unfit));
        let bytes = self.kept_bytes + unfit.text.len();
        if self.kept.len() < KEPT_MAX && bytes <= KEPT_BYTES_MAX {
            self.kept_bytes = bytes;
            self.kept.push((key(), unfit.clone()));
        }
    }
}

/// The digest of a row of the quarantine: that of the digests of its columns, with commas between them.
fn row_digest(unfit: &Unfit) -> String {
    let columns = [&unfit.digest, &unfit.column, &unfit.text];
    sha256(&columns.map(|column| sha256(column)).join(","))
}

fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text).into())
}

/// Compares what the comparison of the rows has met with what is there, in the same snapshot of MySQL: all by their
/// sums, and where these differ, each value and their number.
pub(super) async fn compare(
    session: &mut Session,
    table: &Table,
    tally: &mut Tally,
) -> Result<(), Error> {
    let expected = std::mem::take(&mut tally.unfit);
    let found = sums_from_mysql(session, &sums(table)).await?;
    if !expected.sums.differing(&found).is_empty() {
        tally.add(of_all(table, expected.total, found.rows()));
        for some in expected.kept.chunks(ROWS_PER_QUERY) {
            compare_each(session, table, some, tally).await?;
        }
    }
    tally.unfit.total = expected.total;
    Ok(())
}

fn sums(table: &Table) -> String {
    let mut from = String::from("millrace_quarantine WHERE name = ");
    push_string(&mut from, &table.name);
    let columns = ["digest", "column_name", "value"].map(str::to_owned);
    selected_sums(&from, &columns)
}

/// Of the whole, because a value that is too many there belongs to no row.
fn of_all(table: &Table, expected: u64, found: u64) -> Difference {
    let (expected, found) = match expected == found {
        true => ("these values".into(), "others".into()),
        false => (expected.into(), found.into()),
    };
    difference(table, Map::new(), "*", expected, found)
}

async fn compare_each(
    session: &mut Session,
    table: &Table,
    kept: &[(Map<String, Value>, Unfit)],
    tally: &mut Tally,
) -> Result<(), Error> {
    let found = texts(session, table, kept).await?;
    for (key, unfit) in kept {
        let found = found.get(&(unfit.digest.clone(), unfit.column.clone()));
        if found != Some(&unfit.text) {
            let found = found.cloned().map_or(Value::Null, Value::String);
            let expected = unfit.text.clone().into();
            let key = key.clone();
            tally.add(difference(table, key, &unfit.column, expected, found));
        }
    }
    Ok(())
}

fn difference(
    table: &Table,
    key: Map<String, Value>,
    column: &str,
    expected: Value,
    found: Value,
) -> Difference {
    Difference {
        table: table.source.to_string(),
        kind: DifferenceKind::Quarantine,
        key,
        column: column.to_owned(),
        expected,
        found,
    }
}

/// By digest of the row and column.
async fn texts(
    session: &mut Session,
    table: &Table,
    unfit: &[(Map<String, Value>, Unfit)],
) -> Result<BTreeMap<(String, String), String>, Error> {
    let mut sql =
        String::from("SELECT digest, column_name, value FROM millrace_quarantine WHERE name = ");
    push_string(&mut sql, &table.name);
    for (number, (_, unfit)) in unfit.iter().enumerate() {
        sql.push_str(if number == 0 { " AND digest IN (" } else { "," });
        push_string(&mut sql, &unfit.digest);
    }
    sql.push(')');
    let rows = all_from_mysql(session, &sql).await?;
    let entry = |row: Vec<Option<String>>| match <[Option<String>; 3]>::try_from(row) {
        Ok([Some(digest), Some(column), Some(text)]) => Some(((digest, column), text)),
        _ => None,
    };
    Ok(rows.into_iter().filter_map(entry).collect())
}
