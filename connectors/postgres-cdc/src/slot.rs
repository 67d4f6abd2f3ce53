//! The replication slot: who holds it, where it stands, and how it comes into being.

use std::time::Duration;

use millrace_events::Lsn;
use millrace_sessions::postgres::point::{self, ConsistentPoint, PointError};
use millrace_sessions::postgres::PgSession;
use sqlx::Row;
use tokio::time::{sleep, Instant};

use crate::source::Source;
use crate::{Config, Error};

/// How long a terminated walsender may take to let go of the slot.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(25);

/// A slot as `pg_replication_slots` shows it.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    plugin: Option<String>,
    database: Option<String>,
    temporary: bool,
    active_pid: Option<i32>,
    /// `wal_status`: `reserved`, `extended`, `unreserved` or `lost`.
    pub(crate) wal_status: Option<String>,
    /// Postgres keeps everything behind it.
    pub(crate) confirmed: Option<Lsn>,
}

const INSPECT: &str = "
    SELECT plugin::text, database::text, temporary, active_pid, wal_status,
           (confirmed_flush_lsn - '0/0')::int8
      FROM pg_replication_slots WHERE slot_name = $1";

/// The slot of that name, which must be one of capture's kind in this database.
pub(crate) async fn inspect(
    connection: &mut PgSession,
    name: &str,
    database: &str,
) -> Result<Option<Slot>, Error> {
    let query = sqlx::query(INSPECT).bind(name);
    let Some(row) = query.fetch_optional(connection).await? else {
        return Ok(None);
    };
    let slot = Slot {
        plugin: row.try_get(0)?,
        database: row.try_get(1)?,
        temporary: row.try_get(2)?,
        active_pid: row.try_get(3)?,
        wal_status: row.try_get(4)?,
        confirmed: row.try_get::<Option<i64>, _>(5)?.map(|lsn| Lsn(lsn as u64)),
    };
    match slot.foreign(database) {
        None => Ok(Some(slot)),
        Some(difference) => Err(Error::SlotForeign {
            slot: name.into(),
            difference,
        }),
    }
}

impl Slot {
    fn foreign(&self, database: &str) -> Option<String> {
        match (self.plugin.as_deref(), self.database.as_deref()) {
            (None, _) => Some("is a physical slot".into()),
            (Some("pgoutput"), Some(found)) if found == database => {
                self.temporary.then(|| "is temporary".into())
            }
            (Some("pgoutput"), found) => {
                Some(format!("belongs to database {:?}", found.unwrap_or("?")))
            }
            (Some(plugin), _) => Some(format!("uses plugin {plugin}")),
        }
    }
}

/// Ends the walsender that holds the slot, which can only be a predecessor: the caller has the lock.
pub(crate) async fn release(
    connection: &mut PgSession,
    name: &str,
    database: &str,
) -> Result<Option<Slot>, Error> {
    let deadline = Instant::now() + RELEASE_TIMEOUT;
    loop {
        let slot = inspect(connection, name, database).await?;
        let Some(pid) = slot.as_ref().and_then(|slot| slot.active_pid) else {
            return Ok(slot);
        };
        if Instant::now() > deadline {
            return Err(Error::SlotBusy {
                slot: name.into(),
                pid,
            });
        }
        point::terminate(connection, pid).await?;
        sleep(POLL).await;
    }
}

/// Where the WAL ends on disk. Nothing beyond it was ever sent.
pub(crate) async fn wal_end(connection: &mut PgSession) -> Result<Lsn, Error> {
    let query = sqlx::query_scalar("SELECT (pg_current_wal_flush_lsn() - '0/0')::int8");
    let end: i64 = query.fetch_one(connection).await?;
    Ok(Lsn(end as u64))
}

/// Drops a slot that no log continues.
pub(crate) async fn drop(connection: &mut PgSession, name: &str) -> Result<(), Error> {
    let query = sqlx::query("SELECT pg_drop_replication_slot($1)").bind(name);
    query.execute(connection).await?;
    Ok(())
}

/// Creates the slot. Postgres waits for all transactions that are older; `connection` serves to
/// name the one that is waited for.
pub(crate) async fn create(
    connection: &mut PgSession,
    source: &Source,
    config: &Config,
) -> Result<ConsistentPoint, Error> {
    let session = source.replication().await?;
    let slot = point::Slot::Permanent(&config.slot);
    let created = point::create(session, connection, slot, config.slot_timeout).await;
    created.map_err(|error| match error {
        PointError::Blocked { blocker } => Error::SlotBlocked {
            slot: config.slot.clone(),
            blocker,
        },
        PointError::Replication(error) => error.into(),
        PointError::Postgres(error) => error.into(),
    })
}
