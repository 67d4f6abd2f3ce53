//! Why ingest stops, and why an attempt ends.

use millrace_control::in_words;
use millrace_topic::TopicError;
use sqlx::error::DatabaseError;

/// What needs a person. Ingest stops for some of it and waits for the rest to be mended, as
/// [`SessionError::Operator`] says; what passes by itself has no code. Whatever it is, [`crate::Status::last_error`]
/// shows it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration cannot work.
    #[error("configuration of ingest: {0}")]
    Config(String),
    /// The topic has more than one partition.
    #[error("topic {topic} has {partitions} partitions; ingest reads one. Create it with one partition, or choose another name")]
    TopicShape {
        /// Its name.
        topic: String,
        /// What it has.
        partitions: u32,
    },
    /// Events that were stored are not in the topic, or others stand in their place.
    #[error("topic {topic} is not the one that was read up to offset {next_offset}: it was deleted and created again, or lost events. To read it from its beginning: DELETE FROM millrace.ingest_position WHERE topic = '{topic}'")]
    TopicRecreated {
        /// Its name.
        topic: String,
        /// Position in Postgres.
        next_offset: i64,
    },
    /// Retention removed events before they were stored.
    #[error("topic {topic} no longer has the events from offset {next_offset} to before {available}: its retention removed them unread. To go on without them: UPDATE millrace.ingest_position SET next_offset = {available} WHERE topic = '{topic}'")]
    EventsExpired {
        /// Its name.
        topic: String,
        /// Position in Postgres.
        next_offset: i64,
        /// First offset that is left.
        available: i64,
    },
    /// The topic answers again and again with a later record than the one asked for.
    #[error("topic {topic} does not deliver the event at offset {next_offset}, but later ones. To go on without it: UPDATE millrace.ingest_position SET next_offset = {found} WHERE topic = '{topic}'")]
    EventsMissing {
        /// Its name.
        topic: String,
        /// Position in Postgres.
        next_offset: i64,
        /// Offset that came.
        found: i64,
    },
    /// New rows get ids that exist already. Goes on by itself once the sequence is mended.
    #[error("table {table} takes no new rows: sequence {sequence} generates values of {column} that are in the table already, as after a restore with explicit ids. No event is rejected for it; ingest goes on by itself after: SELECT setval('{sequence}', (SELECT max({column}) FROM {table}))")]
    SequenceBehind {
        /// Its name, quoted.
        table: String,
        /// The column that the sequence fills.
        column: String,
        /// The sequence.
        sequence: String,
    },
    /// The table refuses users, and no event is known to be at fault. Goes on by itself once the table is mended, or
    /// once it takes another event.
    #[error("table {table} refuses users (SQLSTATE {sqlstate}), and not for what an event says, as far as is known: {reason}. No event is rejected for it; ingest goes on by itself once the table is mended, or once it takes another event")]
    TableRefuses {
        /// Its name, quoted.
        table: String,
        /// What Postgres said.
        sqlstate: String,
        /// What that means.
        reason: String,
    },
    /// Postgres does not let ingest in. Goes on by itself once it does.
    #[error("Postgres refuses ingest's login: {reason} (SQLSTATE {sqlstate}). Check user, password and database (POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB); a changed password in the settings needs a restart of ingest, one that is changed back in Postgres does not")]
    LoginRefused {
        /// What Postgres said.
        sqlstate: String,
        /// Its words.
        reason: String,
    },
    /// Postgres does not do what ingest asks for. Goes on by itself once it does.
    #[error("Postgres does not let ingest work: {reason} (SQLSTATE {sqlstate}). No event is rejected for it; ingest goes on by itself once rights, tables or server are mended")]
    PostgresRefuses {
        /// What Postgres said.
        sqlstate: String,
        /// Its words.
        reason: String,
    },
}

impl Error {
    /// Names the page under `docs/errors/`.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Config(_) => "ingest-config",
            Error::TopicShape { .. } => "ingest-topic-shape",
            Error::TopicRecreated { .. } => "ingest-topic-recreated",
            Error::EventsExpired { .. } => "ingest-events-expired",
            Error::EventsMissing { .. } => "ingest-events-missing",
            Error::SequenceBehind { .. } => "ingest-sequence-behind",
            Error::TableRefuses { .. } => "ingest-table-refuses",
            Error::LoginRefused { .. } => "ingest-login-refused",
            Error::PostgresRefuses { .. } => "ingest-postgres-refuses",
        }
    }
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// Needs a person at once.
    #[error(transparent)]
    Fatal(#[from] Error),
    /// Needs a person if it happens several times in a row; may be a server that just starts.
    #[error(transparent)]
    Suspicious(Error),
    /// Needs a person, and ingest goes on by itself once that person has acted.
    #[error(transparent)]
    Operator(Error),
    #[error("Postgres")]
    Postgres(#[source] sqlx::Error),
    #[error("Fluvio: {0}")]
    Fluvio(String),
    #[error("the position in Postgres was moved by another ingest")]
    MovedElsewhere,
}

impl SessionError {
    /// For the status: with its code if it has one.
    pub(crate) fn text(&self) -> String {
        match self {
            SessionError::Fatal(error)
            | SessionError::Suspicious(error)
            | SessionError::Operator(error) => {
                format!("{}: {error}", error.code())
            }
            other => in_words(other),
        }
    }
}

impl From<TopicError> for SessionError {
    fn from(error: TopicError) -> SessionError {
        SessionError::Fluvio(in_words(&error))
    }
}

impl From<sqlx::Error> for SessionError {
    fn from(error: sqlx::Error) -> SessionError {
        match error.as_database_error().and_then(of_operator) {
            Some(fault) => SessionError::Operator(fault),
            None => SessionError::Postgres(error),
        }
    }
}

/// What is neither an event's fault nor passes by itself; `crate::refusal` has the whole rule. The messages of these
/// classes name objects, never values.
fn of_operator(error: &dyn DatabaseError) -> Option<Error> {
    let sqlstate = error.code()?.into_owned();
    let reason = error.message().to_owned();
    let class = sqlstate.get(..2)?;
    match (class, sqlstate.as_str()) {
        ("28" | "3D", _) => Some(Error::LoginRefused { sqlstate, reason }),
        ("3F" | "42" | "53" | "58", _) | (_, "0A000" | "25006" | "55000") => {
            Some(Error::PostgresRefuses { sqlstate, reason })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rejected::RejectedError;

    #[test]
    fn whoever_is_told_of_a_failure_hears_its_cause() {
        let away = || sqlx::Error::Io(std::io::Error::other("no route"));
        let told = SessionError::Postgres(away()).text();
        assert!(told.contains("no route"), "{told}");
        let told = RejectedError::from(away()).to_string();
        assert!(told.contains("no route"), "{told}");
    }
}
