//! One projector at a time: the newest start takes over, and an older one leaves.
//!
//! The position row's `owner` guards every statement that moves it. DDL moves no row, so that a
//! session also holds a named lock of the server, which ends with its connection.

use millrace_sessions::mysql::Session;
use sqlx::Executor;

use super::error::Error;
use super::position::Position;

/// Held by the session of the projector.
const PROJECTOR: Lock = Lock("millrace.projector.");
/// A killed connection releases its lock within this time.
const LOCK_SECONDS: u32 = 10;
/// An older projector may connect again before it learns that it has been replaced.
const LOCK_ATTEMPTS: u32 = 5;

/// Names this start of the projector.
pub(crate) struct Owner {
    /// As the row has it: the number of this start and a random text. The number tells a start that has replaced this one from
    /// an earlier one, which a server brings back that has lost its last commits: its machine lost its power, or another server
    /// has taken its place.
    pub(crate) token: String,
    random: String,
    /// The row carries our token, unless somebody has taken it.
    taken: bool,
    /// Our last connection, which the server may not know to be dead.
    connection: Option<u64>,
}

impl Owner {
    pub(crate) fn new() -> Owner {
        let random = format!("{:032x}", rand::random::<u128>());
        Owner {
            token: token(1, &random),
            random,
            taken: false,
            connection: None,
        }
    }

    /// Makes this connection the only one that works here, and returns the position as it then is:
    /// what a predecessor was committing is committed or rolled back.
    pub(crate) async fn take(&mut self, conn: &mut Session) -> Result<Option<Position>, Error> {
        if let Some(position) = Position::read(conn, false).await? {
            self.check(&position)?;
            return self.take_over(conn).await.map(Some);
        }
        // Nothing to take over yet. A newer start may be waiting for a snapshot already: then this one leaves.
        let holder = PROJECTOR.holder(conn).await?;
        if self.taken && holder.is_some() && holder != self.connection {
            return Err(Error::Superseded);
        }
        self.seize(conn).await?;
        match Position::read(conn, false).await? {
            Some(_) => self.take_over(conn).await.map(Some),
            None => Ok(None),
        }
    }

    async fn seize(&mut self, conn: &mut Session) -> Result<(), Error> {
        if let Some(holder) = PROJECTOR.seize(conn).await? {
            return Err(Error::StillHeld(holder));
        }
        self.taken = true;
        self.connection = Some(conn.server().connection);
        Ok(())
    }

    async fn take_over(&mut self, conn: &mut Session) -> Result<Position, Error> {
        // A dead session may hold the row's lock or be in the middle of its COMMIT.
        PROJECTOR.end_holder(conn).await?;
        run(conn, "BEGIN").await?;
        let Some(mut position) = Position::read(conn, true).await? else {
            return Err(Error::Bookkeeping("the position row has vanished".into()));
        };
        self.check(&position)?;
        if position.owner != self.token {
            self.token = token(number(&position.owner) + 1, &self.random);
        }
        position.take(conn, &self.token).await?;
        run(conn, "COMMIT").await?;
        self.taken = true;
        // Ours by the row. What the last session was doing may take the server long to undo.
        self.seize(conn).await?;
        Ok(position)
    }

    fn check(&self, position: &Position) -> Result<(), Error> {
        let is_later = number(&position.owner) >= number(&self.token);
        match self.taken && position.owner != self.token && is_later {
            true => Err(Error::Superseded),
            false => Ok(()),
        }
    }
}

fn token(number: u64, random: &str) -> String {
    format!("{number}-{random}")
}

/// The number of a start; 0 for one of a version that did not count.
fn number(token: &str) -> u64 {
    let number = token.split_once('-').map(|(number, _)| number.parse());
    number.and_then(Result::ok).unwrap_or_default()
}

/// A named lock of the server, one per database, that ends with the connection which holds it: also with one
/// that somebody has lost, when the server has done with it. Its name begins with this.
pub(super) struct Lock(pub(super) &'static str);

impl Lock {
    /// The server limits it to 64 characters. MySQL 9.6 has no MD5.
    fn name(&self) -> String {
        format!("CONCAT('{}', LEFT(SHA2(DATABASE(), 256), 32))", self.0)
    }

    async fn get(&self, conn: &mut Session) -> Result<bool, Error> {
        let sql = format!(
            "SELECT CAST(GET_LOCK({}, {LOCK_SECONDS}) AS SIGNED)",
            self.name()
        );
        let got: Option<i64> = sqlx::query_scalar(&sql)
            .fetch_one(conn)
            .await
            .map_err(Error::sql("a named lock"))?;
        Ok(got == Some(1))
    }

    /// The connection that holds it, if it is another one.
    async fn holder(&self, conn: &mut Session) -> Result<Option<u64>, Error> {
        let sql = format!("SELECT CAST(IS_USED_LOCK({}) AS UNSIGNED)", self.name());
        let holder: Option<u64> = sqlx::query_scalar(&sql)
            .fetch_one(&mut *conn)
            .await
            .map_err(Error::sql("a named lock"))?;
        let own = conn.server().connection;
        Ok(holder.filter(|holder| *holder != own))
    }

    /// Kills the connection that holds it, if it is another one.
    async fn end_holder(&self, conn: &mut Session) -> Result<(), Error> {
        let Some(holder) = self.holder(conn).await? else {
            return Ok(());
        };
        // It fails when the connection is gone already, which is as good.
        if let Err(error) = conn
            .execute(format!("KILL CONNECTION {holder}").as_str())
            .await
        {
            tracing::debug!(%error, "the last connection is gone");
        }
        Ok(())
    }

    /// Takes it from whoever holds it. What that connection has not done by then it never does. Returns the connection
    /// that keeps it, if the server has not ended that in time.
    pub(super) async fn seize(&self, conn: &mut Session) -> Result<Option<u64>, Error> {
        for _ in 0..LOCK_ATTEMPTS {
            self.end_holder(conn).await?;
            if self.get(conn).await? {
                return Ok(None);
            }
        }
        // One that left in this instant is none to wait for by name; the next attempt finds out.
        Ok(Some(self.holder(conn).await?.unwrap_or_default()))
    }

    /// Gives it back.
    pub(super) async fn release(&self, conn: &mut Session) -> Result<(), Error> {
        let sql = format!("DO RELEASE_LOCK({})", self.name());
        run(conn, &sql).await
    }
}

async fn run(conn: &mut Session, sql: &str) -> Result<(), Error> {
    let done = conn.execute(sql).await;
    done.map(|_| ())
        .map_err(Error::sql("the ownership of the position"))
}
