//! The seven tables: created once, recognised afterwards, never mistaken for somebody else's.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sqlx::{Connection, PgConnection, PgPool, Row};

use crate::plan;

const TABLES_SQL: &str = include_str!("../schema.sql");

/// A table of the shop as [`schema.sql`](../schema.sql) makes it: columns with Postgres' type names,
/// the primary key first.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [(&'static str, &'static str)],
}

impl Table {
    pub(crate) fn key(&self) -> &'static str {
        self.columns.first().map_or("", |(name, _)| name)
    }

    pub(crate) fn column_list(&self) -> String {
        self.columns
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

pub(crate) const TABLES: [Table; 7] = [
    Table {
        name: "users",
        columns: &[
            ("user_id", "int8"),
            ("first_name", "varchar"),
            ("last_name", "varchar"),
            ("email", "varchar"),
            ("phone", "varchar"),
            ("registration_date", "timestamp"),
            ("loyalty_status", "varchar"),
        ],
    },
    Table {
        name: "productcategories",
        columns: &[
            ("category_id", "int8"),
            ("name", "varchar"),
            ("parent_category_id", "int8"),
        ],
    },
    Table {
        name: "products",
        columns: &[
            ("product_id", "int8"),
            ("name", "varchar"),
            ("description", "text"),
            ("category_id", "int8"),
            ("price", "numeric"),
            ("stock_quantity", "int4"),
            ("creation_date", "timestamp"),
        ],
    },
    Table {
        name: "orders",
        columns: &[
            ("order_id", "int8"),
            ("user_id", "int8"),
            ("order_date", "timestamp"),
            ("total_amount", "numeric"),
            ("status", "varchar"),
            ("delivery_date", "timestamp"),
        ],
    },
    Table {
        name: "orderdetails",
        columns: &[
            ("order_detail_id", "int8"),
            ("order_id", "int8"),
            ("product_id", "int8"),
            ("quantity", "int4"),
            ("price_per_unit", "numeric"),
            ("total_price", "numeric"),
        ],
    },
    Table {
        name: "reviews",
        columns: &[
            ("review_id", "int8"),
            ("user_id", "int8"),
            ("product_id", "int8"),
            ("rating", "int4"),
            ("review_text", "text"),
            ("created_at", "timestamp"),
        ],
    },
    Table {
        name: "loyaltypoints",
        columns: &[
            ("loyalty_id", "int8"),
            ("user_id", "int8"),
            ("points", "int4"),
            ("reason", "varchar"),
            ("created_at", "timestamp"),
        ],
    },
];

/// The name of a Postgres schema that may hold the shop: 1 to 63 bytes, none of Postgres' own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaName(String);

/// A name no shop can live under.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be the shop's schema: 1 to 63 bytes, not beginning with pg_, not information_schema")]
pub struct InvalidSchemaName(String);

impl FromStr for SchemaName {
    type Err = InvalidSchemaName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let fits = (1..=63).contains(&name.len()) && !name.contains('\0');
        if !fits || name.starts_with("pg_") || name == "information_schema" {
            return Err(InvalidSchemaName(name.to_owned()));
        }
        Ok(SchemaName(name.to_owned()))
    }
}

impl Default for SchemaName {
    /// `source`.
    fn default() -> Self {
        SchemaName("source".to_owned())
    }
}

impl SchemaName {
    /// The name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SchemaName {
    /// The name as SQL wants it, in quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// Why the shop could not be created or filled. Nothing has been changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The schema holds tables, none of which is the shop's.
    #[error("schema {schema} belongs to somebody else: it holds {table}, and none of the shop's tables; choose another schema")]
    Foreign {
        /// The schema.
        schema: SchemaName,
        /// One of the tables in it.
        table: String,
    },
    /// A table of the shop's name is not the shop's table.
    #[error("table {schema}.{table} exists and is not the shop's: {difference}; choose another schema, or move that table away")]
    Differs {
        /// The schema.
        schema: SchemaName,
        /// The table.
        table: &'static str,
        /// What it should be, and is not.
        difference: String,
    },
    /// There are rows which `fill` did not write.
    #[error("table {schema}.{table} already has rows which were not written here; the shop is filled only when empty")]
    NotEmpty {
        /// The schema.
        schema: SchemaName,
        /// The first table with rows.
        table: &'static str,
    },
    /// The history cannot be planned.
    #[error(transparent)]
    Plan(#[from] plan::Invalid),
    /// Postgres refused or is out of reach.
    #[error("Postgres")]
    Postgres(#[from] sqlx::Error),
}

/// Whether [`create_schema`] had anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The tables are new.
    Now,
    /// They were there, and they are the shop's.
    Before,
}

/// Creates the schema and its seven tables in one transaction, or recognises them.
///
/// Idempotent, also when two do it at once. Further tables and further columns beside the shop's
/// are left alone; anything that could be somebody else's is an error and is not touched.
pub async fn create_schema(pool: &PgPool, schema: &SchemaName) -> Result<Created, Error> {
    let mut connection = pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    let created = create_in(&mut transaction, schema).await?;
    transaction.commit().await?;
    Ok(created)
}

/// [`create_schema`] inside the caller's transaction. Leaves `search_path` at the schema.
pub(crate) async fn create_in(
    connection: &mut PgConnection,
    schema: &SchemaName,
) -> Result<Created, Error> {
    one_at_a_time(connection, schema).await?;
    let there = existing(connection, schema).await?;
    let ours = there
        .iter()
        .any(|(table, _)| TABLES.iter().any(|t| t.name == table));
    if let (false, Some(table)) = (ours, there.keys().next()) {
        return Err(Error::Foreign {
            schema: schema.clone(),
            table: table.clone(),
        });
    }
    if !ours {
        create_tables(connection, schema).await?;
        return Ok(Created::Now);
    }
    for table in &TABLES {
        if let Some(difference) = difference(table, there.get(table.name)) {
            return Err(Error::Differs {
                schema: schema.clone(),
                table: table.name,
                difference,
            });
        }
    }
    Ok(Created::Before)
}

/// Waits for another `create` or `fill` of the same schema, a minute at most, and sets the search path.
async fn one_at_a_time(connection: &mut PgConnection, schema: &SchemaName) -> Result<(), Error> {
    sqlx::raw_sql("SET LOCAL lock_timeout = '60s'")
        .execute(&mut *connection)
        .await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('millrace shop ' || $1, 0))")
        .bind(schema.as_str())
        .execute(&mut *connection)
        .await?;
    sqlx::query("SELECT set_config('search_path', $1, true)")
        .bind(schema.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

async fn create_tables(connection: &mut PgConnection, schema: &SchemaName) -> Result<(), Error> {
    let exists: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
            .bind(schema.as_str())
            .fetch_one(&mut *connection)
            .await?;
    if !exists {
        sqlx::raw_sql(&format!("CREATE SCHEMA {schema}"))
            .execute(&mut *connection)
            .await?;
    }
    sqlx::raw_sql(TABLES_SQL).execute(connection).await?;
    Ok(())
}

/// What a relation in the schema is: its kind, primary key and columns with type and need.
#[derive(Default)]
struct Found {
    is_table: bool,
    key: Vec<String>,
    columns: BTreeMap<String, Column>,
}

struct Column {
    type_name: String,
    must_be_given: bool,
}

const EXISTING_SQL: &str = "
    SELECT c.relname::text AS table_name, c.relkind = 'r' AS is_table,
           coalesce(a.attname::text, '') AS column_name, coalesce(t.typname::text, '') AS type_name,
           coalesce(a.attnotnull AND NOT a.atthasdef AND a.attidentity = '', false) AS must_be_given,
           coalesce(a.attnum = ANY (i.indkey), false) AS in_key
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
    WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    ORDER BY 1, a.attnum";

async fn existing(
    connection: &mut PgConnection,
    schema: &SchemaName,
) -> Result<BTreeMap<String, Found>, Error> {
    let rows = sqlx::query(EXISTING_SQL)
        .bind(schema.as_str())
        .fetch_all(connection)
        .await?;
    let mut there = BTreeMap::<String, Found>::new();
    for row in rows {
        let found = there.entry(row.try_get("table_name")?).or_default();
        found.is_table = row.try_get("is_table")?;
        let column: String = row.try_get("column_name")?;
        if row.try_get("in_key")? {
            found.key.push(column.clone());
        }
        let type_name = row.try_get("type_name")?;
        let must_be_given = row.try_get("must_be_given")?;
        found.columns.insert(
            column,
            Column {
                type_name,
                must_be_given,
            },
        );
    }
    Ok(there)
}

/// The first thing that keeps `found` from being used as `table`.
fn difference(table: &Table, found: Option<&Found>) -> Option<String> {
    let Some(found) = found.filter(|found| found.is_table) else {
        return Some(
            "it is missing, or not a plain table, while others of the shop are there".into(),
        );
    };
    for (name, expected) in table.columns {
        match found.columns.get(*name) {
            None => return Some(format!("column {name} is missing")),
            Some(column) if column.type_name != *expected => {
                return Some(format!(
                    "column {name} is {}, not {expected}",
                    column.type_name
                ));
            }
            Some(_) => {}
        }
    }
    if found.key != [table.key()] {
        return Some(format!(
            "its primary key is ({}), not ({})",
            found.key.join(", "),
            table.key()
        ));
    }
    let known = |name: &str| table.columns.iter().any(|(column, _)| *column == name);
    let demanding = found
        .columns
        .iter()
        .find(|(name, column)| column.must_be_given && !known(name));
    demanding.map(|(name, _)| format!("column {name} must be given a value, and the shop has none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_names_are_quoted_and_checked() {
        let quoted = |name: &str| name.parse::<SchemaName>().map(|schema| schema.to_string());
        assert_eq!(quoted("source").unwrap(), r#""source""#);
        assert_eq!(
            quoted(r#"a"; DROP TABLE users; --"#).unwrap(),
            r#""a""; DROP TABLE users; --""#
        );
        for bad in [
            "",
            "pg_catalog",
            "information_schema",
            "a\0b",
            &"x".repeat(64),
        ] {
            assert!(quoted(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_tables_listed_here_are_those_of_the_sql_file() {
        for table in &TABLES {
            let start = TABLES_SQL
                .find(&format!("CREATE TABLE {} (", table.name))
                .unwrap();
            let body = &TABLES_SQL[start..start + TABLES_SQL[start..].find("\n);").unwrap()];
            for (column, _) in table.columns {
                assert!(
                    body.contains(&format!("\n    {column} ")),
                    "{}.{column}",
                    table.name
                );
            }
        }
        assert_eq!(TABLES.map(|table| table.name), crate::shop::TABLES);
    }
}
