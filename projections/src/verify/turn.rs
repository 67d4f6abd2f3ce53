//! One verification of a replica at a time, whoever runs it.

use std::time::Duration;

use millrace_sessions::mysql::{connect, Purpose, Session};

use super::projector::Projector;
use super::{mysql, By, Config, Error};

/// A person's verification waits so long for the one that runs: one that runs by itself gives way at once.
const TURN_WITHIN: Duration = Duration::from_secs(60);

/// The right to verify: a lock of MySQL, which ends with this session, however the process ends.
pub(super) struct Turn(Session);

impl Turn {
    /// Takes it. Who verifies by itself does not wait for it.
    pub(super) async fn take(config: &Config, projector: &Projector) -> Result<Turn, Error> {
        let mut turn = Turn(connect(&config.mysql_url, Purpose::Compare).await?);
        if turn.lock(Duration::ZERO).await? {
            return Ok(turn);
        }
        if config.by == By::Period {
            return Err(Error::Running);
        }
        // The projector's own verification gives up when somebody else holds the projector.
        projector
            .hold(config.by, config.hold_timeout)
            .await?
            .release()
            .await?;
        match turn.lock(TURN_WITHIN).await? {
            true => Ok(turn),
            false => Err(Error::Running),
        }
    }

    async fn lock(&mut self, within: Duration) -> Result<bool, Error> {
        // The server limits the name to 64 characters; one lock for each database.
        let sql = format!(
            "SELECT CAST(GET_LOCK(CONCAT('millrace.verify.', LEFT(SHA2(DATABASE(), 256), 32)), {}) AS SIGNED)",
            within.as_secs()
        );
        let locked: Option<i64> = sqlx::query_scalar(&sql)
            .fetch_one(&mut self.0)
            .await
            .map_err(mysql("taking turns"))?;
        Ok(locked == Some(1))
    }

    /// Gives it back.
    pub(super) async fn end(self) {
        self.0.close().await;
    }
}
