//! One attempt: from connecting to the first failure.

use std::str::FromStr;
use std::time::Duration;

use chrono::Utc;
use fluvio::Fluvio;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::time::{timeout, Instant};

use crate::batch::{Batch, Event};
use crate::dead_letter::DeadLetters;
use crate::error::SessionError;
use crate::position::{self, Position};
use crate::reader::{self, Reader};
use crate::status::{Board, State};
use crate::users::{self, Stored};
use crate::{topic, Config, Error};

/// How long to wait for an event before looking after the status.
const PATIENCE: Duration = Duration::from_secs(2);
/// Connecting to Postgres, and each statement there.
const POSTGRES_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the anchor follows the position. Each time costs reading one record.
const ANCHOR_PERIOD: Duration = Duration::from_secs(60);

/// Reads, stores and moves on until something fails. Dropping it is safe at any time.
pub(crate) async fn run(config: &Config, board: &Board) -> Result<(), SessionError> {
    let mut session = Session::open(config, board).await?;
    board.update(|status| {
        status.state = State::Running;
        status.last_error = None;
        status.next_offset = session.next_offset;
    });
    loop {
        let (wait_max, events_max) = (config.batch_wait_max, config.batch_events_max);
        let events = session.reader.batch(PATIENCE, wait_max, events_max).await?;
        if !events.is_empty() {
            session.store(&events).await?;
        }
        if session.anchored_at.elapsed() > ANCHOR_PERIOD {
            session.drop_anchor().await?;
        }
        if events.len() < events_max {
            let end = topic::end(&session.fluvio, &config.topic).await?;
            board.update(|status| status.end_offset = end.max(status.next_offset));
        }
    }
}

struct Session<'a> {
    config: &'a Config,
    board: &'a Board,
    postgres: PgConnection,
    fluvio: Fluvio,
    reader: Reader,
    dead_letters: DeadLetters,
    next_offset: Option<i64>,
    anchored_at: Instant,
}

impl<'a> Session<'a> {
    async fn open(config: &'a Config, board: &'a Board) -> Result<Session<'a>, SessionError> {
        let mut postgres = connect(config).await?;
        position::prepare(&mut postgres).await?;
        let stored = position::load(&mut postgres, &config.topic).await?;
        let fluvio = topic::connect(&config.endpoint).await?;
        topic::prepare(&fluvio, config).await?;
        let next_offset = stored.as_ref().map(|position| position.next_offset);
        let reader = Reader::open(&fluvio, config, next_offset).await?;
        let mut session = Session {
            config,
            board,
            postgres,
            fluvio,
            reader,
            dead_letters: DeadLetters::new(),
            next_offset,
            anchored_at: Instant::now(),
        };
        if let Some(position) = stored {
            session.check_anchor(&position).await?;
            session.drop_anchor().await?;
        }
        Ok(session)
    }

    /// The topic must still hold what was read from it.
    async fn check_anchor(&self, position: &Position) -> Result<(), SessionError> {
        let Some(stored) = &position.anchor else {
            return Ok(());
        };
        let topic = &self.config.topic;
        match reader::anchor(&self.fluvio, topic, stored.offset).await? {
            Some(found) if &found != stored => Err(Error::TopicRecreated {
                topic: topic.clone(),
                next_offset: position.next_offset,
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// Remembers the last record that was stored.
    async fn drop_anchor(&mut self) -> Result<(), SessionError> {
        self.anchored_at = Instant::now();
        let Some(last) = self.next_offset.and_then(|next| next.checked_sub(1)) else {
            return Ok(());
        };
        let topic = &self.config.topic;
        if last >= 0 {
            if let Some(anchor) = reader::anchor(&self.fluvio, topic, last).await? {
                position::drop_anchor(&mut self.postgres, topic, &anchor).await?;
            }
        }
        Ok(())
    }

    /// One Postgres transaction: the position first, so that a second ingest waits and then gives
    /// way; then the users; then the dead letters, acknowledged before the commit.
    async fn store(&mut self, events: &[Event]) -> Result<(), SessionError> {
        let Some(last) = events.last() else {
            return Ok(());
        };
        let batch = Batch::read(events);
        let next = last.offset + 1;
        let mut transaction = self.postgres.begin().await?;
        position::advance(&mut transaction, &self.config.topic, self.next_offset, next).await?;
        let Stored {
            rows_changed,
            mut refused,
        } = users::store(&mut transaction, &self.config.schema, &batch).await?;
        refused.extend(batch.rejected);
        refused.sort_by_key(|one| one.offset);
        let rejected = refused.len() as u64;
        if !refused.is_empty() {
            self.dead_letters
                .write(&self.fluvio, self.config, refused)
                .await?;
        }
        transaction.commit().await?;
        self.next_offset = Some(next);
        self.board.update(|status| {
            status.next_offset = Some(next);
            status.end_offset = status.end_offset.max(Some(next));
            status.events += batch.events as u64;
            status.rows_changed += rows_changed;
            status.rejected += rejected;
            status.committed_at = Some(Utc::now());
        });
        Ok(())
    }
}

/// Statements end by themselves, and so does a transaction whose ingest is gone without a word.
async fn connect(config: &Config) -> Result<PgConnection, SessionError> {
    let limit = POSTGRES_TIMEOUT.as_millis().to_string();
    let options = PgConnectOptions::from_str(&config.postgres_url)
        .map_err(|_| Error::Config("postgres_url is no postgres:// URL".to_owned()))?
        .application_name("millrace ingest")
        .options([
            ("TimeZone", "UTC"),
            ("statement_timeout", limit.as_str()),
            ("idle_in_transaction_session_timeout", "60000"),
        ]);
    match timeout(POSTGRES_TIMEOUT, PgConnection::connect_with(&options)).await {
        Ok(connection) => Ok(connection?),
        Err(_) => Err(sqlx::Error::PoolTimedOut.into()),
    }
}
