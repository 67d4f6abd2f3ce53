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
            Some(published) => {
                let tables = published.tables.iter();
                let selected = tables.filter(|table| config.tables.matches(table));
                resolve::check(selected, &found.catalog)?;
            }
            None => drop(resolve::resolve(&config.tables, &found.catalog)?),
        }
        Ok(found)
    }

    /// The tables of a log that is about to begin. Their publication is created; one that is found has to be as
    /// capture would have created it.
    pub(crate) async fn first(
        &self,
        connection: &mut PgSession,
        config: &Config,
    ) -> Result<Vec<TableId>, Error> {
        let Some(published) = &self.published else {
            let tables = resolve::resolve(&config.tables, &self.catalog)?;
            publication::create(connection, config, &tables).await?;
            return Ok(tables);
        };
        let difference = published.difference.map(str::to_owned);
        match difference.or_else(|| unselected(config, published.tables.iter())) {
            None => Ok(published.tables.clone()),
            Some(difference) => {
                let remedy = format!(
                    "use another name, or DROP PUBLICATION \"{}\" if nothing else reads it; capture then creates its own",
                    config.publication
                );
                Err(differs(config, difference, remedy))
            }
        }
    }

    /// The tables of a publication whose log has begun.
    pub(crate) fn published(&self, config: &Config) -> Result<Vec<TableId>, Error> {
        match &self.published {
            Some(published) => Ok(published.tables.clone()),
            None => Err(Error::PublicationGone {
                publication: config.publication.clone(),
            }),
        }
    }

    /// Those of the `published` tables that a log that goes on has or takes, all of which have to be selected. A captured
    /// table that has another name now is not live, which is said of that table alone.
    pub(crate) fn later(
        &self,
        config: &Config,
        provenance: &Provenance,
        published: Vec<TableId>,
    ) -> Result<Vec<TableId>, Error> {
        let oids: HashMap<_, _> = self
            .catalog
            .iter()
            .map(|found| (&found.id, found.oid))
            .collect();
        let renamed = |table: &TableId| {
            let oid = oids.get(table).map(|oid| *oid as u32);
            oid.is_some_and(|oid| provenance.knows_by_another_name(oid, table))
        };
        let tables: Vec<_> = published
            .into_iter()
            .filter(|table| !renamed(table))
            .collect();
        match unselected(config, tables.iter()) {
            None => Ok(tables),
            Some(difference) => {
                let remedy = "select them, or take them out with `millrace tables remove`";
                Err(differs(config, difference, remedy.to_owned()))
            }
        }
    }

    /// The tables that the selection would take today and that are not captured.
    pub(crate) fn not_captured(&self, config: &Config, captured: &[TableId]) -> Vec<TableId> {
        resolve::not_captured(&config.tables, &self.catalog, captured)
    }
}

fn unselected<'a>(config: &Config, tables: impl Iterator<Item = &'a TableId>) -> Option<String> {
    let selection = &config.tables;
    let others = tables.filter(|table| !selection.matches(table));
    let others: Vec<_> = others.map(TableId::to_string).collect();
    (!others.is_empty()).then(|| {
        let others = others.join(", ");
        format!("publishes {others}, which {selection} does not select")
    })
}

fn differs(config: &Config, difference: String, remedy: String) -> Error {
    Error::PublicationDiffers {
        publication: config.publication.clone(),
        difference,
        remedy,
    }
}
