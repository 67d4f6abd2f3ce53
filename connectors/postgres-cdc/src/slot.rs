//! The replication slot: who holds it, where it stands, and how it comes into being.

use std::time::Duration;

use millrace_events::Lsn;
use pgwire_replication::client::QueryRow;
use pgwire_replication::{PgWireError, ReplicationClient};
use sqlx::{PgConnection, Row};
use tokio::time::{sleep, timeout, Instant};

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
    connection: &mut PgConnection,
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
    connection: &mut PgConnection,
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
        terminate(connection, pid).await?;
        sleep(POLL).await;
    }
}

async fn terminate(connection: &mut PgConnection, pid: i32) -> Result<(), Error> {
    let query = sqlx::query("SELECT pg_terminate_backend($1)").bind(pid);
    query.execute(connection).await?;
    Ok(())
}

/// Where the WAL ends on disk. Nothing beyond it was ever sent.
pub(crate) async fn wal_end(connection: &mut PgConnection) -> Result<Lsn, Error> {
    let query = sqlx::query_scalar("SELECT (pg_current_wal_flush_lsn() - '0/0')::int8");
    let end: i64 = query.fetch_one(connection).await?;
    Ok(Lsn(end as u64))
}

/// Drops a slot that no log continues.
pub(crate) async fn drop(connection: &mut PgConnection, name: &str) -> Result<(), Error> {
    let query = sqlx::query("SELECT pg_drop_replication_slot($1)").bind(name);
    query.execute(connection).await?;
    Ok(())
}

/// A new slot. Its snapshot can be imported as long as this lives.
pub(crate) struct CreatedSlot {
    /// The snapshot contains exactly the commits before it.
    pub(crate) consistent: Lsn,
    /// For `SET TRANSACTION SNAPSHOT`.
    pub(crate) snapshot: String,
    _session: ReplicationClient,
}

/// Creates the slot. Postgres waits for all transactions that are older; `connection` serves to
/// name the one that is waited for.
pub(crate) async fn create(
    connection: &mut PgConnection,
    source: &Source,
    config: &Config,
) -> Result<CreatedSlot, Error> {
    let mut session = ReplicationClient::connect_gated(source.replication()).await?;
    let pid = session
        .simple_query("SELECT pg_backend_pid()::text")
        .await?;
    let pid: i32 = field(&pid, 0)?.parse().map_err(|_| unexpected())?;
    let command = format!(
        "CREATE_REPLICATION_SLOT \"{}\" LOGICAL pgoutput EXPORT_SNAPSHOT",
        config.slot
    );
    let created = timeout(config.slot_timeout, session.simple_query(&command)).await;
    let Ok(answer) = created else {
        let blocker = blocker(connection, pid).await?;
        terminate(connection, pid).await?;
        session.abort();
        return Err(Error::SlotBlocked {
            slot: config.slot.clone(),
            blocker,
        });
    };
    let answer = answer?;
    Ok(CreatedSlot {
        consistent: field(&answer, 1)?.parse().map_err(|_| unexpected())?,
        snapshot: field(&answer, 2)?,
        _session: session,
    })
}

fn field(rows: &[QueryRow], column: usize) -> Result<String, Error> {
    let cell = rows
        .first()
        .and_then(|row| row.get(column))
        .and_then(Option::as_ref);
    let cell = cell.ok_or_else(unexpected)?;
    String::from_utf8(cell.to_vec()).map_err(|_| unexpected())
}

fn unexpected() -> Error {
    PgWireError::Protocol("unexpected answer to a replication command".into()).into()
}

// The oldest transaction is the answer where the lock table does not show one.
const BLOCKER: &str = "
    SELECT pid, coalesce(usename::text, '?'), coalesce(application_name, ''), state,
           extract(epoch FROM clock_timestamp() - xact_start)::int8
      FROM pg_stat_activity
     WHERE pid <> $1 AND (pid = ANY (pg_blocking_pids($1)) OR backend_xid IS NOT NULL)
     ORDER BY (pid = ANY (pg_blocking_pids($1))) DESC, xact_start LIMIT 1";

async fn blocker(connection: &mut PgConnection, walsender: i32) -> Result<String, Error> {
    let query = sqlx::query(BLOCKER).bind(walsender);
    let Some(row) = query.fetch_optional(connection).await? else {
        return Ok("unknown (none shown in pg_stat_activity; look at pg_prepared_xacts)".into());
    };
    let (pid, user, application): (i32, String, String) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let state: Option<String> = row.try_get(3)?;
    let seconds: Option<i64> = row.try_get(4)?;
    Ok(format!(
        "{pid} (user {user}, application {application:?}, {}, open for {} s)",
        state.as_deref().unwrap_or("state unknown"),
        seconds.unwrap_or_default()
    ))
}
