//! All copies of a session: those that an earlier one has left, those of tables that have none, those that are asked for.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use millrace_events::{
    CapturedTable, Copies, CopyId, CopyTable, Epoch, Record, Start, TableId, Verdict,
};
use millrace_topic::Cluster;
use tokio::sync::{mpsc, watch};

use super::desk::{Announced, Announcement, Desk};
use super::estimate::{self, estimated_rows};
use super::pieces::Pieces;
use super::read::TableSource;
use super::requests::{self, Request};
use super::resume::Progress;
use super::sessions::Sessions;
use super::table::{Done, TableCopy};
use super::{fence, publish};
use crate::source::Source;
use crate::status::Reporter;
use crate::{append, catalog};
use crate::{Config, Error};

/// What copying works with while a session follows the stream.
pub(crate) struct Copier {
    pub(crate) config: Arc<Config>,
    pub(crate) source: Source,
    pub(crate) cluster: Cluster,
    pub(crate) reporter: Reporter,
    pub(crate) desk: Desk,
    pub(crate) epoch: Epoch,
    /// What the log says of tables, with what is announced here.
    pub(crate) copies: watch::Sender<Copies>,
}

/// The copy that is worked at.
struct Current {
    copy: CopyId,
    topic: String,
    /// Its tables that are not copied yet.
    tables: Vec<CapturedTable>,
}

impl Copier {
    /// Copies until something fails. `captured`: the tables of the publication.
    pub(crate) async fn run(
        &self,
        captured: &[TableId],
        requests: &mut mpsc::Receiver<Request>,
    ) -> Result<Infallible, Error> {
        let known = self.copies.borrow().clone();
        let (removed, left): (Vec<_>, Vec<_>) = captured
            .iter()
            .cloned()
            .partition(|table| known.is_removed(table));
        self.finish_removing(&removed).await?;
        let missing: Vec<_> = left
            .into_iter()
            .filter(|table| known.table(table).is_none())
            .collect();
        if !missing.is_empty() {
            self.begin(&missing).await?;
        }
        self.report();
        let (never, _) = tokio::try_join!(self.copy_all(), requests::serve(self, requests))?;
        Ok(never)
    }

    /// Copies what is not copied, one copy after the other, and waits for more.
    async fn copy_all(&self) -> Result<Infallible, Error> {
        let mut changes = self.copies.subscribe();
        loop {
            let current = current(&changes.borrow_and_update());
            match current {
                Some(current) => self.copy(current).await?,
                None => changes.changed().await.map_err(|_| closed())?,
            }
        }
    }

    /// Begins a copy of these tables with their definitions of today. Returns its number.
    pub(crate) async fn begin(&self, tables: &[TableId]) -> Result<CopyId, Error> {
        self.desk.expect(tables).await?;
        let tables = self.described(tables).await?;
        let copy = self.next_number().await?;
        let topic = format!("{}-{}", self.config.topic_snapshot_prefix, copy.0);
        let retention = &self.config.retention_of_snapshots;
        self.cluster.create(&topic, retention).await?;
        let begun = Announcement::Copy {
            copy,
            topic,
            tables,
        };
        self.announce(begun).await?;
        Ok(copy)
    }

    /// Takes tables out of the publication that the log says are removed.
    pub(crate) async fn finish_removing(&self, tables: &[TableId]) -> Result<(), Error> {
        if tables.is_empty() {
            return Ok(());
        }
        let mut session = self.source.connect().await?;
        for table in tables {
            publish::remove(&mut session, &self.config, table).await?;
        }
        Ok(())
    }

    async fn described(&self, tables: &[TableId]) -> Result<Vec<CopyTable>, Error> {
        let sessions = Sessions::new(self.source.clone());
        let mut copying = sessions.take().await?;
        let mut described = Vec::with_capacity(tables.len());
        for table in tables {
            let found = catalog::table(&mut copying.session, table).await?;
            let found = found.ok_or_else(|| publish::missing(table))?;
            let id = Default::default();
            let (session, types) = (&mut copying.session, &mut copying.types);
            described.push(CopyTable {
                definition: catalog::schema(session, types, id, &found).await?,
                estimated_rows: estimated_rows(session, &found).await?,
            });
        }
        Ok(described)
    }

    /// Above all that the log names, and above all topics.
    async fn next_number(&self) -> Result<CopyId, Error> {
        let prefix = format!("{}-", self.config.topic_snapshot_prefix);
        let topics = self.cluster.topics().await?;
        let number = |name: &str| name.strip_prefix(&prefix)?.parse::<u64>().ok();
        let used = topics.iter().filter_map(|topic| number(&topic.name));
        let named: Vec<_> = self
            .copies
            .borrow()
            .iter()
            .map(|(_, table)| table.copy.0)
            .collect();
        Ok(CopyId(used.chain(named).max().unwrap_or(0) + 1))
    }

    pub(crate) async fn announce(&self, what: Announcement) -> Result<(), Error> {
        let announced = self.desk.announce(what).await?;
        self.take(&announced);
        Ok(())
    }

    fn take(&self, announced: &Announced) {
        self.copies.send_modify(|copies| {
            copies.offer(announced.offset, &announced.record, Verdict::Announced);
        });
        self.report();
    }

    fn report(&self) {
        self.reporter.captured(&self.copies.borrow());
    }

    async fn copy(&self, current: Current) -> Result<(), Error> {
        let appender = self
            .cluster
            .appender(&current.topic, append::limits(&self.config))
            .await?;
        let pieces = Pieces::new(appender);
        let start = Record::Start(Start {
            epoch: self.epoch,
            at: chrono::Utc::now(),
        });
        let end = pieces.fence(&start).await?;
        let progress = Progress::read(&self.cluster, &current.topic, current.copy, end).await?;
        let sessions = Arc::new(Sessions::new(self.source.clone()));
        if !progress.has_begun() {
            self.prepare(&current, &sessions).await?;
        }
        for table in &current.tables {
            let copying = self.copy_table(table, &progress, &sessions, &pieces);
            match self.unless_void(table, copying).await {
                Err(Error::TableRedefined { table } | Error::CopyOutrun { table }) => {
                    tracing::warn!(%table, "the copy of the table begins again");
                    self.begin(&[table]).await?;
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// Waits until every change that could be missing in the log is visible to whoever reads the tables from now on.
    async fn prepare(&self, current: &Current, sessions: &Sessions) -> Result<(), Error> {
        let mut session = sessions.take().await?;
        let tables = current
            .tables
            .iter()
            .map(|table| table.definition.table.clone());
        publish::until_written(&mut session.session, &tables.collect::<Vec<_>>()).await?;
        let unseen = self.desk.unseen().await?;
        fence::until_seen(&mut session.session, unseen, |commits| {
            tracing::debug!(commits, "a copy waits for commits to become visible");
        })
        .await?;
        sessions.give(session);
        Ok(())
    }

    async fn copy_table(
        &self,
        table: &CapturedTable,
        progress: &Progress,
        sessions: &Arc<Sessions>,
        pieces: &Pieces,
    ) -> Result<(), Error> {
        let mut session = sessions.take().await?;
        let definition = table.definition.clone();
        let chunk_rows = estimate::chunk_rows(&mut session.session, &self.config, table).await?;
        let source = TableSource::of(&mut session.session, definition).await?;
        sessions.give(session);
        let done = Done::of(progress, &table.definition.table);
        self.reporter.copying(&table.definition.table, done);
        let copy = TableCopy {
            config: self.config.clone(),
            reporter: self.reporter.clone(),
            sessions: sessions.clone(),
            pieces: pieces.clone(),
            epoch: self.epoch,
            copy: table.copy,
            table: source,
            chunk_rows,
            done: Mutex::new(done),
        };
        let announced = Arc::new(copy).run(progress, &self.desk).await?;
        self.take(&announced);
        Ok(())
    }

    /// Gives a copy up when a newer one of the table begins, or the table is removed.
    async fn unless_void(
        &self,
        table: &CapturedTable,
        copying: impl std::future::Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        let mut changes = self.copies.subscribe();
        let name = &table.definition.table;
        let is_void = |copies: &Copies| copies.table(name).is_none_or(|now| now.copy != table.copy);
        tokio::select! {
            biased;
            void = changes.wait_for(is_void) => void.map(drop).map_err(|_| closed()),
            copied = copying => copied,
        }
    }
}

fn closed() -> Error {
    Error::Protocol("what is known of copies is gone".into())
}

/// The oldest copy that is not complete.
fn current(copies: &Copies) -> Option<Current> {
    let open = || {
        copies
            .iter()
            .map(|(_, table)| table)
            .filter(|table| table.copied.is_none())
    };
    let copy = open().map(|table| table.copy).min()?;
    let tables: Vec<_> = open().filter(|table| table.copy == copy).cloned().collect();
    let topic = tables.first()?.topic.clone();
    Some(Current {
        copy,
        topic,
        tables,
    })
}
