//! A replica table against its source.

use millrace_events::{Column as SourceColumn, TableId, TableSchema, Value as SourceValue};
use millrace_sessions::mysql::Session;
use millrace_sessions::postgres::{point, qualified, quoted as name, PgSession};
use serde_json::{Map, Value};
use sqlx::Row as _;

use super::key::Key;
use super::merge::{merge, Row, Shape};
use super::position::Position;
use super::report::{Difference, DifferenceKind, Subject, Tally};
use super::sides::{from_mysql, from_postgres, Texts};
use super::{mysql, postgres, Config, Error};
use crate::engine::position::NamedTable;
use crate::replica::{canonical, from_server, quoted, Column, Kind, Table};

/// OIDs of built-in types, which are the same in every Postgres.
const BOOL: u32 = 16;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;

/// The tables to compare, and those that the projector does not have.
pub(super) fn chosen(config: &Config, position: &Position) -> (Vec<NamedTable>, Vec<TableId>) {
    match config.tables.is_empty() {
        true => (position.tables.clone(), Vec::new()),
        false => named(&config.tables, position),
    }
}

/// These tables, and those of them that the projector does not have.
pub(super) fn named(wanted: &[TableId], position: &Position) -> (Vec<NamedTable>, Vec<TableId>) {
    let (mut tables, mut absent) = (Vec::new(), Vec::new());
    for id in wanted {
        match position.tables.iter().find(|t| t.definition.table == *id) {
            Some(table) => tables.push(table.clone()),
            None => absent.push(id.clone()),
        }
    }
    (tables, absent)
}

/// Compares every row and column. `postgres_conn` sees the consistent point, `mysql_conn` the same. `None` if the
/// table's rows of that point are gone from Postgres.
pub(super) async fn compare(
    config: &Config,
    postgres_conn: &mut PgSession,
    mysql_conn: &mut Session,
    NamedTable {
        name,
        definition: schema,
    }: &NamedTable,
) -> Result<Option<Subject>, Error> {
    let table = Table::of(schema, name).map_err(|error| Error::Bookkeeping(error.to_string()))?;
    let TableId {
        schema: namespace,
        name,
    } = &table.source;
    let pinned = point::pin_table(postgres_conn, namespace, name).await;
    if !pinned.map_err(postgres("locking a table against TRUNCATE"))? {
        return Ok(None);
    }
    let mut tally = Tally::new(&table.source.to_string(), config.differences_max);
    let definition = Definition::read(postgres_conn, mysql_conn, &table).await?;
    if let Some(difference) = definition.difference(config, &table) {
        tally.add(difference);
        return Ok(Some(tally.finish(0)));
    }
    let shape = Shape {
        table: table.source.to_string(),
        columns: table
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect(),
        key: table.key.clone(),
    };
    let (source, replica) = (source_query(&table), replica_query(&table));
    let rows = merge(
        &shape,
        &mut tally,
        from_postgres(postgres_conn, &source, |texts| {
            source_row(&table, schema, texts)
        }),
        from_mysql(mysql_conn, &replica, |texts| replica_row(&table, texts)),
    )
    .await?;
    Ok(Some(tally.finish(rows)))
}

/// The columns that exist on either side, in order.
struct Definition {
    source: Vec<String>,
    replica: Vec<String>,
}

impl Definition {
    async fn read(
        postgres_conn: &mut PgSession,
        mysql_conn: &mut Session,
        table: &Table,
    ) -> Result<Definition, Error> {
        // Stored generated columns are not in the log.
        let source = sqlx::query_scalar(
            "SELECT a.attname::text FROM pg_attribute a \
             JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped \
             AND a.attgenerated = '' ORDER BY a.attnum",
        )
        .bind(&table.source.schema)
        .bind(&table.source.name)
        .fetch_all(postgres_conn)
        .await
        .map_err(postgres("reading a table's definition"))?;
        let replica = sqlx::query(
            "SELECT CAST(column_name AS CHAR) FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position",
        )
        .bind(&table.name)
        .fetch_all(mysql_conn)
        .await
        .map_err(mysql("reading a table's definition"))?;
        // Unchecked: sqlx takes text of a binary collation for bytes.
        let replica = replica
            .iter()
            .map(|row| row.try_get_unchecked(0))
            .collect::<Result<_, _>>();
        let replica = replica.map_err(mysql("reading a table's definition"))?;
        Ok(Definition { source, replica })
    }

    /// `None` if both sides have the columns that the projector keeps.
    fn difference(&self, config: &Config, table: &Table) -> Option<Difference> {
        let kept: Vec<&str> = table
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        let planned = config.columns.get(&table.source.to_string());
        let planned = planned.and_then(Value::as_array);
        let is_planned = |column: &&String| {
            planned.is_none_or(|planned| planned.iter().any(|name| name == column.as_str()))
        };
        let source: Vec<&String> = self.source.iter().filter(is_planned).collect();
        if source == kept && self.replica == kept {
            return None;
        }
        Some(Difference {
            table: table.source.to_string(),
            kind: DifferenceKind::Definition,
            key: Map::new(),
            column: "*".into(),
            expected: source.into_iter().cloned().collect(),
            found: self.replica.clone().into(),
        })
    }
}

fn source_query(table: &Table) -> String {
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|column| name(&column.name))
        .collect();
    let order: Vec<String> = table
        .key_columns()
        .map(|column| match column.kind {
            Kind::VarChar(_) | Kind::LongText | Kind::BlankPadded(_) => {
                format!("{}::text COLLATE \"C\"", name(&column.name))
            }
            _ => name(&column.name),
        })
        .collect();
    format!(
        "SELECT {} FROM ONLY {} ORDER BY {}",
        columns.join(", "),
        qualified(&table.source.schema, &table.source.name),
        order.join(", "),
    )
}

fn replica_query(table: &Table) -> String {
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(Column::select_expression)
        .collect();
    let order: Vec<String> = table
        .key_columns()
        .map(|column| format!("t.{}", quoted(&column.name)))
        .collect();
    format!(
        "SELECT {} FROM {} t ORDER BY {}",
        columns.join(", "),
        quoted(&table.name),
        order.join(", "),
    )
}

fn source_row(table: &Table, schema: &TableSchema, texts: Texts) -> Row {
    let columns = table.columns.iter().zip(&schema.columns);
    let cells = columns
        .zip(texts)
        .map(|((column, source), text)| source_cell(column, source, text))
        .collect();
    row(table, cells)
}

/// The canonical text. A value that MySQL cannot hold has none, and is equal to nothing.
fn source_cell(column: &Column, source: &SourceColumn, text: Option<String>) -> Option<String> {
    let value = value_of(source, text);
    match canonical(&value, column) {
        Ok(text) => text.map(|text| text.into_owned()),
        Err(reason) => Some(format!("(no value in MySQL: {reason})")),
    }
}

/// The value as capture would write it.
fn value_of(source: &SourceColumn, text: Option<String>) -> SourceValue {
    let Some(text) = text else {
        return SourceValue::Null;
    };
    match source.oid {
        BOOL => SourceValue::Bool(text == "t"),
        INT2 | INT4 | INT8 => match text.parse() {
            Ok(number) => SourceValue::Int(number),
            Err(_) => SourceValue::Text(text),
        },
        _ => SourceValue::Text(text),
    }
}

fn replica_row(table: &Table, texts: Texts) -> Row {
    let cell = |(column, text): (&Column, Option<String>)| {
        text.map(|text| from_server(&text, column).into_owned())
    };
    row(table, table.columns.iter().zip(texts).map(cell).collect())
}

fn row(table: &Table, cells: Texts) -> Row {
    let key = |&position: &usize| {
        let text = cells
            .get(position)
            .and_then(Option::as_deref)
            .unwrap_or_default();
        let kind = table
            .columns
            .get(position)
            .map_or(Kind::LongText, |column| column.kind);
        Key::of(text, kind)
    };
    Row {
        order: table.key.iter().map(key).collect(),
        cells,
    }
}
