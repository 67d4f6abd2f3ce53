//! The publication: created for exactly the selected tables, or taken as it is found. Never altered.

use millrace_events::TableId;
use millrace_sessions::postgres::{qualified, quoted, PgSession};
use sqlx::{Executor, Row};

use crate::{catalog, resolve, Config, Error};

/// What a session captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Captured {
    /// The tables of the publication, in the order of their names.
    pub(crate) tables: Vec<TableId>,
    /// Selected tables that the publication does not have.
    pub(crate) not_captured: Vec<TableId>,
}

/// Makes sure that there is a publication, whose tables are all selected and can all be captured.
pub(crate) async fn ensure(connection: &mut PgSession, config: &Config) -> Result<Captured, Error> {
    let catalog = catalog::tables(connection).await?;
    let tables = match published(connection, config).await? {
        Some(tables) => tables,
        None => {
            let tables = resolve::resolve(&config.tables, &catalog)?;
            create(connection, config, &tables).await?;
            tables
        }
    };
    resolve::check(&tables, &catalog)?;
    let not_captured = resolve::not_published(&config.tables, &catalog, &tables);
    Ok(Captured {
        tables,
        not_captured,
    })
}

/// Partitioned tables are not captured, but their partitions may be. Via the root, a publication of
/// the partitioned table cannot pass for one of its partitions, which would lose those detached.
///
/// `ONLY`, here, in the snapshot and in verify: a table is its own rows. Those of tables that inherit from it are
/// theirs, whether they were attached before or after the publication was made.
fn statement(config: &Config, tables: &[TableId]) -> String {
    let tables: Vec<_> = tables
        .iter()
        .map(|table| format!("ONLY {}", qualified(&table.schema, &table.name)))
        .collect();
    format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)",
        quoted(&config.publication),
        tables.join(", ")
    )
}

async fn create(
    connection: &mut PgSession,
    config: &Config,
    tables: &[TableId],
) -> Result<(), Error> {
    let statement = statement(config, tables);
    match connection.execute(statement.as_str()).await {
        Ok(_) => Ok(()),
        Err(error) => match error.as_database_error() {
            Some(database) if database.code().as_deref() == Some("42501") => {
                Err(Error::PublicationDenied {
                    publication: config.publication.clone(),
                    reason: database.message().into(),
                    statement,
                })
            }
            _ => Err(error.into()),
        },
    }
}

const SHAPE: &str = "
    SELECT puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot
      FROM pg_publication WHERE pubname = $1";
// Row filters and column lists exist from PostgreSQL 15 on; through JSON one query fits all.
const TABLES: &str = "
    SELECT t.schemaname::text, t.tablename::text, to_jsonb(t) ->> 'rowfilter' FROM pg_publication_tables t
     WHERE t.pubname = $1";
const COLUMN_LISTS: &str = "
    SELECT EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
                    WHERE p.pubname = $1 AND to_jsonb(r) ->> 'prattrs' IS NOT NULL)";

/// The tables of the publication, all of which are selected; `None` if there is no publication.
async fn published(
    connection: &mut PgSession,
    config: &Config,
) -> Result<Option<Vec<TableId>>, Error> {
    let name = &config.publication;
    let shape = sqlx::query(SHAPE).bind(name);
    let Some(shape) = shape.fetch_optional(&mut *connection).await? else {
        return Ok(None);
    };
    let lists = sqlx::query(COLUMN_LISTS).bind(name);
    let lists = lists.fetch_one(&mut *connection).await?;
    let shape = Shape {
        all_tables: shape.try_get(0)?,
        all_operations: shape.try_get(1)?,
        via_root: shape.try_get(2)?,
        column_lists: lists.try_get(0)?,
    };
    let mut tables = Vec::new();
    let mut filtered = false;
    for row in sqlx::query(TABLES).bind(name).fetch_all(connection).await? {
        let (schema, table): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        tables.push(TableId::new(schema, table));
        filtered |= row.try_get::<Option<String>, _>(2)?.is_some();
    }
    tables.sort();
    let difference = shape
        .difference()
        .or_else(|| filtered.then(|| "has row filters".to_owned()))
        .or_else(|| unselected(config, &tables));
    match difference {
        None => Ok(Some(tables)),
        Some(difference) => Err(Error::PublicationDiffers {
            publication: name.clone(),
            difference,
            remedy: format!(
                "use another name, or DROP PUBLICATION \"{name}\" if nothing else reads it; capture then creates its own"
            ),
        }),
    }
}

struct Shape {
    all_tables: bool,
    all_operations: bool,
    via_root: bool,
    column_lists: bool,
}

impl Shape {
    fn difference(&self) -> Option<String> {
        let difference = if self.all_tables {
            "publishes all tables"
        } else if !self.all_operations {
            "does not publish inserts, updates, deletes and truncates"
        } else if !self.via_root {
            "does not publish via the partition root"
        } else if self.column_lists {
            "has column lists"
        } else {
            return None;
        };
        Some(difference.to_owned())
    }
}

fn unselected(config: &Config, tables: &[TableId]) -> Option<String> {
    if tables.is_empty() {
        return Some("publishes no table".to_owned());
    }
    let selection = &config.tables;
    let others = tables.iter().filter(|table| !selection.matches(table));
    let others: Vec<_> = others.map(TableId::to_string).collect();
    (!others.is_empty()).then(|| {
        let others = others.join(", ");
        format!("publishes {others}, which {selection} does not select")
    })
}
