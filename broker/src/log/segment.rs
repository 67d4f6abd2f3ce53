//! One file of a partition: whole batches, one after the other, named by its first offset.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};

use super::index::{Index, INDEX_INTERVAL_BYTES};
use crate::batch::{self, Header, HEADER_BYTES};
use crate::disk::{self, Sync};

/// A segment. One writer appends; readers see what [`Segment::publish`] has made visible.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) base: i64,
    pub(super) path: PathBuf,
    file: File,
    index: RwLock<Index>,
    next_offset: AtomicI64,
    bytes: AtomicU64,
}

/// Whole batches read from a log.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    /// The batches; the first may begin before the offset asked for.
    pub(crate) batches: Bytes,
    /// Offset after the last batch.
    pub(crate) next_offset: i64,
}

impl Segment {
    /// Creates an empty segment and makes its existence durable. After an error there is none.
    pub(super) fn create(dir: &Path, base: i64, sync: Sync) -> io::Result<Self> {
        let path = dir.join(file_name(base));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        if let Err(error) = disk::sync_dir(dir, sync) {
            // Where it cannot be removed either, `Log::repair` and the next start know it for what it is.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self::new(path, file, base, base, 0, Index::default()))
    }

    /// Opens a closed segment: by its index if that fits the file, otherwise by reading it all.
    pub(super) fn open_closed(path: &Path, base: i64, sync: Sync) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let bytes = file.metadata()?.len();
        if let Some((index, next_offset)) = Index::load(path, bytes)? {
            return Ok(Self::new(
                path.to_owned(),
                file,
                base,
                next_offset,
                bytes,
                index,
            ));
        }
        let segment = Self::scan(path, file, base)?;
        if segment.bytes() < bytes {
            tracing::error!(path = %path.display(), good = segment.bytes(), bytes, "closed segment is damaged; its end is unreadable");
        } else {
            segment.save_index(sync)?;
        }
        Ok(segment)
    }

    /// Opens the last segment. After a clean shutdown its index fits the file; otherwise it is
    /// read as a whole, and a tail that is not whole batches is cut off.
    pub(super) fn recover(path: &Path, base: i64, sync: Sync) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let bytes = file.metadata()?.len();
        if let Some((index, next_offset)) = Index::load(path, bytes)? {
            return Ok(Self::new(
                path.to_owned(),
                file,
                base,
                next_offset,
                bytes,
                index,
            ));
        }
        let segment = Self::scan(path, file, base)?;
        if segment.bytes() < bytes {
            tracing::warn!(path = %path.display(), kept = segment.bytes(), cut = bytes - segment.bytes(), "cut a torn tail");
            segment.truncate(segment.bytes(), sync)?;
        }
        // Bytes of an interrupted run may be in the page cache only: they count from here on.
        disk::sync_data(&segment.file, sync)?;
        Ok(segment)
    }

    fn new(
        path: PathBuf,
        file: File,
        base: i64,
        next_offset: i64,
        bytes: u64,
        index: Index,
    ) -> Self {
        Self {
            base,
            path,
            file,
            index: RwLock::new(index),
            next_offset: AtomicI64::new(next_offset),
            bytes: AtomicU64::new(bytes),
        }
    }

    fn scan(path: &Path, file: File, base: i64) -> io::Result<Self> {
        let (index, next_offset, bytes) = super::scan::scan(&file, base)?;
        Ok(Self::new(
            path.to_owned(),
            file,
            base,
            next_offset,
            bytes,
            index,
        ))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub(super) fn next_offset(&self) -> i64 {
        self.next_offset.load(Ordering::Acquire)
    }

    /// When the last byte was written, as the file system remembers it.
    pub(super) fn modified(&self) -> io::Result<SystemTime> {
        self.file.metadata()?.modified()
    }

    /// Writes behind the visible end without making it visible.
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    pub(super) fn sync(&self, sync: Sync) -> io::Result<()> {
        disk::sync_data(&self.file, sync)
    }

    pub(super) fn truncate(&self, bytes: u64, sync: Sync) -> io::Result<()> {
        self.file.set_len(bytes)?;
        disk::sync_data(&self.file, sync)
    }

    /// Makes written batches visible to readers; they start where the visible ones ended.
    pub(super) fn publish(&self, batches: &[u8]) {
        let start = self.bytes();
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let mut next_offset = self.next_offset();
        for (at, header) in batch::walk(batches) {
            index.add(header.base_offset, start + at as u64);
            next_offset = header.next_offset();
        }
        self.next_offset.store(next_offset, Ordering::Release);
        self.bytes
            .store(start + batches.len() as u64, Ordering::Release);
    }

    /// Writes the index beside a segment that will not change any more.
    pub(super) fn save_index(&self, sync: Sync) -> io::Result<()> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.save(&self.path, self.bytes(), self.next_offset(), sync)
    }

    /// Reads whole batches from the one that holds `offset`: about `bytes_max`, at least one.
    pub(super) fn read(&self, offset: i64, bytes_max: usize) -> io::Result<Slice> {
        let end = self.bytes();
        let start = self
            .index
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .position(offset);
        let chunk = self.read_at(
            start,
            end,
            bytes_max.saturating_add(INDEX_INTERVAL_BYTES as usize),
        )?;
        for (at, header) in headers(&chunk) {
            if header.next_offset() > offset {
                return self.slice(start, &chunk, at, header, end, bytes_max);
            }
        }
        // The wanted batch begins beyond the chunk, behind a batch larger than it.
        self.read_past(start, &chunk, offset, end, bytes_max)
    }

    fn slice(
        &self,
        start: u64,
        chunk: &Bytes,
        at: usize,
        first: Header,
        end: u64,
        bytes_max: usize,
    ) -> io::Result<Slice> {
        if at + first.bytes > chunk.len() {
            let batches = self.read_at(start + at as u64, end, first.bytes)?;
            return Ok(Slice {
                batches,
                next_offset: first.next_offset(),
            });
        }
        let (mut bytes, mut next_offset) = (0, first.next_offset());
        for (position, header) in batch::walk(&chunk[at..]) {
            if bytes > 0 && position + header.bytes > bytes_max {
                break;
            }
            bytes = position + header.bytes;
            next_offset = header.next_offset();
        }
        Ok(Slice {
            batches: chunk.slice(at..at + bytes),
            next_offset,
        })
    }

    fn read_past(
        &self,
        start: u64,
        chunk: &Bytes,
        offset: i64,
        end: u64,
        bytes_max: usize,
    ) -> io::Result<Slice> {
        let mut position = start
            + headers(chunk)
                .last()
                .map_or(0, |(at, header)| at + header.bytes) as u64;
        while position < end {
            let head = self.read_at(position, end, HEADER_BYTES)?;
            let header = Header::parse(&head).map_err(io::Error::other)?;
            if header.next_offset() > offset {
                let chunk = self.read_at(position, end, bytes_max.max(header.bytes))?;
                return self.slice(position, &chunk, 0, header, end, bytes_max);
            }
            position += header.bytes as u64;
        }
        Err(io::Error::other(format!(
            "offset {offset} not in segment {}",
            self.base
        )))
    }

    fn read_at(&self, at: u64, end: u64, bytes: usize) -> io::Result<Bytes> {
        let bytes = usize::try_from(end.saturating_sub(at))
            .unwrap_or(usize::MAX)
            .min(bytes);
        let mut buffer = BytesMut::zeroed(bytes);
        self.file.read_exact_at(&mut buffer, at)?;
        Ok(buffer.freeze())
    }
}

/// As [`batch::walk`], but also yields a last batch of which only the header is there.
fn headers(bytes: &[u8]) -> impl Iterator<Item = (usize, Header)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let header = Header::parse(bytes.get(at..)?).ok()?;
        let start = at;
        at = at.checked_add(header.bytes)?;
        Some((start, header))
    })
}

/// `00000000000000000042.log` for the segment that begins at offset 42.
pub(super) fn file_name(base: i64) -> String {
    format!("{base:020}.log")
}

/// The first offset of the segment in a file of this name.
pub(super) fn parse_file_name(name: &str) -> Option<i64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}
