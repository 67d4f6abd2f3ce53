//! Reading chosen records of the topic of rejected events: bounded in number, bytes and time.

use std::collections::BTreeMap;

use millrace_sm_user_event::RejectedEvent;
use millrace_topic::{Cluster, Offset, Read, TopicError};

use crate::error::SessionError;

/// Records that are read in one go, wanted and those between them.
const RUN_RECORDS_MAX: i64 = 64;
/// An answer ends early when it holds so many bytes.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) letters: BTreeMap<i64, RejectedEvent>,
    /// The records from this offset on were looked for; what is older did not fit into the answer.
    pub(crate) complete_from: i64,
    /// The topic begins here, if that was met.
    pub(crate) start: Option<i64>,
}

/// The records at `wanted`, which descend and are known to have been in the topic.
pub(crate) async fn letters(
    cluster: &Cluster,
    topic: &str,
    wanted: &[i64],
) -> Result<Found, SessionError> {
    let mut found = Found::default();
    let mut bytes = 0;
    let mut rest = wanted;
    while let (Some(last), false) = (rest.first(), bytes > ANSWER_BYTES_MAX) {
        let in_run = |offset: &i64| last - offset < RUN_RECORDS_MAX;
        let (run, older) = rest.split_at(rest.partition_point(in_run));
        bytes += read_run(cluster, topic, run, &mut found).await?;
        found.complete_from = run.last().copied().unwrap_or_default();
        rest = older;
    }
    if rest.is_empty() {
        found.complete_from = 0;
    }
    Ok(found)
}

/// Returns the bytes of what was kept.
async fn read_run(
    cluster: &Cluster,
    topic: &str,
    run: &[i64],
    found: &mut Found,
) -> Result<usize, SessionError> {
    let (Some(last), Some(first)) = (run.first(), run.last()) else {
        return Ok(0);
    };
    let (mut bytes, mut from) = (0, *first);
    while from <= *last {
        match read_from(cluster, topic, (from, *last), run, found).await {
            Ok(more) => {
                bytes += more;
                break;
            }
            Err(TopicError::Evicted { next, .. }) => {
                found.start = Some(next.to_i64());
                // Never the same again, whatever the broker says.
                from = next.to_i64().max(from + 1);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

async fn read_from(
    cluster: &Cluster,
    topic: &str,
    (from, last): (i64, i64),
    wanted: &[i64],
    found: &mut Found,
) -> Result<usize, TopicError> {
    let read = Read::new(topic)
        .from(Offset::of(from))
        .up_to(Offset::of(last).unwrap_or_default());
    let mut reading = cluster.read(read).await?;
    let mut bytes = 0;
    while let Some(record) = reading.next().await? {
        let offset = record.offset.to_i64();
        if wanted.contains(&offset) {
            bytes += record.value.len();
            if let Ok(letter) = serde_json::from_slice(&record.value) {
                found.letters.insert(offset, letter);
            }
        }
    }
    Ok(bytes)
}
