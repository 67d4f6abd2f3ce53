//! Removing a table from MySQL that is captured no longer, when a person asks for it: between two commits, and never
//! one that moves with the log.

use std::time::Duration;

use millrace_events::TableId;
use tokio::sync::oneshot;

use super::bookkeeping::{claimed, unclaim};
use super::catalog::Catalog;
use super::error::Error;
use super::follower::Desk;
use super::handle::Handle;
use super::loading::{save, with_suffixes};
use super::rows::TableState;
use crate::replica::ddl;

/// A table was not removed from MySQL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DropError {
    /// It was never there, or was removed before.
    #[error("MySQL has nothing of {0}")]
    Unknown(TableId),
    /// It would come back, or the rest would lose its rows.
    #[error("{0} is captured; only a table that is captured no longer can be removed from MySQL")]
    Captured(TableId),
    /// The projector did not get to it, and does not do it later either.
    #[error("the projector did not get to {table} within {} s{}", .waited.as_secs(), if *.paused { "; it is paused, resume it first" } else { "" })]
    Timeout {
        /// The table.
        table: TableId,
        /// How long it was waited for.
        waited: Duration,
        /// It is paused, so that waiting longer does not help.
        paused: bool,
    },
}

/// A table that somebody wants to be removed, and waits for that.
#[derive(Debug)]
pub(super) struct Wanted {
    table: TableId,
    done: oneshot::Sender<Result<(), DropError>>,
}

impl Handle {
    /// Lets a table that is captured no longer be removed from MySQL, and returns when it is.
    ///
    /// # Errors
    /// If there is no such table, or it is captured, or the projector does not get to it in time: then it stays.
    pub async fn drop_removed(&self, table: TableId, timeout: Duration) -> Result<(), DropError> {
        let (done, answer) = oneshot::channel();
        let wanted = Wanted {
            table: table.clone(),
            done,
        };
        self.0.drops().push(wanted);
        self.0.wake();
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(answer)) => answer,
            // The projector lost its connection meanwhile, or had no time.
            Ok(Err(_)) | Err(_) => Err(DropError::Timeout {
                table,
                waited: timeout,
                paused: self.status().paused_since.is_some(),
            }),
        }
    }
}

impl Desk {
    /// Removes what was asked for. A kill in between leaves a table that counts as removed and that MySQL may not have
    /// any more: who asks again gets it done.
    pub(super) async fn drop_removed(&mut self, wanted: Vec<Wanted>) -> Result<(), Error> {
        // Whoever has stopped waiting was told that it stays.
        for Wanted { table, done } in wanted.into_iter().filter(|one| !one.done.is_closed()) {
            let answer = match self.catalog.removed(&table) {
                Ok(name) => Ok(self.drop_table(&table, &name).await?),
                Err(refused) => Err(refused),
            };
            let _ = done.send(answer);
        }
        Ok(())
    }

    /// A table that somebody else has made under the name meanwhile is not ours and stays.
    async fn drop_table(&mut self, table: &TableId, name: &str) -> Result<(), Error> {
        let ours = claimed(&mut self.conn).await?;
        let names = with_suffixes(name.to_owned()).into_iter();
        for name in names.filter(|name| ours.contains(name)) {
            let dropped = ddl::drop_table(&mut self.conn, &name).await;
            dropped.map_err(Error::of_table("the removal of", table))?;
            unclaim(&mut self.conn, &name).await?;
        }
        self.catalog.forget(table);
        save(self).await
    }
}

impl Catalog {
    /// The MySQL name of a table that is captured no longer.
    fn removed(&self, table: &TableId) -> Result<String, DropError> {
        match self.tables.get(table) {
            None => Err(DropError::Unknown(table.clone())),
            Some(row) if row.state == TableState::Removed => Ok(row.name.clone()),
            Some(_) => Err(DropError::Captured(table.clone())),
        }
    }

    /// Nothing is known of a table any more.
    fn forget(&mut self, table: &TableId) {
        if self.tables.remove(table).is_some() {
            self.dirty.tables.insert(table.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::super::rows::TableRow;
    use super::*;

    #[test]
    fn only_a_table_that_is_captured_no_longer_may_go() {
        let (gone, live): (TableId, TableId) = (
            "public.gone".parse().unwrap(),
            "public.live".parse().unwrap(),
        );
        let (mut catalog, now): (Catalog, DateTime<Utc>) = (Catalog::default(), Utc::now());
        for table in [&gone, &live] {
            let row = TableRow::new(table.to_string(), now);
            catalog.tables.insert(table.clone(), row);
        }
        catalog.remove(&gone, now);
        assert_eq!(catalog.removed(&gone).as_deref(), Ok("public.gone"));
        let captured = catalog.removed(&live).unwrap_err();
        assert_eq!(captured, DropError::Captured(live));
        catalog.saved();
        catalog.forget(&gone);
        assert!(catalog.dirty.tables.contains(&gone), "its row has to go");
        assert_eq!(catalog.removed(&gone), Err(DropError::Unknown(gone)));
    }
}
