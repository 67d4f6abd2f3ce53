//! Heartbeats: transactional messages in Postgres, looked for in MySQL. They show that the whole way
//! works, and how long it takes.

mod ledger;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_events::Lsn;
use millrace_sessions::postgres::PgSession;
use sqlx::Row;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use crate::collect::{self, Moment, MySql, Services};
use crate::config::Config;

use ledger::Ledger;

pub(crate) use ledger::{Beat, Beats};

const STATEMENT: &str =
    "SELECT pg_logical_emit_message(true, 'millrace', 'heartbeat')::text, clock_timestamp()";
/// Writing, and reading the position, take no longer; else the connection is made anew.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The projector is asked again after so long; it answers earlier.
const WAIT: Duration = Duration::from_secs(20);
/// Between attempts when somebody does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// The ledger, with those who write and read it. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct SharedLedger(Arc<(Mutex<Ledger>, Notify)>);

impl SharedLedger {
    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // Every change leaves the ledger whole.
        self.0
             .0
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }

    pub(crate) fn show(&self, period_ms: u64, now_ms: u64) -> Beats {
        self.lock().show(period_ms, now_ms)
    }

    /// A tick found the position in MySQL; when it got there is not known.
    pub(crate) fn seen_late(&self, applied: Lsn, moment: Moment) {
        self.lock().seen(applied, moment, false);
    }

    fn written(&self, beat: Beat) {
        self.lock().written(beat);
        self.0 .1.notify_one();
    }

    /// The oldest heartbeat that is on its way; waits for one.
    async fn oldest(&self) -> Beat {
        loop {
            let oldest = self.lock().oldest();
            match oldest {
                Some(beat) => return beat,
                None => self.0 .1.notified().await,
            }
        }
    }
}

/// Writes heartbeats and looks for them; runs until dropped.
pub(crate) async fn run(config: Config, ledger: SharedLedger, started: Instant) {
    tokio::join!(
        write(&config, &ledger, started),
        look(&config, &ledger, started)
    );
}

async fn write(config: &Config, ledger: &SharedLedger, started: Instant) {
    let mut connection = None;
    let mut failing = false;
    let mut clock = tokio::time::interval(config.heartbeat_period.max(Duration::from_millis(10)));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let beat = beat(&config.sources.postgres, &mut connection, started);
        match tokio::time::timeout(TIMEOUT, beat).await {
            Ok(Ok(beat)) => {
                failing = false;
                ledger.written(beat);
            }
            Ok(Err(error)) => report(&mut failing, &error),
            Err(_) => report(&mut failing, "Postgres does not answer"),
        }
    }
}

/// Said once: that Postgres is away is in every status.
fn report(failing: &mut bool, error: &str) {
    if !std::mem::replace(failing, true) {
        tracing::warn!(error, "no heartbeat could be written; trying again");
    }
}

/// The connection is taken out while it is used: one that fails or is given up is not used again.
async fn beat(url: &str, kept: &mut Option<PgSession>, started: Instant) -> Result<Beat, String> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => collect::connect_postgres(url).await?,
    };
    let sent_ms = collect::moment(started).mono_ms;
    let failed = |error: sqlx::Error| error.to_string();
    let row = sqlx::query(STATEMENT)
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    *kept = Some(connection);
    let lsn: String = row.try_get(0).map_err(failed)?;
    let at: DateTime<Utc> = row.try_get(1).map_err(failed)?;
    Ok(Beat {
        lsn: lsn.parse().map_err(|error| format!("{error}"))?,
        at: at.into(),
        sent_ms,
    })
}

/// The projector says when; MySQL has the last word on whether.
async fn look(config: &Config, ledger: &SharedLedger, started: Instant) {
    let services = Services::new(config);
    let mut mysql = MySql::new(&config.sources.mysql);
    loop {
        let beat = ledger.oldest().await;
        let arrived = services.wait(&beat.lsn.to_string(), WAIT).await;
        if arrived != Ok(true) {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        match tokio::time::timeout(TIMEOUT, mysql.read()).await {
            Ok(Ok(target)) if target.applied_lsn >= Some(beat.lsn) => {
                let applied = target.applied_lsn.unwrap_or(beat.lsn);
                let moment = collect::moment(started);
                ledger.lock().seen(applied, moment, true);
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}
