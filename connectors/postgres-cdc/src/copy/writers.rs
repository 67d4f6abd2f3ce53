//! Who has written to tables and has not ended.
//!
//! Postgres decodes a change with the catalog of its time: what a transaction wrote before the table came to the
//! publication never comes through the stream, however late that transaction commits. A copy of the table has to
//! contain it, and so to wait for it. A table that was published since its last complete copy has no such writers.

use std::collections::{BTreeMap, BTreeSet};

use millrace_events::TableId;
use millrace_sessions::postgres::point::described;
use millrace_sessions::postgres::{qualified, PgSession};
use sqlx::postgres::PgRow;
use sqlx::Row;

use crate::Error;

// Whoever has written to a table holds this lock, or a stronger one, until its transaction is visible; a prepared
// transaction too, which has no process. It has a number of its own from before its first row on and keeps that when it is
// prepared, unlike its virtual number; the first one is that of the transaction, those behind it are of its savepoints. Who
// has the lock and no number has not written anything yet. One look at the locks: in between two a transaction could be
// prepared, and be in neither.
const WRITERS: &str = "
    WITH locks AS MATERIALIZED (SELECT * FROM pg_locks WHERE granted),
         numbers AS (SELECT DISTINCT ON (virtualtransaction) virtualtransaction, transactionid FROM locks
                      WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock'
                      ORDER BY virtualtransaction, age(transactionid) DESC)
    SELECT l.pid, coalesce(a.usename::text, p.owner::text, '?'), coalesce(a.application_name, p.gid, ''),
           CASE WHEN l.pid IS NULL THEN 'prepared' ELSE coalesce(a.state, 'state unknown') END,
           coalesce(a.xact_start, p.prepared), n.nspname::text, c.relname::text, x.transactionid::text
      FROM locks l
      JOIN numbers x USING (virtualtransaction)
      JOIN pg_class c ON c.oid = l.relation
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_stat_activity a ON a.pid = l.pid
      LEFT JOIN pg_prepared_xacts p ON l.pid IS NULL AND p.transaction = x.transactionid
     WHERE l.locktype = 'relation' AND l.relation IN (SELECT to_regclass(name)::oid FROM unnest($1::text[]) AS name)
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
     ORDER BY 5";

/// Transactions by their number, with what is known of who runs them. The oldest is the first.
type Running = Vec<(String, String)>;

/// The transactions that had written to tables at one moment, as far as they have not ended since.
#[derive(Debug, Default)]
pub(super) struct Writers(BTreeMap<TableId, Running>);

impl Writers {
    /// Those of now. Tables without any have an entry too, until [`Writers::take_free`].
    pub(super) async fn of(session: &mut PgSession, tables: &[TableId]) -> Result<Self, Error> {
        let mut writers = running(session, tables).await?;
        for table in tables {
            writers.entry(table.clone()).or_default();
        }
        Ok(Writers(writers))
    }

    /// Forgets those that have ended.
    pub(super) async fn look(&mut self, session: &mut PgSession) -> Result<(), Error> {
        let tables: Vec<_> = self.0.keys().cloned().collect();
        let now = running(session, &tables).await?;
        self.retain(&now);
        Ok(())
    }

    /// Of those that are known, the ones that run `now` stay, as they are described now.
    fn retain(&mut self, now: &BTreeMap<TableId, Running>) {
        for (table, known) in &mut self.0 {
            let numbers: BTreeSet<_> = known.drain(..).map(|(number, _)| number).collect();
            let now = now.get(table).into_iter().flatten();
            let left = now.filter(|(number, _)| numbers.contains(number));
            known.extend(left.cloned());
        }
    }

    /// The tables that nobody is waited for any more, each once.
    pub(super) fn take_free(&mut self) -> Vec<TableId> {
        let (free, busy) = std::mem::take(&mut self.0)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, running)| running.is_empty());
        self.0 = busy;
        free.into_keys().collect()
    }

    /// The tables that wait, and for whom first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&TableId, &str)> {
        self.0.iter().filter_map(|(table, running)| {
            let (_, writer) = running.first()?;
            Some((table, writer.as_str()))
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

async fn running(
    session: &mut PgSession,
    tables: &[TableId],
) -> Result<BTreeMap<TableId, Running>, Error> {
    let names = tables
        .iter()
        .map(|table| qualified(&table.schema, &table.name));
    let query = sqlx::query(WRITERS).bind(names.collect::<Vec<_>>());
    let mut running: BTreeMap<TableId, Running> = BTreeMap::new();
    for row in query.fetch_all(session).await? {
        running
            .entry(table(&row)?)
            .or_default()
            .push((row.try_get(7)?, described(&row)?));
    }
    Ok(running)
}

fn table(row: &PgRow) -> Result<TableId, sqlx::Error> {
    Ok(TableId::new(
        row.try_get::<String, _>(5)?,
        row.try_get::<String, _>(6)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(numbers: &[&str]) -> Running {
        let named = |number: &&str| ((*number).to_owned(), format!("pid of {number}"));
        numbers.iter().map(named).collect()
    }

    #[test]
    fn a_table_is_free_when_those_have_ended_that_had_written_to_it() {
        let table = |name| TableId::new("s", name);
        let mut writers = Writers(BTreeMap::from([
            (table("a"), running(&["7", "8"])),
            (table("b"), running(&[])),
        ]));
        assert_eq!(writers.take_free(), [table("b")]);
        // Who comes later has not written before; a new table is nobody's.
        writers.retain(&BTreeMap::from([
            (table("a"), running(&["9", "8"])),
            (table("b"), running(&["10"])),
        ]));
        assert_eq!(writers.take_free(), []);
        let waiting: Vec<_> = writers.waiting().collect();
        assert_eq!(waiting, [(&table("a"), "pid of 8")]);
        writers.retain(&BTreeMap::new());
        assert_eq!(writers.take_free(), [table("a")]);
        assert!(writers.is_empty());
    }
}
