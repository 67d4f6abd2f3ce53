//! The log of one partition: an append-only sequence of batches in segment files.
//!
//! Appends go through a group commit: they are acknowledged, and become visible to readers, once
//! the bytes of the whole group are fsynced. So the end that readers see is always durable, and
//! both isolation levels read the same.

mod append;
mod index;
mod retention;
mod scan;
mod segment;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use fluvio_protocol::link::ErrorCode;
use tokio::sync::{oneshot, watch};
use tokio_util::task::TaskTracker;

use crate::disk::{self, Sync};
use crate::group::Committer;
use crate::smart::Deduplicator;
use append::{Append, Writer};
pub(crate) use retention::Retention;
use segment::Segment;
pub(crate) use segment::Slice;

/// Offsets that can be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The first offset still kept.
    pub(crate) start: i64,
    /// The offset that the next record will get; all before it are durable.
    pub(crate) end: i64,
    /// The topic is gone; nothing will change any more.
    pub(crate) deleted: bool,
}

/// Why an append was refused (`TooLarge`, `Deleted`, `Module`: nothing was written) or failed
/// (outcome unknown).
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AppendError {
    #[error("batch does not fit into a segment")]
    TooLarge,
    #[error("the topic is deleted")]
    Deleted,
    #[error("the topic's deduplication: {0}")]
    Module(ErrorCode),
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
    Io(#[from] io::Error),
}

/// How a log is kept.
pub(crate) struct Options {
    pub(crate) segment_bytes: u64,
    pub(crate) sync: Sync,
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
    bounds: watch::Sender<Bounds>,
}

impl PartitionLog {
    /// Opens the log in `dir`, creating it if need be. Cuts off a torn tail.
    pub(crate) fn open(dir: &Path, options: Options, tasks: TaskTracker) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        disk::sync_parent(dir, options.sync)?;
        let segments = open_segments(dir, options.sync)?;
        let start = segments.first().map_or(0, |segment| segment.base);
        let end = segments.last().map_or(0, |segment| segment.next_offset());
        let (sender, bounds) = watch::channel(Bounds {
            start,
            end,
            deleted: false,
        });
        let log = Log {
            dir: dir.to_owned(),
            options,
            segments: RwLock::new(segments),
            writer: Mutex::new(Writer::default()),
            bounds: sender,
        };
        Ok(Self {
            committer: Committer::new(Arc::new(log), tasks),
            bounds,
        })
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

    /// Removes closed segments that the topic's retention no longer covers. Blocks.
    pub(crate) fn retain(&self, retention: Retention) -> io::Result<()> {
        self.log().retain(retention)
    }

    /// Refuses appends from here on and tells the readers that the topic is gone.
    pub(crate) fn delete(&self) {
        let log = self.log();
        log.bounds.send_modify(|bounds| bounds.deleted = true);
    }

    /// Writes what makes the next start fast. Call when nothing appends any more.
    pub(crate) fn close(&self) -> io::Result<()> {
        let log = self.log();
        match log.segments().last() {
            Some(active) if !log.bounds.borrow().deleted => active.save_index(log.options.sync),
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
        if offset > bounds.end {
            return Err(ReadError::Beyond {
                offset,
                end: bounds.end,
            });
        }
        if offset == bounds.end {
            return Ok(None);
        }
        match self.segment_of(offset) {
            Some(segment) => Ok(Some(segment.read(offset, bytes_max)?)),
            None => Err(ReadError::Evicted {
                offset,
                start: self.bounds().start,
            }),
        }
    }

    fn segment_of(&self, offset: i64) -> Option<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let after = segments.partition_point(|segment| segment.base <= offset);
        segments.get(after.checked_sub(1)?).cloned()
    }
}

/// Segments by their first offsets, in order.
fn segment_files(dir: &Path) -> io::Result<Vec<(i64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let Some(base) = entry
            .file_name()
            .to_str()
            .and_then(segment::parse_file_name)
        {
            files.push((base, entry.path()));
        }
    }
    files.sort_unstable_by_key(|(base, _)| *base);
    Ok(files)
}

/// Removes segments that begin behind `base`, that of the active one: their creation has failed.
fn remove_behind(dir: &Path, base: i64) -> io::Result<()> {
    for (_, path) in segment_files(dir)?.iter().filter(|(at, _)| *at > base) {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// An empty segment behind others holds nothing, and may be left of a creation that failed: it is removed.
/// An empty first one tells where the log goes on.
fn without_empty(files: Vec<(i64, PathBuf)>) -> io::Result<Vec<(i64, PathBuf)>> {
    let mut kept: Vec<(i64, PathBuf)> = Vec::with_capacity(files.len());
    for (base, path) in files {
        if kept.is_empty() || fs::metadata(&path)?.len() > 0 {
            kept.push((base, path));
        } else {
            fs::remove_file(&path)?;
        }
    }
    Ok(kept)
}

fn open_segments(dir: &Path, sync: Sync) -> io::Result<Vec<Arc<Segment>>> {
    let bases = without_empty(segment_files(dir)?)?;
    let last = bases.len().saturating_sub(1);
    let mut segments: Vec<Arc<Segment>> = Vec::with_capacity(bases.len());
    for (at, (base, path)) in bases.iter().enumerate() {
        let segment = match at == last {
            true => Segment::recover(path, *base, sync)?,
            false => Segment::open_closed(path, *base, sync)?,
        };
        if let Some(before) = segments
            .last()
            .filter(|before| before.next_offset() != segment.base)
        {
            if before.next_offset() > segment.base {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "{} begins before the segment in front of it ends, at offset {}; move one of the two away",
                        path.display(),
                        before.next_offset()
                    ),
                ));
            }
            tracing::error!(path = %path.display(), expected = before.next_offset(), "offsets are missing before this segment");
        }
        segments.push(Arc::new(segment));
    }
    Ok(segments)
}
