//! A replica table against its source.

use millrace_events::TableId;

use super::definition::Definition;
use super::descent::{by_rows, by_sums, Both, Gone, Step};
use super::order;
use super::pair::Pair;
use super::position::{LiveTable, Position};
use super::quarantine;
use super::ranges::Cut;
use super::report::{Subject, Tally};
use super::{Config, Error, Method};
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
    let differences = defined.differences(config, &table);
    // The definition may be that of another table, which has taken its place.
    let is_other = !differences.is_empty() && both.is_replaced_unread(&pair).await?;
    both.end().await?;
    if is_other {
        return Ok(Err(Gone));
    }
    differences.into_iter().for_each(|it| tally.add(it));
    if !defined.is_comparable(config, &table) {
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
