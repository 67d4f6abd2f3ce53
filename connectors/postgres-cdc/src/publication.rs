//! The publication: read as it is found, created for exactly the selected tables. Only who asks for a table to be added or
//! removed has it altered.

use millrace_events::TableId;
use millrace_sessions::postgres::{qualified, quoted, PgSession};
use sqlx::postgres::PgRow;
use sqlx::{Executor, Row};

use crate::{Config, Error};

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

/// Creates it. This takes the owner of the tables.
pub(crate) async fn create(
    connection: &mut PgSession,
    config: &Config,
    tables: &[TableId],
) -> Result<(), Error> {
    let statement = statement(config, tables);
    match connection.execute(statement.as_str()).await {
        Ok(_) => Ok(()),
        Err(error) => Err(denied(config, error, statement)),
    }
}

/// Why a statement about the publication failed, and who may run it.
pub(crate) fn denied(config: &Config, error: sqlx::Error, statement: String) -> Error {
    match error.as_database_error() {
        Some(database) if database.code().as_deref() == Some("42501") => Error::PublicationDenied {
            publication: config.publication.clone(),
            reason: database.message().into(),
            statement,
        },
        _ => error.into(),
    }
}

/// The tables of the publication, as they are now.
pub(crate) async fn tables(
    connection: &mut PgSession,
    config: &Config,
) -> Result<Vec<TableId>, Error> {
    let rows = sqlx::query(TABLES).bind(&config.publication);
    let rows = rows.fetch_all(connection).await?;
    let table = |row: &PgRow| {
        Ok(TableId::new(
            row.try_get::<String, _>(0)?,
            row.try_get::<String, _>(1)?,
        ))
    };
    rows.iter().map(table).collect()
}

const SHAPE: &str = "
    SELECT puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot
      FROM pg_publication WHERE pubname = $1";
// Row filters and column lists exist from PostgreSQL 15 on; through JSON one query fits all.
const TABLES: &str = "
    SELECT t.schemaname::text, t.tablename::text, r.oid IS NULL, to_jsonb(r) ->> 'prqual' IS NOT NULL,
           to_jsonb(r) ->> 'prattrs' IS NOT NULL
      FROM pg_publication_tables t
      JOIN pg_namespace n ON n.nspname = t.schemaname
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
      JOIN pg_publication p ON p.pubname = t.pubname
      LEFT JOIN pg_publication_rel r ON r.prrelid = c.oid AND r.prpubid = p.oid
     WHERE t.pubname = $1";

/// A publication as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    /// Its tables, in the order of their names.
    pub(crate) tables: Vec<TableId>,
    /// How it differs from one that capture creates, whatever its tables.
    pub(crate) difference: Option<&'static str>,
}

/// The publication, if there is one.
pub(crate) async fn read(
    connection: &mut PgSession,
    name: &str,
) -> Result<Option<Published>, Error> {
    let shape = sqlx::query(SHAPE).bind(name);
    let Some(shape) = shape.fetch_optional(&mut *connection).await? else {
        return Ok(None);
    };
    let mut found = Shape {
        all_tables: shape.try_get(0)?,
        all_operations: shape.try_get(1)?,
        via_root: shape.try_get(2)?,
        ..Shape::default()
    };
    let mut tables = Vec::new();
    for row in sqlx::query(TABLES).bind(name).fetch_all(connection).await? {
        let (schema, table): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        tables.push(TableId::new(schema, table));
        found.schemas |= row.try_get::<bool, _>(2)?;
        found.row_filters |= row.try_get::<bool, _>(3)?;
        found.column_lists |= row.try_get::<bool, _>(4)?;
    }
    tables.sort();
    found.tables = !tables.is_empty();
    Ok(Some(Published {
        tables,
        difference: found.difference(),
    }))
}

#[derive(Default)]
struct Shape {
    all_tables: bool,
    all_operations: bool,
    via_root: bool,
    schemas: bool,
    row_filters: bool,
    column_lists: bool,
    tables: bool,
}

impl Shape {
    fn difference(&self) -> Option<&'static str> {
        let checks = [
            (self.all_tables, "publishes all tables"),
            (
                !self.all_operations,
                "does not publish inserts, updates, deletes and truncates",
            ),
            (!self.via_root, "does not publish via the partition root"),
            (self.schemas, "publishes whole schemas"),
            (self.column_lists, "has column lists"),
            (self.row_filters, "has row filters"),
            (!self.tables, "publishes no table"),
        ];
        let differs = checks.into_iter().find(|(differs, _)| *differs);
        differs.map(|(_, difference)| difference)
    }
}
