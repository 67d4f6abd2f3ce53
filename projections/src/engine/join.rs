//! Tables that have caught up take their names, between two commits, together with the marts that read them.
//!
//! DDL commits implicitly, so this is a row of steps. Each can be done again; the two that a RENAME divides are told
//! apart by a stamp in the bookkeeping: a projector that is killed at any instant goes on at the right one.

use std::collections::BTreeSet;

use chrono::Utc;
use millrace_events::TableId;
use sqlx::Executor;

use super::bookkeeping::{claim, claimed};
use super::catalog::Catalog;
use super::error::Error;
use super::follower::{lose, Desk, TRANSACTION};
use super::hooks::{Hooks, Point};
use super::loading::{save, with_suffixes};
use super::position::Position;
use super::rows::CopyStep;
use super::Culprit;
use crate::marts::{self, Marts};
use crate::replica::names::{suffixed, RETIRED, SHADOW};
use crate::replica::{ddl, quoted, Table};
use crate::script::Script;

/// Whoever waits to rename a table keeps everybody from it: it gives up soon, and so does the work before.
const SHORT_WAIT: &str = "SET SESSION lock_wait_timeout = 2, innodb_lock_wait_timeout = 2";
/// As the session has it otherwise.
const ORDINARY_WAIT: &str = "SET SESSION lock_wait_timeout = 20, innodb_lock_wait_timeout = 20";

/// What joining needs.
pub(crate) struct Joiner<'a> {
    /// All that are configured.
    pub(crate) marts: &'a Marts,
    pub(crate) hooks: &'a Hooks,
}

impl Joiner<'_> {
    /// Makes tables live that stand where `position` stands, and builds the marts that are due with them. Nothing else
    /// is applied meanwhile. False if somebody's open transaction is in the way: then nothing has changed, and it may be
    /// tried again. Those that wait for tables keep everybody else from them, so that it is not waited for long.
    pub(crate) async fn join(
        &self,
        desk: &mut Desk,
        position: &Position,
        tables: &[TableId],
    ) -> Result<bool, Error> {
        desk.execute(SHORT_WAIT, "a limit for locks").await?;
        let tables = self.index_all(desk, tables).await?;
        self.hooks.at(Point::Indexed).await;
        let joined = match self.build(desk, &tables).await? {
            Some(marts) => self.take_names(desk, position, &tables, &marts).await?,
            None => false,
        };
        desk.execute(ORDINARY_WAIT, "a limit for locks").await?;
        save(desk).await?;
        Ok(joined)
    }

    async fn take_names(
        &self,
        desk: &mut Desk,
        position: &Position,
        tables: &[TableId],
        marts: &[String],
    ) -> Result<bool, Error> {
        self.hooks.at(Point::Built).await;
        desk.catalog.stamp(tables, marts);
        desk.catalog.quarantine.begin();
        let mut script = Script::on(&mut desk.conn);
        script.push("BEGIN", &TRANSACTION).await?;
        position.lock(&mut script).await?;
        script.send().await?;
        desk.catalog.save(&mut desk.conn).await?;
        desk.execute("COMMIT", "a commit").await?;
        desk.catalog.saved();
        self.hooks.at(Point::Stamped).await;
        self.finish(desk).await
    }

    /// Ends what was stamped, if anything was. False if the names are in use: then it is as if it had not been stamped.
    pub(crate) async fn finish(&self, desk: &mut Desk) -> Result<bool, Error> {
        let (tables, marts) = self.whole(desk).await?;
        let names = self.names(&desk.catalog, &tables, &marts);
        if names.is_empty() {
            return Ok(true);
        }
        match swap(desk, &names).await {
            Ok(()) => {}
            Err(error) if error.is_lock_conflict() => {
                tracing::warn!(
                    ?names,
                    "somebody reads these tables in an open transaction, so that their new ones cannot take their names; \
                     trying again later (SHOW PROCESSLIST names the connection)"
                );
                desk.catalog.unstamp(&tables, &marts);
                save(desk).await?;
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        self.hooks.at(Point::Renamed).await;
        desk.catalog.joined(&tables, &marts, Utc::now());
        save(desk).await?;
        self.hooks.at(Point::Joined).await;
        Ok(true)
    }

    /// What is stamped. If the names are not taken yet, whatever has lost a shadow table since is left behind.
    async fn whole(&self, desk: &mut Desk) -> Result<(Vec<TableId>, Vec<String>), Error> {
        let (mut tables, mut marts) = desk.catalog.stamped();
        let shadows: Vec<String> = (self.names(&desk.catalog, &tables, &marts).iter())
            .map(|name| suffixed(name, SHADOW))
            .collect();
        let there = existing(desk, &shadows).await?;
        if there.is_empty() {
            return Ok((tables, marts));
        }
        let catalog = &mut desk.catalog;
        tables.retain(|id| {
            let name = catalog
                .tables
                .get(id)
                .map(|row| suffixed(&row.name, SHADOW));
            let whole = name.is_some_and(|name| there.contains(&name));
            if !whole {
                catalog.fail_copy(id, shadow_gone(id, catalog).to_string(), Utc::now());
            }
            whole
        });
        marts.retain(|mart| {
            let own = marts::tables_of(mart);
            let whole = own
                .iter()
                .all(|table| there.contains(&suffixed(table, SHADOW)));
            if !whole {
                catalog.rebuild(mart, Utc::now());
            }
            whole
        });
        Ok((tables, marts))
    }

    /// Drops what has no use any more: tables that others took the place of, shadows of copies that came to nothing.
    pub(crate) async fn clear(&self, desk: &mut Desk) -> Result<(), Error> {
        let tables = desk.catalog.tables.values();
        let idle = tables.clone().filter(|row| row.next.is_none());
        let shadows: Vec<String> = (idle.map(|row| row.name.clone()))
            .chain(self.marts.tables())
            .map(|name| suffixed(&name, SHADOW))
            .collect();
        let names = tables
            .map(|row| row.name.clone())
            .chain(self.marts.tables());
        let unused: Vec<String> = (names.map(|name| suffixed(&name, RETIRED)))
            .chain(shadows)
            .collect();
        let left = ddl::existing(&mut desk.conn, &unused).await;
        let left = left.map_err(Error::sql("a look at the existing tables"))?;
        let ours = claimed(&mut desk.conn).await?;
        for name in left.iter().filter(|name| ours.contains(name)) {
            drop_one(desk, name).await?;
        }
        self.hooks.at(Point::Cleared).await;
        Ok(())
    }

    /// The tables whose shadows are there, with their indexes. The copies of others have failed.
    async fn index_all(&self, desk: &mut Desk, tables: &[TableId]) -> Result<Vec<TableId>, Error> {
        let names = self.names(&desk.catalog, tables, &[]);
        let shadows: Vec<String> = names.iter().map(|name| suffixed(name, SHADOW)).collect();
        let there = existing(desk, &shadows).await?;
        let mut indexed = Vec::new();
        for (id, shadow) in tables.iter().zip(&shadows) {
            let made = match there.contains(shadow) {
                true => self.index(desk, id).await,
                false => Err(shadow_gone(id, &desk.catalog)),
            };
            match made {
                Ok(()) => indexed.push(id.clone()),
                Err(error) if error.culprit().is_some() => {
                    let reason = millrace_control::in_words(&error);
                    tracing::error!(table = %id, reason, "its copy cannot join; everything else goes on");
                    desk.catalog.fail_copy(id, reason, Utc::now());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(indexed)
    }

    async fn index(&self, desk: &mut Desk, id: &TableId) -> Result<(), Error> {
        let Some((name, next)) =
            (desk.catalog.tables.get(id)).and_then(|row| Some((&row.name, row.next.as_ref()?)))
        else {
            return Ok(());
        };
        let table = Table::of(&next.definition, name, &next.policies)?;
        let columns = self.marts.indexes_for(&table.name);
        let made = ddl::add_indexes(&mut desk.conn, &table, SHADOW, &columns).await;
        made.map_err(Error::of_table("an index of", id))
    }

    /// Builds the marts that are due beside the tables that they will replace. One that cannot be built is set aside.
    /// `None` if one has to wait for somebody's transaction.
    async fn build(
        &self,
        desk: &mut Desk,
        tables: &[TableId],
    ) -> Result<Option<Vec<String>>, Error> {
        let shadows = self.names(&desk.catalog, tables, &[]);
        let mut built = Vec::new();
        for mart in desk.catalog.marts_to_build(tables) {
            match self.build_one(desk, &mart, &shadows).await {
                Ok(()) => built.push(mart),
                Err(error) if error.is_lock_conflict() => {
                    let error = millrace_control::in_words(&error);
                    tracing::warn!(mart, error, "building it meets locks; trying again later");
                    return Ok(None);
                }
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => {
                    let reason = millrace_control::in_words(&error);
                    tracing::error!(mart, reason, "set aside; everything else goes on");
                    lose(&mut desk.catalog, &Culprit::Mart(mart), reason);
                }
            }
        }
        Ok(Some(built))
    }

    async fn build_one(
        &self,
        desk: &mut Desk,
        mart: &str,
        shadows: &[String],
    ) -> Result<(), Error> {
        let one = self.marts.only(&[mart.to_owned()].into());
        let mut rows = desk.catalog.tables.values();
        if let Some(row) = rows.find(|row| one.tables().contains(&row.name)) {
            let (mart, table) = (mart.to_owned(), row.name.clone());
            return Err(marts::Error::Taken { mart, table }.into());
        }
        let names: Vec<String> = one.tables().into_iter().flat_map(with_suffixes).collect();
        let foreign = claim(&mut desk.conn, &names).await?;
        if !foreign.is_empty() {
            return Err(Error::ForeignTables(foreign));
        }
        self.index_inputs(desk, &one, shadows).await?;
        one.create(&mut desk.conn, SHADOW, shadows).await?;
        desk.execute("BEGIN", "a transaction").await?;
        if let Err(error) = one.build(&mut desk.conn, SHADOW, shadows).await {
            desk.execute("ROLLBACK", "a rollback").await?;
            return Err(error.into());
        }
        let committed = desk.conn.on_a_table().execute("COMMIT").await;
        committed.map(|_| ()).map_err(Error::sql("a commit"))
    }

    /// A mart that comes later needs indexes of tables that are live.
    async fn index_inputs(
        &self,
        desk: &mut Desk,
        mart: &Marts,
        shadows: &[String],
    ) -> Result<(), Error> {
        let live: Vec<(TableId, String)> = (desk.catalog.live())
            .filter(|(_, row)| !shadows.contains(&row.name))
            .map(|(id, row)| (id.clone(), row.name.clone()))
            .collect();
        for (id, name) in live {
            let columns = mart.indexes_for(&name);
            let row = desk.catalog.tables.get(&id).filter(|_| !columns.is_empty());
            let Some((definition, policies)) =
                row.and_then(|row| Some((row.definition.as_ref()?, &row.policies)))
            else {
                continue;
            };
            let table = Table::of(definition, &name, policies)?;
            let made = ddl::add_indexes(&mut desk.conn, &table, "", &columns).await;
            made.map_err(Error::of_table("an index of", &id))?;
        }
        Ok(())
    }

    fn names(&self, catalog: &Catalog, tables: &[TableId], marts: &[String]) -> Vec<String> {
        let name = |id: &TableId| catalog.tables.get(id).map(|row| row.name.clone());
        let marts = self.marts.only(&marts.iter().cloned().collect());
        tables
            .iter()
            .filter_map(name)
            .chain(marts.tables())
            .collect()
    }
}

async fn existing(desk: &mut Desk, names: &[String]) -> Result<BTreeSet<String>, Error> {
    let there = ddl::existing(&mut desk.conn, names).await;
    there.map_err(Error::sql("a look at the existing tables"))
}

fn shadow_gone(table: &TableId, catalog: &Catalog) -> Error {
    let next = catalog.tables.get(table).and_then(|row| row.next.as_ref());
    Error::Contradiction {
        table: table.clone(),
        lsn: next.map(|next| next.place.end_lsn).unwrap_or_default(),
        reason: "its shadow table, into which it was copied, is gone".into(),
    }
}

impl Catalog {
    /// They do not take their names, for now.
    fn unstamp(&mut self, tables: &[TableId], marts: &[String]) {
        for table in tables {
            if let Some(next) = self.table(table).and_then(|row| row.next.as_mut()) {
                next.step = CopyStep::CatchingUp;
            }
        }
        for mart in marts {
            if let Some(row) = self.marts.get_mut(mart) {
                row.joining = false;
                self.dirty.marts.insert(mart.clone());
            }
        }
    }

    /// These are about to take their names.
    fn stamp(&mut self, tables: &[TableId], marts: &[String]) {
        for table in tables {
            if let Some(next) = self.table(table).and_then(|row| row.next.as_mut()) {
                next.step = CopyStep::Joining;
            }
        }
        for mart in marts {
            if let Some(row) = self.marts.get_mut(mart) {
                row.joining = true;
                self.dirty.marts.insert(mart.clone());
            }
        }
    }

    fn stamped(&self) -> (Vec<TableId>, Vec<String>) {
        let marts = self.marts.iter().filter(|(_, row)| row.joining);
        let marts = marts.map(|(name, _)| name.clone()).collect();
        (self.in_step(CopyStep::Joining), marts)
    }
}

/// Puts all shadow tables in the place of the live ones at once. One RENAME is atomic for readers
/// and for crashes, so either all shadows are there afterwards or none.
async fn swap(desk: &mut Desk, names: &[String]) -> Result<(), Error> {
    let all =
        |suffix: &str| -> Vec<String> { names.iter().map(|name| suffixed(name, suffix)).collect() };
    if existing(desk, &all(SHADOW)).await?.is_empty() {
        return Ok(());
    }
    for name in all(RETIRED) {
        drop_one(desk, &name).await?;
    }
    let live = existing(desk, names).await?;
    let mut renames = Vec::new();
    for name in names {
        let [live_name, shadow, retired] =
            ["", SHADOW, RETIRED].map(|suffix| quoted(&suffixed(name, suffix)));
        if live.contains(name) {
            renames.push(format!("{live_name} TO {retired}"));
        }
        renames.push(format!("{shadow} TO {live_name}"));
    }
    let rename = format!("RENAME TABLE {}", renames.join(", "));
    let renamed = desk.conn.on_a_table().execute(rename.as_str()).await;
    renamed
        .map(|_| ())
        .map_err(Error::sql("the swap of tables"))
}

async fn drop_one(desk: &mut Desk, name: &str) -> Result<(), Error> {
    let dropped = ddl::drop_table(&mut desk.conn, name).await;
    dropped.map_err(Error::sql("the removal of an old table"))
}
