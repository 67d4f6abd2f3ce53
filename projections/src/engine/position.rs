//! The position row: how far the live tables are, and whose they are.
//!
//! Position and data commit together; that is what makes every transaction count exactly once.

use chrono::{DateTime, NaiveDateTime, Utc};
use millrace_events::{Epoch, Lsn};
use millrace_sessions::mysql::Session;
use millrace_topic::Offset;
use sqlx::mysql::MySqlRow;
use sqlx::Row;

use crate::script::{About, Script, ScriptError};

use super::error::Error;
use super::rows::Place;

/// The row of `millrace_position`.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    pub(crate) owner: String,
    pub(crate) incarnation: String,
    pub(crate) place: Place,
    /// Commit time of the last transaction, as the source's clock had it.
    pub(crate) source_at: Option<DateTime<Utc>>,
    /// The last record that said something of tables, and that is written down with them: a reader that comes by it again,
    /// because the position has not moved meanwhile, passes it over.
    pub(crate) heard: Offset,
    /// The SmartModule that the records came through, with its parameters: what it leaves out is
    /// missing from the tables for good.
    pub(crate) smartmodule: String,
}

/// How far one transaction moves a position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Advance {
    pub(crate) place: Place,
    pub(crate) source_at: Option<DateTime<Utc>>,
}

impl Position {
    /// The first one: no table is live.
    pub(crate) fn at(
        incarnation: String,
        place: Place,
        owner: &str,
        smartmodule: &str,
    ) -> Position {
        Position {
            owner: owner.to_owned(),
            incarnation,
            place,
            source_at: None,
            heard: place.offset,
            smartmodule: smartmodule.to_owned(),
        }
    }

    /// Reads the row, and with `lock` keeps it until the transaction ends.
    pub(crate) async fn read(conn: &mut Session, lock: bool) -> Result<Option<Position>, Error> {
        let lock = if lock { "FOR UPDATE" } else { "" };
        let sql = format!(
            "SELECT owner, incarnation, log_offset, end_lsn, epoch, source_at, heard, smartmodule \
             FROM millrace_position WHERE id = 1 {lock}"
        );
        let row = sqlx::query(&sql)
            .fetch_optional(conn)
            .await
            .map_err(Error::sql("the position"))?;
        row.map(|row| Position::from_row(&row)).transpose()
    }

    fn from_row(row: &MySqlRow) -> Result<Position, Error> {
        let broken = |error: sqlx::Error| Error::Bookkeeping(error.to_string());
        let text = |name: &str| row.try_get_unchecked::<String, _>(name).map_err(broken);
        let number = |name: &str| row.try_get::<u64, _>(name).map_err(broken);
        let source_at: Option<NaiveDateTime> = row.try_get("source_at").map_err(broken)?;
        Ok(Position {
            owner: text("owner")?,
            incarnation: text("incarnation")?,
            place: Place {
                offset: Offset(number("log_offset")?),
                end_lsn: Lsn(number("end_lsn")?),
                epoch: Epoch(number("epoch")?),
            },
            source_at: source_at.map(|at| at.and_utc()),
            heard: Offset(number("heard")?),
            smartmodule: text("smartmodule")?,
        })
    }

    /// Writes the row of a log that begins.
    pub(crate) async fn insert(&self, conn: &mut Session) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO millrace_position (id, owner, incarnation, log_offset, end_lsn, epoch, \
             source_at, heard, smartmodule) VALUES (1, ?, ?, ?, ?, ?, NULL, ?, ?)",
        )
        .bind(&self.owner)
        .bind(&self.incarnation)
        .bind(self.place.offset.0)
        .bind(self.place.end_lsn.0)
        .bind(self.place.epoch.0)
        .bind(self.heard.0)
        .bind(&self.smartmodule)
        .execute(conn)
        .await
        .map_err(Error::sql("its first position"))?;
        Ok(())
    }

    /// Takes the row over from whoever had it; their next commit fails.
    pub(crate) async fn take(&mut self, conn: &mut Session, owner: &str) -> Result<(), Error> {
        sqlx::query("UPDATE millrace_position SET owner = ? WHERE id = 1")
            .bind(owner)
            .execute(conn)
            .await
            .map_err(Error::sql("the ownership of the position"))?;
        owner.clone_into(&mut self.owner);
        Ok(())
    }

    /// Moves the row, in the open transaction, if it still is where we left it. The caller updates
    /// its own copy after COMMIT.
    pub(crate) async fn advance(
        &self,
        script: &mut Script<'_>,
        to: &Advance,
    ) -> Result<(), ScriptError> {
        let source_at = to.source_at.map_or("NULL".to_owned(), |at| {
            format!("'{}'", at.format("%Y-%m-%d %H:%M:%S%.6f"))
        });
        let place = to.place;
        let moved = format!(
            "log_offset = {}, end_lsn = {}, epoch = {}, source_at = {source_at}",
            place.offset.0, place.end_lsn.0, place.epoch.0
        );
        self.update(script, &moved).await
    }

    /// Moves the row to the beginning of another log, in the open transaction.
    pub(crate) async fn begin_again(
        &self,
        script: &mut Script<'_>,
        to: Place,
        incarnation: &str,
    ) -> Result<(), ScriptError> {
        let moved = format!(
            "log_offset = {}, end_lsn = {}, epoch = {}, incarnation = '{}'",
            to.offset.0,
            to.end_lsn.0,
            to.epoch.0,
            incarnation.replace(['\\', '\''], "")
        );
        let begun = Position {
            heard: to.offset,
            ..self.clone()
        };
        begun.update(script, &moved).await
    }

    /// Locks the row for a transaction that does not move it, or only later.
    pub(crate) async fn lock(&self, script: &mut Script<'_>) -> Result<(), ScriptError> {
        self.update(script, "end_lsn = end_lsn").await
    }

    /// The session counts rows that match, not rows that change (CLIENT_FOUND_ROWS).
    async fn update(&self, script: &mut Script<'_>, what: &str) -> Result<(), ScriptError> {
        let sql = format!(
            "UPDATE millrace_position SET {what}, heard = {} \
             WHERE id = 1 AND owner = '{}' AND end_lsn = {}",
            self.heard.0, self.owner, self.place.end_lsn.0
        );
        let about = About::Work("the position");
        script.push_that_finds(&sql, &about).await
    }
}
