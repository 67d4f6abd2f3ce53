//! A consistent point: an LSN, and a snapshot that holds exactly the commits before it.
//!
//! Only the creation of a logical slot gives one. A plain snapshot with the current LSN is no prefix of the log.

use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_events::Lsn;
use sqlx::postgres::PgRow;
use sqlx::{Executor, Row};
use tokio::time::timeout;

use super::replication::{Answer, Replication, ReplicationError};
use super::{qualified, PgSession};

/// The slot that is made on the way.
#[derive(Clone, Copy, Debug)]
pub enum Slot<'a> {
    /// Stays.
    Permanent(&'a str),
    /// Goes with the session.
    Temporary(&'a str),
}

/// The snapshot can be imported as long as this lives.
pub struct ConsistentPoint {
    /// The snapshot contains exactly the commits before it.
    pub lsn: Lsn,
    /// For `SET TRANSACTION SNAPSHOT`: hexadecimal numbers and hyphens.
    pub snapshot: String,
    _session: Replication,
}

/// There is no consistent point.
#[derive(Debug, thiserror::Error)]
pub enum PointError {
    /// Postgres waits for all transactions that are older than the slot, and one does not end.
    #[error("an older transaction, of Postgres {blocker}, is in the way")]
    Blocked {
        /// Its process, and what is known of it.
        blocker: String,
    },
    /// A replication command failed.
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    /// Looking for what is in the way failed.
    #[error(transparent)]
    Postgres(#[from] sqlx::Error),
}

/// Creates the slot in `session`, which lives on in the result. `look` serves to name the transaction that is in the
/// way after `wait_max`.
pub async fn create(
    mut session: Replication,
    look: &mut PgSession,
    slot: Slot<'_>,
    wait_max: Duration,
) -> Result<ConsistentPoint, PointError> {
    let pid = session
        .command("SELECT pg_backend_pid()::text", wait_max)
        .await?;
    let pid: i32 = field(&pid, 0)?.parse().map_err(|_| unexpected())?;
    let command = match slot {
        Slot::Permanent(name) => format!("\"{name}\""),
        Slot::Temporary(name) => format!("\"{name}\" TEMPORARY"),
    };
    let command = format!("CREATE_REPLICATION_SLOT {command} LOGICAL pgoutput EXPORT_SNAPSHOT");
    // The limit outside is the one that counts: one inside would be an error of the connection.
    let created = session.command(&command, wait_max * 2);
    let Ok(answer) = timeout(wait_max, created).await else {
        let blocker = blocker(look, pid).await?;
        terminate(look, pid).await?;
        return Err(PointError::Blocked { blocker });
    };
    let answer = answer?;
    let lsn = field(&answer, 1)?.parse().map_err(|_| unexpected())?;
    Ok(ConsistentPoint {
        lsn,
        snapshot: field(&answer, 2)?,
        _session: session,
    })
}

// The catalog as the snapshot sees it names the file that held the table then; `pg_relation_filenode` names the one
// of now. TRUNCATE and rewrites give a table a new file, and a reader with an older snapshot finds it empty.
const SAME_FILE: &str = "
    SELECT c.relfilenode = 0 OR c.relfilenode IS NOT DISTINCT FROM pg_relation_filenode(c.oid)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relname = $2";

/// Locks a table against TRUNCATE and changes of its definition until the transaction ends. `session` is in a
/// transaction that has its snapshot already. False if the table was truncated or rewritten since: its rows of that
/// snapshot are gone.
pub async fn pin_table(
    session: &mut PgSession,
    schema: &str,
    table: &str,
) -> Result<bool, sqlx::Error> {
    let lock = format!(
        "LOCK TABLE ONLY {} IN ACCESS SHARE MODE",
        qualified(schema, table)
    );
    session.execute(lock.as_str()).await?;
    let query = sqlx::query_scalar(SAME_FILE).bind(schema).bind(table);
    let same: Option<bool> = query.fetch_optional(session).await?;
    Ok(same.unwrap_or(false))
}

fn field(rows: &[Answer], column: usize) -> Result<String, ReplicationError> {
    let cell = rows.first().and_then(|row| row.get(column)).cloned();
    cell.flatten().ok_or_else(unexpected)
}

fn unexpected() -> ReplicationError {
    ReplicationError::Protocol("unexpected answer to a replication command".into())
}

// The oldest transaction is the answer where the lock table does not show one.
const BLOCKER: &str = "
    SELECT pid, coalesce(usename::text, '?'), coalesce(application_name, ''), coalesce(state, 'state unknown'),
           xact_start
      FROM pg_stat_activity
     WHERE pid <> $1 AND (pid = ANY (pg_blocking_pids($1)) OR backend_xid IS NOT NULL)
     ORDER BY (pid = ANY (pg_blocking_pids($1))) DESC, xact_start LIMIT 1";

async fn blocker(look: &mut PgSession, walsender: i32) -> Result<String, sqlx::Error> {
    let query = sqlx::query(BLOCKER).bind(walsender);
    match query.fetch_optional(look).await? {
        Some(row) => described(&row),
        None => {
            Ok("pid unknown (none shown in pg_stat_activity; look at pg_prepared_xacts)".into())
        }
    }
}

// A slot waits for every transaction of the cluster that has written something, be it in another database or prepared.
const OLDER: &str = "
    SELECT * FROM (
        SELECT pid, coalesce(usename::text, '?'), coalesce(application_name, ''), coalesce(state, 'state unknown'),
               xact_start AS since
          FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
        UNION ALL
        SELECT NULL, owner::text, gid, 'prepared', prepared FROM pg_prepared_xacts) AS open
     WHERE since < clock_timestamp() - make_interval(secs => $1) ORDER BY since LIMIT 1";

/// The oldest transaction that has been open for longer than `age` and that a new slot would have to wait for.
pub async fn older(look: &mut PgSession, age: Duration) -> Result<Option<String>, sqlx::Error> {
    let query = sqlx::query(OLDER).bind(age.as_secs_f64());
    let row = query.fetch_optional(look).await?;
    row.as_ref().map(described).transpose()
}

/// A transaction in words. The row begins with its process (NULL if it is prepared), user, application (or the name it
/// was prepared under), state, and since when it is open.
pub fn described(row: &PgRow) -> Result<String, sqlx::Error> {
    let (pid, user, application): (Option<i32>, String, String) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (state, since): (String, Option<DateTime<Utc>>) = (row.try_get(3)?, row.try_get(4)?);
    let since = since.map_or("a time unknown".to_owned(), |since| {
        since.format("%F %T UTC").to_string()
    });
    Ok(match pid {
        Some(pid) => {
            format!("pid {pid} (user {user}, application {application:?}, {state}, open since {since})")
        }
        None => format!("transaction {application:?} (user {user}, {state}, open since {since}; COMMIT PREPARED or ROLLBACK PREPARED ends it)"),
    })
}

/// Ends a session of Postgres. One that waits for a transaction does not notice that we have gone.
pub async fn terminate(look: &mut PgSession, pid: i32) -> Result<(), sqlx::Error> {
    let query = sqlx::query("SELECT pg_terminate_backend($1)").bind(pid);
    query.execute(look).await.map(|_| ())
}
