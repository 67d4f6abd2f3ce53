//! What somebody has done to tables by hand under which they would differ without a word. What the server refuses names
//! itself, and stands in `replica::refusal`.

use std::collections::BTreeMap;

use millrace_events::TableId;
use millrace_sessions::mysql::Session;
use sqlx::mysql::MySqlRow;
use sqlx::Executor;

use super::assemble::Tables;
use super::bookkeeping::text;
use super::error::Error;
use crate::replica::Table;

/// Tables of the database, each with what is wrong with it: writes of ours would not be taken back with their
/// transaction, or would not be what is stored, or rows would change without us.
const SIGNS: &str = "SELECT table_name, CONCAT('its engine is ', engine) FROM information_schema.tables \
     WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE' AND engine <> 'InnoDB' \
     UNION ALL SELECT event_object_table, CONCAT('its trigger ', trigger_name, ' may change rows before they are written') \
     FROM information_schema.triggers WHERE event_object_schema = DATABASE() AND action_timing = 'BEFORE' \
     UNION ALL SELECT table_name, CONCAT('its foreign key ', constraint_name, ' changes rows with those of another table') \
     FROM information_schema.referential_constraints WHERE constraint_schema = DATABASE() \
     AND (delete_rule NOT IN ('RESTRICT', 'NO ACTION') OR update_rule NOT IN ('RESTRICT', 'NO ACTION'))";

/// The columns of each primary key.
const KEYS: &str = "SELECT table_name, column_name FROM information_schema.statistics \
     WHERE table_schema = DATABASE() AND index_name = 'PRIMARY' ORDER BY table_name, seq_in_index";

/// Those of the tables that somebody has altered so, and how. One that is not there is passed over.
pub(super) async fn altered(
    conn: &mut Session,
    tables: &Tables,
) -> Result<Vec<(TableId, String)>, Error> {
    let signs = pairs(conn, SIGNS).await?;
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (table, column) in pairs(conn, KEYS).await? {
        keys.entry(table).or_default().push(column);
    }
    let sign = |table: &Table| {
        let name = conn.server().table_name(&table.name);
        let found = signs.iter().find(|(table, _)| *table == name);
        let found = found.map(|(_, sign)| sign.clone());
        found.or_else(|| wrong_key(table, keys.get(&name)))
    };
    let altered = tables
        .iter()
        .filter_map(|(id, followed)| Some((id.clone(), sign(&followed.table)?)));
    Ok(altered.collect())
}

/// Without the key that it was made with, a table would take every row twice.
fn wrong_key(table: &Table, found: Option<&Vec<String>>) -> Option<String> {
    let made = table.key_columns().map(|column| &column.name);
    let is_as_made = found.is_some_and(|found| found.iter().eq(made));
    (!is_as_made).then(|| "its primary key is not the one that it was made with".to_owned())
}

/// Names of tables in the form of [`Server::table_name`], each with a text.
///
/// [`Server::table_name`]: millrace_sessions::mysql::Server::table_name()
async fn pairs(conn: &mut Session, sql: &str) -> Result<Vec<(String, String)>, Error> {
    let rows = conn.fetch_all(sql).await;
    let rows = rows.map_err(Error::sql("a look at the form of its tables"))?;
    let pair = |row: &MySqlRow| {
        let name = conn.server().table_name(&text(row, 0)?);
        Ok((name, text(row, 1)?))
    };
    rows.iter().map(pair).collect()
}
