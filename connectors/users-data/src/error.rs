//! Why ingest stops, and why an attempt ends.

/// What needs a person. Everything else is tried again with a growing delay, and shown by
/// [`crate::Status::last_error`].
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
    #[error("{0}")]
    Suspicious(Error),
    #[error("Postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    #[error("Fluvio: {0}")]
    Fluvio(String),
    #[error("the position in Postgres was moved by another ingest")]
    MovedElsewhere,
}

impl SessionError {
    /// For the status: with its code if it has one.
    pub(crate) fn text(&self) -> String {
        match self {
            SessionError::Fatal(error) | SessionError::Suspicious(error) => {
                format!("{}: {error}", error.code())
            }
            other => other.to_string(),
        }
    }
}
