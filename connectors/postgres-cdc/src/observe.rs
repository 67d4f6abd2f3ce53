//! What the catalog says of the captured tables and of their publication now.

use millrace_events::{CatalogRow, SourceTable, TableId};
use millrace_sessions::postgres::PgSession;
use sqlx::postgres::PgRow;
use sqlx::Row;

/// One look at the catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    /// Which scope was looked at.
    pub(crate) scope: u64,
    /// `None` if there is no publication of that name.
    pub(crate) publication: Option<ObservedPublication>,
    /// The tables that have the name or the OID of a captured one.
    pub(crate) tables: Vec<ObservedTable>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ObservedPublication {
    pub(crate) row: CatalogRow,
    /// It publishes inserts, updates, deletes and truncates.
    pub(crate) all_operations: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObservedTable {
    pub(crate) id: TableId,
    pub(crate) oid: u32,
    pub(crate) file: u32,
    pub(crate) columns: i64,
    /// `None` if the publication does not have it.
    pub(crate) entry: Option<Entry>,
}

/// A table in a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) row: CatalogRow,
    /// Only some rows or columns are published.
    pub(crate) filtered: bool,
}

impl Observed {
    /// The table of that name.
    pub(crate) fn named(&self, id: &TableId) -> Option<&ObservedTable> {
        self.tables.iter().find(|table| table.id == *id)
    }

    pub(crate) fn with_oid(&self, oid: u32) -> Option<&ObservedTable> {
        self.tables.iter().find(|table| table.oid == oid)
    }
}

const PUBLICATION: &str = "
    SELECT oid::int8, xmin::text::int8, pubinsert AND pubupdate AND pubdelete AND pubtruncate
      FROM pg_publication WHERE pubname = $1";

// Row filters and column lists exist from PostgreSQL 15 on; through JSON one query fits all. ANALYZE and VACUUM
// change rows of pg_class in place, and none of those that are compared here. All of it is read under one snapshot:
// `pg_relation_filenode` would not be, and could show the file of a rewrite without its columns.
const TABLES: &str = "
    SELECT n.nspname::text, c.relname::text, c.oid::int8, c.relfilenode::int8,
           coalesce((SELECT hashtextextended(string_agg(a.attnum || ':' || a.xmin, ',' ORDER BY a.attnum), 0)
                       FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0), 0),
           r.oid::int8, r.xmin::text::int8,
           coalesce(to_jsonb(r) ->> 'prqual', to_jsonb(r) ->> 'prattrs') IS NOT NULL
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_publication p ON p.pubname = $1
      LEFT JOIN pg_publication_rel r ON r.prrelid = c.oid AND r.prpubid = p.oid
     WHERE c.oid = ANY ($2::int8[]::oid[])
        OR (n.nspname, c.relname) IN (SELECT * FROM unnest($3::text[], $4::text[]))";

/// Which tables to look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    /// Every change of the captured tables makes another one.
    pub(crate) number: u64,
    oids: Vec<i64>,
    schemas: Vec<String>,
    names: Vec<String>,
}

impl Scope {
    /// Tables that are not in the log yet: by their names.
    pub(crate) fn named<'a>(tables: impl IntoIterator<Item = &'a TableId>) -> Scope {
        let mut scope = Scope::default();
        for table in tables {
            scope.name(table);
        }
        scope
    }

    /// Tables of the log: by their names, and by the OIDs that they had.
    pub(crate) fn of_log(tables: &[SourceTable]) -> Scope {
        let mut scope = Scope::named(tables.iter().map(|table| &table.table));
        scope.oids = tables.iter().map(|table| i64::from(table.oid)).collect();
        scope
    }

    fn name(&mut self, table: &TableId) {
        self.schemas.push(table.schema.clone());
        self.names.push(table.name.clone());
    }
}

/// Looks once.
pub(crate) async fn observe(
    connection: &mut PgSession,
    publication: &str,
    scope: &Scope,
) -> Result<Observed, sqlx::Error> {
    let query = sqlx::query(PUBLICATION).bind(publication);
    let found = query.fetch_optional(&mut *connection).await?;
    let query = sqlx::query(TABLES)
        .bind(publication)
        .bind(&scope.oids)
        .bind(&scope.schemas)
        .bind(&scope.names);
    let tables = query.fetch_all(connection).await?;
    Ok(Observed {
        scope: scope.number,
        publication: found.as_ref().map(publication_of).transpose()?,
        tables: tables.iter().map(table_of).collect::<Result<_, _>>()?,
    })
}

fn publication_of(row: &PgRow) -> Result<ObservedPublication, sqlx::Error> {
    Ok(ObservedPublication {
        row: catalog_row(row.try_get(0)?, row.try_get(1)?),
        all_operations: row.try_get(2)?,
    })
}

fn table_of(row: &PgRow) -> Result<ObservedTable, sqlx::Error> {
    let filtered: bool = row.try_get(7)?;
    let entry = match (row.try_get(5)?, row.try_get(6)?) {
        (Some(oid), Some(xmin)) => Some(Entry {
            row: catalog_row(oid, xmin),
            filtered,
        }),
        _ => None,
    };
    Ok(ObservedTable {
        id: TableId::new(row.try_get::<String, _>(0)?, row.try_get::<String, _>(1)?),
        oid: number(row.try_get(2)?),
        file: number(row.try_get(3)?),
        columns: row.try_get(4)?,
        entry,
    })
}

fn catalog_row(oid: i64, xmin: i64) -> CatalogRow {
    CatalogRow {
        oid: number(oid),
        xmin: number(xmin),
    }
}

/// Postgres' unsigned numbers of 32 bits are asked for as `bigint`, which sqlx decodes.
fn number(value: i64) -> u32 {
    value as u32
}
