//! Copying one table: its chunks are planned, read by several sessions, and announced when all are acknowledged.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use millrace_events::{
    Chunk, ChunkPlanned, ChunkWriter, CopyId, Epoch, Lsn, Record, TableCopied, TableId, Visibility,
};
use millrace_sessions::postgres::PgSession;
use sqlx::Executor;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::desk::{Announcement, Desk};
use super::keys::{Key, Range};
use super::moved::MovedKeys;
use super::output::Output;
use super::pieces::Pieces;
use super::read::{Seal, TableSource};
use super::resume::{Job, Left, Progress};
use super::sessions::{Copying, Sessions};
use crate::status::Reporter;
use crate::{Config, Error};

/// A commit of its own number that is written to disk. Not transactional, the message itself is none of the log's.
const COMMIT: &str =
    "SELECT pg_current_xact_id(), pg_logical_emit_message(false, $1::text || '.sealed', '')";

/// Keys of one statement.
const KEYS_OF_A_STATEMENT: usize = 1_000;

/// What all readers of a table share.
pub(crate) struct TableCopy {
    pub(crate) config: Arc<Config>,
    pub(crate) reporter: Reporter,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) pieces: Pieces,
    pub(crate) epoch: Epoch,
    pub(crate) copy: CopyId,
    pub(crate) table: TableSource,
    /// Rows of a chunk.
    pub(crate) chunk_rows: u64,
    pub(crate) done: Mutex<Done>,
}

/// What has been read of a table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) rows: u64,
    /// Chunks.
    pub(crate) chunks: u32,
    /// The highest position at which a chunk was read.
    pub(crate) lsn: Lsn,
}

impl Done {
    /// What earlier starts have read.
    pub(crate) fn of(progress: &Progress, table: &TableId) -> Done {
        let chunks = progress.chunks().table(table);
        chunks.map_or_else(Done::default, |chunks| Done {
            rows: chunks.rows(),
            chunks: chunks.complete(),
            lsn: chunks.lsn(),
        })
    }
}

/// The chunks of the readers, which take them from one queue.
type Jobs = Arc<tokio::sync::Mutex<mpsc::Receiver<Job>>>;

impl TableCopy {
    /// Reads what is left of the table, and says in the log that it is copied.
    pub(crate) async fn run(
        self: Arc<Self>,
        progress: &Progress,
        desk: &Desk,
    ) -> Result<(), Error> {
        let name = self.name().clone();
        let planned = self.clone().read_all(progress.left(&name)).await?;
        for (chunk, visible) in progress.unfinished_again(&name) {
            self.end(chunk, visible).await?;
        }
        let mut chunks = progress.number_again(&name, planned) - 1;
        if self.was_moved(desk, self.done().lsn).await?.is_some() {
            chunks += 1;
            self.read_again(desk, chunks).await?;
        }
        self.pieces.settle().await?;
        let Done { rows, lsn, .. } = self.done();
        let copied = Announcement::Copied(TableCopied {
            epoch: self.epoch,
            copy: self.copy,
            table: name,
            chunks,
            rows,
            lsn,
            at: chrono::Utc::now(),
        });
        desk.announce(copied).await
    }

    /// Returns how many chunks there are.
    async fn read_all(self: Arc<Self>, left: Left) -> Result<u32, Error> {
        let readers = self.config.snapshot_readers.max(1);
        let (sender, jobs) = mpsc::channel(readers);
        let jobs: Jobs = Arc::new(tokio::sync::Mutex::new(jobs));
        let mut running = JoinSet::new();
        for _ in 0..readers {
            running.spawn(self.clone().read_jobs(jobs.clone()));
        }
        drop(jobs);
        let read = async {
            while let Some(reader) = running.join_next().await {
                reader.map_err(|error| Error::Protocol(error.to_string()))??;
            }
            Ok(())
        };
        let (planned, ()) = tokio::try_join!(self.plan(left, sender), read)?;
        Ok(planned)
    }

    /// Hands out the chunks that are left, and plans those behind them, a few ahead of the readers. A plan stands in the
    /// topic before its chunk does.
    async fn plan(&self, left: Left, jobs: mpsc::Sender<Job>) -> Result<u32, Error> {
        let mut planned = left.planned;
        let mut to_end = left.planned_to_end;
        let mut after = left.after;
        for job in left.jobs {
            // Without readers there is an error of theirs.
            let _ = jobs.send(job).await;
        }
        let mut session = self.sessions.take().await?;
        while !to_end && !jobs.is_closed() {
            let rows = self.chunk_rows;
            let up_to = self
                .table
                .bound(&mut session.session, after.as_ref(), rows)
                .await?;
            planned += 1;
            self.pieces
                .send(self.planned(planned, up_to.clone()).encode())
                .await?;
            to_end = up_to.is_none();
            let range = Range {
                after: after.take(),
                up_to: up_to.clone(),
            };
            after = up_to;
            let _ = jobs
                .send(Job {
                    chunk: planned,
                    range,
                })
                .await;
        }
        self.sessions.give(session);
        Ok(planned)
    }

    fn planned(&self, chunk: u32, up_to: Option<Key>) -> Record {
        Record::Plan(ChunkPlanned {
            epoch: self.epoch,
            copy: self.copy,
            table: self.name().clone(),
            chunk,
            up_to,
        })
    }

    async fn read_jobs(self: Arc<Self>, jobs: Jobs) -> Result<(), Error> {
        while let Some(job) = next(&jobs).await {
            let mut session = self.sessions.take().await?;
            let seal = self.begin(&mut session).await?;
            let sql = self.table.keys.copy(&job.range);
            let chunk = self.chunk(job.chunk, &seal, false);
            self.read(&mut session.session, &[sql], chunk).await?;
            self.sessions.give(session);
        }
        Ok(())
    }

    /// Begins a transaction to read rows in. What it sees survives a crash of the server from here on: a commit that is
    /// visible may not be on disk yet (`synchronous_commit = off`), and after a crash another transaction may have the number
    /// of one that left no trace there, so that a reader would take it for contained in the rows. Hence a transaction
    /// with a number above all of those is committed before any row is sent.
    async fn begin(&self, copying: &mut Copying) -> Result<Seal, Error> {
        let seal = self.table.begin(copying).await?;
        let mut session = self.sessions.take().await?;
        let commit = sqlx::query(COMMIT).bind(&self.config.message_prefix);
        commit.execute(&mut session.session).await?;
        self.sessions.give(session);
        Ok(seal)
    }

    /// Reads a chunk in the transaction that was begun for it, and ends that.
    async fn read(
        &self,
        session: &mut PgSession,
        statements: &[String],
        chunk: Chunk,
    ) -> Result<(), Error> {
        let lsn = chunk.lsn;
        let mut out = Output::new(chunk, &self.pieces, self.config.part_bytes);
        let mut rows = 0;
        for sql in statements {
            rows += self.table.rows(session, sql, &mut out).await?;
        }
        session.execute("COMMIT").await?;
        out.finish().await?;
        self.count(rows, lsn);
        Ok(())
    }

    fn count(&self, rows: u64, lsn: Lsn) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.rows += rows;
        done.chunks += 1;
        done.lsn = done.lsn.max(lsn);
        self.reporter.copying(self.name(), *done);
    }

    fn done(&self) -> Done {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that an update has changed without sending all of the row, of all that committed before `lsn`.
    async fn was_moved(&self, desk: &Desk, lsn: Lsn) -> Result<Option<BTreeSet<Key>>, Error> {
        // On an idle source too, something of the log has to come from behind that position.
        let mut session = self.sessions.take().await?;
        let emit = "SELECT pg_logical_emit_message(true, $1, 'copied')";
        let emit = sqlx::query(emit).bind(&self.config.message_prefix);
        emit.execute(&mut session.session).await?;
        self.sessions.give(session);
        match desk.moved(self.name(), lsn).await? {
            MovedKeys::Keys(keys) => Ok((!keys.is_empty()).then_some(keys)),
            MovedKeys::TooMany => Err(Error::CopyOutrun {
                table: self.name().clone(),
            }),
        }
    }

    /// One snapshot for all of them, and every update that it sees is known before they are read.
    async fn read_again(&self, desk: &Desk, number: u32) -> Result<(), Error> {
        let mut session = self.sessions.take().await?;
        let seal = self.begin(&mut session).await?;
        let keys = self.was_moved(desk, seal.lsn).await?.unwrap_or_default();
        let keys: Vec<_> = keys.into_iter().collect();
        let statements = keys
            .chunks(KEYS_OF_A_STATEMENT)
            .map(|keys| self.table.keys.copy_keys(keys));
        let statements: Vec<_> = statements.collect();
        let chunk = self.chunk(number, &seal, true);
        self.read(&mut session.session, &statements, chunk).await?;
        self.sessions.give(session);
        Ok(())
    }

    /// Ends a reading of keys again that an earlier start has given up: it has no more rows.
    async fn end(&self, number: u32, visible: Visibility) -> Result<(), Error> {
        let lsn = self.done().lsn;
        let chunk = self.chunk(number, &Seal { visible, lsn }, true);
        self.pieces.send(ChunkWriter::new(chunk).finish()).await
    }

    fn chunk(&self, number: u32, seal: &Seal, again: bool) -> Chunk {
        Chunk {
            epoch: self.epoch,
            copy: self.copy,
            table: self.name().clone(),
            chunk: number,
            piece: 0,
            last: false,
            again,
            visible: seal.visible.clone(),
            lsn: seal.lsn,
            schema: self.table.definition.id,
            slices: Vec::new(),
            rows: Vec::new(),
        }
    }

    fn name(&self) -> &TableId {
        &self.table.definition.table
    }
}

async fn next(jobs: &Jobs) -> Option<Job> {
    jobs.lock().await.recv().await
}
