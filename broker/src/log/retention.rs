//! Removing closed segments that are too old or too many, and keeping those that a consumer still needs.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use super::segment::Segment;
use super::{index, Log};
use crate::disk;

/// What a topic keeps. Whole closed segments go; the active one always stays.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention {
    /// Segments not written to for so long go.
    pub(crate) age_max: Duration,
    /// The oldest segments go while the partition is larger than this.
    pub(crate) bytes_max: u64,
}

/// What a consumer still needs of a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    /// The first record that it needs. This is the one of its offset: by that it knows, when it comes back, that
    /// this is the log which it has read.
    pub(crate) from: i64,
    /// The claim does not count while the partition is larger than this.
    pub(crate) bytes_max: u64,
}

/// What looking after a partition has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Bytes that are left.
    pub(crate) bytes: u64,
    /// Those of them that are there only because of the claim.
    pub(crate) held_bytes: u64,
    /// What went although it was claimed.
    pub(crate) lost: Option<Lost>,
}

/// Records from `first` to before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) first: i64,
    pub(crate) end: i64,
}

/// A closed segment.
#[derive(Debug, Clone, Copy)]
struct Closed {
    base: i64,
    next_offset: i64,
    bytes: u64,
    age: Duration,
}

impl Log {
    pub(super) fn retain(&self, retention: Retention, claim: Option<Claim>) -> io::Result<Swept> {
        let segments = self.segments();
        let closed = &segments[..segments.len().saturating_sub(1)];
        let bytes = segments.iter().map(|segment| segment.bytes()).sum();
        let (expired, swept) = plan(closed.iter().map(looked_at), bytes, retention, claim)?;
        self.remove(&closed[..expired])?;
        Ok(swept)
    }

    fn remove(&self, expired: &[Arc<Segment>]) -> io::Result<()> {
        let Some(last) = expired.last() else {
            return Ok(());
        };
        let start = last.next_offset();
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..expired.len());
        self.bounds.send_modify(|bounds| bounds.start = start);
        for path in doomed(expired) {
            match std::fs::remove_file(path) {
                // Somebody was faster, or it never had an index.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        tracing::info!(dir = %self.dir.display(), segments = expired.len(), start, "removed segments beyond retention");
        disk::sync_dir(&self.dir, self.options.sync)
    }
}

/// The files of segments in the order in which they go. Oldest first: a crash in between leaves a log that only
/// starts earlier. The index first: it can be made anew, and without its log nobody would ever remove it.
pub(super) fn doomed(expired: &[Arc<Segment>]) -> impl Iterator<Item = PathBuf> + '_ {
    let files = |segment: &Arc<Segment>| {
        let log = segment.path().to_owned();
        [index::path(&log), log]
    };
    expired.iter().flat_map(files)
}

/// How many of the closed segments go, the oldest first, of a partition of `bytes`.
///
/// 1. Retention wants those that are too old, and the oldest while the partition is too large.
/// 2. Of these a claim keeps the ones that hold a record from `claim.from` on: the newest of them.
/// 3. It does not while the partition is larger than the claim's limit and than retention's.
fn plan(
    closed: impl Iterator<Item = io::Result<Closed>>,
    bytes: u64,
    retention: Retention,
    claim: Option<Claim>,
) -> io::Result<(usize, Swept)> {
    let (mut expired, mut unclaimed) = (0, bytes);
    let mut swept = Swept {
        bytes,
        ..Swept::default()
    };
    for segment in closed {
        let segment = segment?;
        if segment.age <= retention.age_max && unclaimed <= retention.bytes_max {
            break;
        }
        unclaimed -= segment.bytes;
        let claim = claim.filter(|claim| segment.next_offset > claim.from);
        let keeps = |claim: Claim| swept.bytes <= claim.bytes_max.max(retention.bytes_max);
        if claim.is_some_and(keeps) {
            swept.held_bytes += segment.bytes;
            continue;
        }
        expired += 1;
        swept.bytes -= segment.bytes;
        if let Some(claim) = claim {
            let first = swept.lost.map(|lost| lost.first);
            swept.lost = Some(Lost {
                first: first.unwrap_or(segment.base.max(claim.from)),
                end: segment.next_offset,
            });
        }
    }
    debug_assert!(swept.bytes <= bytes && swept.held_bytes <= swept.bytes);
    Ok((expired, swept))
}

fn looked_at(segment: &Arc<Segment>) -> io::Result<Closed> {
    let written = segment.modified()?;
    Ok(Closed {
        base: segment.base,
        next_offset: segment.next_offset(),
        bytes: segment.bytes(),
        age: SystemTime::now()
            .duration_since(written)
            .unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    /// Ten records a segment, a hundred bytes.
    const RECORDS: i64 = 10;
    const BYTES: u64 = 100;

    /// Segments whose ages are given in days, before an active one of as many bytes.
    fn planned(ages: &[u32], retention: (u32, u64), claim: Option<(i64, u64)>) -> (usize, Swept) {
        let segment = |(at, age): (usize, &u32)| {
            Ok(Closed {
                base: at as i64 * RECORDS,
                next_offset: (at as i64 + 1) * RECORDS,
                bytes: BYTES,
                age: *age * DAY,
            })
        };
        let retention = Retention {
            age_max: retention.0 * DAY,
            bytes_max: retention.1,
        };
        let claim = claim.map(|(from, bytes_max)| Claim { from, bytes_max });
        let bytes = (ages.len() as u64 + 1) * BYTES;
        let closed = ages.iter().enumerate().map(segment);
        plan(closed, bytes, retention, claim).expect("planned")
    }

    fn kept(bytes: u64, held_bytes: u64) -> Swept {
        Swept {
            bytes,
            held_bytes,
            lost: None,
        }
    }

    #[test]
    fn without_a_claim_what_is_too_old_or_too_much_goes() {
        assert_eq!(planned(&[9, 8, 2], (7, 1_000), None), (2, kept(200, 0)));
        assert_eq!(planned(&[3, 3, 2], (7, 250), None), (2, kept(200, 0)));
        assert_eq!(planned(&[3, 3, 2], (7, 400), None), (0, kept(400, 0)));
    }

    #[test]
    fn a_claim_keeps_segments_beyond_age_and_size_from_its_record_on() {
        let old = planned(&[9, 9, 9], (7, 1_000), Some((15, 1_000)));
        assert_eq!(old, (1, kept(300, 200)));
        let much = planned(&[1, 1, 1], (7, 100), Some((15, 1_000)));
        assert_eq!(much, (1, kept(300, 200)));
    }

    #[test]
    fn the_record_of_the_offset_itself_is_kept_and_those_before_it_go() {
        assert_eq!(planned(&[9, 9], (7, 1_000), Some((9, 1_000))).0, 0);
        assert_eq!(planned(&[9, 9], (7, 1_000), Some((10, 1_000))).0, 1);
        assert_eq!(planned(&[9, 9], (7, 1_000), Some((20, 1_000))).0, 2);
    }

    #[test]
    fn a_claim_on_what_retention_keeps_anyway_holds_nothing() {
        assert_eq!(
            planned(&[2, 2], (7, 1_000), Some((0, 1_000))),
            (0, kept(300, 0))
        );
    }

    #[test]
    fn beyond_the_limit_the_oldest_go_and_what_was_lost_is_told() {
        let (expired, swept) = planned(&[9, 9, 9, 9], (7, 100), Some((5, 300)));
        let lost = Some(Lost { first: 5, end: 20 });
        assert_eq!((expired, swept.bytes, swept.lost), (2, 300, lost));
        assert_eq!(swept.held_bytes, 200);
    }

    #[test]
    fn a_topic_that_keeps_more_than_the_limit_goes_by_its_own_size() {
        let (expired, swept) = planned(&[9, 9, 9], (7, 400), Some((0, 100)));
        assert_eq!((expired, swept), (0, kept(400, 300)));
    }
}
