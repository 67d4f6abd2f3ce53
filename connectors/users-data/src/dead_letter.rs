//! Topic `users-data-rejected`.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use fluvio::{Fluvio, TopicProducerConfigBuilder, TopicProducerPool};
use futures_util::future::try_join_all;
use millrace_sm_user_event::RejectedEvent;

use crate::batch::Refused;
use crate::error::SessionError;
use crate::original::Original;
use crate::reader::originals;
use crate::topic::answer;
use crate::Config;

/// Events are far smaller, but the topic may have been filled by others.
const REQUEST_BYTES_MAX: usize = 12 * 1024 * 1024;

/// Writes rejected events, with what was sent.
pub(crate) struct DeadLetters {
    producer: Option<TopicProducerPool>,
}

impl DeadLetters {
    /// Connects with the first rejection.
    pub(crate) fn new() -> Self {
        DeadLetters { producer: None }
    }

    /// Returns once all are acknowledged. After an error some may be, and come again.
    pub(crate) async fn write(
        &mut self,
        fluvio: &Fluvio,
        config: &Config,
        refused: Vec<Refused>,
    ) -> Result<(), SessionError> {
        let offsets: Vec<i64> = refused.iter().map(|one| one.offset).collect();
        let originals = originals(fluvio, config, &offsets).await?;
        let mut originals: HashMap<_, _> = originals.into_iter().collect();
        let now = Utc::now();
        let letters: Vec<RejectedEvent> = refused
            .into_iter()
            .map(|one| {
                let original = originals.remove(&one.offset);
                letter(config, one, original, now)
            })
            .collect();
        let producer = self.producer(fluvio, config).await?;
        answer("writing rejected events", send(producer, &letters)).await
    }

    async fn producer(
        &mut self,
        fluvio: &Fluvio,
        config: &Config,
    ) -> Result<&TopicProducerPool, SessionError> {
        let producer = match self.producer.take() {
            Some(producer) => producer,
            None => {
                let topic = &config.rejected_topic;
                let settings = TopicProducerConfigBuilder::default()
                    .max_request_size(REQUEST_BYTES_MAX)
                    .build()
                    .map_err(|error| SessionError::Fluvio(error.to_string()))?;
                let connect = fluvio.topic_producer_with_config(topic, settings);
                answer(&format!("connecting to topic {topic}"), connect).await?
            }
        };
        Ok(self.producer.insert(producer))
    }
}

async fn send(
    producer: &TopicProducerPool,
    letters: &[RejectedEvent],
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut outputs = Vec::with_capacity(letters.len());
    for letter in letters {
        outputs.push(
            producer
                .send(letter.key(), serde_json::to_vec(letter)?)
                .await?,
        );
    }
    // `flush` may miss errors; each output tells its own.
    try_join_all(outputs.into_iter().map(|output| output.wait())).await?;
    Ok(())
}

fn letter(
    config: &Config,
    refused: Refused,
    original: Option<Original>,
    at: DateTime<Utc>,
) -> RejectedEvent {
    let (truncated, lossy) = match &original {
        Some(original) => (original.truncated, original.lossy),
        None => (false, false),
    };
    RejectedEvent {
        topic: config.topic.clone(),
        partition: 0,
        offset: refused.offset,
        at,
        rejection: refused.rejection,
        sqlstate: refused.sqlstate,
        constraint: refused.constraint,
        original: original.map(|original| original.text),
        truncated,
        lossy,
    }
}

#[cfg(test)]
mod tests {
    use millrace_sm_user_event::{RejectReason, Rejection};

    use super::*;

    fn of(original: Option<&[u8]>) -> RejectedEvent {
        let config = Config {
            original_bytes_max: 8,
            ..Config::default()
        };
        let refused = Refused {
            offset: 3,
            rejection: Rejection {
                reason: RejectReason::MalformedJson,
                field: None,
            },
            sqlstate: None,
            constraint: None,
        };
        let original = original.map(|value| Original::of(value, config.original_bytes_max));
        letter(&config, refused, original, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn the_original_is_kept_up_to_the_limit_and_says_how_whole_it_is() {
        for (original, shown, truncated, lossy) in [
            (Some(&b"12345678"[..]), Some("12345678"), false, false),
            (Some(b"123456789"), Some("12345678"), true, false),
            (Some("1234567ü".as_bytes()), Some("1234567"), true, false),
            (Some(b"12\xff"), Some("12\u{fffd}"), false, true),
            (Some(b"12\xc3"), Some("12\u{fffd}"), false, true),
            (None, None, false, false),
        ] {
            let letter = of(original);
            assert_eq!(letter.original.as_deref(), shown);
            assert_eq!(
                (letter.truncated, letter.lossy),
                (truncated, lossy),
                "{original:?}"
            );
            assert_eq!(letter.key(), "users-data/0/3");
        }
    }
}
