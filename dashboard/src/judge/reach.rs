//! How far back topics go, and for how long that will do.
//!
//! The rate is that of the last ten minutes: retention is a matter of days, and bursts say little of it. While less
//! than ten seconds of it are known it is the average since the oldest record.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::status::{Consumer, HeldBy, Reach, Time, Topic};

const WINDOW_MS: u64 = 600_000;
/// Less is no measure.
const MEASURED_MS_MIN: u64 = 10_000;
/// Bounds what is remembered of a topic.
const SAMPLED_EVERY_MS: u64 = 5_000;
/// Bounds the topics, whatever a cluster has.
const TOPICS_MAX: usize = 1_024;
/// Consumers of ours; for those of others nothing is kept.
const OURS: &str = "millrace-";
/// Whole segments are removed: our topics may keep one more than retention says.
const SEGMENT_BYTES: u64 = 16_000_000;

/// Ends of the topics over the last minutes.
#[derive(Debug, Default)]
pub(super) struct Growth {
    ends: HashMap<String, VecDeque<(u64, i64)>>,
}

impl Growth {
    /// The topics with their reach, of which the collector knows `oldest_at` and `retention_bytes`.
    pub(super) fn with_reach(&mut self, topics: Vec<Topic>, now_ms: u64, now: Time) -> Vec<Topic> {
        let names: HashSet<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
        self.ends.retain(|name, _| names.contains(name.as_str()));
        let one = |topic: Topic| {
            let measured = self.records_per_s(&topic, now_ms);
            let reach = reach(&topic, now, measured);
            Topic { reach, ..topic }
        };
        topics.into_iter().map(one).collect()
    }

    /// Records a second over the window, if enough of it is known.
    fn records_per_s(&mut self, topic: &Topic, now_ms: u64) -> Option<f64> {
        if !self.ends.contains_key(&topic.name) && self.ends.len() >= TOPICS_MAX {
            return None;
        }
        let ends = self.ends.entry(topic.name.clone()).or_default();
        if ends.back().is_some_and(|(_, end)| topic.end_offset < *end) {
            // Another topic of this name.
            ends.clear();
        }
        while ends.front().is_some_and(|(at, _)| at + WINDOW_MS < now_ms) {
            ends.pop_front();
        }
        if ends
            .back()
            .is_none_or(|(at, _)| at + SAMPLED_EVERY_MS <= now_ms)
        {
            ends.push_back((now_ms, topic.end_offset));
        }
        let (at, end) = *ends.front()?;
        let elapsed_ms = now_ms.checked_sub(at)?;
        let written = (topic.end_offset - end) as f64;
        (elapsed_ms >= MEASURED_MS_MIN).then(|| written * 1_000.0 / elapsed_ms as f64)
    }
}

fn reach(topic: &Topic, now: Time, measured: Option<f64>) -> Reach {
    let Reach {
        oldest_at,
        retention_bytes,
        ..
    } = topic.reach;
    let reach_s = oldest_at.map(|at| now.ms_since(at) / 1_000);
    let size = Size::of(topic, reach_s, measured);
    Reach {
        oldest_at,
        reach_s,
        retention_bytes,
        size_removes_in_s: size.until_removed(topic.bytes, retention_bytes),
        at_rate_s: size.when_full(retention_bytes, topic.retention_s),
        unread_lasts_s: slowest(topic).and_then(|slowest| {
            let unread = size.of_records(slowest.lag_records);
            size.until_removed(unread, retention_bytes)
        }),
        held_by: held_by(topic, reach_s),
    }
}

/// How a topic grows.
struct Size {
    /// Bytes of a record on average.
    record: Option<f64>,
    /// Bytes a second.
    rate: Option<f64>,
}

impl Size {
    fn of(topic: &Topic, reach_s: Option<u64>, measured: Option<f64>) -> Size {
        let kept = topic.start_offset.map(|start| topic.end_offset - start);
        let kept = kept.filter(|kept| *kept > 0).map(|kept| kept as f64);
        let record = topic
            .bytes
            .zip(kept)
            .map(|(bytes, kept)| bytes as f64 / kept);
        let since_oldest = kept.zip(reach_s.filter(|s| *s > 0));
        let average = since_oldest.map(|(kept, seconds)| kept / seconds as f64);
        let rate = match measured.or(average) {
            // Whatever a record takes.
            Some(0.0) => Some(0.0),
            records => records.zip(record).map(|(records, bytes)| records * bytes),
        };
        Size { record, rate }
    }

    fn of_records(&self, records: u64) -> Option<u64> {
        self.record.map(|bytes| (records as f64 * bytes) as u64)
    }

    /// Until so many bytes have become more than are kept.
    fn until_removed(&self, bytes: Option<u64>, kept: Option<u64>) -> Option<u64> {
        let left = kept?.saturating_sub(bytes?);
        let rate = self.rate?;
        match (left, rate > 0.0) {
            (0, _) => Some(0),
            (left, true) => Some((left as f64 / rate) as u64),
            (_, false) => None,
        }
    }

    /// Seconds that fit into what is kept, by size and by time.
    fn when_full(&self, kept: Option<u64>, retention_s: Option<u64>) -> Option<u64> {
        let (kept, retention_s, rate) = (kept?, retention_s?, self.rate?);
        match rate > 0.0 {
            true => Some(retention_s.min((kept as f64 / rate) as u64)),
            false => Some(retention_s),
        }
    }
}

/// The one of our consumers that is furthest behind, if one is.
fn slowest(topic: &Topic) -> Option<&Consumer> {
    let ours = topic
        .consumers
        .iter()
        .filter(|consumer| consumer.name.starts_with(OURS) && consumer.lag_records > 0);
    ours.max_by_key(|consumer| consumer.lag_records)
}

/// Who is behind where a topic keeps more than a segment beyond its retention.
///
/// 1. By size: it is larger than retention says.
/// 2. By time: its oldest segment, as long as the others on average, ended before what retention says.
fn held_by(topic: &Topic, reach_s: Option<u64>) -> Option<HeldBy> {
    let bytes = topic.bytes?;
    let kept = topic.reach.retention_bytes;
    let too_much = kept.is_some_and(|kept| bytes > kept.saturating_add(SEGMENT_BYTES));
    let ended_s = |reach_s: u64| {
        let others = bytes.saturating_sub(SEGMENT_BYTES) as f64;
        reach_s as f64 * others / bytes.max(1) as f64
    };
    let times = reach_s.zip(topic.retention_s);
    let too_old = times.is_some_and(|(reach_s, retention_s)| ended_s(reach_s) > retention_s as f64);
    if !too_much && !too_old {
        return None;
    }
    slowest(topic).map(|consumer| HeldBy {
        consumer: consumer.name.clone(),
        offset: consumer.offset,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::TopicKind;

    const DAY_S: u64 = 86_400;
    const GIB: u64 = 1 << 30;

    fn now() -> Time {
        "2026-01-31T00:00:00Z".parse().unwrap()
    }

    fn ago(seconds: u64) -> Option<Time> {
        Some(now().shifted_us(-i64::try_from(seconds).unwrap() * 1_000_000))
    }

    /// A million records of a GiB, of ten days, in a topic that keeps thirty days and four GiB.
    fn topic() -> Topic {
        Topic {
            name: "shop-changes".into(),
            kind: TopicKind::Changes,
            partitions: 1,
            start_offset: Some(1_000_000),
            end_offset: 2_000_000,
            bytes: Some(GIB),
            records_per_s: None,
            bytes_per_s: None,
            retention_s: Some(30 * DAY_S),
            consumers: Vec::new(),
            reach: Reach {
                oldest_at: ago(10 * DAY_S),
                retention_bytes: Some(4 * GIB),
                ..Reach::default()
            },
        }
    }

    fn consumer(name: &str, lag_records: u64) -> Consumer {
        Consumer {
            name: name.into(),
            offset: 2_000_000 - lag_records as i64 - 1,
            lag_records,
            at: None,
        }
    }

    /// After `records` more within a minute, if so many are measured.
    fn after(topic: &Topic, records: Option<i64>) -> Reach {
        let mut growth = Growth::default();
        if let Some(records) = records {
            let earlier = Topic {
                end_offset: topic.end_offset - records,
                ..topic.clone()
            };
            growth.with_reach(vec![earlier], 0, now());
        }
        let told = growth.with_reach(vec![topic.clone()], 60_000, now());
        told[0].reach.clone()
    }

    #[test]
    fn at_first_a_topic_grows_as_it_did_since_its_oldest_record() {
        let reach = after(&topic(), None);
        assert_eq!(reach.reach_s, Some(10 * DAY_S));
        assert_eq!(reach.size_removes_in_s, Some(30 * DAY_S));
        assert_eq!(reach.at_rate_s, Some(30 * DAY_S));
        assert_eq!(reach.unread_lasts_s, None);
    }

    #[test]
    fn the_rate_of_the_last_minutes_says_when_size_removes_and_how_far_back_a_full_topic_goes() {
        // A thousand records a second, which are one GiB in 1,000 s.
        let reach = after(&topic(), Some(60_000));
        assert_eq!(reach.size_removes_in_s, Some(3_000));
        assert_eq!(reach.at_rate_s, Some(4_000));
    }

    #[test]
    fn where_nothing_is_written_time_alone_removes() {
        let reach = after(&topic(), Some(0));
        assert_eq!(reach.size_removes_in_s, None);
        assert_eq!(reach.at_rate_s, Some(30 * DAY_S));
    }

    #[test]
    fn what_a_server_does_not_tell_is_not_known_and_not_zero() {
        for unknown in [
            Topic {
                bytes: None,
                ..topic()
            },
            Topic {
                start_offset: None,
                ..topic()
            },
        ] {
            let reach = after(&unknown, Some(60_000));
            let said = (reach.size_removes_in_s, reach.at_rate_s, reach.held_by);
            assert_eq!(said, (None, None, None));
        }
        let silent = Topic {
            reach: Reach::default(),
            consumers: vec![consumer("millrace-projector", 7)],
            ..topic()
        };
        assert_eq!(after(&silent, Some(60_000)), Reach::default());
    }

    #[test]
    fn the_slowest_of_our_consumers_decides_how_long_what_is_unread_lasts() {
        let topic = Topic {
            consumers: vec![
                consumer("millrace-ingest", 10),
                consumer("millrace-projector", 500_000),
                consumer("somebody", 900_000),
            ],
            ..topic()
        };
        // Half a GiB is unread; three and a half are left, at a GiB in 1,000 s.
        assert_eq!(after(&topic, Some(60_000)).unread_lasts_s, Some(3_500));
    }

    #[test]
    fn who_holds_a_topic_that_is_larger_or_older_than_retention_says_is_named() {
        let behind = Topic {
            consumers: vec![
                consumer("somebody", 900_000),
                consumer("millrace-projector", 5),
            ],
            ..topic()
        };
        assert_eq!(after(&behind, None).held_by, None);
        let mut large = behind.clone();
        large.reach.retention_bytes = Some(GIB - SEGMENT_BYTES - 1);
        let mut old = behind.clone();
        old.reach.oldest_at = ago(31 * DAY_S);
        for held in [large, old.clone()] {
            let holder = after(&held, None)
                .held_by
                .map(|by| (by.consumer, by.offset));
            assert_eq!(holder, Some(("millrace-projector".into(), 1_999_994)));
        }
        // The segment that is written to stays, however old its first record is.
        let idle = Topic {
            bytes: Some(SEGMENT_BYTES),
            ..old
        };
        assert_eq!(after(&idle, None).held_by, None);
    }
}
