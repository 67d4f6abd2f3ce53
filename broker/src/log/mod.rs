//! The log of one partition: an append-only sequence of batches in segment files.
//!
//! Appends go through a group commit: they are acknowledged, and become visible to readers, once
//! the bytes of the whole group are fsynced. So the end that readers see is always durable, and
//! both isolation levels read the same.

mod append;
mod damage;
mod index;
mod mark;
mod recovery;
mod retention;
mod scan;
mod segment;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use fluvio_protocol::link::ErrorCode;
use tokio::sync::{oneshot, watch};
use tokio_util::task::TaskTracker;

use crate::disk::{self, Sync};
use crate::files::Files;
use crate::group::Committer;
use crate::smart::Deduplicator;
use append::{Append, Writer};
pub(crate) use damage::Damage;
use damage::Why;
use mark::Mark;
use recovery::Recovered;
pub(crate) use retention::{Claim, Lost, Retention, Swept};
pub(crate) use segment::Slice;
use segment::{Segment, SegmentError};

/// Offsets that can be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The first offset still kept.
    pub(crate) start: i64,
    /// The offset that the next record will get; all before it are durable.
    pub(crate) end: i64,
    /// The topic is gone; nothing will change any more.
    pub(crate) deleted: bool,
    /// From this offset on the log is damaged: nothing can be read there, and nothing is appended.
    pub(crate) damaged: Option<i64>,
}

/// Why an append was refused (`TooLarge`, `Deleted`, `Module`, `Damaged`: nothing was written) or failed
/// (outcome unknown).
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AppendError {
    #[error("batch does not fit into a segment")]
    TooLarge,
    #[error("the topic is deleted")]
    Deleted,
    #[error("the topic's deduplication: {0}")]
    Module(ErrorCode),
    #[error(transparent)]
    Damaged(#[from] Damage),
    #[error("the disk is full")]
    DiskFull,
    #[error("storage failed: {0}")]
    Storage(String),
}

/// Why a read was refused or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("offset {offset} was removed by retention; the log starts at {start}")]
    Evicted { offset: i64, start: i64 },
    #[error("start offset: {offset} is greater than leo: {end}")]
    Beyond { offset: i64, end: i64 },
    #[error(transparent)]
    Damaged(#[from] Damage),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How a log is kept.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) segment_bytes: u64,
    pub(crate) sync: Sync,
    /// Opens the segments, and bounds how many are open.
    pub(crate) files: Arc<Files>,
    /// What appends pass through, in their order.
    pub(crate) deduplicator: Option<Arc<Deduplicator>>,
}

/// A partition's log; cheap to clone.
#[derive(Clone)]
pub(crate) struct PartitionLog {
    committer: Arc<Committer<Log>>,
    bounds: watch::Receiver<Bounds>,
}

/// What the writer, the readers and retention share.
pub(crate) struct Log {
    dir: PathBuf,
    options: Options,
    segments: RwLock<Vec<Arc<Segment>>>,
    writer: Mutex<Writer>,
    mark: Mark,
    damage: Mutex<Option<Damage>>,
    bounds: watch::Sender<Bounds>,
}

impl PartitionLog {
    /// Opens the log in `dir`, creating it if need be. Cuts off a torn write; a damaged log opens too.
    pub(crate) fn open(dir: &Path, options: Options, tasks: TaskTracker) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        disk::sync_parent(dir, options.sync)?;
        let found = recovery::recover(dir, &options.files, options.sync)?;
        let start = found.segments.first().map_or(0, |segment| segment.base);
        Ok(Self::new(dir, options, tasks, start, found))
    }

    /// As [`PartitionLog::open`], for a log that was there before. One that cannot be opened must not stop the others:
    /// nothing of it is read or written, as if it were damaged from its first offset on.
    pub(crate) fn open_stored(dir: &Path, options: Options, tasks: TaskTracker) -> Self {
        let error = match Self::open(dir, options.clone(), tasks.clone()) {
            Ok(log) => return log,
            Err(error) => error,
        };
        tracing::error!(dir = %dir.display(), %error, "the log cannot be opened; the others go on");
        let (start, end) = recovery::extent(dir, &options.files);
        let damage = Damage {
            offset: start,
            path: dir.to_owned(),
            position: 0,
            why: Why::Unopened(error.kind()),
        };
        let found = Recovered {
            segments: Vec::new(),
            mark: Mark::unknown(dir, &options.files),
            end,
            damage: Some(damage),
            needs_repair: false,
        };
        Self::new(dir, options, tasks, start, found)
    }

    fn new(dir: &Path, options: Options, tasks: TaskTracker, start: i64, found: Recovered) -> Self {
        let (sender, bounds) = watch::channel(Bounds {
            start,
            end: found.end,
            deleted: false,
            damaged: None,
        });
        let needs_repair = found.needs_repair;
        let log = Log {
            dir: dir.to_owned(),
            options,
            segments: RwLock::new(found.segments),
            writer: Mutex::new(Writer { needs_repair }),
            mark: found.mark,
            damage: Mutex::default(),
            bounds: sender,
        };
        found.damage.into_iter().for_each(|damage| log.note(damage));
        Self {
            committer: Committer::new(Arc::new(log), tasks),
            bounds,
        }
    }

    /// What can be read now.
    pub(crate) fn bounds(&self) -> Bounds {
        *self.bounds.borrow()
    }

    /// The log itself, to read from.
    pub(crate) fn log(&self) -> &Log {
        self.committer.sink()
    }

    /// What appends pass through. It must be loaded before they do.
    pub(crate) fn deduplicator(&self) -> Option<&Deduplicator> {
        self.log().options.deduplicator.as_deref()
    }

    /// Follows what can be read.
    pub(crate) fn follow(&self) -> watch::Receiver<Bounds> {
        self.bounds.clone()
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.log()
            .segments()
            .iter()
            .map(|segment| segment.bytes())
            .sum()
    }

    /// Appends admitted batches, in the order of these calls. The receiver yields the offset of
    /// the first record once all of them are durable.
    pub(crate) fn append(&self, batches: Bytes) -> oneshot::Receiver<Result<i64, AppendError>> {
        let (done, receiver) = oneshot::channel();
        self.committer.submit(Append { batches, done });
        receiver
    }

    /// Reads whole batches from the one that holds `offset`: about `bytes_max`, at least one;
    /// `None` at the end of the log. Blocks on the file system.
    pub(crate) fn read(&self, offset: i64, bytes_max: usize) -> Result<Option<Slice>, ReadError> {
        self.log().read(offset, bytes_max)
    }

    /// Removes closed segments that the topic's retention does not cover and nobody claims, and makes durable how
    /// far the log is acknowledged. A damaged log is left as it is. Blocks.
    pub(crate) fn retain(&self, retention: Retention, claim: Option<Claim>) -> io::Result<Swept> {
        let log = self.log();
        log.mark.sync(log.options.sync)?;
        match log.damage() {
            Some(_) => Ok(Swept {
                bytes: self.bytes(),
                ..Swept::default()
            }),
            None => log.retain(retention, claim),
        }
    }

    /// Refuses appends from here on and tells the readers that the topic is gone.
    pub(crate) fn delete(&self) {
        let log = self.log();
        log.bounds.send_modify(|bounds| bounds.deleted = true);
    }

    /// Writes what makes the next start fast. Call when nothing appends any more.
    pub(crate) fn close(&self) -> io::Result<()> {
        let log = self.log();
        let bounds = log.bounds();
        match log.segments().last() {
            Some(active) if !bounds.deleted && bounds.damaged.is_none() => {
                log.mark.sync(log.options.sync)?;
                active.save_index(log.options.sync)
            }
            _ => Ok(()),
        }
    }
}

impl Log {
    fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What can be read now.
    pub(crate) fn bounds(&self) -> Bounds {
        *self.bounds.borrow()
    }

    /// As [`PartitionLog::read`].
    pub(crate) fn read(&self, offset: i64, bytes_max: usize) -> Result<Option<Slice>, ReadError> {
        let bounds = self.bounds();
        // First, because the end of a damaged log may not be known.
        let damage = self.damage();
        if let Some(damage) = damage.clone().filter(|damage| damage.offset <= offset) {
            return Err(damage.into());
        }
        if offset > bounds.end {
            return Err(ReadError::Beyond {
                offset,
                end: bounds.end,
            });
        }
        if offset == bounds.end {
            return Ok(None);
        }
        let read = self
            .segment_of(offset)
            .map(|segment| segment.read(offset, bytes_max));
        let start = self.bounds().start;
        match read {
            Some(Ok(slice)) => Ok(Some(match damage {
                Some(damage) => slice.before(damage.offset),
                None => slice,
            })),
            // Retention may have removed it meanwhile.
            _ if offset < start => Err(ReadError::Evicted { offset, start }),
            None => Err(ReadError::Evicted { offset, start }),
            Some(Err(SegmentError::Io(error))) => Err(error.into()),
            Some(Err(SegmentError::Damaged(damage))) => {
                self.note(damage.clone());
                Err(damage.into())
            }
        }
    }

    /// The first damage known of.
    fn damage(&self) -> Option<Damage> {
        let damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        damage.clone()
    }

    /// Stops the log at a damaged place, and tells its readers.
    fn note(&self, found: Damage) {
        let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        if damage
            .as_ref()
            .is_some_and(|known| known.offset <= found.offset)
        {
            return;
        }
        tracing::error!(dir = %self.dir.display(), "{found}");
        let offset = found.offset;
        *damage = Some(found);
        self.bounds
            .send_modify(|bounds| bounds.damaged = Some(offset));
    }

    fn segment_of(&self, offset: i64) -> Option<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let after = segments.partition_point(|segment| segment.base <= offset);
        segments.get(after.checked_sub(1)?).cloned()
    }
}
