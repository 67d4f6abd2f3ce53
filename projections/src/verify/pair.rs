//! A replica table and its source: how each is asked for its rows, and what an answer means.

use millrace_events::{Column as SourceColumn, TableId, TableSchema, Value as SourceValue};
use millrace_sessions::postgres::{point, qualified, quoted as name, PgSession};

use super::checksum::{self, Sides};
use super::key::Key;
use super::merge::{Row, Shape, Unfit};
use super::sides::Texts;
use super::{long, postgres, Error};
use crate::engine::quarantine::{digest, hex};
use crate::replica::{canonical, exact, from_server, quoted, Column, Kind, Table};

/// OIDs of built-in types, which are the same in every Postgres.
const BOOL: u32 = 16;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;

/// A replica table and its source.
pub(super) struct Pair<'a> {
    table: &'a Table,
    schema: &'a TableSchema,
    source: String,
    shape: Shape,
}

impl<'a> Pair<'a> {
    pub(super) fn new(table: &'a Table, schema: &'a TableSchema) -> Pair<'a> {
        let columns = table.names().map(str::to_owned);
        Pair {
            table,
            schema,
            source: qualified(&table.source.schema, &table.source.name),
            shape: Shape {
                table: table.source.to_string(),
                columns: columns.collect(),
                key: table.key.clone(),
            },
        }
    }

    /// The table in Postgres, as SQL.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// The name of the table in MySQL.
    pub(super) fn replica(&self) -> &str {
        &self.table.name
    }

    /// What is compared.
    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Locks the source against TRUNCATE; false if its rows of the snapshot are gone.
    pub(super) async fn pin(&self, session: &mut PgSession) -> Result<bool, Error> {
        let TableId { schema, name } = &self.table.source;
        let pinned = point::pin_table(session, schema, name).await;
        pinned.map_err(postgres("locking a table against TRUNCATE"))
    }

    /// Blocks that the source has now. The rows of any snapshot are in them as long as [`Pair::pin`] says that they are
    /// not gone.
    pub(super) async fn blocks(&self, session: &mut PgSession) -> Result<u64, Error> {
        let query = "SELECT pg_relation_size($1::regclass) / current_setting('block_size')::int8";
        let blocks: i64 = sqlx::query_scalar(query)
            .bind(&self.source)
            .fetch_one(session)
            .await
            .map_err(postgres("asking for the size of a table"))?;
        Ok(blocks.unsigned_abs())
    }

    /// The condition that every row meets.
    pub(super) fn all(&self) -> Sides {
        let always = || "1 = 1".to_owned();
        Sides {
            source: always(),
            replica: always(),
        }
    }

    /// Digest of a row.
    pub(super) fn digest(&self) -> Sides {
        let beside = self.table.beside.iter();
        checksum::digest(
            self.typed(0..self.table.columns.len()),
            beside.map(|beside| beside.name.as_str()),
        )
    }

    fn all_columns(&self) -> Vec<(&Column, &str)> {
        self.typed(0..self.table.columns.len()).collect()
    }

    /// The columns of the key with their types in Postgres.
    pub(super) fn key(&self) -> Vec<(&Column, &str)> {
        self.typed(self.table.key.iter().copied()).collect()
    }

    fn typed(
        &self,
        positions: impl Iterator<Item = usize>,
    ) -> impl Iterator<Item = (&Column, &str)> {
        positions.filter_map(|i| {
            let type_name = &self.schema.columns.get(i)?.type_name;
            Some((self.table.columns.get(i)?, type_name.as_str()))
        })
    }

    /// The rows of the source that meet a condition, in the order of their keys.
    pub(super) fn source_query(&self, condition: &str) -> String {
        let all = self.all_columns();
        let columns = all.iter().map(|(c, of)| long::selected(c, of).source);
        let digests = long::digests(&all).map(|sides| sides.source);
        let columns: Vec<String> = columns.chain(digests).collect();
        let order: Vec<String> = self
            .table
            .key_columns()
            .map(|column| match column.kind {
                Kind::VarChar(_) | Kind::LongText | Kind::BlankPadded(_) => {
                    format!("t.{}::text COLLATE \"C\"", name(&column.source))
                }
                _ => format!("t.{}", name(&column.source)),
            })
            .collect();
        format!(
            "SELECT {} FROM ONLY {} t WHERE {condition} ORDER BY {}",
            columns.join(", "),
            self.source,
            order.join(", "),
        )
    }

    /// The same of the replica.
    pub(super) fn replica_query(&self, condition: &str) -> String {
        let beside = self.table.beside.iter().map(|beside| quoted(&beside.name));
        let all = self.all_columns();
        let columns = all.iter().map(|(c, of)| long::selected(c, of).replica);
        let digests = long::digests(&all).map(|sides| sides.replica);
        let columns: Vec<String> = columns.chain(beside).chain(digests).collect();
        let order: Vec<String> = self
            .table
            .key_columns()
            .map(|column| format!("t.{}", quoted(&column.name)))
            .collect();
        format!(
            "SELECT {} FROM {} t WHERE {condition} ORDER BY {}",
            columns.join(", "),
            quoted(&self.table.name),
            order.join(", "),
        )
    }

    /// A row that Postgres gave.
    pub(super) fn source_row(&self, mut texts: Texts) -> Row {
        let digests = long::take_digests(&mut texts, self.table.columns.len());
        let columns = self.schema.columns.iter().zip(texts);
        let values: Vec<SourceValue> = columns.map(|(c, text)| value_of(c, text)).collect();
        let mut beside: Texts = vec![None; self.table.beside.len()];
        let (mut cells, mut unfit) = (Texts::new(), Vec::new());
        for (position, (column, value)) in self.table.columns.iter().zip(&values).enumerate() {
            match canonical(value, column) {
                Ok(text) => cells.push(text.map(|text| text.into_owned())),
                Err(_) if column.policy.quarantines() => {
                    let text = exact(value).unwrap_or_default().into_owned();
                    self.note_beside(&mut beside, position, &text);
                    unfit.push(self.unfit(&values, column, text));
                    cells.push(None);
                }
                // It has none, and is equal to nothing.
                Err(reason) => cells.push(Some(format!("(no value in MySQL: {reason})"))),
            }
        }
        put(&mut cells, digests);
        cells.extend(beside);
        self.row(cells, unfit)
    }

    fn note_beside(&self, beside: &mut Texts, position: usize, text: &str) {
        let columns = self.table.beside.iter().zip(beside);
        for (_, cell) in columns.filter(|(column, _)| column.of == position) {
            *cell = Some(text.to_owned());
        }
    }

    fn unfit(&self, values: &[SourceValue], column: &Column, text: String) -> Unfit {
        // Without a digest its key is none that MySQL can hold, and no row of the replica is like it.
        let digest = digest(self.table, &self.table.key_of(values));
        Unfit {
            digest: digest.map(|digest| hex(&digest)).unwrap_or_default(),
            column: column.name.clone(),
            text,
        }
    }

    /// A row that MySQL gave.
    pub(super) fn replica_row(&self, mut texts: Texts) -> Row {
        let digests = long::take_digests(&mut texts, self.shape.columns.len());
        let cell =
            |(position, text): (usize, Option<String>)| match self.table.columns.get(position) {
                Some(column) => text.map(|text| from_server(&text, column).into_owned()),
                None => text,
            };
        let mut cells = texts.into_iter().enumerate().map(cell).collect();
        put(&mut cells, digests);
        self.row(cells, Vec::new())
    }

    fn row(&self, cells: Texts, unfit: Vec<Unfit>) -> Row {
        let key = |&position: &usize| {
            let text = cells
                .get(position)
                .and_then(Option::as_deref)
                .unwrap_or_default();
            let column = self.table.columns.get(position);
            Key::of(text, column.map_or(Kind::LongText, |column| column.kind))
        };
        Row {
            order: self.table.key.iter().map(key).collect(),
            cells,
            unfit,
        }
    }
}

/// Puts what stands for long values in their places.
fn put(cells: &mut Texts, digests: Vec<(usize, String)>) {
    for (position, digest) in digests {
        if let Some(cell) = cells.get_mut(position) {
            *cell = Some(digest);
        }
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
