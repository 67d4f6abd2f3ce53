//! Tables that are loaded follow the log on their own, into their shadow tables, until they stand where the live ones do.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::Utc;
use millrace_events::{Lsn, TableId};

use super::again::read_again;
use super::assemble::{Assembler, Followed, Tables};

use super::catalog::Catalog;
use super::contained::Contained;
use super::error::{Culprit, Error};
use super::follower::{Desk, Follower, Stands};
use super::log::Log;
use super::position::Advance;
use super::reader::{looked_after, Item, Reader};
use super::rows::{CopyStep, Place};
use super::shared::Shared;
use super::Limits;
use crate::marts::Marts;
use crate::replica::names::{suffixed, SHADOW};
use crate::replica::Table;
use crate::script::Script;

/// Tables that catch up together.
pub(crate) struct Cohort {
    tables: Vec<TableId>,
    place: Place,
    none: Marts,
}

impl Stands for Cohort {
    fn place(&self) -> Place {
        self.place
    }

    /// Marts are built when the tables are live.
    fn marts(&self) -> &Marts {
        &self.none
    }

    /// Nobody else writes the tables' rows, as long as the session holds its lock.
    async fn advance(&self, _: &mut Script<'_>, _: Option<&Advance>) -> Result<(), Error> {
        Ok(())
    }

    fn record(&self, catalog: &mut Catalog, to: Option<&Advance>, _: &BTreeSet<TableId>) {
        let Some(to) = to else { return };
        for table in &self.tables {
            let row = catalog.tables.get(table);
            let place = row.and_then(|row| Some(row.next.as_ref()?.place));
            if place.is_none_or(|place| place.end_lsn >= to.place.end_lsn) {
                continue;
            }
            if let Some(next) = catalog.table(table).and_then(|row| row.next.as_mut()) {
                next.place = to.place;
            }
        }
    }

    fn advanced(&mut self, to: &Advance) {
        self.place = to.place;
    }

    fn lose(&mut self, catalog: &mut Catalog, culprit: &Culprit, reason: String) {
        if let Culprit::Table(table) = culprit {
            catalog.fail_copy(table, reason, Utc::now());
            self.tables.retain(|known| known != table);
        }
    }
}

/// A cohort on its way.
pub(crate) struct CatchUp {
    follower: Follower<Cohort>,
    reader: Reader,
    next: Option<Result<Item, Error>>,
    /// From here on the tables are those of the position.
    complete_at: Lsn,
}

/// Where a reader of the log gets its records from.
pub(crate) struct Source<'a> {
    pub(crate) log: &'a Arc<dyn Log>,
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) topic: &'a str,
}

impl CatchUp {
    /// All tables that are loaded; `None` if there are none.
    pub(crate) async fn begin(
        desk: &mut Desk,
        source: &Source<'_>,
        limits: Limits,
    ) -> Result<Option<CatchUp>, Error> {
        let tables = desk.catalog.in_step(CopyStep::CatchingUp);
        let mut followed = Tables::new();
        let (mut place, mut complete_at): (Option<Place>, _) = (None, Lsn::ZERO);
        for id in &tables {
            let Some((table, own)) = shadow_of(desk, id).await? else {
                continue;
            };
            let until = table.contained.as_ref().map(|it| it.complete_at);
            complete_at = complete_at.max(until.unwrap_or_default());
            place = Some(
                place
                    .filter(|place| place.offset <= own.offset)
                    .unwrap_or(own),
            );
            followed.insert(id.clone(), table);
        }
        let Some(place) = place else { return Ok(None) };
        let (log, shared) = (source.log.clone(), source.shared.clone());
        let reader = Reader::start(log, shared, source.topic.into(), place.offset.next(), true);
        let stands = Cohort {
            tables: followed.keys().cloned().collect(),
            place,
            none: Marts::none(),
        };
        Ok(Some(CatchUp {
            follower: Follower {
                assembler: Assembler::new(place, None, followed),
                stands,
                limits,
            },
            reader,
            next: None,
            complete_at,
        }))
    }

    /// The tables, as long as their copies are not void.
    pub(crate) fn tables(&self) -> &[TableId] {
        &self.follower.stands.tables
    }

    /// Follows the log up to `until`, where the live tables stand, by one transaction at most. True when it stands
    /// there.
    pub(crate) async fn follow(&mut self, desk: &mut Desk, until: Lsn) -> Result<bool, Error> {
        while self.is_behind(until) || self.follower.assembler.in_parts() {
            let Some(item) = self.take(desk).await? else {
                break;
            };
            let outcome = self.follower.step(desk, item).await?;
            if outcome.committed.is_some() && !self.follower.assembler.in_parts() {
                break;
            }
        }
        if !self.is_behind(until) && !self.follower.assembler.in_parts() {
            self.follower.commit(desk).await?;
        }
        Ok(self.follower.stands.place.end_lsn >= until)
    }

    /// True if the tables may be live at `lsn`.
    pub(crate) fn is_complete_at(&self, lsn: Lsn) -> bool {
        lsn >= self.complete_at
    }

    /// Gives up a transaction that is applied in parts, for the sake of a table.
    pub(crate) async fn give_up(&mut self, desk: &mut Desk, error: &Error) -> Result<(), Error> {
        desk.execute("ROLLBACK", "a rollback").await?;
        if let Some(culprit) = error.culprit() {
            let reason = millrace_control::in_words(error);
            self.follower
                .stands
                .lose(&mut desk.catalog, &culprit, reason);
        }
        Ok(())
    }

    /// Returns when there is something to do before `until`.
    pub(crate) async fn fill(&mut self, until: Lsn) {
        if !self.is_behind(until) {
            return std::future::pending().await;
        }
        if self.next.is_none() {
            self.next = Some(self.reader.next().await);
        }
    }

    fn is_behind(&self, until: Lsn) -> bool {
        self.follower.assembler.lsn() < until
    }

    /// In the middle of a transaction, which the log has whole, the next record is waited for.
    async fn take(&mut self, desk: &mut Desk) -> Result<Option<Item>, Error> {
        match self.next.take().or_else(|| self.reader.ready()) {
            Some(item) => item.map(Some),
            None if self.follower.assembler.in_parts() => {
                let item = looked_after(&mut desk.conn, self.reader.next()).await;
                item.map(Some)
            }
            None => Ok(None),
        }
    }
}

/// The shadow of a table that is loaded, and where it stands. A table that has no form fails.
async fn shadow_of(desk: &mut Desk, id: &TableId) -> Result<Option<(Followed, Place)>, Error> {
    let Some(row) = desk.catalog.tables.get(id) else {
        return Ok(None);
    };
    let copy = desk.catalog.copies.get(&row.copy);
    let chunks = copy.and_then(|copy| copy.reader.table(id)).cloned();
    let Some((next, copied)) = row
        .next
        .as_ref()
        .and_then(|next| Some((next, next.copied?)))
    else {
        return Ok(None);
    };
    let table = Table::of(
        &next.definition,
        &suffixed(&row.name, SHADOW),
        &next.policies,
    )?;
    let (definition, place, copy) = (next.definition.clone(), next.place, row.copy);
    let contained = Contained {
        applied: place.end_lsn,
        chunks: chunks.unwrap_or_default(),
        again: read_again(&mut desk.conn, copy, id).await?,
        complete_at: copied.lsn,
    };
    let followed = Followed {
        definition,
        table,
        contained: Some(contained),
    };
    Ok(Some((followed, place)))
}
