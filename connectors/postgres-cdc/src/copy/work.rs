//! One copy at work: each of its tables is read as soon as nothing stands in its way.
//!
//! What is wrong with one table, or what it waits for, is its own: the others go on, and so does everything else. It is
//! tried again after a while, until it is copied, removed, or copied anew.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::Utc;
use futures_util::stream::FuturesUnordered;
use futures_util::TryStreamExt;
use millrace_control::in_words;
use millrace_events::{CapturedTable, Copies, CopyId, Record, Start, TableId};
use millrace_sessions::postgres::errors::{self, Outlook};
use millrace_sessions::postgres::PgSession;
use millrace_topic::Offset;
use tokio::sync::watch;
use tokio::time::sleep;

use super::copier::{closed, Copier};
use super::pieces::Pieces;
use super::read::TableSource;
use super::resume::Progress;
use super::sessions::Sessions;
use super::table::{Done, TableCopy};
use super::writers::Writers;
use super::{estimate, fence};
use crate::{append, Error};

/// How soon a table is tried again that could not be read; then after twice as long, up to a limit.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// `lock_not_available`.
const LOCK_TIMEOUT: &str = "55P03";
/// How often the beginning of a copy is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// How often those are looked at that a table waits for.
const POLL_MIN: Duration = Duration::from_millis(50);
const POLL_MAX: Duration = Duration::from_secs(1);

/// A copy that is not complete.
pub(super) struct Work {
    pub(super) copy: CopyId,
    topic: String,
    /// Its tables that are not copied.
    tables: Vec<CapturedTable>,
}

/// All that are not complete, but for those that never will be.
pub(super) fn incomplete(copies: &Copies, void: &BTreeSet<CopyId>) -> Vec<Work> {
    let open = || {
        let tables = copies.iter().map(|(_, table)| table);
        tables.filter(|table| table.copied.is_none() && !void.contains(&table.copy))
    };
    let numbers: BTreeSet<_> = open().map(|table| table.copy).collect();
    let work = |copy| {
        let tables: Vec<_> = open().filter(|table| table.copy == copy).cloned().collect();
        let topic = tables.first()?.topic.clone();
        Some(Work {
            copy,
            topic,
            tables,
        })
    };
    numbers.into_iter().filter_map(work).collect()
}

/// What the tables of a copy share.
struct Shared {
    sessions: Arc<Sessions>,
    pieces: Pieces,
    /// What its topic has; unknown after a failure.
    progress: tokio::sync::Mutex<Option<Progress>>,
    /// The tables that may be read.
    admitted: watch::Sender<BTreeSet<TableId>>,
}

impl Work {
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }
}

impl Copier {
    /// Copies all tables of a copy, whose topic is needed whole meanwhile.
    pub(super) async fn work(&self, work: Work) -> Result<(), Error> {
        self.reporter.needs(&work.topic, Some(Offset::default()));
        self.copy_tables(&work).await?;
        self.reporter.needs(&work.topic, None);
        Ok(())
    }

    async fn copy_tables(&self, work: &Work) -> Result<(), Error> {
        let limits = append::limits(&self.config);
        let appender = self.cluster.appender(&work.topic, limits).await?;
        let shared = Shared {
            sessions: Arc::new(Sessions::new(self.source.clone(), &self.config)),
            pieces: Pieces::new(appender),
            progress: tokio::sync::Mutex::default(),
            admitted: watch::Sender::default(),
        };
        let progress = match self.progress(work, &shared.pieces).await {
            Err(error @ Error::CopyTrimmed { .. }) => return self.begin_again(work, &error).await,
            progress => progress?,
        };
        let has_begun = |table: &&CapturedTable| progress.has_begun(&table.definition.table);
        let (begun, fresh): (Vec<_>, Vec<_>) = work.tables.iter().partition(has_begun);
        *shared.progress.lock().await = Some(progress);
        shared.admit(begun.into_iter().map(name));
        let tables = work.tables.iter();
        let reading: FuturesUnordered<_> =
            (tables.map(|table| self.table(table, work, &shared))).collect();
        let read = reading.try_for_each(|()| std::future::ready(Ok(())));
        let copied = async { tokio::try_join!(self.admit(&fresh, &shared), read) };
        tokio::select! {
            copied = copied => copied.map(drop),
            never = self.watch_beginning(work) => match never {},
        }
    }

    /// Says that retention has removed the beginning of a copy that is under way. The copy is good if the projector has read
    /// that before, and goes on; but neither another projector nor another start of capture can use it.
    async fn watch_beginning(&self, work: &Work) -> Infallible {
        loop {
            sleep(LOOK_EVERY).await;
            let bounds = self.cluster.bounds(&work.topic).await;
            if matches!(bounds, Ok(Some(bounds)) if bounds.start > Offset::default()) {
                break;
            }
        }
        for table in &work.tables {
            let notice = format!(
                "is larger than its topic {} may be, which has lost its beginning: if the projector had not read that, set \
                 MILLRACE_RETENTION_HARD_SIZE higher and copy the table again",
                work.topic
            );
            self.reporter.copy_notice(&name(table), notice);
        }
        std::future::pending().await
    }

    /// Copies the tables of a copy that cannot be completed anew.
    async fn begin_again(&self, work: &Work, why: &Error) -> Result<(), Error> {
        let tables = work.tables.iter().filter(|table| self.counts(table));
        let begun: FuturesUnordered<_> = (tables.map(|table| async move {
            self.reporter.copy_void(&name(table), &why.to_string());
            let begin = || async { self.begin(&[name(table)]).await.map(drop) };
            self.as_often_as_it_takes(table, begin).await
        }))
        .collect();
        begun.try_for_each(|()| std::future::ready(Ok(()))).await
    }

    /// Whether no newer copy of the table has begun, and it was not removed.
    fn counts(&self, table: &CapturedTable) -> bool {
        let now = self.copies.borrow();
        now.table(&name(table))
            .is_some_and(|now| now.copy == table.copy)
    }

    /// What earlier starts, or attempts, have done of a copy.
    async fn progress(&self, work: &Work, pieces: &Pieces) -> Result<Progress, Error> {
        let start = Record::Start(Start {
            epoch: self.epoch,
            owner: None,
            at: Utc::now(),
        });
        let end = pieces.fence(&start).await?;
        Progress::read(&self.cluster, &work.topic, work.copy, end).await
    }

    /// Lets tables be read of which nothing was: when every commit that stands in the log before their copy is visible to
    /// whoever reads them, and nobody is left whose changes may never come there.
    async fn admit(&self, tables: &[&CapturedTable], shared: &Shared) -> Result<(), Error> {
        if tables.is_empty() {
            return Ok(());
        }
        let mut session = self.source.connect().await?;
        let lately = tables.iter().filter(|table| table.published_lately);
        let lately: Vec<_> = lately.map(|table| name(table)).collect();
        let mut writers = Writers::of(&mut session, &lately).await?;
        let published = tables.iter().map(|table| name(table));
        let mut free: Vec<_> = published.filter(|table| !lately.contains(table)).collect();
        let mut pause = POLL_MIN;
        loop {
            free.append(&mut writers.take_free());
            self.admit_seen(&mut session, std::mem::take(&mut free), shared)
                .await?;
            if writers.is_empty() {
                return Ok(());
            }
            for (table, writer) in writers.waiting() {
                let waits = format!(
                    "waits for a transaction that wrote to it before it was published: {writer}"
                );
                self.reporter.copy_notice(table, waits);
            }
            sleep(pause).await;
            pause = (pause * 2).min(POLL_MAX);
            writers.look(&mut session).await?;
        }
    }

    async fn admit_seen(
        &self,
        session: &mut PgSession,
        tables: Vec<TableId>,
        shared: &Shared,
    ) -> Result<(), Error> {
        if tables.is_empty() {
            return Ok(());
        }
        let unseen = self.desk.unseen().await?;
        let waits = |transaction: &str| {
            let waits = format!("waits for a commit to become visible: {transaction}");
            for table in &tables {
                self.reporter.copy_notice(table, waits.clone());
            }
        };
        fence::until_seen(session, unseen, waits).await?;
        shared.admit(tables);
        Ok(())
    }

    /// Copies a table when it may be read.
    async fn table(
        &self,
        table: &CapturedTable,
        work: &Work,
        shared: &Shared,
    ) -> Result<(), Error> {
        let mut admitted = shared.admitted.subscribe();
        let admitted = async {
            let admitted = admitted
                .wait_for(|tables| tables.contains(&name(table)))
                .await;
            admitted.map(drop).map_err(|_| closed())
        };
        self.unless_void(table, admitted).await?;
        self.as_often_as_it_takes(table, || self.read(table, work, shared))
            .await
    }

    /// Tries again what is wrong with this table alone, until it works, or the copy does not count any more.
    async fn as_often_as_it_takes<F: Future<Output = Result<(), Error>>>(
        &self,
        table: &CapturedTable,
        attempt: impl Fn() -> F,
    ) -> Result<(), Error> {
        let mut pause = RETRY_AFTER_MIN;
        loop {
            let error = match self.unless_void(table, attempt()).await {
                Err(error) if is_of_the_table(&error) => in_words(&error),
                other => return other,
            };
            let notice = format!("could not be copied: {error}; it is tried again");
            self.reporter.copy_notice(&name(table), notice);
            let rest = async {
                sleep(pause).await;
                Ok(())
            };
            self.unless_void(table, rest).await?;
            pause = (pause * 2).min(RETRY_AFTER_MAX);
        }
    }

    /// Copies a table in its turn, or begins another copy of it.
    async fn read(&self, table: &CapturedTable, work: &Work, shared: &Shared) -> Result<(), Error> {
        let copied = async {
            let _turn = self.turn.lock().await;
            let mut progress = shared.progress.lock().await;
            let known = match progress.take() {
                Some(known) => known,
                None => {
                    shared.next_snapshot().await?;
                    self.progress(work, &shared.pieces).await?
                }
            };
            self.copy_table(table, &known, shared).await?;
            *progress = Some(known);
            Ok(())
        };
        match copied.await {
            Err(error @ (Error::TableRedefined { .. } | Error::CopyOutrun { .. })) => {
                self.reporter.copy_void(&name(table), &error.to_string());
                self.begin(&[name(table)]).await.map(drop)
            }
            other => other,
        }
    }

    async fn copy_table(
        &self,
        table: &CapturedTable,
        progress: &Progress,
        shared: &Shared,
    ) -> Result<(), Error> {
        let mut session = shared.sessions.take().await?;
        let chunk_rows = estimate::chunk_rows(&mut session.session, &self.config, table).await?;
        let source = TableSource::of(&mut session.session, table).await?;
        shared.sessions.give(session);
        let done = Done::of(progress, &table.definition.table);
        self.reporter.copy_goes_on(&table.definition.table, done);
        let copy = TableCopy {
            config: self.config.clone(),
            reporter: self.reporter.clone(),
            sessions: shared.sessions.clone(),
            pieces: shared.pieces.clone(),
            epoch: self.epoch,
            copy: table.copy,
            table: source,
            chunk_rows,
            done: Mutex::new(done),
        };
        Arc::new(copy).run(progress, &self.desk).await
    }

    /// Gives a copy up when a newer one of the table begins, or the table is removed.
    async fn unless_void(
        &self,
        table: &CapturedTable,
        copying: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        let mut changes = self.copies.clone();
        let name = name(table);
        let is_void =
            |copies: &Copies| copies.table(&name).is_none_or(|now| now.copy != table.copy);
        tokio::select! {
            biased;
            void = changes.wait_for(is_void) => void.map(drop).map_err(|_| closed()),
            copied = copying => copied,
        }
    }
}

impl Shared {
    fn admit(&self, tables: impl IntoIterator<Item = TableId>) {
        self.admitted
            .send_modify(|admitted| admitted.extend(tables));
    }

    /// Pieces belong to one reading by its epoch and its snapshot, and the rows of two readings may come in another order.
    /// So what is read again in the same epoch must see more: this uses up a number of a transaction.
    async fn next_snapshot(&self) -> Result<(), Error> {
        let mut session = self.sessions.take().await?;
        let used = sqlx::query("SELECT pg_current_xact_id()");
        used.execute(&mut session.session).await?;
        self.sessions.give(session);
        Ok(())
    }
}

fn name(table: &CapturedTable) -> TableId {
    table.definition.table.clone()
}

/// Whether others can go on: the table is gone, somebody has locked it, it may not be read, or cannot be. A server that is
/// away is everybody's.
pub(super) fn is_of_the_table(error: &Error) -> bool {
    match error {
        Error::Unsuitable(_) => true,
        Error::Postgres(sqlx::Error::Database(error)) => {
            let code = error.code().unwrap_or_default();
            code == "42501" || code == LOCK_TIMEOUT || errors::of(&code) == Outlook::Wrong
        }
        _ => false,
    }
}
