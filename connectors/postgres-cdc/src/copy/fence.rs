//! What has to be visible before a copy may be read.
//!
//! A commit is decoded when it stands in the WAL, which is before other sessions see it: a moment as a rule, and as long as a
//! synchronous standby does not answer. A copy that does not see a commit which stands in the log before it would lose
//! that commit. So before rows are read, the commits that stand before are waited for.

use std::time::Duration;

use millrace_events::{Visibility, Xid};
use millrace_sessions::postgres::point::{described, ConsistentPoint};
use millrace_sessions::postgres::PgSession;
use sqlx::Executor;
use tokio::time::{sleep, Instant};

use crate::source::Source;
use crate::{Config, Error};

/// How often Postgres is asked again.
const POLL_MIN: Duration = Duration::from_millis(5);
const POLL_MAX: Duration = Duration::from_millis(500);
/// Above this many, those that have become visible are looked for.
const UNSEEN_MANY: usize = 1 << 14;
/// Running transactions have numbers closer to each other than this: what is farther ahead is from a round before.
const AHEAD_MAX: u32 = 1 << 30;

/// Transactions of the log that are not known to be visible.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unseen {
    xids: Vec<Xid>,
    /// At which length [`Unseen::prune`] is due: what stays after it is as many as there are sessions of Postgres.
    due_at: usize,
}

impl Unseen {
    /// A transaction stands in the log.
    pub(crate) fn note(&mut self, xid: Xid) {
        self.xids.push(xid);
    }

    /// Whether it has become long. Then call [`Unseen::prune`].
    pub(crate) fn is_long(&self) -> bool {
        self.xids.len() >= self.due_at.max(UNSEEN_MANY)
    }

    /// Forgets what `now` sees.
    pub(crate) fn prune(&mut self, now: &Visibility) {
        self.xids.retain(|xid| !now.sees(*xid));
        self.due_at = 2 * self.xids.len();
    }

    /// Forgets what is older than half of the numbers that `newest` may be compared with: it ended long ago.
    pub(crate) fn forget_old(&mut self, newest: Xid) {
        self.xids
            .retain(|xid| newest.0.wrapping_sub(xid.0) < AHEAD_MAX);
    }

    pub(crate) fn xids(&self) -> &[Xid] {
        &self.xids
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.xids.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.xids.len()
    }
}

/// The snapshot of this moment.
pub(crate) async fn now(session: &mut PgSession) -> Result<Visibility, Error> {
    let query = sqlx::query_scalar("SELECT pg_current_snapshot()::text");
    let text: String = query.fetch_one(session).await?;
    parsed(&text)
}

pub(crate) fn parsed(text: &str) -> Result<Visibility, Error> {
    text.parse()
        .map_err(|error| Error::Protocol(format!("{error}")))
}

/// Waits until all of them are visible, however long that takes: what captures goes on meanwhile. `waits` is told for
/// whom, if it takes longer than a moment.
pub(super) async fn until_seen(
    session: &mut PgSession,
    mut unseen: Unseen,
    waits: impl Fn(&str),
) -> Result<(), Error> {
    let mut pause = POLL_MIN;
    loop {
        unseen.prune(&now(session).await?);
        if unseen.is_empty() {
            return Ok(());
        }
        if pause == POLL_MAX {
            waits(&first_of(session, &unseen).await?);
        }
        sleep(pause).await;
        pause = (pause * 2).min(POLL_MAX);
    }
}

// `SyncRep` is the wait for a synchronous standby.
const FIRST: &str = "
    SELECT pid, coalesce(usename::text, '?'), coalesce(application_name, ''),
           CASE wait_event WHEN 'SyncRep' THEN 'waits for a synchronous standby' ELSE coalesce(state, 'state unknown') END,
           xact_start
      FROM pg_stat_activity WHERE backend_xid::text::int8 = ANY ($1) ORDER BY xact_start LIMIT 1";

/// The oldest of them, in words.
async fn first_of(session: &mut PgSession, unseen: &Unseen) -> Result<String, Error> {
    let xids: Vec<i64> = unseen.xids.iter().map(|xid| xid.0.into()).collect();
    let row = sqlx::query(FIRST)
        .bind(xids)
        .fetch_optional(session)
        .await?;
    match row {
        Some(row) => Ok(described(&row)?),
        None => Ok(format!("{} transactions that end just now", unseen.len())),
    }
}

/// Waits until every session sees what was committed before a slot's consistent point. It never comes through the slot, so
/// every copy has to contain it.
pub(crate) async fn until_point_is_seen(
    session: &mut PgSession,
    source: &Source,
    point: ConsistentPoint,
    config: &Config,
) -> Result<(), Error> {
    let contained = contained(source, point).await?;
    let limit = config.slot_timeout;
    let deadline = Instant::now() + limit;
    let mut pause = POLL_MIN;
    while !now(session).await?.sees_all_of(&contained) {
        if Instant::now() > deadline {
            return Err(Error::CommitsNotVisible {
                slot: config.slot.clone(),
                seconds: limit.as_secs(),
            });
        }
        sleep(pause).await;
        pause = (pause * 2).min(POLL_MAX);
    }
    Ok(())
}

/// What the consistent point contains. Its snapshot is used for this question only.
async fn contained(source: &Source, point: ConsistentPoint) -> Result<Visibility, Error> {
    let mut session = source.connect().await?;
    session
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let import = format!("SET TRANSACTION SNAPSHOT '{}'", point.snapshot);
    session.execute(import.as_str()).await?;
    let contained = now(&mut session).await?;
    session.execute("COMMIT").await?;
    Ok(contained)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unseen(xids: &[u32]) -> Unseen {
        let mut unseen = Unseen::default();
        xids.iter().for_each(|xid| unseen.note(Xid(*xid)));
        unseen
    }

    fn left(unseen: &Unseen) -> Vec<u32> {
        unseen.xids.iter().map(|xid| xid.0).collect()
    }

    #[test]
    fn what_is_visible_is_forgotten() {
        let mut unseen = unseen(&[9, 10, 11, 12, 20]);
        unseen.prune(&parsed("10:20:10,12").expect("a snapshot"));
        assert_eq!(left(&unseen), [10, 12, 20]);
        unseen.prune(&parsed("21:21:").expect("a snapshot"));
        assert!(unseen.is_empty());
    }

    #[test]
    fn what_is_from_a_round_before_is_forgotten() {
        let mut unseen = unseen(&[u32::MAX - 5, 3, 1 << 31, (1 << 31) + 3]);
        unseen.forget_old(Xid(7));
        assert_eq!(left(&unseen), [u32::MAX - 5, 3]);
    }

    #[test]
    fn a_list_that_stays_long_is_not_looked_through_for_every_transaction() {
        let many: Vec<u32> = (100..100 + UNSEEN_MANY as u32).collect();
        let mut unseen = unseen(&many);
        assert!(unseen.is_long());
        unseen.prune(&parsed("100:100:").expect("a snapshot"));
        assert!(!unseen.is_long());
    }
}
