//! Sending a rejected event again.

use std::fmt::Display;

use fluvio::{Fluvio, RecordKey, TopicProducerConfigBuilder};

use crate::error::SessionError;
use crate::topic::answer;

/// Escaped in its dead letter or not, no event that ingest keeps whole is larger.
const REQUEST_BYTES_MAX: usize = 12 * 1024 * 1024;

/// Why it is not known to be in the topic.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It is not: nothing was sent.
    NotSent(SessionError),
    /// It may be.
    Unknown(SessionError),
}

/// Returns the event's new offset once it is acknowledged.
pub(crate) async fn resend(fluvio: &Fluvio, topic: &str, event: String) -> Result<i64, Failure> {
    let settings = TopicProducerConfigBuilder::default()
        .max_request_size(REQUEST_BYTES_MAX)
        .build()
        .map_err(|error| not_sent(&error))?;
    let connect = fluvio.topic_producer_with_config(topic, settings);
    let producer = answer(&format!("connecting to topic {topic}"), connect)
        .await
        .map_err(Failure::NotSent)?;
    let sent = async {
        let output = producer.send(RecordKey::NULL, event).await?;
        producer.flush().await?;
        // `flush` may miss errors; the output tells its own.
        let metadata = output.wait().await?;
        Ok::<i64, Box<dyn std::error::Error + Send + Sync>>(metadata.offset())
    };
    answer(&format!("sending to topic {topic}"), sent)
        .await
        .map_err(Failure::Unknown)
}

fn not_sent(error: &dyn Display) -> Failure {
    Failure::NotSent(SessionError::Fluvio(error.to_string()))
}
