//! One capture at a time: an advisory lock on a connection of its own.

use std::time::Duration;

use millrace_sessions::postgres::PgSession;
use sqlx::{Executor, Row};
use tokio::time::{interval, sleep, timeout, Instant, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use crate::source::Source;
use crate::{Config, Error};

const POLL: Duration = Duration::from_millis(100);
/// How often the connection that holds the lock is looked at, and how long it may take to answer.
const CHECK_PERIOD: Duration = Duration::from_secs(5);
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

// Two 32-bit keys: the class of our locks and the slot. `hashtext` is stable within a cluster.
const LOCK: &str = "SELECT pg_try_advisory_lock(1836215148, hashtext($1))";
const HOLDER: &str = "
    SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 1836215148::oid
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND objid = (hashtext($1)::int8 & 4294967295)::oid AND granted LIMIT 1";

/// Takes the lock. A predecessor that was killed holds it until Postgres notices.
pub(crate) async fn acquire(source: &Source, config: &Config) -> Result<PgSession, Error> {
    let mut connection = source.connect().await?;
    let deadline = Instant::now() + config.lock_timeout;
    loop {
        let row = sqlx::query(LOCK)
            .bind(&config.slot)
            .fetch_one(&mut connection)
            .await?;
        if row.try_get(0)? {
            return Ok(connection);
        }
        if Instant::now() > deadline {
            return Err(Error::Locked {
                slot: config.slot.clone(),
                holder: holder(&mut connection, config).await?,
            });
        }
        sleep(POLL).await;
    }
}

async fn holder(connection: &mut PgSession, config: &Config) -> Result<String, Error> {
    let query = sqlx::query_scalar(HOLDER).bind(&config.slot);
    let pid: Option<i32> = query.fetch_optional(connection).await?;
    Ok(match pid {
        Some(pid) => format!("Postgres pid {pid}"),
        None => "which has just ended".into(),
    })
}

/// Keeps the lock until dropped, and sends heartbeats if asked to. Ends only with an error: the
/// lock is lost then.
pub(crate) fn keep(connection: PgSession, config: &Config) -> AbortOnDropHandle<Error> {
    let heartbeat = config.heartbeat_period;
    let prefix = config.message_prefix.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        match watch(connection, heartbeat, &prefix).await {
            Err(error) => error,
            Ok(never) => match never {},
        }
    }))
}

async fn watch(
    mut connection: PgSession,
    heartbeat: Option<Duration>,
    prefix: &str,
) -> Result<std::convert::Infallible, Error> {
    let mut ticks = interval(heartbeat.unwrap_or(CHECK_PERIOD).min(CHECK_PERIOD));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_heartbeat = Instant::now();
    loop {
        ticks.tick().await;
        let due = heartbeat.is_some_and(|period| last_heartbeat.elapsed() >= period);
        let step = async {
            if due {
                let emit = "SELECT pg_logical_emit_message(true, $1, 'heartbeat')";
                sqlx::query(emit)
                    .bind(prefix)
                    .execute(&mut connection)
                    .await?;
            } else {
                connection.execute("SELECT 1").await?;
            }
            Ok::<_, sqlx::Error>(())
        };
        match timeout(CHECK_TIMEOUT, step).await {
            Ok(result) => result?,
            Err(_) => {
                return Err(Error::Timeout {
                    what: "asking Postgres for a sign of life",
                    seconds: CHECK_TIMEOUT.as_secs(),
                })
            }
        }
        if due {
            last_heartbeat = Instant::now();
        }
    }
}
