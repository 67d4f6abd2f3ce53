//! Rejected events for people: which there are, what was sent, and what was done about them.
//!
//! They stand in a topic of one partition, which is read once and then followed (`index`, `follow`);
//! their contents are read when they are asked for (`read`). What was done stands in Postgres (`actions`)
//! and is read there each time. A retry sends the original to the users topic again (`resend`).

mod actions;
mod advice;
mod follow;
mod index;
mod read;
mod record;
mod resend;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use millrace_control::in_words;
use millrace_sessions::postgres::Work;
use millrace_sm_user_event::RejectReason;
use millrace_topic::Cluster;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::bookkeeping;
use crate::error::SessionError;
use crate::{Config, Error};
use actions::{Action, Kind, Place};
use follow::Followed;
use index::{Digest, Entry};
use resend::Failure;

pub use record::{Counts, Filter, Page, ReasonCount, RejectedRecord, RejectedState};

/// Records of one page at most.
const PAGE_RECORDS_MAX: usize = 200;
/// A first look waits so long for the topic to be read.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// And so long for records that were added just now.
const CURRENT_TIMEOUT: Duration = Duration::from_secs(2);
/// An answer takes no longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(45);
/// People look at rejected events; few at a time.
const CONNECTIONS_MAX: u32 = 4;

/// Why there is no answer, or why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum RejectedError {
    /// The index does not know the whole topic yet.
    #[error("the topic of rejected events is still being read; ask again")]
    NotReady,
    /// No rejected event stands there.
    #[error("there is no rejected event at offset {0}")]
    NotFound(i64),
    /// Somebody was faster.
    #[error("the rejected event at offset {offset} is not open: it was {was}")]
    NotOpen {
        /// The record.
        offset: i64,
        /// What was done.
        was: &'static str,
    },
    /// A retry has begun and did not say how it ended.
    #[error("a retry of offset {offset} has begun and its outcome is not known; it can be retried again within {seconds} s of its begin")]
    InDoubt {
        /// The record.
        offset: i64,
        /// When it may be taken again.
        seconds: u64,
    },
    /// It is not known to the last byte, or would be rejected again.
    #[error("the event at offset {offset} cannot be retried, {reason}; `millrace rejected discard {offset}` takes it off the list")]
    NoRetry {
        /// The record.
        offset: i64,
        /// Why.
        reason: String,
    },
    /// The event may be in the users topic or not.
    #[error("it is not known whether the event at offset {offset} was sent ({reason}); it can be retried again in {seconds} s")]
    Unknown {
        /// The record.
        offset: i64,
        /// What happened.
        reason: String,
        /// When it may be taken again.
        seconds: u64,
    },
    /// Postgres or Fluvio does not answer as it should.
    #[error("{0}")]
    Unavailable(String),
}

impl From<SessionError> for RejectedError {
    fn from(error: SessionError) -> Self {
        RejectedError::Unavailable(in_words(&error))
    }
}

impl From<sqlx::Error> for RejectedError {
    fn from(error: sqlx::Error) -> Self {
        SessionError::Postgres(error).into()
    }
}

/// The rejected events of an ingest. Cheap to clone; the last clone ends the following of the topic.
#[derive(Clone)]
pub struct Rejected(Arc<Inner>);

struct Inner {
    config: Config,
    followed: Arc<Followed>,
    pool: PgPool,
    prepared: OnceCell<()>,
    cluster: Cluster,
    _follow: AbortOnDropHandle<()>,
}

impl Rejected {
    /// Starts following the topic; connects to nothing else yet. To be called within a Tokio runtime.
    pub fn open(config: Config) -> Result<Rejected, Error> {
        config.check()?;
        let server = bookkeeping::server(&config)?;
        let pool = server.pool("millrace ingest (rejected)", Work::Ask, CONNECTIONS_MAX);
        let followed = Followed::new(index::RECORDS_MAX);
        let follow = tokio::spawn(follow::follow(config.clone(), followed.clone()));
        let cluster = Cluster::new(config.endpoint.as_str());
        Ok(Rejected(Arc::new(Inner {
            config,
            followed,
            pool,
            prepared: OnceCell::new(),
            cluster,
            _follow: AbortOnDropHandle::new(follow),
        })))
    }

    /// Up to `limit` records before offset `before`, or the newest.
    pub async fn list(
        &self,
        filter: Filter,
        limit: usize,
        before: Option<i64>,
    ) -> Result<Page, RejectedError> {
        let limit = limit.clamp(1, PAGE_RECORDS_MAX);
        in_time(self.0.list(filter, limit, before).boxed()).await
    }

    /// The record at an offset, or the one that it is a copy of.
    pub async fn get(&self, offset: i64) -> Result<RejectedRecord, RejectedError> {
        in_time(async { Ok(self.0.find(offset).await?.0) }.boxed()).await
    }

    /// Sends what was sent to the users topic again, and returns the record once that is acknowledged.
    pub async fn retry(&self, offset: i64) -> Result<RejectedRecord, RejectedError> {
        let inner = self.0.clone();
        to_the_end(async move { inner.retry(offset).await }.boxed()).await
    }

    /// Takes a record off the list of open ones.
    pub async fn discard(&self, offset: i64) -> Result<RejectedRecord, RejectedError> {
        let inner = self.0.clone();
        to_the_end(async move { inner.discard(offset).await }.boxed()).await
    }
}

/// Boxed, because the client's futures are nested too deep for the compiler otherwise.
async fn in_time<T>(work: BoxFuture<'_, Result<T, RejectedError>>) -> Result<T, RejectedError> {
    let late =
        || RejectedError::Unavailable("Postgres or Fluvio did not answer in time".to_owned());
    let done = timeout(ANSWER_TIMEOUT, work).await;
    done.unwrap_or_else(|_| Err(late()))
}

/// On a task of its own: a caller that hangs up must not leave an action in doubt.
async fn to_the_end(
    work: BoxFuture<'static, Result<RejectedRecord, RejectedError>>,
) -> Result<RejectedRecord, RejectedError> {
    match tokio::spawn(in_time(work)).await {
        Ok(done) => done,
        Err(error) => Err(RejectedError::Unavailable(error.to_string())),
    }
}

fn most_frequent_first(reasons: HashMap<RejectReason, usize>) -> Vec<ReasonCount> {
    let counts = reasons.into_iter();
    let mut counts: Vec<_> = counts
        .map(|(reason, records)| ReasonCount { reason, records })
        .collect();
    counts.sort_by_key(|count| (std::cmp::Reverse(count.records), count.reason as u8));
    counts
}

/// A record with what is needed to act on it.
type Subject = (RejectedRecord, Digest);

impl Inner {
    async fn list(
        &self,
        filter: Filter,
        limit: usize,
        before: Option<i64>,
    ) -> Result<Page, RejectedError> {
        self.be_current().await?;
        let topic = &self.config.rejected_topic;
        let oldest = self.followed.with(|index| index.oldest());
        let Some(oldest) = oldest else {
            return Ok(Page {
                counts: Counts::default(),
                reasons: Vec::new(),
                records: Vec::new(),
                next_before: None,
            });
        };
        let mut postgres = self.postgres().await?;
        let actions = actions::load(&mut postgres, topic, oldest, i64::MAX).await?;
        drop(postgres);
        let action = |offset: i64, digest| actions.get(&offset).filter(|one| one.is_about(digest));

        let (mut counts, mut wanted) = (Counts::default(), Vec::new());
        let mut reasons = HashMap::new();
        self.followed.with(|index| {
            for (offset, Entry { digest, reason }) in index.newest_first() {
                let state = record::state(action(offset, digest));
                counts.add(state);
                if !filter.takes(state) {
                    continue;
                }
                *reasons.entry(reason).or_insert(0) += 1;
                if before.is_none_or(|before| offset < before) && wanted.len() <= limit {
                    wanted.push((offset, digest));
                }
            }
        });
        let more = wanted.len() > limit;
        wanted.truncate(limit);
        let (records, last) = self.read(&wanted, action).await?;
        let cut = records.len() < wanted.len() && last > wanted.last().map_or(0, |one| one.0);
        Ok(Page {
            counts,
            reasons: most_frequent_first(reasons),
            records,
            next_before: (more || cut).then_some(last),
        })
    }

    /// The records at these places as far as they fit into an answer, and the offset down to which they were
    /// looked for.
    async fn read<'a>(
        &self,
        wanted: &[(i64, Digest)],
        action: impl Fn(i64, Digest) -> Option<&'a Action>,
    ) -> Result<(Vec<RejectedRecord>, i64), RejectedError> {
        let offsets: Vec<i64> = wanted.iter().map(|one| one.0).collect();
        let Some(last) = offsets.last() else {
            return Ok((Vec::new(), 0));
        };
        let mut found = self.letters(&offsets).await?;
        let shown = |(offset, digest): &(i64, Digest)| {
            let letter = found.letters.remove(offset)?;
            let action = action(*offset, *digest);
            Some(RejectedRecord::new(&self.config, *offset, letter, action))
        };
        let records = wanted.iter().filter_map(shown).collect();
        Ok((records, found.complete_from.max(*last)))
    }

    async fn find(&self, offset: i64) -> Result<Subject, RejectedError> {
        self.be_current().await?;
        let end = self.followed.progress.borrow().next;
        if !(0..end).contains(&offset) {
            return Err(RejectedError::NotFound(offset));
        }
        let (letter, digest) = self.letter(offset).await?;
        let canonical = self.followed.with(|index| index.canonical(digest));
        let canonical = canonical.unwrap_or(offset);
        let letter = match canonical == offset {
            true => letter,
            false => self.letter(canonical).await?.0,
        };
        let topic = &self.config.rejected_topic;
        let mut postgres = self.postgres().await?;
        let actions = actions::load(&mut postgres, topic, canonical, canonical + 1).await?;
        let action = actions.get(&canonical).filter(|one| one.is_about(digest));
        let record = RejectedRecord::new(&self.config, canonical, letter, action);
        Ok((record, digest))
    }

    async fn letter(
        &self,
        offset: i64,
    ) -> Result<(millrace_sm_user_event::RejectedEvent, Digest), RejectedError> {
        let mut found = self.letters(&[offset]).await?;
        let letter = found.letters.remove(&offset);
        let letter = letter.ok_or(RejectedError::NotFound(offset))?;
        let digest = Digest::of(&letter);
        Ok((letter, digest))
    }

    async fn letters(&self, offsets: &[i64]) -> Result<read::Found, RejectedError> {
        let topic = &self.config.rejected_topic;
        let found = read::letters(&self.cluster, topic, offsets).await?;
        if let Some(start) = found.start {
            self.followed.with(|index| index.prune(start));
        }
        Ok(found)
    }

    async fn retry(&self, offset: i64) -> Result<RejectedRecord, RejectedError> {
        let (record, digest) = self.find(offset).await?;
        let event = match (record.original, record.no_retry) {
            (Some(event), None) => event,
            (_, reason) => {
                let reason = reason.unwrap_or_default();
                return Err(RejectedError::NoRetry {
                    offset: record.offset,
                    reason,
                });
            }
        };
        let place = self.place(record.offset, digest);
        let mut postgres = self.postgres().await?;
        let claim = self.claim(&mut postgres, place, Kind::Retry).await?;
        match resend::resend(&self.cluster, &self.config.topic, event).await {
            Ok(sent) => actions::done(&mut postgres, place, claim, sent).await?,
            Err(Failure::NotSent(error)) => {
                actions::give_back(&mut postgres, place, claim).await?;
                return Err(error.into());
            }
            Err(Failure::Unknown(error)) => {
                return Err(RejectedError::Unknown {
                    offset: place.offset,
                    reason: in_words(&error),
                    seconds: actions::IN_DOUBT.as_secs(),
                });
            }
        }
        // Looking at it takes a connection too; callers that keep one would wait for each other.
        drop(postgres);
        Ok(self.find(place.offset).await?.0)
    }

    async fn discard(&self, offset: i64) -> Result<RejectedRecord, RejectedError> {
        let (record, digest) = self.find(offset).await?;
        let place = self.place(record.offset, digest);
        let mut postgres = self.postgres().await?;
        self.claim(&mut postgres, place, Kind::Discard).await?;
        drop(postgres);
        Ok(self.find(place.offset).await?.0)
    }

    fn place(&self, offset: i64, digest: Digest) -> Place<'_> {
        let topic = &self.config.rejected_topic;
        Place {
            topic,
            offset,
            digest,
        }
    }

    async fn claim(
        &self,
        postgres: &mut PoolConnection<Postgres>,
        place: Place<'_>,
        kind: Kind,
    ) -> Result<chrono::DateTime<chrono::Utc>, RejectedError> {
        if let Some(claim) = actions::claim(postgres, place, kind).await? {
            return Ok(claim);
        }
        let offset = place.offset;
        let actions = actions::load(postgres, place.topic, offset, offset + 1).await?;
        Err(match record::state(actions.get(&offset)) {
            RejectedState::Retried => RejectedError::NotOpen {
                offset,
                was: "retried",
            },
            RejectedState::Discarded => RejectedError::NotOpen {
                offset,
                was: "discarded",
            },
            RejectedState::Open => RejectedError::InDoubt {
                offset,
                seconds: actions::IN_DOUBT.as_secs(),
            },
        })
    }

    /// Waits until the index has what the topic had a moment ago. Without that, as far as the controller
    /// does not answer, it has what it has.
    async fn be_current(&self) -> Result<(), RejectedError> {
        let mut progress = self.followed.progress.subscribe();
        let ready = timeout(READY_TIMEOUT, progress.wait_for(|progress| progress.ready)).await;
        ready
            .map_err(|_| RejectedError::NotReady)?
            .map_err(|_| RejectedError::NotReady)?;
        if let Ok(Some(bounds)) = self.cluster.bounds(&self.config.rejected_topic).await {
            let end = bounds.end.to_i64();
            let there = progress.wait_for(|progress| progress.next >= end);
            let _ = timeout(CURRENT_TIMEOUT, there).await;
        }
        Ok(())
    }

    async fn postgres(&self) -> Result<PoolConnection<Postgres>, RejectedError> {
        let prepare = || async {
            let mut postgres = self.pool.acquire().await?;
            actions::prepare(&mut postgres).await
        };
        self.prepared.get_or_try_init(prepare).await?;
        Ok(self.pool.acquire().await?)
    }
}
