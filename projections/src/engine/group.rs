//! The live tables and marts: they move together, with the position row.

use super::catalog::Catalog;
use super::error::{Culprit, Error};
use super::follower::{lose, Desk, Stands};
use super::position::{Advance, Position};
use super::rows::Place;
use crate::marts::Marts;

/// All that is live.
pub(crate) struct Group {
    pub(crate) position: Position,
    /// The live ones.
    pub(crate) marts: Marts,
}

impl Stands for Group {
    fn place(&self) -> Place {
        self.position.place
    }

    fn marts(&self) -> &Marts {
        &self.marts
    }

    async fn advance(&self, desk: &mut Desk, to: Option<&Advance>) -> Result<(), Error> {
        match to {
            Some(to) => self.position.advance(&mut desk.conn, to).await,
            None => self.position.lock(&mut desk.conn).await,
        }
    }

    fn advanced(&mut self, to: &Advance) {
        self.position.place = to.place;
        self.position.source_at = to.source_at;
    }

    fn lose(&mut self, catalog: &mut Catalog, culprit: &Culprit, reason: String) {
        lose(catalog, culprit, reason);
        self.marts = self.marts.only(&catalog.live_marts());
    }
}
