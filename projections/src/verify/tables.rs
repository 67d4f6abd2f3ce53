//! A replica table against its source.

use millrace_events::TableId;
use millrace_sessions::mysql::Session;
use millrace_sessions::postgres::PgSession;
use serde_json::{Map, Value};
use sqlx::Row as _;

use super::descent::{by_rows, by_sums, Both, Gone, Step};
use super::order;
use super::pair::Pair;
use super::position::{LiveTable, Position};
use super::quarantine;
use super::ranges::Cut;
use super::report::{Difference, DifferenceKind, Subject, Tally};
use super::{mysql, postgres, Config, Error, Method};
use crate::replica::Table;

/// The tables to compare, and those that are not live.
pub(super) fn chosen(config: &Config, position: &Position) -> (Vec<LiveTable>, Vec<TableId>) {
    match config.tables.is_empty() {
        true => (position.live.clone(), position.not_live.clone()),
        false => named(&config.tables, position),
    }
}

/// These tables, and those of them that are not live.
pub(super) fn named(wanted: &[TableId], position: &Position) -> (Vec<LiveTable>, Vec<TableId>) {
    let (mut tables, mut absent) = (Vec::new(), Vec::new());
    for id in wanted {
        match position.live.iter().find(|t| t.definition.table == *id) {
            Some(table) => tables.push(table.clone()),
            None => absent.push(id.clone()),
        }
    }
    (tables, absent)
}

/// Compares a table. Both sessions see the consistent point. [`Gone`] if its rows of that point are.
pub(super) async fn compare(
    config: &Config,
    both: &mut Both<'_>,
    named: &LiveTable,
) -> Step<Subject> {
    let LiveTable {
        name,
        definition,
        policies,
    } = named;
    let table = Table::of(definition, name, policies)
        .map_err(|error| Error::Bookkeeping(error.to_string()))?;
    let pair = Pair::new(&table, definition);
    let mut tally = Tally::new(&table.source.to_string(), config.differences_max);
    if let Err(Gone) = both.begin(&pair).await? {
        return Ok(Err(Gone));
    }
    let defined = Definition::read(both.postgres, both.mysql, &table).await?;
    let indexes = order::indexes(both.postgres, &table.source).await?;
    both.end().await?;
    if defined.replica.is_empty() && both.existing.contains(name) {
        return Ok(Err(Gone));
    }
    if let Some(difference) = defined.difference(config, &table) {
        tally.add(difference);
        return Ok(Ok(tally.finish(0)));
    }
    let done = match config.method {
        Method::Sums => {
            let cut = Cut::of(&pair.key(), &indexes);
            by_sums(both, &pair, &cut, config.pace, &mut tally).await?
        }
        Method::Rows => by_rows(both, &pair, &mut tally).await?,
    };
    if done.is_ok() && table.quarantines() {
        quarantine::compare(both.mysql, &table, &mut tally).await?;
    }
    Ok(done.map(|done| Subject {
        ranges: done.ranges,
        rows_read: done.read,
        ..tally.finish(done.rows)
    }))
}

/// The columns that exist on either side, in order.
struct Definition {
    source: Vec<String>,
    replica: Vec<String>,
}

impl Definition {
    async fn read(
        postgres_conn: &mut PgSession,
        mysql_conn: &mut Session,
        table: &Table,
    ) -> Result<Definition, Error> {
        // Stored generated columns are not in the log.
        let source = sqlx::query_scalar(
            "SELECT a.attname::text FROM pg_attribute a \
             JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped \
             AND a.attgenerated = '' ORDER BY a.attnum",
        )
        .bind(&table.source.schema)
        .bind(&table.source.name)
        .fetch_all(postgres_conn)
        .await
        .map_err(postgres("reading a table's definition"))?;
        let replica = sqlx::query(
            "SELECT CAST(column_name AS CHAR) FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position",
        )
        .bind(&table.name)
        .fetch_all(mysql_conn)
        .await
        .map_err(mysql("reading a table's definition"))?;
        // Unchecked: sqlx takes text of a binary collation for bytes.
        let replica = replica
            .iter()
            .map(|row| row.try_get_unchecked(0))
            .collect::<Result<_, _>>();
        let replica = replica.map_err(mysql("reading a table's definition"))?;
        Ok(Definition { source, replica })
    }

    /// `None` if both sides have the columns that the projector keeps.
    fn difference(&self, config: &Config, table: &Table) -> Option<Difference> {
        let kept: Vec<&str> = table
            .columns
            .iter()
            .map(|column| column.source.as_str())
            .collect();
        let planned = config.columns.get(&table.source.to_string());
        let planned = planned.and_then(Value::as_array);
        let is_planned = |column: &&String| {
            planned.is_none_or(|planned| planned.iter().any(|name| name == column.as_str()))
        };
        let source: Vec<&String> = self.source.iter().filter(is_planned).collect();
        let in_mysql: Vec<&str> = table.names().collect();
        if source == kept && self.replica == in_mysql {
            return None;
        }
        Some(Difference {
            table: table.source.to_string(),
            kind: DifferenceKind::Definition,
            key: Map::new(),
            column: "*".into(),
            expected: source.into_iter().cloned().collect(),
            found: self.replica.clone().into(),
        })
    }
}
