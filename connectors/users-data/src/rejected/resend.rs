//! Sending a rejected event again.

use millrace_topic::{AppendLimits, Appender, Cluster};

use crate::error::SessionError;

/// Why it is not known to be in the topic.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It is not: nothing was sent.
    NotSent(SessionError),
    /// It may be.
    Unknown(SessionError),
}

/// Returns the event's new offset once it is acknowledged.
pub(crate) async fn resend(cluster: &Cluster, topic: &str, event: String) -> Result<i64, Failure> {
    let opened = cluster.appender(topic, AppendLimits::default()).await;
    let mut appender: Appender = opened.map_err(|error| Failure::NotSent(error.into()))?;
    match appender.append_and_wait(event.into_bytes()).await {
        Ok(offset) => Ok(offset.to_i64()),
        Err(error) => Err(Failure::Unknown(error.into())),
    }
}
