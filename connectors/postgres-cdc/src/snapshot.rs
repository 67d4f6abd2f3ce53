//! The initial copy: all rows as of the slot's consistent point, into a topic of their own.

use chrono::Utc;
use futures_util::TryStreamExt;
use millrace_events::{
    Lsn, Record, Row, SchemaId, SnapshotBegin, SnapshotEnd, SnapshotRows, TableId, TableSchema,
    Value,
};
use millrace_sessions::postgres::{point, qualified, quoted, PgSession};
use millrace_topic::{Cluster, RECORD_BYTES_MAX};
use sqlx::Executor;

use crate::append::{self, Appender};
use crate::assemble::Outgoing;
use crate::catalog::{self, CatalogTable, Types};
use crate::cell::{copy_cells, value};
use crate::source::Source;
use crate::status::{Reporter, State};
use crate::{log_scan, slot, Config, Error};

/// Bytes of a table that are read within seconds, whatever the disk.
const COUNTED_BYTES_MAX: u64 = 64 << 20;
/// What a row takes in its table, about.
const ROW_BYTES: u64 = 128;

/// A complete, acknowledged snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    /// Topic with the rows.
    pub(crate) topic: String,
    /// It contains exactly the commits before this.
    pub(crate) lsn: Lsn,
    /// Name of the log that starts with it.
    pub(crate) incarnation: String,
    /// The highest number of a definition in it.
    pub(crate) last_schema: SchemaId,
}

/// What taking a snapshot needs.
pub(crate) struct Snapshot<'a> {
    pub(crate) config: &'a Config,
    pub(crate) source: &'a Source,
    pub(crate) cluster: &'a Cluster,
    pub(crate) reporter: &'a Reporter,
    pub(crate) tables: &'a [TableId],
}

impl Snapshot<'_> {
    /// Removes the topic that an attempt has left behind whose slot stood at `left_behind`: only
    /// its own can carry that LSN. An empty one may be another capture's that was just created, so
    /// it stays; the next snapshot takes a higher number.
    pub(crate) async fn remove_incomplete(&self, left_behind: Option<Lsn>) -> Result<(), Error> {
        let prefix = &self.config.topic_snapshot_prefix;
        for number in self.numbers(prefix).await? {
            let topic = format!("{prefix}-{number}");
            let first = log_scan::first_record(self.cluster, &topic).await?;
            if is_left_behind(first.as_ref(), left_behind) {
                self.cluster.delete(&topic).await?;
            }
        }
        Ok(())
    }

    /// Creates the slot and copies the tables. `connection` is used to look at what blocks.
    ///
    /// A reader with an older snapshot would find a truncated or rewritten table empty. The tables
    /// are therefore locked against changes of their definition, TRUNCATE included, until the copy
    /// is complete, and what happened before the lock is noticed by their files. Locking before the
    /// slot exists would block the source for good: the slot waits for transactions that wait for
    /// the lock, which Postgres cannot see.
    pub(crate) async fn take(&self, connection: &mut PgSession) -> Result<Taken, Error> {
        let point = slot::create(connection, self.source, self.config).await?;
        let mut reader = self.source.connect_to_copy().await?;
        reader
            .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await?;
        let import = format!("SET TRANSACTION SNAPSHOT '{}'", point.snapshot);
        reader.execute(import.as_str()).await?;
        self.pin_tables(&mut reader).await?;
        let taken = self.copy(&mut reader, point.lsn).await?;
        reader.execute("COMMIT").await?;
        Ok(taken)
    }

    async fn pin_tables(&self, reader: &mut PgSession) -> Result<(), Error> {
        let timeout = self.config.lock_timeout.as_millis();
        let limit = format!("SET LOCAL lock_timeout = {timeout}");
        reader.execute(limit.as_str()).await?;
        for table in self.tables {
            if !point::pin_table(reader, &table.schema, &table.name).await? {
                return Err(Error::Rewritten {
                    table: table.clone(),
                });
            }
        }
        Ok(())
    }

    async fn copy(&self, reader: &mut PgSession, lsn: Lsn) -> Result<Taken, Error> {
        let (schemas, estimated_rows) = self.definitions(reader).await?;
        let prefix = &self.config.topic_snapshot_prefix;
        let last = self.numbers(prefix).await?.into_iter().max();
        let topic = format!("{prefix}-{}", last.unwrap_or(0) + 1);
        let retention = &self.config.retention_of_snapshots;
        self.cluster.create(&topic, retention).await?;
        let appender = append::open(self.cluster, self.config, &topic).await?;
        let incarnation = format!("{:032x}", rand::random::<u128>());
        let mut copy = Copy {
            config: self.config,
            reporter: self.reporter,
            appender,
            lsn,
            total: estimated_rows.iter().sum(),
            chunks: 0,
            rows: 0,
        };
        let begin = Record::SnapshotBegin(SnapshotBegin {
            incarnation: incarnation.clone(),
            lsn,
            at: Utc::now(),
            schemas: schemas.clone(),
            estimated_rows,
        });
        // Waited for, because without its first record nobody could tell whose topic this is.
        copy.appender.append_and_wait(begin.encode()).await?;
        for schema in &schemas {
            copy.table(reader, schema).await?;
        }
        copy.seal().await?;
        Ok(Taken {
            topic,
            lsn,
            incarnation,
            last_schema: SchemaId(schemas.len() as u32),
        })
    }

    /// The numbers N of the topics `prefix-N`.
    async fn numbers(&self, prefix: &str) -> Result<Vec<u64>, Error> {
        let topics = self.cluster.topics().await?;
        let number = |name: &str| name.strip_prefix(prefix)?.strip_prefix('-')?.parse().ok();
        Ok(topics
            .iter()
            .filter_map(|topic| number(&topic.name))
            .collect())
    }

    async fn definitions(
        &self,
        reader: &mut PgSession,
    ) -> Result<(Vec<TableSchema>, Vec<u64>), Error> {
        let mut types = Types::default();
        let (mut schemas, mut rows) = (Vec::new(), Vec::new());
        for (number, table) in (1..).zip(self.tables) {
            let Some(found) = catalog::table(reader, table).await? else {
                let table = table.clone();
                return Err(Error::Rewritten { table });
            };
            let id = SchemaId(number);
            schemas.push(catalog::schema(reader, &mut types, id, &found).await?);
            rows.push(estimate(reader, &found).await?);
        }
        Ok((schemas, rows))
    }
}

/// Whether a topic with this first record was begun under the slot that stood at `left_behind`.
fn is_left_behind(first: Option<&Record>, left_behind: Option<Lsn>) -> bool {
    matches!(first, Some(Record::SnapshotBegin(begin)) if Some(begin.lsn) == left_behind)
}

/// A table that was never analysed has no estimate. It is counted if that is quick; of a larger one, whose count could
/// take longer than an answer may, the size has to do: the number is for the progress that is shown, and nothing else.
async fn estimate(reader: &mut PgSession, table: &CatalogTable) -> Result<u64, Error> {
    if table.estimated_rows > 0.0 {
        return Ok(table.estimated_rows as u64);
    }
    let size = sqlx::query_scalar("SELECT pg_relation_size($1::oid)").bind(table.oid);
    let bytes: i64 = size.fetch_one(&mut *reader).await?;
    if let Some(rows) = rows_by_size(bytes.unsigned_abs()) {
        return Ok(rows);
    }
    let name = qualified(&table.id.schema, &table.id.name);
    let sql = format!("SELECT count(*) FROM ONLY {name}");
    let count: i64 = sqlx::query_scalar(&sql).fetch_one(reader).await?;
    Ok(count.unsigned_abs())
}

/// About how many rows a table of this size has; `None` if it is small enough to be counted.
fn rows_by_size(bytes: u64) -> Option<u64> {
    (bytes > COUNTED_BYTES_MAX).then_some(bytes / ROW_BYTES)
}

fn plain(value: Vec<u8>) -> Outgoing {
    Outgoing {
        value,
        ends: None,
        transaction: false,
    }
}

struct Copy<'a> {
    config: &'a Config,
    reporter: &'a Reporter,
    appender: Appender,
    lsn: Lsn,
    total: u64,
    chunks: u64,
    rows: u64,
}

impl Copy<'_> {
    async fn table(&mut self, reader: &mut PgSession, schema: &TableSchema) -> Result<(), Error> {
        self.report(schema);
        let columns: Vec<_> = schema.columns.iter().map(|c| quoted(&c.name)).collect();
        let table = qualified(&schema.table.schema, &schema.table.name);
        let sql = format!(
            "COPY (SELECT {} FROM ONLY {table}) TO STDOUT",
            columns.join(", ")
        );
        let mut lines = reader.copy_out(&sql).await?;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while let Some(line) = lines.try_next().await? {
            let (row, row_bytes) = parse(schema, &line)?;
            if !rows.is_empty() && bytes + row_bytes > self.config.part_bytes {
                self.chunk(schema, std::mem::take(&mut rows)).await?;
                bytes = 0;
            }
            rows.push(row);
            bytes += row_bytes;
        }
        if !rows.is_empty() {
            self.chunk(schema, rows).await?;
        }
        Ok(())
    }

    async fn chunk(&mut self, schema: &TableSchema, rows: Vec<Row>) -> Result<(), Error> {
        self.chunks += 1;
        self.rows += rows.len() as u64;
        let single = rows.len() == 1;
        let record = Record::SnapshotRows(SnapshotRows {
            chunk: self.chunks,
            lsn: self.lsn,
            table: schema.table.clone(),
            schema: schema.id,
            rows,
        });
        let value = record.encode();
        if single && value.len() > RECORD_BYTES_MAX {
            return Err(Error::RowTooLarge {
                table: schema.table.clone(),
                place: "the snapshot".into(),
                bytes: value.len(),
                limit: RECORD_BYTES_MAX,
            });
        }
        self.appender.append(plain(value)).await?;
        self.report(schema);
        Ok(())
    }

    async fn seal(mut self) -> Result<(), Error> {
        let end = Record::SnapshotEnd(SnapshotEnd {
            chunks: self.chunks,
            rows: self.rows,
        });
        self.appender.append_and_wait(end.encode()).await?;
        Ok(())
    }

    fn report(&self, schema: &TableSchema) {
        self.reporter.state(State::Snapshot {
            table: schema.table.clone(),
            rows: self.rows,
            total: self.total,
        });
    }
}

/// One line of `COPY`, and about what the row takes in a record.
fn parse(schema: &TableSchema, line: &[u8]) -> Result<(Row, usize), Error> {
    let table = &schema.table;
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = std::str::from_utf8(line).map_err(|_| Error::Value {
        table: table.clone(),
        column: "(any)".into(),
        reason: "the text is not UTF-8".into(),
    })?;
    let mut row = Vec::with_capacity(schema.columns.len());
    let mut bytes = line.len();
    let mut cells = copy_cells(line);
    for column in &schema.columns {
        let cell = cells.next().transpose();
        let cell = cell.map_err(|error| Error::cell(table, &column.name, error))?;
        let value = match cell.flatten() {
            None => Value::Null,
            Some(text) => {
                value(column.oid, &text).map_err(|error| Error::cell(table, &column.name, error))?
            }
        };
        bytes += column.name.len() + 6;
        row.push((column.name.clone(), value));
    }
    match cells.next() {
        None => Ok((Row(row), bytes)),
        Some(_) => Err(Error::Protocol(format!(
            "a line of COPY of {table} has too many cells"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn only_a_small_table_is_counted() {
        assert_eq!(rows_by_size(0), None);
        assert_eq!(rows_by_size(COUNTED_BYTES_MAX), None);
        assert_eq!(rows_by_size(1 << 40), Some(1 << 33));
    }

    #[test]
    fn only_a_snapshot_begun_at_the_left_behind_slot_is_removed() {
        let begin = |lsn| {
            Record::SnapshotBegin(SnapshotBegin {
                incarnation: "a".into(),
                lsn: Lsn(lsn),
                at: DateTime::UNIX_EPOCH,
                schemas: Vec::new(),
                estimated_rows: Vec::new(),
            })
        };
        let end = Record::SnapshotEnd(SnapshotEnd { chunks: 0, rows: 0 });
        assert!(is_left_behind(Some(&begin(7)), Some(Lsn(7))));
        assert!(!is_left_behind(Some(&begin(8)), Some(Lsn(7))));
        assert!(!is_left_behind(Some(&begin(7)), None));
        assert!(!is_left_behind(Some(&end), Some(Lsn(7))));
        assert!(!is_left_behind(None, Some(Lsn(7))));
        assert!(!is_left_behind(None, None));
    }
}
