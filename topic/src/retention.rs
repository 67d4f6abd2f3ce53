//! How long a topic keeps its records: by time and by size, both always said.
//!
//! What nobody says is decided by the server: seven days and 100 GiB a partition. A topic keeps what it was
//! created with; neither server can change it later.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fluvio::metadata::topic::{CleanupPolicy, SegmentBasedPolicy, TopicSpec, TopicStorageConfig};

/// Bytes of a segment of our topics: a reader asks for 32 MiB at a time, and a server that cuts a batch where a
/// fetch ends does not cut one of a segment that fits.
pub const SEGMENT_BYTES: u32 = 16_000_000;
/// Bytes of the largest batch that one of our producers sends: what a request may have (12 MiB), with its headers.
const BATCH_BYTES_MAX: u32 = (12 << 20) + (64 << 10);
/// What every server refuses to go below.
const AGE_MIN: Duration = Duration::from_secs(10);
/// What a server assumes of a topic that does not say its size.
const BYTES_UNSAID: u64 = 100 << 30;
/// The same of its segments.
const SEGMENT_BYTES_UNSAID: u32 = 1 << 30;

/// What a topic is created with. A server removes whole segments, the oldest first, and never the one that it
/// writes to; so a topic may keep a segment more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Segments that were not written to for so long go. Whole seconds.
    pub age: Duration,
    /// The oldest segments go while the partition is larger.
    pub bytes: u64,
}

/// No server accepts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a retention of {0} is not possible: Fluvio takes 10 seconds to 136 years, and no less than a segment \
     ({SEGMENT_BYTES} bytes)"
)]
pub struct ImpossibleRetention(Retention);

/// A topic has other retention than it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differs {
    /// What it was created with.
    pub has: Retention,
    /// What it would be created with now.
    pub wanted: Retention,
}

/// A topic's segments are too small for what is appended to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("has segments of {bytes} bytes, in which a batch of up to {BATCH_BYTES_MAX} bytes does not fit")]
pub struct SegmentsTooSmall {
    /// Bytes of its segments.
    pub bytes: u32,
}

impl Retention {
    /// What `spec` says, or what the server assumes where it says nothing.
    #[must_use]
    pub fn of(spec: &TopicSpec) -> Retention {
        let bytes = spec
            .get_storage()
            .and_then(|storage| storage.max_partition_size);
        Retention {
            age: Duration::from_secs(u64::from(spec.retention_secs())),
            bytes: bytes.unwrap_or(BYTES_UNSAID),
        }
    }

    /// Whether a topic can be created with it.
    ///
    /// # Errors
    /// If it is shorter than ten seconds, longer than 136 years, or smaller than a segment.
    pub fn check(self) -> Result<(), ImpossibleRetention> {
        let seconds = u32::try_from(self.age.as_secs());
        let possible = self.age >= AGE_MIN && seconds.is_ok();
        match possible && self.bytes >= u64::from(SEGMENT_BYTES) {
            true => Ok(()),
            false => Err(ImpossibleRetention(self)),
        }
    }

    /// A topic of one partition that keeps its records so.
    #[must_use]
    pub fn topic(self) -> TopicSpec {
        let mut spec = TopicSpec::new_computed(1, 1, None);
        spec.set_cleanup_policy(CleanupPolicy::Segment(SegmentBasedPolicy {
            time_in_seconds: u32::try_from(self.age.as_secs()).unwrap_or(u32::MAX),
        }));
        spec.set_storage(TopicStorageConfig {
            segment_size: Some(SEGMENT_BYTES),
            max_partition_size: Some(self.bytes),
        });
        spec
    }

    /// How the retention of a topic that exists differs from this one.
    #[must_use]
    pub fn difference(self, spec: &TopicSpec) -> Option<Differs> {
        let (has, wanted) = (Retention::of(spec), self);
        (has != wanted).then_some(Differs { has, wanted })
    }

    /// Says once in the life of the process that a topic was created with other retention: it cannot be changed.
    pub fn warn_if_different(self, topic: &str, spec: &TopicSpec) {
        static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        let Some(Differs { has, wanted }) = self.difference(spec) else {
            return;
        };
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        if said.insert(topic.to_owned()) {
            tracing::warn!(
                topic,
                %has,
                %wanted,
                "the topic was created with other retention and keeps it: Fluvio cannot change a topic. Set \
                 MILLRACE_RETENTION_DAYS and MILLRACE_RETENTION_SIZE back, or let the topic be created again"
            );
        }
    }
}

/// Whether a topic has room for the largest batch. A server accepts a topic with smaller segments and then refuses
/// every batch that does not fit into one ("message too large"), however often it comes.
///
/// # Errors
/// If its segments are too small.
pub fn check_segments(spec: &TopicSpec) -> Result<(), SegmentsTooSmall> {
    let segment = spec.get_storage().and_then(|storage| storage.segment_size);
    let bytes = segment.unwrap_or(SEGMENT_BYTES_UNSAID);
    match bytes >= BATCH_BYTES_MAX {
        true => Ok(()),
        false => Err(SegmentsTooSmall { bytes }),
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.age.as_secs();
        let (number, unit) = match seconds {
            s if s > 0 && s % 86_400 == 0 => (s / 86_400, "days"),
            s if s > 0 && s % 3_600 == 0 => (s / 3_600, "hours"),
            s => (s, "seconds"),
        };
        let (size, of) = match self.bytes {
            b if b > 0 && b % (1 << 30) == 0 => (b >> 30, "GiB"),
            b if b > 0 && b % (1 << 20) == 0 => (b >> 20, "MiB"),
            b => (b, "bytes"),
        };
        write!(f, "{number} {unit} and {size} {of}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONTH: Retention = Retention {
        age: Duration::from_secs(30 * 86_400),
        bytes: 32 << 30,
    };

    #[test]
    fn a_topic_is_created_with_both_and_read_back_as_the_same() {
        let spec = MONTH.topic();
        assert_eq!(Retention::of(&spec), MONTH);
        assert_eq!(spec.validate_config(), None);
        assert_eq!(MONTH.difference(&spec), None);
        assert_eq!(check_segments(&spec), Ok(()));
    }

    #[test]
    fn a_topic_that_says_nothing_has_what_servers_assume() {
        let has = Retention::of(&TopicSpec::new_computed(1, 1, None));
        assert_eq!(has.to_string(), "7 days and 100 GiB");
        let spec = TopicSpec::new_computed(1, 1, None);
        let differs = MONTH.difference(&spec);
        let wanted = MONTH;
        assert_eq!(differs, Some(Differs { has, wanted }));
        assert_eq!(check_segments(&spec), Ok(()));
    }

    #[test]
    fn what_no_server_accepts_is_refused_with_its_limits() {
        let seconds = |s| Retention {
            age: Duration::from_secs(s),
            ..MONTH
        };
        let small = Retention {
            bytes: u64::from(SEGMENT_BYTES) - 1,
            ..MONTH
        };
        for impossible in [seconds(0), seconds(9), seconds(1 << 40), small] {
            let refused = impossible.check().unwrap_err().to_string();
            assert!(refused.contains("10 seconds to 136 years"), "{refused}");
        }
        assert_eq!(seconds(10).check(), Ok(()));
    }

    #[test]
    fn segments_that_a_batch_does_not_fit_into_are_named_before_anything_is_sent() {
        let mut spec = MONTH.topic();
        spec.set_storage(TopicStorageConfig {
            segment_size: Some(1 << 20),
            max_partition_size: None,
        });
        let refused = check_segments(&spec).unwrap_err().to_string();
        assert!(refused.contains("segments of 1048576 bytes"), "{refused}");
    }
}
