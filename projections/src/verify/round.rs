//! A consistent point: both databases as of it.

use millrace_events::Lsn;
use millrace_sessions::mysql::{connect, Purpose, Session};
use millrace_sessions::postgres::PgSession;
use sqlx::Executor;

use super::fence::{self, Fence};
use super::position::Position;
use super::projector::{Held, Projector};
use super::report::Report;
use super::{mysql, Config, Error};

/// Both databases as of one consistent point.
pub(super) struct Round {
    pub(super) lsn: Lsn,
    log_end: Lsn,
    pub(super) position: Position,
    pub(super) postgres: PgSession,
    /// Two sessions that see MySQL at the same commit.
    pub(super) mysql: [Session; 2],
}

impl Round {
    /// Steps 1 to 4.
    pub(super) async fn begin(config: &Config, projector: &Projector) -> Result<Round, Error> {
        fence::wait_for_old_transactions(config).await?;
        let held = projector.hold(config.by, config.hold_timeout).await?;
        let frozen = freeze(config, &held).await;
        let released = held.release().await;
        let (mut fence, sessions) = frozen?;
        // A hold that ended by itself before the snapshots were open proves nothing.
        released?;
        Ok(Round {
            lsn: fence.lsn(),
            log_end: fence.log_end().await?,
            position: sessions.position,
            postgres: fence.into_session(),
            mysql: sessions.mysql,
        })
    }

    /// The position row may stand behind the consistent point, where nothing was committed in between, but never behind
    /// the end of the log.
    pub(super) fn check_position(&self, report: &mut Report) {
        let (found, log_end) = (self.position.end_lsn, self.log_end);
        if found > log_end {
            report.wrong_position(format!("at most {log_end}"), found.to_string());
        }
    }
}

struct Sessions {
    mysql: [Session; 2],
    position: Position,
}

/// Steps 2 to 4, with the projector held.
async fn freeze(config: &Config, held: &Held) -> Result<(Fence, Sessions), Error> {
    let fence = Fence::create(config).await?;
    fence.emit_message(config).await?;
    held.stop_before(fence.lsn(), config.catch_up_timeout)
        .await?;
    let mut mysql = [snapshot(config).await?, snapshot(config).await?];
    let [first, _] = &mut mysql;
    let position = Position::read(first)
        .await?
        .ok_or_else(|| Error::Bookkeeping("the position row is gone".into()))?;
    Ok((fence, Sessions { mysql, position }))
}

/// What the projector's tables say now; `None` if no projector was ever here.
pub(super) async fn known(config: &Config) -> Result<Option<Position>, Error> {
    let mut conn = connect(&config.mysql_url, Purpose::Compare).await?;
    Position::read(&mut conn).await
}

/// A read-only session that sees one state.
async fn snapshot(config: &Config) -> Result<Session, Error> {
    let mut conn = connect(&config.mysql_url, Purpose::Compare).await?;
    conn.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        .await
        .map_err(mysql("opening a consistent snapshot"))?;
    Ok(conn)
}
