//! Tables that somebody drops or alters by hand are noticed also while nothing is written to them. A mart is built again
//! by itself, a table of the source waits for a copy.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::Utc;
use millrace_events::TableId;
use tokio::time::Instant;

use super::altered::altered;
use super::bookkeeping::{claimed, unclaim};
use super::error::Error;
use super::live::Live;
use super::loading::with_suffixes;
use crate::marts;
use crate::replica::ddl;

/// How often the server is asked which tables there are.
pub(super) const EVERY: Duration = Duration::from_secs(10);

impl Live<'_> {
    /// Compares what should be live with what there is, if that is due. Nothing may be collected meanwhile.
    pub(super) async fn take_stock(&mut self) -> Result<(), Error> {
        let suspects = std::mem::take(&mut self.desk.catalog.suspects);
        let recent = self.stock_at.is_some_and(|at| at.elapsed() < EVERY);
        if suspects.is_empty() && recent {
            return Ok(());
        }
        self.stock_at = Some(Instant::now());
        let mut marts = self.desk.catalog.live_marts();
        marts.extend(suspects);
        let there = self.existing(&marts).await?;
        self.miss_tables(&there);
        self.doubt_tables().await?;
        for mart in marts {
            let own = marts::tables_of(&mart);
            if own.iter().any(|table| !there.contains(table)) {
                tracing::warn!(mart, "a table of it is gone; building it again");
                self.desk.catalog.rebuild(&mart, Utc::now());
            }
        }
        self.group.stands.marts = self.config.marts.only(&self.desk.catalog.live_marts());
        Ok(())
    }

    async fn existing(&mut self, marts: &BTreeSet<String>) -> Result<BTreeSet<String>, Error> {
        let tables = self.desk.catalog.live().map(|(_, row)| row.name.clone());
        let names: Vec<String> = tables
            .chain(marts.iter().flat_map(|mart| marts::tables_of(mart)))
            .collect();
        let there = ddl::existing(&mut self.desk.conn, &names).await;
        there.map_err(Error::sql("a look at the existing tables"))
    }

    fn miss_tables(&mut self, there: &BTreeSet<String>) {
        let live = self.desk.catalog.live();
        let missing: Vec<TableId> = live
            .filter(|(_, row)| !there.contains(&row.name))
            .map(|(id, _)| id.clone())
            .collect();
        for table in missing {
            self.set_aside(&table, "its table in MySQL is gone".into());
        }
    }

    /// Whatever such a table holds may not be what the source has.
    async fn doubt_tables(&mut self) -> Result<(), Error> {
        let tables = self.group.assembler.tables();
        for (table, how) in altered(&mut self.desk.conn, tables).await? {
            let reason = format!("somebody has altered its table in MySQL: {how}");
            self.set_aside(&table, reason);
        }
        Ok(())
    }

    fn set_aside(&mut self, table: &TableId, reason: String) {
        let error = Error::Contradiction {
            table: table.clone(),
            lsn: self.group.stands.position.place.end_lsn,
            reason,
        };
        tracing::error!(%table, %error, "set aside; everything else goes on");
        let catalog = &mut self.desk.catalog;
        catalog.set_aside(table, error.to_string(), Utc::now());
        self.group.assembler.leave(table);
    }

    /// Drops the tables of marts that are configured no longer, and gives their names back.
    pub(super) async fn drop_former_marts(&mut self) -> Result<(), Error> {
        let catalog = &self.desk.catalog;
        let replica: BTreeSet<&String> = catalog.tables.values().map(|row| &row.name).collect();
        let former = catalog.dirty.marts.iter();
        let former = former.filter(|mart| !catalog.marts.contains_key(*mart));
        let tables: Vec<String> = former
            .flat_map(|mart| marts::tables_of(mart))
            .filter(|table| !replica.contains(table))
            .flat_map(with_suffixes)
            .collect();
        if tables.is_empty() {
            return Ok(());
        }
        // One that was never built may bear the name of a table that is not ours.
        let ours = claimed(&mut self.desk.conn).await?;
        for name in tables.into_iter().filter(|name| ours.contains(name)) {
            let dropped = ddl::drop_table(&mut self.desk.conn, &name).await;
            dropped.map_err(Error::sql(
                "the removal of a mart that is configured no longer",
            ))?;
            unclaim(&mut self.desk.conn, &name).await?;
        }
        Ok(())
    }
}
