//! The consistent point: a snapshot of Postgres that is exactly a prefix of the log.

use std::time::Duration;

use millrace_events::Lsn;
use millrace_sessions::postgres::point::{self, PointError, Slot};
use millrace_sessions::postgres::{PgSession, Server, Work};
use sqlx::Executor;
use tokio::time::Instant;

use super::{postgres, Config, Error};

/// What `pg_stat_activity` shows.
const APPLICATION: &str = "millrace-verify";
/// Prefix and content of the message that makes sure of a commit behind the consistent point.
const MESSAGE: (&str, &str) = ("millrace", "verify");

/// A transaction of this age is one that takes its time. Younger ones end in a moment, and a slot may wait for them.
const OLD: Duration = Duration::from_secs(1);
/// How often it is asked whether the old ones have ended.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Waits until no transaction is open that would keep a slot from being made for long: the projector need not be held
/// meanwhile.
pub(super) async fn wait_for_old_transactions(config: &Config) -> Result<(), Error> {
    let mut session = connect(&server(config)?, Work::Ask).await?;
    let began = Instant::now();
    loop {
        let older = point::older(&mut session, OLD).await;
        let Some(blocker) = older.map_err(postgres("looking for the transaction in the way"))?
        else {
            let _ = session.close().await;
            return Ok(());
        };
        if began.elapsed() >= config.slot_timeout {
            return Err(blocked(config, blocker));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn blocked(config: &Config, blocker: String) -> Error {
    Error::SlotBlocked {
        seconds: config.slot_timeout.as_secs(),
        blocker,
    }
}

/// An open transaction that sees exactly the commits before an LSN.
pub(super) struct Fence {
    lsn: Lsn,
    session: PgSession,
}

impl Fence {
    /// Takes a snapshot through a temporary slot, which is gone again when this returns: it would
    /// hold back Postgres' log for as long as the comparison takes.
    pub(super) async fn create(config: &Config) -> Result<Fence, Error> {
        let server = server(config)?;
        let mut session = connect(&server, Work::Compare).await?;
        let replication = server.replication(APPLICATION).await?;
        let name = slot_name();
        let slot = Slot::Temporary(&name);
        let point = point::create(replication, &mut session, slot, config.slot_timeout).await;
        let point = point.map_err(|error| match error {
            PointError::Blocked { blocker } => blocked(config, blocker),
            PointError::Replication(error) => error.into(),
            PointError::Postgres(error) => {
                postgres("looking for the transaction in the way")(error)
            }
        })?;
        import(&mut session, &point.snapshot).await?;
        Ok(Fence {
            lsn: point.lsn,
            session,
        })
    }

    /// The consistent point.
    pub(super) fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Commits a transaction behind the consistent point, so that the log reaches it on an idle source.
    pub(super) async fn emit_message(&self, config: &Config) -> Result<(), Error> {
        let mut conn = connect(&server(config)?, Work::Ask).await?;
        sqlx::query("SELECT pg_logical_emit_message(true, $1, $2)")
            .bind(MESSAGE.0)
            .bind(MESSAGE.1)
            .execute(&mut conn)
            .await
            .map_err(postgres("writing a message to the log"))?;
        let _ = conn.close().await;
        Ok(())
    }

    /// Where Postgres' log ends now; nobody can be beyond.
    pub(super) async fn log_end(&mut self) -> Result<Lsn, Error> {
        let asking = postgres("asking for the end of its log");
        let end: String = sqlx::query_scalar("SELECT pg_current_wal_insert_lsn()::text")
            .fetch_one(&mut self.session)
            .await
            .map_err(&asking)?;
        end.parse()
            .map_err(|_| Error::Bookkeeping(format!("Postgres' log ends at {end:?}")))
    }

    /// The session in which the rows are read.
    pub(super) fn into_session(self) -> PgSession {
        self.session
    }
}

async fn import(session: &mut PgSession, snapshot: &str) -> Result<(), Error> {
    let quoted = snapshot.replace('\'', "''");
    let statement = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{quoted}'"
    );
    let imported = session.execute(sqlx::raw_sql(&statement)).await;
    imported
        .map(|_| ())
        .map_err(postgres("importing the slot's snapshot"))
}

fn slot_name() -> String {
    format!("millrace_verify_{:016x}", rand::random::<u64>())
}

fn server(config: &Config) -> Result<Server, Error> {
    Server::parse(&config.postgres_url)
        .map_err(|error| Error::Config(format!("postgres_url: {error}")))
}

async fn connect(server: &Server, work: Work) -> Result<PgSession, Error> {
    let connected = server.connect(APPLICATION, work).await;
    connected.map_err(postgres("connecting"))
}
