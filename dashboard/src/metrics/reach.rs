//! How far back topics go, in Prometheus' text format: ours, because nobody is alarmed about those of others.

use crate::status::{Reach, Topic, TopicKind};

use super::text::Text;

pub(super) fn reach(text: &mut Text, topics: &[Topic]) {
    let mut each = |name, help, value: fn(&Reach) -> Option<u64>| {
        text.family(name, "gauge", help);
        for topic in ours(topics) {
            text.sample(&[("topic", topic.name.as_str())], value(&topic.reach));
        }
    };
    each(
        "millrace_topic_reach_seconds",
        "From the oldest record of the topic to now.",
        |reach| reach.reach_s,
    );
    each(
        "millrace_topic_retention_bytes",
        "Bytes that each partition of the topic keeps.",
        |reach| reach.retention_bytes,
    );
    each(
        "millrace_topic_size_removes_in_seconds",
        "Until retention by size removes the oldest records, at the present rate; absent if nothing is written.",
        |reach| reach.size_removes_in_s,
    );
    each(
        "millrace_topic_reach_at_rate_seconds",
        "How far back the topic goes when it is full, at the present rate.",
        |reach| reach.at_rate_s,
    );
    each(
        "millrace_topic_unread_lasts_seconds",
        "Until retention by size comes to what the slowest of our consumers has not read, at the present rate.",
        |reach| reach.unread_lasts_s,
    );
    text.family(
        "millrace_topic_held",
        "gauge",
        "1 if the broker keeps more than retention says because the consumer has not read it.",
    );
    for topic in ours(topics) {
        if let Some(by) = &topic.reach.held_by {
            let labels = [
                ("topic", topic.name.as_str()),
                ("consumer", by.consumer.as_str()),
            ];
            text.sample(&labels, Some(1));
        }
    }
}

fn ours(topics: &[Topic]) -> impl Iterator<Item = &Topic> {
    topics.iter().filter(|topic| topic.kind != TopicKind::Other)
}
