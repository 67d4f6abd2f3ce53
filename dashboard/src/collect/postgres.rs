//! Postgres: one connection that is kept, one statement a tick.

use chrono::{DateTime, Utc};
use millrace_events::Lsn;
use millrace_sessions::postgres::{PgSession, Server, Work};
use sqlx::postgres::PgRow;
use sqlx::Row;

use crate::status::{Slot, Time, WalStatus};

use super::SourceReading;

/// `reply_time` is NULL for a user that may not see the reader's connection.
const STATEMENT: &str = "SELECT pg_current_wal_lsn()::text AS lsn, clock_timestamp() AS clock, \
    current_setting('server_version') AS version, current_database()::text AS database, \
    slot.slot_name::text AS slot, slot.active, slot.confirmed_flush_lsn::text AS confirmed, \
    slot.restart_lsn::text AS restart, slot.wal_status, slot.safe_wal_size, \
    (pg_current_wal_lsn() - slot.restart_lsn)::bigint AS retained, \
    (pg_current_wal_lsn() - slot.confirmed_flush_lsn)::bigint AS behind, reader.reply_time \
    FROM (SELECT) AS one LEFT JOIN pg_replication_slots AS slot ON slot.slot_name = $1 \
    LEFT JOIN pg_stat_replication AS reader ON reader.pid = slot.active_pid";

/// Asks Postgres.
pub(super) struct Postgres {
    url: String,
    slot: String,
    connection: Option<PgSession>,
}

impl Postgres {
    pub(super) fn new(url: &str, slot: &str) -> Postgres {
        Postgres {
            url: url.to_owned(),
            slot: slot.to_owned(),
            connection: None,
        }
    }

    /// What it says now. A connection that fails, or is given up in the middle, is not used again.
    pub(super) async fn read(&mut self) -> Result<SourceReading, String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.url).await?,
        };
        let asked = Time::now();
        let row = sqlx::query(STATEMENT)
            .bind(&self.slot)
            .fetch_one(&mut connection)
            .await
            .map_err(|error| error.to_string())?;
        let midway = asked.shifted_us(Time::now().us_since(asked) / 2);
        self.connection = Some(connection);
        reading(&row, midway).map_err(|error| error.to_string())
    }
}

/// A session with Postgres.
pub(crate) async fn connect(url: &str) -> Result<PgSession, String> {
    let server = Server::parse(url).map_err(|error| format!("its URL cannot be used: {error}"))?;
    let connected = server.connect("millrace-dashboard", Work::Ask).await;
    connected.map_err(|error| error.to_string())
}

fn reading(row: &PgRow, asked: Time) -> Result<SourceReading, sqlx::Error> {
    let clock: DateTime<Utc> = row.try_get("clock")?;
    let version: String = row.try_get("version")?;
    let number = version.split(' ').next().unwrap_or_default();
    Ok(SourceReading {
        server: format!("PostgreSQL {number}"),
        database: row.try_get("database")?,
        lsn: lsn(row, "lsn")?.unwrap_or(Lsn::ZERO),
        clock_ahead_us: Time::from(clock).us_since(asked),
        slot: slot(row)?,
    })
}

fn slot(row: &PgRow) -> Result<Option<Slot>, sqlx::Error> {
    let Some(name) = row.try_get("slot")? else {
        return Ok(None);
    };
    let status: Option<String> = row.try_get("wal_status")?;
    let feedback: Option<DateTime<Utc>> = row.try_get("reply_time")?;
    Ok(Some(Slot {
        name,
        active: row.try_get("active")?,
        confirmed_lsn: lsn(row, "confirmed")?,
        restart_lsn: lsn(row, "restart")?,
        wal_status: status.as_deref().and_then(WalStatus::parse),
        retained_bytes: bytes(row, "retained")?,
        left_bytes: bytes(row, "safe_wal_size")?,
        behind_bytes: bytes(row, "behind")?,
        last_feedback_at: feedback.map(Time::from),
    }))
}

fn lsn(row: &PgRow, column: &str) -> Result<Option<Lsn>, sqlx::Error> {
    let text: Option<String> = row.try_get(column)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

/// Beyond the limit there are 0 bytes left, not fewer.
fn bytes(row: &PgRow, column: &str) -> Result<Option<u64>, sqlx::Error> {
    let bytes: Option<i64> = row.try_get(column)?;
    Ok(bytes.map(|bytes| u64::try_from(bytes).unwrap_or(0)))
}
