//! What goes wrong with topics, told apart as far as it matters to a caller.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use fluvio::dataplane::link::ErrorCode;
use fluvio::FluvioError;

use crate::Offset;

/// What Fluvio's client said.
type Cause = Arc<dyn StdError + Send + Sync>;

/// A request failed, or a stream. Right after the start of a server any of them may be said although it is not so
/// ([`TopicError::Beyond`] above all): what would cost data is to be believed only when fresh connections repeat it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TopicError {
    /// There is no such topic, or not yet.
    #[error("topic {topic} does not exist")]
    NoTopic {
        /// Its name.
        topic: String,
    },
    /// Retention removed the records that are wanted.
    #[error("retention removed the records of topic {topic} before offset {next}")]
    Evicted {
        /// Its name.
        topic: String,
        /// The first one that is wanted.
        wanted: Offset,
        /// The first one that is left.
        next: Offset,
    },
    /// The topic ends before the record that is wanted.
    #[error("topic {topic} ends before offset {wanted}")]
    Beyond {
        /// Its name.
        topic: String,
        /// The first one that is wanted.
        wanted: Offset,
    },
    /// The server does not lead the topic, or not yet.
    #[error("no server leads topic {topic} yet")]
    NotLeader {
        /// Its name.
        topic: String,
    },
    /// The stream went on behind the record that is wanted.
    #[error("topic {topic} goes on with offset {found}: {wanted} did not come")]
    Gap {
        /// Its name.
        topic: String,
        /// What was to come.
        wanted: Offset,
        /// What came.
        found: Offset,
    },
    /// The server sent only the first part of a batch.
    #[error("a batch of topic {topic} was cut short: offset {wanted} did not come")]
    Cut {
        /// Its name.
        topic: String,
        /// The first record that is missing.
        wanted: Offset,
    },
    /// Something else stands where a record of our own was acknowledged.
    #[error(
        "another record stands at offset {offset} of topic {topic}, where ours was acknowledged"
    )]
    Replaced {
        /// Its name.
        topic: String,
        /// Where.
        offset: Offset,
    },
    /// The topic has become shorter than what had been acknowledged.
    #[error("topic {topic} has become shorter: offset {offset} was given to a new record, although a record at {last} had been acknowledged")]
    Shrank {
        /// Its name.
        topic: String,
        /// Where the new record stands.
        offset: Offset,
        /// Where the last one stood.
        last: Offset,
    },
    /// An acknowledgement did not come: the record may be in the topic or not.
    #[error("topic {topic} has not acknowledged a record for {} s", .limit.as_secs())]
    Unacknowledged {
        /// Its name.
        topic: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The stream ended. Streams of a topic have no end.
    #[error("the stream of topic {topic} ended")]
    Ended {
        /// Its name.
        topic: String,
    },
    /// The stream brings nothing, although the topic has more.
    #[error("the stream of topic {topic} fell silent")]
    Silent {
        /// Its name.
        topic: String,
    },
    /// The stream never began, although the topic has records.
    #[error("the stream of topic {topic} did not begin within {} s (the broker may be compiling the SmartModule); the next attempt waits {} s", .waited.as_secs(), .next.as_secs())]
    NotBegun {
        /// Its name.
        topic: String,
        /// How long was waited.
        waited: Duration,
        /// How long the next attempt is going to wait.
        next: Duration,
    },
    /// The SmartModule gave up. What it said would show the record.
    #[error("the SmartModule failed at offset {offset} of topic {topic}")]
    Module {
        /// The topic's name.
        topic: String,
        /// The record.
        offset: Offset,
    },
    /// No answer in time.
    #[error("{doing}: no answer within {} s", .limit.as_secs())]
    Timeout {
        /// What was asked for.
        doing: String,
        /// How long was waited.
        limit: Duration,
    },
    /// Anything else, which may pass.
    #[error("{doing}")]
    Failed {
        /// What was asked for.
        doing: String,
        /// What the client said.
        source: Cause,
    },
}

impl TopicError {
    /// Says what failed, and why in words.
    pub fn failed(doing: impl Into<String>, reason: impl Into<String>) -> TopicError {
        let reason: Box<dyn StdError + Send + Sync> = reason.into().into();
        TopicError::Failed {
            doing: doing.into(),
            source: reason.into(),
        }
    }

    /// Tells apart what the client hands out untyped. `topic`: the one that it is about, if it is about one.
    pub(crate) fn of(doing: &str, topic: Option<&str>, error: anyhow::Error) -> TopicError {
        if let (
            Some(topic),
            Some(FluvioError::TopicNotFound(_) | FluvioError::PartitionNotFound(..)),
        ) = (topic, error.downcast_ref())
        {
            let topic = topic.to_owned();
            return TopicError::NoTopic { topic };
        }
        match (topic, error.downcast::<ErrorCode>()) {
            (Some(topic), Ok(code)) => TopicError::of_code(doing, topic, None, code),
            (None, Ok(code)) => TopicError::failed(doing, code.to_string()),
            (_, Err(error)) => TopicError::Failed {
                doing: doing.to_owned(),
                source: Box::<dyn StdError + Send + Sync>::from(error).into(),
            },
        }
    }

    /// The same for what a server says. `wanted`: the record that comes next.
    pub(crate) fn of_code(
        doing: &str,
        topic: &str,
        wanted: Option<Offset>,
        code: ErrorCode,
    ) -> TopicError {
        let topic = topic.to_owned();
        match code {
            ErrorCode::TopicNotFound | ErrorCode::TopicDeleted => TopicError::NoTopic { topic },
            ErrorCode::NotLeaderForPartition | ErrorCode::PartitionNotLeader => {
                TopicError::NotLeader { topic }
            }
            ErrorCode::OffsetEvicted {
                offset,
                next_available,
            } => TopicError::Evicted {
                topic,
                wanted: Offset::of(offset).unwrap_or_default(),
                next: Offset::of(next_available).unwrap_or_default(),
            },
            // The server has no code for it, only these words.
            ErrorCode::Other(text) if text.contains("is greater than leo") => TopicError::Beyond {
                topic,
                wanted: wanted.unwrap_or_default(),
            },
            ErrorCode::SmartModuleRuntimeError(error) => TopicError::Module {
                topic,
                offset: Offset::of(error.offset).unwrap_or_default(),
            },
            code => TopicError::failed(doing, code.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: ErrorCode) -> TopicError {
        TopicError::of_code("reading topic t", "t", Some(Offset(100)), code)
    }

    #[test]
    fn what_a_server_says_is_told_apart() {
        let evicted = ErrorCode::OffsetEvicted {
            offset: 5,
            next_available: 9,
        };
        let next = Offset(9);
        assert!(matches!(said(evicted), TopicError::Evicted { next: found, .. } if found == next));
        let beyond = ErrorCode::Other("start offset: 100 is greater than leo: 5".to_owned());
        assert_eq!(said(beyond).to_string(), "topic t ends before offset 100");
        assert!(matches!(
            said(ErrorCode::TopicDeleted),
            TopicError::NoTopic { .. }
        ));
        assert!(matches!(
            said(ErrorCode::PartitionNotLeader),
            TopicError::NotLeader { .. }
        ));
        let other = said(ErrorCode::Other("a bad day".to_owned()));
        assert_eq!(other.to_string(), "reading topic t");
        let cause = other.source().expect("a cause").to_string();
        assert!(cause.ends_with("a bad day"), "{cause}");
    }

    #[test]
    fn an_unknown_topic_is_found_out_however_the_client_says_it() {
        for error in [
            anyhow::Error::new(FluvioError::TopicNotFound("t".to_owned())),
            anyhow::Error::new(FluvioError::PartitionNotFound("t".to_owned(), 0)),
            anyhow::Error::new(ErrorCode::TopicNotFound),
        ] {
            let error = TopicError::of("reading topic t", Some("t"), error);
            assert!(matches!(error, TopicError::NoTopic { .. }), "{error}");
        }
    }
}
