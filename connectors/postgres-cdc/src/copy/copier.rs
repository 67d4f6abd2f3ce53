//! All copies of a session: those that an earlier one has left, those of tables that have none, those that are asked for.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt};
use millrace_control::in_words;
use millrace_events::{CapturedTable, Copies, CopyId, CopyTable, Epoch, TableId};
use millrace_topic::Cluster;
use tokio::sync::{mpsc, watch, Mutex};
use tokio::time::sleep;

use super::desk::{Announcement, Desk};
use super::estimate::{self, estimated_rows};
use super::publish;
use super::requests::{self, Request};
use super::sessions::Sessions;
use super::work::{self, Work};
use crate::source::Source;
use crate::status::Reporter;
use crate::{catalog, resolve, Config, Error};

/// How soon a copy of a table is tried again that could not be begun.
const BEGUN_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What copying works with while a session follows the stream.
pub(crate) struct Copier {
    pub(crate) config: Arc<Config>,
    pub(crate) source: Source,
    pub(crate) cluster: Cluster,
    pub(crate) reporter: Reporter,
    pub(crate) desk: Desk,
    pub(crate) epoch: Epoch,
    /// What the log says of tables.
    pub(crate) copies: watch::Receiver<Copies>,
    /// The slot was made by this session, when the publication was there.
    pub(crate) slot_is_new: bool,
    /// Copies that are not complete and never will be.
    pub(crate) void: BTreeSet<CopyId>,
    /// Held by who reads a table: one at a time, with all readers.
    pub(crate) turn: Mutex<()>,
}

impl Copier {
    /// Copies until something fails. `captured`: the tables of the publication.
    pub(crate) async fn run(
        &self,
        captured: &[TableId],
        requests: &mut mpsc::Receiver<Request>,
    ) -> Result<Infallible, Error> {
        let known = self.copies.borrow().clone();
        let open = work::incomplete(&known, &self.void);
        let topics = open.iter().map(Work::topic);
        let log = self.config.topic_changes.as_str();
        self.reporter.needs_only(topics.chain([log]));
        let (removed, left): (Vec<_>, Vec<_>) = captured
            .iter()
            .cloned()
            .partition(|table| known.is_removed(table));
        self.finish_removing(&removed).await?;
        let former: Vec<_> = known.former().cloned().collect();
        for table in former.into_iter().filter(|table| !captured.contains(table)) {
            self.desk.announce(Announcement::Removed(table)).await?;
        }
        let void =
            |table: &CapturedTable| table.copied.is_none() && self.void.contains(&table.copy);
        let missing = left.into_iter();
        let missing = missing.filter(|table| known.table(table).is_none_or(void));
        let missing: Vec<_> = missing.collect();
        for table in missing.iter().filter(|table| known.table(table).is_some()) {
            self.reporter
                .copy_void(table, "its log has a gap, or begins behind it");
        }
        let left = self.begin_together(missing).await?;
        // Not before: nobody is to take a table that has no copy yet for one that is not captured.
        self.reporter.captured(&self.copies.borrow());
        let serving = requests::serve(self, requests);
        let (never, _, ()) = tokio::try_join!(self.copy_all(), serving, self.begin_alone(left))?;
        Ok(never)
    }

    /// Begins a copy of tables that have none. Returns them if something is wrong with one of them.
    async fn begin_together(&self, tables: Vec<TableId>) -> Result<Vec<TableId>, Error> {
        if tables.is_empty() {
            return Ok(tables);
        }
        match self.begin_missing(&tables).await {
            Err(error) if work::is_of_the_table(&error) => Ok(tables),
            begun => begun.map(|()| Vec::new()),
        }
    }

    /// Begins a copy of each of them, as often as it takes; everything else goes on.
    async fn begin_alone(&self, tables: Vec<TableId>) -> Result<(), Error> {
        let begun: FuturesUnordered<_> = (tables.into_iter().map(|table| async move {
            let table = [table];
            loop {
                match self.begin_missing(&table).await {
                    Err(error) if work::is_of_the_table(&error) => {
                        let (table, error) = (&table[0], in_words(&error));
                        tracing::warn!(%table, error, "no copy of the table can be begun; it is tried again");
                    }
                    begun => return begun,
                }
                sleep(BEGUN_AGAIN_AFTER).await;
            }
        }))
        .collect();
        begun.try_collect().await
    }

    /// Before the point of a new slot everybody had ended who began before the publication.
    async fn begin_missing(&self, tables: &[TableId]) -> Result<(), Error> {
        self.begin_with(tables, !self.slot_is_new).await.map(drop)
    }

    /// Works at all copies that are not complete, and waits for more.
    async fn copy_all(&self) -> Result<Infallible, Error> {
        let mut changes = self.copies.clone();
        let (mut known, mut at_work) = (BTreeSet::new(), FuturesUnordered::new());
        loop {
            for work in work::incomplete(&changes.borrow_and_update(), &self.void) {
                if known.insert(work.copy) {
                    at_work.push(self.work(work));
                }
            }
            tokio::select! {
                changed = changes.changed() => changed.map_err(|_| closed())?,
                Some(done) = at_work.next() => done?,
            }
        }
    }

    /// Begins a copy of these tables with their definitions of today. Returns its number.
    pub(crate) async fn begin(&self, tables: &[TableId]) -> Result<CopyId, Error> {
        self.begin_with(tables, true).await
    }

    /// `lately`: they may have come to the publication lately.
    async fn begin_with(&self, tables: &[TableId], lately: bool) -> Result<CopyId, Error> {
        let tables = self.described(tables, lately).await?;
        let copy = self.next_number().await?;
        let topic = format!("{}-{}", self.config.topic_snapshot_prefix, copy.0);
        let retention = &self.config.retention_of_snapshots;
        self.cluster.create(&topic, retention).await?;
        let begun = Announcement::Copy {
            copy,
            topic,
            tables,
        };
        self.desk.announce(begun).await?;
        Ok(copy)
    }

    /// Takes tables out of the publication that the log says are removed. One that cannot be taken out now costs Postgres
    /// some work, and nobody else: its rows are dropped. The next start tries again.
    pub(crate) async fn finish_removing(&self, tables: &[TableId]) -> Result<(), Error> {
        if tables.is_empty() {
            return Ok(());
        }
        let mut session = self.source.connect().await?;
        for table in tables {
            let removed = publish::remove(&mut session, &self.config, table).await;
            if let Err(error) = removed {
                let error = in_words(&error);
                tracing::warn!(%table, error, "the table is removed, and stays in the publication for now");
            }
        }
        Ok(())
    }

    async fn described(&self, tables: &[TableId], lately: bool) -> Result<Vec<CopyTable>, Error> {
        let sessions = Sessions::new(self.source.clone(), &self.config);
        let mut copying = sessions.take().await?;
        let mut described = Vec::with_capacity(tables.len());
        let mut bytes = 0;
        for table in tables {
            let found = catalog::table(&mut copying.session, table).await?;
            let found = found.ok_or_else(|| publish::missing(table))?;
            resolve::check([table], std::slice::from_ref(&found))?;
            let id = Default::default();
            let (session, types) = (&mut copying.session, &mut copying.types);
            bytes += estimate::bytes(session, &found).await?;
            described.push(CopyTable {
                definition: catalog::schema(session, types, id, &found).await?,
                estimated_rows: estimated_rows(session, &found).await?,
                published_lately: lately,
                source: None,
            });
        }
        let keeps = self.config.retention_of_snapshots.bytes;
        if bytes > keeps {
            tracing::warn!(
                bytes, keeps,
                "a copy of these tables is larger than its topic keeps: the projector has to read it while it is made, or \
                 MILLRACE_RETENTION_HARD_SIZE to be higher"
            );
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
}

pub(super) fn closed() -> Error {
    Error::Protocol("what is known of copies is gone".into())
}
