//! Removing closed segments that are too old or too many.

use std::io;
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

impl Log {
    pub(super) fn retain(&self, retention: Retention) -> io::Result<()> {
        let segments = self.segments();
        let closed = segments.len().saturating_sub(1);
        let mut bytes: u64 = segments.iter().map(|segment| segment.bytes()).sum();
        let mut expired = Vec::new();
        for segment in &segments[..closed] {
            let too_old = age(segment)? > retention.age_max;
            if !too_old && bytes <= retention.bytes_max {
                break;
            }
            bytes -= segment.bytes();
            expired.push(segment.clone());
        }
        self.remove(&expired)
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
        // Oldest first: a crash in between leaves a log that only starts earlier.
        for segment in expired {
            std::fs::remove_file(segment.path())?;
            let _ = std::fs::remove_file(index::path(segment.path()));
        }
        tracing::info!(dir = %self.dir.display(), segments = expired.len(), start, "removed segments beyond retention");
        disk::sync_dir(&self.dir, self.options.sync)
    }
}

fn age(segment: &Segment) -> io::Result<Duration> {
    Ok(SystemTime::now()
        .duration_since(segment.modified()?)
        .unwrap_or_default())
}
