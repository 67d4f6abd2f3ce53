//! What Postgres' catalog knows of a table.

use std::collections::HashMap;

use millrace_events::{Column, SchemaId, TableId, TableSchema};
use millrace_sessions::postgres::PgSession;
use sqlx::postgres::PgRow;
use sqlx::Row;

use crate::Error;

/// A table as the catalog describes it.
#[derive(Clone, Debug)]
pub(crate) struct CatalogTable {
    /// Its name.
    pub(crate) id: TableId,
    /// `pg_class.oid`.
    pub(crate) oid: i64,
    /// `pg_class.relkind`.
    pub(crate) kind: String,
    /// `pg_class.relpersistence`.
    pub(crate) persistence: String,
    /// `pg_class.relreplident`.
    pub(crate) identity: String,
    /// `pg_class.reltuples`; negative if never counted.
    pub(crate) estimated_rows: f64,
    /// Whether the primary key is checked at once; `None` without one.
    pub(crate) key_is_immediate: Option<bool>,
    /// A generated column is part of the primary key.
    pub(crate) key_is_generated: bool,
}

// Whatever a name can stand for that reads like a table.
const TABLES: &str = "
    SELECT n.nspname::text, c.relname::text, c.oid::int8, c.relkind::text, c.relpersistence::text,
           c.relreplident::text, c.reltuples::float8, i.indimmediate,
           coalesce((SELECT bool_or(a.attgenerated <> '') FROM pg_attribute a
                     WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey)), false)
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')";

/// All tables of the database, and what could be taken for one.
pub(crate) async fn tables(connection: &mut PgSession) -> Result<Vec<CatalogTable>, Error> {
    let rows = sqlx::query(TABLES).fetch_all(connection).await?;
    Ok(rows.iter().map(table_of).collect::<Result<_, _>>()?)
}

/// The table of that name.
pub(crate) async fn table(
    connection: &mut PgSession,
    id: &TableId,
) -> Result<Option<CatalogTable>, Error> {
    let sql = format!("{TABLES} AND n.nspname = $1 AND c.relname = $2");
    let query = sqlx::query(&sql).bind(&id.schema).bind(&id.name);
    let row = query.fetch_optional(connection).await?;
    Ok(row.as_ref().map(table_of).transpose()?)
}

fn table_of(row: &PgRow) -> Result<CatalogTable, sqlx::Error> {
    Ok(CatalogTable {
        id: TableId::new(row.try_get::<String, _>(0)?, row.try_get::<String, _>(1)?),
        oid: row.try_get(2)?,
        kind: row.try_get(3)?,
        persistence: row.try_get(4)?,
        identity: row.try_get(5)?,
        estimated_rows: row.try_get(6)?,
        key_is_immediate: row.try_get(7)?,
        key_is_generated: row.try_get(8)?,
    })
}

// `indkey` counts from 0 and holds INCLUDE columns behind the key.
const COLUMNS: &str = "
    SELECT a.attname::text, a.atttypid::int8, a.atttypmod,
           coalesce(a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]), false)
      FROM pg_attribute a
      LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
     WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
     ORDER BY a.attnum";

/// The definition of a table: the columns that the stream carries too, stored generated ones being
/// left out there.
pub(crate) async fn schema(
    connection: &mut PgSession,
    types: &mut Types,
    id: SchemaId,
    table: &CatalogTable,
) -> Result<TableSchema, Error> {
    let rows = sqlx::query(COLUMNS)
        .bind(table.oid)
        .fetch_all(&mut *connection)
        .await?;
    let mut columns = Vec::with_capacity(rows.len());
    for row in rows {
        let type_oid: i64 = row.try_get(1)?;
        let resolved = types
            .resolve(connection, type_oid as u32, row.try_get(2)?)
            .await?;
        columns.push(resolved.column(row.try_get(0)?, row.try_get(3)?));
    }
    Ok(TableSchema {
        id,
        table: table.id.clone(),
        columns,
    })
}

/// The names of the primary key's columns.
pub(crate) async fn key_columns(
    connection: &mut PgSession,
    oid: u32,
) -> Result<Vec<String>, Error> {
    let rows = sqlx::query(COLUMNS)
        .bind(i64::from(oid))
        .fetch_all(connection)
        .await?;
    let mut names = Vec::new();
    for row in rows {
        if row.try_get(3)? {
            names.push(row.try_get(0)?);
        }
    }
    Ok(names)
}

/// A type without its domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResolvedType {
    oid: u32,
    type_mod: i32,
    name: String,
}

impl ResolvedType {
    pub(crate) fn column(&self, name: String, key: bool) -> Column {
        Column {
            name,
            type_name: self.name.clone(),
            oid: self.oid,
            type_mod: self.type_mod,
            key,
        }
    }
}

/// Types seen in a session, by oid and modifier.
#[derive(Debug, Default)]
pub(crate) struct Types(HashMap<(u32, i32), ResolvedType>);

const TYPE: &str = "
    WITH RECURSIVE t(oid, typmod, depth) AS (
        SELECT $1::oid, $2::int4, 0
        UNION ALL
        SELECT b.typbasetype, CASE WHEN t.typmod = -1 THEN b.typtypmod ELSE t.typmod END, depth + 1
          FROM t JOIN pg_type b ON b.oid = t.oid AND b.typtype = 'd')
    SELECT oid::int8, typmod, format_type(oid, typmod) FROM t ORDER BY depth DESC LIMIT 1";

impl Types {
    /// A domain is resolved to its base type, which is how its values are printed and what a
    /// reader can map.
    pub(crate) async fn resolve(
        &mut self,
        connection: &mut PgSession,
        oid: u32,
        type_mod: i32,
    ) -> Result<ResolvedType, Error> {
        if let Some(known) = self.0.get(&(oid, type_mod)) {
            return Ok(known.clone());
        }
        let query = sqlx::query(TYPE).bind(i64::from(oid)).bind(type_mod);
        let row = query.fetch_one(connection).await?;
        let resolved = ResolvedType {
            oid: row.try_get::<i64, _>(0)? as u32,
            type_mod: row.try_get(1)?,
            name: row.try_get(2)?,
        };
        self.0.insert((oid, type_mod), resolved.clone());
        Ok(resolved)
    }
}
