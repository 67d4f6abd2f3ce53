//! Statements that travel together. A round trip to a server on another machine costs more than most statements of a
//! turn, so they are collected and sent in one packet; the server answers them one by one, and does none that stands
//! behind one that failed.

use futures_util::StreamExt;
use millrace_events::TableId;
use millrace_sessions::mysql::Session;
use sqlx::mysql::MySqlRow;
use sqlx::{Either, Executor};

/// A packet is sent when it grows beyond this.
const PACKET_BYTES: usize = 512 * 1024;

/// What a statement is about: whose fault it is if the server refuses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// Rows of a table of the source.
    Table(TableId),
    /// A mart.
    Mart(String),
    /// Neither one table nor one mart.
    Work(&'static str),
}

/// A packet was not done to its end. The open transaction is to be rolled back.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The server refused a statement, or did not answer.
    #[error("MySQL refused a statement")]
    Refused {
        /// What the statement is about.
        about: About,
        /// Its answer.
        source: sqlx::Error,
    },
    /// A row that has to be there was not found.
    #[error("a statement found no row to change")]
    NoRow,
}

/// Statements on their way to the server, in order.
#[derive(Debug)]
pub struct Script<'s> {
    session: &'s mut Session,
    sql: String,
    statements: Vec<Statement>,
    on_a_table: bool,
    careful: bool,
}

#[derive(Debug)]
struct Statement {
    about: About,
    finds_a_row: bool,
}

impl<'s> Script<'s> {
    /// An empty one.
    pub fn on(session: &'s mut Session) -> Script<'s> {
        Script {
            session,
            sql: String::new(),
            statements: Vec::new(),
            on_a_table: false,
            careful: false,
        }
    }

    /// Whether rows that may go on without a value that the server refuses are sent by themselves, so that such a value is
    /// found.
    #[must_use]
    pub fn careful(self, careful: bool) -> Script<'s> {
        Script { careful, ..self }
    }

    pub(crate) fn is_careful(&self) -> bool {
        self.careful
    }

    /// The session, for what stands behind all that was collected, which is sent.
    ///
    /// # Errors
    /// Those of the statements that were sent.
    pub(crate) async fn session(&mut self) -> Result<&mut Session, ScriptError> {
        self.send().await?;
        Ok(self.session)
    }

    /// The longest statement, in bytes. One byte of a packet is the command.
    pub(crate) fn statement_bytes_max(&self) -> usize {
        self.session.server().packet_bytes_max - 1
    }

    /// How a column definition says the charset of the replica.
    pub(crate) fn server(&self) -> &millrace_sessions::mysql::Server {
        self.session.server()
    }

    /// Adds a statement, and sends those before it if there is no room for one more. What they return is dropped.
    ///
    /// # Errors
    /// Those of the statements that were sent.
    pub async fn push(&mut self, sql: &str, about: &About) -> Result<(), ScriptError> {
        self.add(sql, about, false).await
    }

    /// The same for an UPDATE that has to find at least one row, changed or not.
    pub(crate) async fn push_that_finds(
        &mut self,
        sql: &str,
        about: &About,
    ) -> Result<(), ScriptError> {
        self.add(sql, about, true).await
    }

    /// The same for a statement that works on a whole table, and may take its time.
    pub(crate) async fn push_on_a_table(
        &mut self,
        sql: &str,
        about: &About,
    ) -> Result<(), ScriptError> {
        self.add(sql, about, false).await?;
        self.on_a_table = true;
        Ok(())
    }

    async fn add(
        &mut self,
        sql: &str,
        about: &About,
        finds_a_row: bool,
    ) -> Result<(), ScriptError> {
        let limit = PACKET_BYTES.min(self.statement_bytes_max());
        if !self.sql.is_empty() && self.sql.len() + 1 + sql.len() > limit {
            self.send().await?;
        }
        if !self.sql.is_empty() {
            self.sql.push(';');
        }
        self.sql.push_str(sql);
        let about = about.clone();
        self.statements.push(Statement { about, finds_a_row });
        Ok(())
    }

    /// Sends what was collected, and waits until all of it is done. The rows are those of all statements since the last
    /// packet.
    ///
    /// # Errors
    /// The first failure. The statements behind it were not done; where one found no row, they may have been.
    pub async fn send(&mut self) -> Result<Vec<MySqlRow>, ScriptError> {
        let sql = std::mem::take(&mut self.sql);
        let statements = std::mem::take(&mut self.statements);
        if statements.is_empty() {
            return Ok(Vec::new());
        }
        let mut answers = match std::mem::take(&mut self.on_a_table) {
            true => self.session.on_a_table().fetch_many(sql.as_str()),
            false => (&mut *self.session).fetch_many(sql.as_str()),
        };
        let (mut rows, mut waiting) = (Vec::new(), statements.into_iter().peekable());
        while let Some(answer) = answers.next().await {
            match (answer, waiting.peek()) {
                (Ok(Either::Right(row)), _) => rows.push(row),
                (Ok(Either::Left(done)), Some(statement)) => {
                    if statement.finds_a_row && done.rows_affected() == 0 {
                        return Err(ScriptError::NoRow);
                    }
                    waiting.next();
                }
                (Ok(Either::Left(_)), None) => {}
                (Err(source), statement) => return Err(refused(statement, source)),
            }
        }
        debug_assert!(waiting.peek().is_none(), "every statement was answered");
        Ok(rows)
    }
}

fn refused(statement: Option<&Statement>, source: sqlx::Error) -> ScriptError {
    let about = statement.map(|statement| statement.about.clone());
    ScriptError::Refused {
        about: about.unwrap_or(About::Work("a statement")),
        source,
    }
}
