//! Which tables a start captures.

use std::collections::HashMap;

use millrace_events::TableId;
use millrace_sessions::postgres::PgSession;

use crate::catalog::{self, CatalogTable};
use crate::provenance::Provenance;
use crate::publication::{self, Published};
use crate::{resolve, Config, Error};

/// What the source has.
pub(crate) struct Found {
    catalog: Vec<CatalogTable>,
    published: Option<Published>,
}

impl Found {
    /// Looks, and checks the tables that are published, or would be. Nothing is created.
    pub(crate) async fn look(connection: &mut PgSession, config: &Config) -> Result<Found, Error> {
        let found = Found {
            catalog: catalog::tables(connection).await?,
            published: publication::read(connection, &config.publication).await?,
        };
        match &found.published {
            Some(published) => resolve::check(&published.tables, &found.catalog)?,
            None => drop(resolve::resolve(&config.tables, &found.catalog)?),
        }
        Ok(found)
    }

    /// The tables of a log that is about to begin. Their publication is created; one that is found has to be as
    /// capture would have created it.
    pub(crate) async fn first(
        self,
        connection: &mut PgSession,
        config: &Config,
    ) -> Result<Vec<TableId>, Error> {
        let Some(published) = self.published else {
            let tables = resolve::resolve(&config.tables, &self.catalog)?;
            publication::create(connection, config, &tables).await?;
            return Ok(tables);
        };
        let difference = published.difference.map(str::to_owned);
        match difference.or_else(|| unselected(config, published.tables.iter())) {
            None => Ok(published.tables),
            Some(difference) => Err(differs(config, difference, format!(
                "use another name, or DROP PUBLICATION \"{}\" if nothing else reads it; capture then creates its own",
                config.publication
            ))),
        }
    }

    /// Checks a log that goes on: its tables are captured as long as they are selected. Those that the selection would
    /// take today as well are returned.
    pub(crate) fn later(
        &self,
        config: &Config,
        provenance: &Provenance,
    ) -> Result<Vec<TableId>, Error> {
        let Some(published) = &self.published else {
            return Err(Error::PublicationGone {
                publication: config.publication.clone(),
                slot: config.slot.clone(),
                topic: config.topic_changes.clone(),
            });
        };
        let oids: HashMap<_, _> = self
            .catalog
            .iter()
            .map(|found| (&found.id, found.oid))
            .collect();
        // A captured table under another name is not live, which is said of that table alone.
        let renamed = |table: &TableId| {
            oids.get(table)
                .is_some_and(|oid| provenance.knows_by_another_name(*oid as u32, table))
        };
        let tables = published.tables.iter().filter(|table| !renamed(table));
        if let Some(difference) = unselected(config, tables) {
            let remedy = "select them, or take them out with `millrace tables remove`".to_owned();
            return Err(differs(config, difference, remedy));
        }
        let captured = provenance.names();
        Ok(resolve::not_captured(
            &config.tables,
            &self.catalog,
            &captured,
        ))
    }
}

fn unselected<'a>(config: &Config, tables: impl Iterator<Item = &'a TableId>) -> Option<String> {
    let selection = &config.tables;
    let mut any = false;
    let others = tables.inspect(|_| any = true);
    let others = others.filter(|table| !selection.matches(table));
    let others: Vec<_> = others.map(TableId::to_string).collect();
    match &others[..] {
        [] if any => None,
        [] => Some("publishes no table".to_owned()),
        others => Some(format!(
            "publishes {}, which {selection} does not select",
            others.join(", ")
        )),
    }
}

fn differs(config: &Config, difference: String, remedy: String) -> Error {
    Error::PublicationDiffers {
        publication: config.publication.clone(),
        difference,
        remedy,
    }
}
