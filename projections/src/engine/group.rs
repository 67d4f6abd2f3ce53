//! The live tables and marts: they move together, with the position row.

use std::collections::BTreeSet;

use chrono::Utc;
use millrace_events::TableId;

use super::catalog::Catalog;
use super::error::{Culprit, Error};
use super::follower::{lose, Stands};
use super::position::{Advance, Position};
use super::rows::Place;
use crate::marts::Marts;
use crate::script::Script;

/// All that is live.
pub(crate) struct Group {
    pub(crate) position: Position,
    /// The live ones.
    pub(crate) marts: Marts,
    /// Whose tables keep their names.
    pub(crate) main_schema: Option<String>,
}

impl Stands for Group {
    fn place(&self) -> Place {
        self.position.place
    }

    fn marts(&self) -> &Marts {
        &self.marts
    }

    async fn advance(&self, script: &mut Script<'_>, to: Option<&Advance>) -> Result<(), Error> {
        match to {
            Some(to) => self.position.advance(script, to).await?,
            None => self.position.lock(script).await?,
        }
        Ok(())
    }

    fn record(&self, catalog: &mut Catalog, _: Option<&Advance>, others: &BTreeSet<TableId>) {
        for table in others {
            catalog.unheard_of(table, self.main_schema.as_deref(), Utc::now());
        }
    }

    fn advanced(&mut self, to: &Advance) {
        self.position.place = to.place;
        self.position.source_at = to.source_at;
    }

    fn lose(&mut self, catalog: &mut Catalog, culprit: &Culprit, reason: String) {
        lose(catalog, culprit, reason);
        if let Culprit::Mart(mart) = culprit {
            catalog.suspects.insert(mart.clone());
        }
        self.marts = self.marts.only(&catalog.live_marts());
    }
}
