//! What a topic that exists keeps, and whether our records fit into it: Fluvio cannot change a topic.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::limits::REQUEST_BYTES_MAX;
use crate::{Retention, Topic};

/// What a server assumes of a topic that does not say how large its segments are.
const SEGMENT_BYTES_UNSAID: u32 = 1 << 30;
/// Bytes of the largest batch that we send: what a request may have, with its headers.
const BATCH_BYTES_MAX: u32 = REQUEST_BYTES_MAX as u32 + (64 << 10);

/// A topic's segments are smaller than a batch may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("has segments of {bytes} bytes, into which a batch of up to {BATCH_BYTES_MAX} bytes does not fit")]
pub struct SegmentsTooSmall {
    /// Bytes of its segments.
    pub bytes: u32,
}

impl Topic {
    /// What it keeps, also where that was not said when it was created.
    #[must_use]
    pub fn retention(&self) -> Retention {
        Retention {
            age: self.retention_age,
            bytes: self.retention_bytes.unwrap_or(Retention::BYTES_DEFAULT),
        }
    }

    /// Whether the largest batch fits. A server accepts a topic of any segments and then refuses each batch that is
    /// larger than one ("message too large"), however often it comes.
    ///
    /// # Errors
    /// If its segments are too small.
    pub fn check_segments(&self) -> Result<(), SegmentsTooSmall> {
        let bytes = self.segment_bytes.unwrap_or(SEGMENT_BYTES_UNSAID);
        match bytes >= BATCH_BYTES_MAX {
            true => Ok(()),
            false => Err(SegmentsTooSmall { bytes }),
        }
    }

    /// Says that it keeps something else than what is wanted: once for each topic in the life of the process.
    pub(crate) fn warn_if_kept_otherwise(&self, wanted: &Retention) {
        static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        let has = self.retention();
        if has == *wanted {
            return;
        }
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        if said.insert(self.name.clone()) {
            tracing::warn!(
                topic = self.name,
                %has,
                %wanted,
                "the topic keeps what it was created with: Fluvio cannot change that. Set MILLRACE_RETENTION_DAYS and \
                 MILLRACE_RETENTION_SIZE back, or delete the topic and let it be created again"
            );
        }
    }
}

/// For people: `30 days and 32 GiB`.
impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const TIMES: [(u64, &str); 3] = [(86_400, "days"), (3_600, "hours"), (1, "seconds")];
        const SIZES: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1, "bytes")];
        let whole = |value: u64, units: [(u64, &'static str); 3]| {
            let fits = |(unit, _): &(u64, &str)| value > 0 && value.is_multiple_of(*unit);
            let found = units.into_iter().find(fits);
            found.map_or((value, units[2].1), |(unit, name)| (value / unit, name))
        };
        let (time, of_time) = whole(self.age.as_secs(), TIMES);
        let (size, of_size) = whole(self.bytes, SIZES);
        write!(f, "{time} {of_time} and {size} {of_size}")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn topic(segment_bytes: Option<u32>, retention_bytes: Option<u64>) -> Topic {
        Topic {
            name: "shop-changes".to_owned(),
            partitions: 1,
            retention_age: Duration::from_secs(7 * 86_400),
            retention_bytes,
            segment_bytes,
        }
    }

    #[test]
    fn a_topic_that_says_no_size_keeps_what_servers_assume() {
        assert_eq!(
            topic(None, None).retention().to_string(),
            "7 days and 100 GiB"
        );
        let said = topic(None, Some(16_000_000)).retention().to_string();
        assert_eq!(said, "7 days and 16000000 bytes");
    }

    #[test]
    fn segments_that_a_batch_does_not_fit_into_are_named() {
        let refused = topic(Some(1 << 20), None).check_segments().unwrap_err();
        assert_eq!(
            refused.to_string(),
            "has segments of 1048576 bytes, into which a batch of up to 12648448 bytes does not fit"
        );
        for bytes in [None, Some(16_000_000), Some(BATCH_BYTES_MAX)] {
            assert_eq!(topic(bytes, None).check_segments(), Ok(()), "{bytes:?}");
        }
    }
}
