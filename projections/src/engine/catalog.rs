//! What the projector knows of its tables, copies and marts, and how that changes. Pure: `bookkeeping` keeps it in MySQL.
//!
//! ```text
//! table:  loading ─▶ catching_up ─▶ live ─▶ set_aside | removed ─▶ loading …      a live one stays live while it is copied again
//! copy:   announced ─▶ loading ─▶ catching_up ─▶ joining
//! mart:   waiting ─▶ live ─▶ set_aside ─▶ live …
//! ```

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use millrace_events::{Copied, CopyBegun, CopyId, CopyReader, CopyTable, TableCopied, TableId};
use millrace_topic::Offset;

use super::error::Error;
use super::quarantine::Quarantine;
use super::rows::{CopyRow, CopyStep, MartRow, MartState, NextCopy, Place, TableRow, TableState};
use crate::marts::Marts;
use crate::replica::names::{suffixed, SHADOW};
use crate::replica::naming::Naming;
use crate::replica::Policies;

/// All of them, and which of them MySQL has not been told of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) tables: BTreeMap<TableId, TableRow>,
    pub(crate) copies: BTreeMap<CopyId, CopyRow>,
    pub(crate) marts: BTreeMap<String, MartRow>,
    /// The MySQL tables that each mart reads.
    pub(crate) inputs: BTreeMap<String, Vec<String>>,
    /// What becomes of values that MySQL cannot hold, in copies that are announced from now on.
    pub(crate) policies: Policies,
    /// Where those are that it could not.
    pub(crate) quarantine: Quarantine,
    pub(crate) dirty: Dirty,
    /// Marts that were live until a statement of theirs failed: a table of theirs may be gone.
    pub(crate) suspects: BTreeSet<String>,
    /// It differs from what is shown.
    pub(crate) changed: bool,
}

/// Rows that differ from those in MySQL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dirty {
    pub(crate) tables: BTreeSet<TableId>,
    pub(crate) copies: BTreeSet<CopyId>,
    pub(crate) marts: BTreeSet<String>,
}

impl Dirty {
    pub(crate) fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.copies.is_empty() && self.marts.is_empty()
    }
}

impl Catalog {
    /// Changes a table's row; `None` if there is no such table.
    pub(crate) fn table(&mut self, table: &TableId) -> Option<&mut TableRow> {
        let row = self.tables.get_mut(table)?;
        self.dirty.tables.insert(table.clone());
        Some(row)
    }

    /// Changes a copy's row.
    pub(crate) fn copy(&mut self, copy: CopyId) -> Option<&mut CopyRow> {
        let row = self.copies.get_mut(&copy)?;
        self.dirty.copies.insert(copy);
        Some(row)
    }

    /// Tables whose copies are in this step.
    pub(crate) fn in_step(&self, step: CopyStep) -> Vec<TableId> {
        let rows = self.tables.iter();
        rows.filter(|(_, row)| row.in_step(step).is_some())
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// The tables that move with the position.
    pub(crate) fn live(&self) -> impl Iterator<Item = (&TableId, &TableRow)> {
        let rows = self.tables.iter();
        rows.filter(|(_, row)| row.state == TableState::Live)
    }

    /// The marts that move with the position.
    pub(crate) fn live_marts(&self) -> BTreeSet<String> {
        let live = self
            .marts
            .iter()
            .filter(|(_, row)| row.state == MartState::Live);
        live.map(|(name, _)| name.clone()).collect()
    }

    /// A copy was announced; `place` is where the log stood. One that is known already changes nothing.
    pub(crate) fn begin_copy(
        &mut self,
        begun: &CopyBegun,
        place: Place,
        main_schema: Option<&str>,
        now: DateTime<Utc>,
    ) {
        let is_new = |table: &&CopyTable| {
            let known = self.tables.get(&table.definition.table);
            known.is_none_or(|row| row.copy < begun.copy)
        };
        let new: Vec<&CopyTable> = begun.tables.iter().filter(is_new).collect();
        if new.is_empty() {
            return;
        }
        self.name(&new, main_schema, now);
        for table in new {
            let next = NextCopy::new(table, &self.policies, place);
            self.forget_shadow(&table.definition.table);
            if let Some(row) = self.table(&table.definition.table) {
                row.copy = begun.copy;
                row.next = Some(next);
                if row.state != TableState::Live {
                    row.enter(TableState::Loading, None, now);
                }
            }
        }
        let row = CopyRow {
            topic: begun.topic.clone(),
            next: Offset(0),
            reader: CopyReader::new(begun.copy),
        };
        self.copies.insert(begun.copy, row);
        self.dirty.copies.insert(begun.copy);
        self.forget_copies();
    }

    /// Makes rows for tables that have none.
    fn name(&mut self, tables: &[&CopyTable], main_schema: Option<&str>, now: DateTime<Utc>) {
        let ids = tables.iter().map(|table| &table.definition.table);
        let unknown: Vec<&TableId> = ids.filter(|id| !self.tables.contains_key(*id)).collect();
        let mut naming = Naming::new(main_schema, self.taken());
        let names = naming.names(unknown.iter().copied());
        for (id, name) in unknown.into_iter().zip(names) {
            self.tables.insert(id.clone(), TableRow::new(name, now));
        }
    }

    /// Names that a new table must not get.
    fn taken(&self) -> BTreeSet<String> {
        let tables = self.tables.values().map(|row| row.name.clone());
        tables.chain(self.marts.keys().cloned()).collect()
    }

    /// The log has changes of a table that was never announced.
    pub(crate) fn unheard_of(
        &mut self,
        table: &TableId,
        main_schema: Option<&str>,
        now: DateTime<Utc>,
    ) {
        if self.tables.contains_key(table) {
            return;
        }
        let mut naming = Naming::new(main_schema, self.taken());
        let name = naming.name(table);
        self.tables.insert(table.clone(), TableRow::new(name, now));
        let error = Error::UnknownTable {
            table: table.clone(),
        };
        self.set_aside(table, error.to_string(), now);
    }

    /// True while rows of the copy are to be loaded.
    pub(crate) fn loads(&self, copy: CopyId) -> bool {
        let loads = |row: &TableRow| row.copy == copy && row.in_step(CopyStep::Loading).is_some();
        self.tables.values().any(loads)
    }

    /// All rows of a table are in its topic.
    pub(crate) fn copied(&mut self, copied: &TableCopied) {
        let Some(row) = self.tables.get(&copied.table) else {
            return;
        };
        let known = row.next.as_ref().is_none_or(|next| next.copied.is_some());
        if row.copy != copied.copy || known {
            return;
        }
        let next = self.table(&copied.table).and_then(|row| row.next.as_mut());
        if let Some(next) = next {
            next.copied = Some(Copied {
                chunks: copied.chunks,
                rows: copied.rows,
                lsn: copied.lsn,
            });
        }
    }

    /// A table is captured no longer.
    pub(crate) fn remove(&mut self, table: &TableId, now: DateTime<Utc>) {
        let known = self.tables.get(table);
        if known.is_none_or(|row| row.state == TableState::Removed) {
            return;
        }
        self.forget_shadow(table);
        if let Some(name) = self.tables.get(table).map(|row| row.name.clone()) {
            self.quarantine.forget(&name);
        }
        if let Some(row) = self.table(table) {
            row.enter(TableState::Removed, None, now);
            row.next = None;
        }
        self.set_readers_aside(table, "is captured no longer", now);
        self.forget_copies();
    }

    /// The log was begun again: no table goes on without a new copy, whatever its number, and the marts wait for their tables.
    pub(crate) fn begin_again(&mut self, now: DateTime<Utc>) {
        let tables: Vec<TableId> = self.tables.keys().cloned().collect();
        for table in tables {
            self.forget_shadow(&table);
            let Some(row) = self.table(&table) else {
                continue;
            };
            row.next = None;
            row.copy = CopyId::default();
            if row.state != TableState::Removed {
                self.set_aside(&table, Error::BegunAgain.to_string(), now);
            }
        }
        self.forget_copies();
    }

    /// A table cannot be applied any more; the marts that read it go with it.
    pub(crate) fn set_aside(&mut self, table: &TableId, reason: String, now: DateTime<Utc>) {
        if let Some(row) = self.table(table) {
            row.enter(TableState::SetAside, Some(reason), now);
        }
        self.set_readers_aside(table, "is set aside", now);
    }

    /// A copy comes to nothing. A table that is live stays so with its old rows.
    pub(crate) fn fail_copy(&mut self, table: &TableId, reason: String, now: DateTime<Utc>) {
        self.forget_shadow(table);
        if let Some(row) = self.table(table) {
            row.next = None;
            let state = match row.state {
                TableState::Live => TableState::Live,
                _ => TableState::SetAside,
            };
            row.enter(state, Some(reason), now);
        }
        self.forget_copies();
    }

    /// What its last copy had in quarantine is void.
    fn forget_shadow(&mut self, table: &TableId) {
        if let Some(row) = self.tables.get(table) {
            self.quarantine.forget(&suffixed(&row.name, SHADOW));
        }
    }

    fn set_readers_aside(&mut self, table: &TableId, what: &str, now: DateTime<Utc>) {
        let Some(name) = self.tables.get(table).map(|row| row.name.clone()) else {
            return;
        };
        let reads = |(_, inputs): &(&String, &Vec<String>)| inputs.contains(&name);
        let readers: Vec<String> = self
            .inputs
            .iter()
            .filter(reads)
            .map(|(m, _)| m.clone())
            .collect();
        for mart in readers {
            self.set_mart_aside(&mart, format!("{table}, which it reads, {what}"), now);
        }
    }

    /// A mart cannot be kept any more.
    pub(crate) fn set_mart_aside(&mut self, mart: &str, reason: String, now: DateTime<Utc>) {
        self.enter_mart(mart, MartState::SetAside, Some(reason), now);
    }

    /// A mart is to be built (again) as soon as its tables are live. Until then it is shown as it is.
    pub(crate) fn rebuild(&mut self, mart: &str, now: DateTime<Utc>) {
        self.enter_mart(mart, MartState::Waiting, None, now);
    }

    fn enter_mart(
        &mut self,
        mart: &str,
        state: MartState,
        reason: Option<String>,
        now: DateTime<Utc>,
    ) {
        if let Some(row) = self.marts.get_mut(mart) {
            row.state = state;
            row.since = now;
            row.reason = reason;
            row.joining = false;
            self.dirty.marts.insert(mart.to_owned());
        }
    }

    /// Takes over the marts that are configured: one that is new, or another than the one that was built, is to be built.
    pub(crate) fn configure(&mut self, marts: &Marts, now: DateTime<Utc>) {
        let versions: BTreeMap<String, String> = marts.versions().into_iter().collect();
        self.inputs = marts.inputs().into_iter().collect();
        let gone = |name: &&String| !versions.contains_key(*name);
        let gone: Vec<String> = self.marts.keys().filter(gone).cloned().collect();
        for name in gone {
            self.marts.remove(&name);
            self.dirty.marts.insert(name);
        }
        for (name, version) in versions {
            if self
                .marts
                .get(&name)
                .is_some_and(|row| row.version == version)
            {
                continue;
            }
            let row = MartRow {
                state: MartState::Waiting,
                since: now,
                reason: None,
                version,
                joining: false,
            };
            self.marts.insert(name.clone(), row);
            self.dirty.marts.insert(name);
        }
    }

    /// The marts to build when these tables join: those that read one of them, and those that wait for nothing else.
    pub(crate) fn marts_to_build(&self, joining: &[TableId]) -> Vec<String> {
        let names = |id: &TableId| self.tables.get(id).map(|row| row.name.clone());
        let joining: BTreeSet<String> = joining.iter().filter_map(names).collect();
        let live: BTreeSet<&String> = self.live().map(|(_, row)| &row.name).collect();
        let is_due = |(mart, row): &(&String, &MartRow)| {
            let inputs = self
                .inputs
                .get(*mart)
                .map(Vec::as_slice)
                .unwrap_or_default();
            let there = |name: &String| live.contains(name) || joining.contains(name);
            let touched = inputs.iter().any(|name| joining.contains(name));
            inputs.iter().all(there) && (touched || row.state == MartState::Waiting)
        };
        let due = self.marts.iter().filter(is_due);
        due.map(|(mart, _)| mart.clone()).collect()
    }

    /// The shadows of these tables and marts have taken their names.
    pub(crate) fn joined(&mut self, tables: &[TableId], marts: &[String], now: DateTime<Utc>) {
        for table in tables {
            let Some(row) = self.table(table) else {
                continue;
            };
            let Some(next) = row.next.take() else {
                continue;
            };
            let (shadow, name) = (suffixed(&row.name, SHADOW), row.name.clone());
            row.definition = Some(next.definition);
            row.policies = next.policies;
            row.rows = next.rows;
            row.since = now;
            row.enter(TableState::Live, None, now);
            self.quarantine.rename(&shadow, &name);
        }
        for mart in marts {
            self.enter_mart(mart, MartState::Live, None, now);
        }
        self.forget_copies();
    }

    /// Drops what is known of topics that no table needs any more.
    fn forget_copies(&mut self) {
        let needed: BTreeSet<CopyId> = self
            .tables
            .values()
            .filter(|row| row.next.is_some())
            .map(|row| row.copy)
            .collect();
        let unneeded = |copy: &&CopyId| !needed.contains(copy);
        let unneeded: Vec<CopyId> = self.copies.keys().filter(unneeded).copied().collect();
        for copy in unneeded {
            self.copies.remove(&copy);
            self.dirty.copies.insert(copy);
        }
    }

    /// True while a table is on its way to be live for the first time, or after it was set aside.
    pub(crate) fn is_loading(&self) -> bool {
        self.tables.values().any(|row| row.state.is_coming())
    }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
