//! What stands in quarantine of a table, against the values of the source that MySQL cannot hold.

use std::collections::BTreeMap;

use millrace_sessions::mysql::Session;
use serde_json::{Map, Value};

use super::merge::Unfit;
use super::report::{Difference, DifferenceKind, Tally};
use super::sides::all_from_mysql;
use super::{mysql, Error};
use crate::replica::write::push_string;
use crate::replica::Table;

/// Rows that are asked for at once.
const ROWS_PER_QUERY: usize = 200;

/// Compares what the comparison of the rows has met with what is there, in the same snapshot of MySQL: each value, and
/// the number of all.
pub(super) async fn compare(
    session: &mut Session,
    table: &Table,
    tally: &mut Tally,
) -> Result<(), Error> {
    let unfit = std::mem::take(&mut tally.unfit);
    for some in unfit.chunks(ROWS_PER_QUERY) {
        let found = texts(session, table, some).await?;
        for (key, unfit) in some {
            let found = found.get(&(unfit.digest.clone(), unfit.column.clone()));
            if found != Some(&unfit.text) {
                let found = found.cloned().map_or(Value::Null, Value::String);
                let expected = unfit.text.clone().into();
                tally.add(difference(
                    table,
                    key.clone(),
                    &unfit.column,
                    expected,
                    found,
                ));
            }
        }
    }
    let found = count(session, table).await?;
    if found != tally.unfit_total {
        let (expected, found) = (tally.unfit_total.into(), found.into());
        tally.add(difference(table, Map::new(), "*", expected, found));
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

async fn count(session: &mut Session, table: &Table) -> Result<u64, Error> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM millrace_quarantine WHERE name = ?")
        .bind(&table.name)
        .fetch_one(session)
        .await
        .map_err(mysql("counting values in quarantine"))?;
    Ok(count.unsigned_abs())
}
