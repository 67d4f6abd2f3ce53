//! All copies under way: they are loaded and catch up between the commits of the live tables, one transaction at a time.

use std::collections::BTreeMap;

use futures_util::future::{select_all, BoxFuture};
use millrace_events::{CopyId, Lsn, TableId};
use millrace_topic::Offset;

use super::catch_up::{CatchUp, Source};
use super::error::Error;
use super::follower::Desk;
use super::hooks::Point;
use super::loading::{make_shadows, save, Loading};
use super::rows::CopyStep;
use super::{Hooks, Limits};
use crate::marts::Marts;

/// What copies tables.
pub(crate) struct Copier<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) limits: Limits,
    /// All that are configured.
    pub(crate) marts: &'a Marts,
    pub(crate) hooks: &'a Hooks,
    loading: BTreeMap<CopyId, Loading>,
    catching_up: Option<CatchUp>,
}

impl<'a> Copier<'a> {
    pub(crate) fn new(
        source: Source<'a>,
        limits: Limits,
        marts: &'a Marts,
        hooks: &'a Hooks,
    ) -> Copier<'a> {
        Copier {
            source,
            limits,
            marts,
            hooks,
            loading: BTreeMap::new(),
            catching_up: None,
        }
    }

    /// Returns when there is something to do while the live tables stand at `until`.
    pub(crate) async fn fill(&mut self, until: Lsn) {
        let mut waiting: Vec<BoxFuture<'_, ()>> = Vec::new();
        for loading in self.loading.values_mut() {
            waiting.push(Box::pin(loading.fill()));
        }
        if let Some(catching_up) = &mut self.catching_up {
            waiting.push(Box::pin(catching_up.fill(until)));
        }
        match waiting.is_empty() {
            true => std::future::pending().await,
            false => drop(select_all(waiting).await),
        }
    }

    /// Does the next piece of work. The tables that stand where the live ones do, at `until`, and may join them; none, and
    /// no catching up, while none `may_join`.
    pub(crate) async fn turn(
        &mut self,
        desk: &mut Desk,
        until: Lsn,
        may_join: bool,
    ) -> Result<Vec<TableId>, Error> {
        make_shadows(desk, self.marts).await?;
        self.load(desk).await?;
        if desk.catalog.end_loading() {
            save(desk).await?;
        }
        match may_join {
            true => self.catch_up(desk, until).await,
            false => Ok(Vec::new()),
        }
    }

    /// True while tables follow the log on their own.
    pub(crate) fn is_catching_up(&self) -> bool {
        self.catching_up.is_some()
    }

    async fn catch_up(&mut self, desk: &mut Desk, until: Lsn) -> Result<Vec<TableId>, Error> {
        // A newer copy, or none, has taken the place of one that was followed: the others begin again without it.
        let is_void = |id: &TableId| {
            let row = desk.catalog.tables.get(id);
            row.is_none_or(|row| row.in_step(CopyStep::CatchingUp).is_none())
        };
        self.catching_up
            .take_if(|it| it.tables().is_empty() || it.tables().iter().any(is_void));
        if self.catching_up.is_none() {
            self.catching_up = CatchUp::begin(desk, &self.source, self.limits).await?;
        }
        let Some(catching_up) = &mut self.catching_up else {
            return Ok(Vec::new());
        };
        let there = match catching_up.follow(desk, until).await {
            Ok(there) => there,
            Err(error) if error.culprit().is_some() => {
                catching_up.give_up(desk, &error).await?;
                self.catching_up = None;
                save(desk).await?;
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        self.hooks.at(Point::CaughtUp).await;
        if !there || !catching_up.is_complete_at(until) {
            return Ok(Vec::new());
        }
        let tables = catching_up.tables().to_vec();
        self.catching_up = None;
        Ok(tables)
    }

    async fn load(&mut self, desk: &mut Desk) -> Result<(), Error> {
        let needed: Vec<(CopyId, String, Offset)> = desk
            .catalog
            .copies
            .iter()
            .filter(|(copy, _)| desk.catalog.loads(**copy))
            .map(|(copy, row)| (*copy, row.topic.clone(), row.next))
            .collect();
        self.loading
            .retain(|copy, _| needed.iter().any(|(needed, ..)| needed == copy));
        for (copy, topic, next) in needed {
            let begin = || Loading::begin(&self.source, &topic, copy, next);
            let loading = self.loading.entry(copy).or_insert_with(begin);
            loading.load(desk, &self.source).await?;
            self.hooks.at(Point::Loaded).await;
        }
        Ok(())
    }
}
