//! Rates of topics.

use crate::status::Topic;

use super::rate::Meters;

pub(super) fn with_rates(topics: &[Topic], meters: &mut Meters, now_ms: u64) -> Vec<Topic> {
    let one = |topic: &Topic| {
        let end = u64::try_from(topic.end_offset).ok();
        Topic {
            records_per_s: meters.rate(&format!("records {}", topic.name), now_ms, end),
            bytes_per_s: meters.rate(&format!("bytes {}", topic.name), now_ms, topic.bytes),
            ..topic.clone()
        }
    };
    topics.iter().map(one).collect()
}
