//! One attempt: from connecting to the first failure.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use millrace_sessions::postgres::Work;
use millrace_topic::{Cluster, Patience};
use sqlx::{Connection, PgConnection};
use tokio::time::{sleep, Instant};
use tokio_util::task::AbortOnDropHandle;

use crate::batch::{Batch, Event};
use crate::bookkeeping::{self, limited};
use crate::dead_letter::DeadLetters;
use crate::error::SessionError;
use crate::position::{self, Position};
use crate::reader::{self, Reader};
use crate::status::Board;
use crate::users::{self, Stored};
use crate::{Config, Error};

/// A session works once it has stored what was there. That is known soon where there is nothing.
const FIRST_PATIENCE: Duration = Duration::from_millis(300);
/// How long to wait for an event before looking after the anchor.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the end of the topic is asked for.
const END_PERIOD: Duration = Duration::from_secs(2);
/// How often the anchor follows the position. Each time costs reading one record.
const ANCHOR_PERIOD: Duration = Duration::from_secs(60);

/// Reads, stores and moves on until something fails. Dropping it is safe at any time.
pub(crate) async fn run(
    config: &Config,
    board: &Board,
    patience_with_streams: &Arc<Patience>,
) -> Result<(), SessionError> {
    let mut session = limited(Session::open(config, board, patience_with_streams)).await?;
    board.update(|status| status.next_offset = session.next_offset);
    let mut patience = FIRST_PATIENCE;
    loop {
        let (wait_max, events_max) = (config.batch_wait_max, config.batch_events_max);
        let events = session.reader.batch(patience, wait_max, events_max).await?;
        patience = PATIENCE;
        if events.is_empty() {
            let end = board.end_offset();
            session.reader.check_silence(end, Instant::now())?;
        } else {
            session.store(&events).await?;
        }
        if !events.is_empty() || !session.is_behind() {
            board.works();
        }
        if session.is_anchor_due() {
            limited(session.drop_anchor()).await?;
        }
    }
}

struct Session<'a> {
    config: &'a Config,
    board: &'a Board,
    postgres: PgConnection,
    cluster: Cluster,
    reader: Reader,
    dead_letters: DeadLetters,
    next_offset: Option<i64>,
    anchored_at: Option<Instant>,
    _end_watch: AbortOnDropHandle<()>,
}

impl<'a> Session<'a> {
    async fn open(
        config: &'a Config,
        board: &'a Board,
        patience: &Arc<Patience>,
    ) -> Result<Session<'a>, SessionError> {
        let mut postgres = connect(config).await?;
        position::prepare(&mut postgres).await?;
        let stored = position::load(&mut postgres, &config.topic).await?;
        // A connection for each session: an old one would learn nothing of a controller that started anew.
        let cluster = Cluster::new(config.endpoint.as_str());
        ensure_topics(&cluster, config).await?;
        let next_offset = stored.as_ref().map(|position| position.next_offset);
        let reader = Reader::open(&cluster, config, next_offset, patience.clone()).await?;
        let mut session = Session {
            config,
            board,
            postgres,
            cluster: cluster.clone(),
            reader,
            dead_letters: DeadLetters::new(),
            next_offset,
            anchored_at: None,
            _end_watch: watch_end(cluster, config.topic.clone(), board.clone()),
        };
        if let Some(position) = stored {
            session.check_anchor(&position).await?;
            session.drop_anchor().await?;
        }
        Ok(session)
    }

    /// The topic must still hold what was read from it.
    async fn check_anchor(&mut self, position: &Position) -> Result<(), SessionError> {
        let Some(stored) = &position.anchor else {
            return Ok(());
        };
        let topic = &self.config.topic;
        let next_offset = position.next_offset;
        match reader::anchor(&self.cluster, topic, stored.offset, next_offset).await? {
            Some(found) if &found != stored => {
                let topic = topic.clone();
                Err(Error::TopicRecreated { topic, next_offset }.into())
            }
            _ => Ok(()),
        }
    }

    /// True if the topic is known to have more than is stored.
    fn is_behind(&self) -> bool {
        let end = self.board.end_offset();
        end.is_some_and(|end| end > self.next_offset.unwrap_or(0))
    }

    /// At once after the first events of a topic, then now and then.
    fn is_anchor_due(&self) -> bool {
        self.next_offset.is_some()
            && self
                .anchored_at
                .is_none_or(|at| at.elapsed() > ANCHOR_PERIOD)
    }

    /// Remembers the last record that was stored.
    async fn drop_anchor(&mut self) -> Result<(), SessionError> {
        self.anchored_at = Some(Instant::now());
        let Some(next) = self.next_offset.filter(|next| *next > 0) else {
            return Ok(());
        };
        let topic = &self.config.topic;
        if let Some(anchor) = reader::anchor(&self.cluster, topic, next - 1, next).await? {
            position::drop_anchor(&mut self.postgres, topic, &anchor).await?;
        }
        Ok(())
    }

    /// One Postgres transaction: the position first, so that a second ingest waits and then gives
    /// way; then the users; then the dead letters, acknowledged before the commit. Each step has its own time limit,
    /// because a batch in which many events are refused takes many statements.
    async fn store(&mut self, events: &[Event]) -> Result<(), SessionError> {
        let Some(last) = events.last() else {
            return Ok(());
        };
        let batch = Batch::read(events);
        let next = last.offset + 1;
        let mut transaction = limited(self.postgres.begin()).await?;
        let topic = &self.config.topic;
        let advance = position::advance(&mut transaction, topic, self.next_offset, next);
        limited(advance).await?;
        let Stored {
            rows_changed,
            mut refused,
        } = users::store(&mut transaction, &self.config.schema, &batch).await?;
        refused.extend(batch.rejected);
        refused.sort_by_key(|one| one.offset);
        let rejected = refused.len() as u64;
        if !refused.is_empty() {
            self.dead_letters
                .write(&self.cluster, self.config, refused)
                .await?;
        }
        limited(transaction.commit()).await?;
        self.next_offset = Some(next);
        self.board.update(|status| {
            status.works();
            status.next_offset = Some(next);
            status.end_offset = status.end_offset.map(|end| end.max(next));
            status.events += batch.events as u64;
            status.rows_changed += rows_changed;
            status.rejected += rejected;
            status.committed_at = Some(Utc::now());
        });
        Ok(())
    }
}

/// Creates the topics that are missing, and checks that the one to read has one partition.
async fn ensure_topics(cluster: &Cluster, config: &Config) -> Result<(), SessionError> {
    let topic = cluster.ensure(&config.topic, &config.retention).await?;
    if topic.partitions != 1 {
        return Err(SessionError::Fatal(Error::TopicShape {
            topic: topic.name,
            partitions: topic.partitions,
        }));
    }
    cluster
        .ensure(&config.rejected_topic, &config.retention)
        .await?;
    Ok(())
}

/// Looks after the end of the topic, for the status only: a failure just leaves it unknown.
fn watch_end(cluster: Cluster, topic: String, board: Board) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let end = cluster.end(&topic).await.ok().map(|end| end.to_i64());
            board.update(|status| {
                status.end_offset = end.map(|end| end.max(status.next_offset.unwrap_or(0)))
            });
            sleep(END_PERIOD).await;
        }
    }))
}

async fn connect(config: &Config) -> Result<PgConnection, SessionError> {
    let server = bookkeeping::server(config)?;
    let session = server.connect("millrace ingest", Work::Write).await?;
    Ok(session.into_inner())
}
