//! Topic `users-data-rejected`.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use millrace_sm_user_event::RejectedEvent;
use millrace_topic::{AppendLimits, Appender, Cluster, Entry};

use crate::batch::Refused;
use crate::error::SessionError;
use crate::original::Original;
use crate::reader::originals;
use crate::Config;

/// Writes rejected events, with what was sent.
pub(crate) struct DeadLetters {
    appender: Option<Appender>,
}

impl DeadLetters {
    /// Connects with the first rejection.
    pub(crate) fn new() -> Self {
        DeadLetters { appender: None }
    }

    /// Returns once all are acknowledged. After an error some may be, and come again.
    pub(crate) async fn write(
        &mut self,
        cluster: &Cluster,
        config: &Config,
        refused: Vec<Refused>,
    ) -> Result<(), SessionError> {
        let offsets: Vec<i64> = refused.iter().map(|one| one.offset).collect();
        let originals = originals(cluster, config, &offsets).await?;
        let mut originals: HashMap<_, _> = originals.into_iter().collect();
        let now = Utc::now();
        // One that has failed is not used again.
        let mut appender = match self.appender.take() {
            Some(appender) => appender,
            None => {
                let topic = &config.rejected_topic;
                cluster.appender(topic, AppendLimits::default()).await?
            }
        };
        for one in refused {
            let original = originals.remove(&one.offset);
            appender
                .append(entry(&letter(config, one, original, now))?)
                .await?;
        }
        appender.settle().await?;
        self.appender = Some(appender);
        Ok(())
    }
}

fn entry(letter: &RejectedEvent) -> Result<Entry, SessionError> {
    let value = serde_json::to_vec(letter);
    Ok(Entry {
        key: Some(letter.key()),
        value: value.map_err(|error| SessionError::Fluvio(error.to_string()))?,
        note: (),
    })
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
