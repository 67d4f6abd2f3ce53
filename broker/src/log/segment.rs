//! One file of a partition: whole batches, one after the other, named by its first offset.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};

use super::damage::Damage;
use super::index::{Index, INDEX_INTERVAL_BYTES};
use crate::batch::{self, Header, Malformed, HEADER_BYTES};
use crate::disk::{self, Sync};
use crate::files::{Files, OnDemand};

/// A segment. One writer appends; readers see what [`Segment::publish`] has made visible.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) base: i64,
    file: OnDemand,
    index: RwLock<Index>,
    next_offset: AtomicI64,
    bytes: AtomicU64,
}

/// Whole, undamaged batches read from a log.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    /// The batches; the first may begin before the offset asked for.
    pub(crate) batches: Bytes,
    /// Offset after the last batch.
    pub(crate) next_offset: i64,
}

impl Slice {
    /// Its batches that begin before `offset`.
    pub(super) fn before(mut self, offset: i64) -> Self {
        let behind = batch::walk(&self.batches).find(|(_, header)| header.base_offset >= offset);
        if let Some((at, header)) = behind {
            self.batches.truncate(at);
            self.next_offset = header.base_offset;
        }
        self
    }
}

/// Why a segment could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SegmentError {
    #[error(transparent)]
    Damaged(#[from] Damage),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Where a batch begins.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: i64,
    position: u64,
}

impl Segment {
    /// Creates an empty segment and makes its existence durable. After an error there is none.
    pub(super) fn create(
        dir: &Path,
        base: i64,
        files: &Arc<Files>,
        sync: Sync,
    ) -> io::Result<Self> {
        let file = files.at(&dir.join(file_name(base)));
        file.create()?;
        if let Err(error) = disk::sync_dir(dir, sync) {
            // Where it cannot be removed either, `Log::repair` and the next start know it for what it is.
            let _ = fs::remove_file(file.path());
            return Err(error);
        }
        Ok(Self::new(file, base, base, 0, Index::default()))
    }

    /// A segment whose file holds good batches up to `next_offset` in its first `bytes`.
    pub(super) fn new(
        file: OnDemand,
        base: i64,
        next_offset: i64,
        bytes: u64,
        index: Index,
    ) -> Self {
        Self {
            base,
            file,
            index: RwLock::new(index),
            next_offset: AtomicI64::new(next_offset),
            bytes: AtomicU64::new(bytes),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub(super) fn next_offset(&self) -> i64 {
        self.next_offset.load(Ordering::Acquire)
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(super) fn file(&self) -> io::Result<Arc<File>> {
        self.file.get()
    }

    /// When the last byte was written, as the file system remembers it.
    pub(super) fn modified(&self) -> io::Result<SystemTime> {
        fs::metadata(self.path())?.modified()
    }

    /// Writes durably behind the visible end, without making it visible.
    pub(super) fn write(&self, bytes: &[u8], sync: Sync) -> io::Result<()> {
        // One open file for both: an error of writing back is told to whom it concerns.
        let file = self.file()?;
        file.write_all_at(bytes, self.bytes())?;
        disk::sync_data(&file, sync)
    }

    pub(super) fn sync(&self, sync: Sync) -> io::Result<()> {
        disk::sync_data(&*self.file()?, sync)
    }

    pub(super) fn truncate(&self, bytes: u64, sync: Sync) -> io::Result<()> {
        let file = self.file()?;
        file.set_len(bytes)?;
        disk::sync_data(&file, sync)
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
        index.save(self.path(), self.bytes(), self.next_offset(), sync)
    }

    /// Reads whole batches from the one that holds `offset`: about `bytes_max`, at least one. They are
    /// checked: a client would take damaged ones for what was produced.
    pub(super) fn read(&self, offset: i64, bytes_max: usize) -> Result<Slice, SegmentError> {
        let mut window = Window {
            segment: self,
            file: self.file()?,
            end: self.bytes(),
            start: 0,
            bytes: Bytes::new(),
        };
        let mut place = self.place_before(offset);
        window.load(
            place.position,
            bytes_max.saturating_add(INDEX_INTERVAL_BYTES as usize),
        )?;
        let first = loop {
            let header = window.header(place)?;
            if header.next_offset() > offset {
                break header;
            }
            place.offset = header.next_offset();
            place.position += header.bytes as u64;
        };
        if window.at(place.position).len() < first.bytes {
            window.load(place.position, bytes_max.max(first.bytes))?;
        }
        window.batches(place, bytes_max)
    }

    fn place_before(&self, offset: i64) -> Place {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let (offset, position) = index.before(offset).unwrap_or((self.base, 0));
        Place { offset, position }
    }
}

/// A part of a segment's visible bytes.
struct Window<'a> {
    segment: &'a Segment,
    file: Arc<File>,
    end: u64,
    start: u64,
    bytes: Bytes,
}

impl Window<'_> {
    fn load(&mut self, start: u64, bytes: usize) -> io::Result<()> {
        let left = usize::try_from(self.end.saturating_sub(start)).unwrap_or(usize::MAX);
        let mut buffer = BytesMut::zeroed(left.min(bytes));
        self.file.read_exact_at(&mut buffer, start)?;
        (self.start, self.bytes) = (start, buffer.freeze());
        Ok(())
    }

    /// What is loaded from `position` on.
    fn at(&self, position: u64) -> Bytes {
        let at = usize::try_from(position - self.start).unwrap_or(usize::MAX);
        self.bytes.slice(at.min(self.bytes.len())..)
    }

    /// The header at `place`, loaded if need be: behind a large batch it may lie beyond the window.
    fn header(&mut self, place: Place) -> Result<Header, SegmentError> {
        if self.at(place.position).len() < HEADER_BYTES {
            self.load(place.position, HEADER_BYTES)?;
        }
        let header = Header::parse(&self.at(place.position));
        let header = header.and_then(|header| header.at(place.offset));
        let header = header.map_err(|why| self.damaged(place, why))?;
        match place.position + header.bytes as u64 <= self.end {
            true => Ok(header),
            false => Err(self.damaged(place, Malformed::Short).into()),
        }
    }

    /// The batches from `place` on, up to the first that is not wholly in the window. An undamaged one is
    /// returned even if a damaged one follows, which the next read then begins at.
    fn batches(&self, place: Place, bytes_max: usize) -> Result<Slice, SegmentError> {
        let loaded = self.at(place.position);
        let (mut bytes, mut next_offset) = (0, place.offset);
        while bytes < loaded.len() {
            let verified = verify(
                &loaded[bytes..],
                next_offset,
                bytes_max.saturating_sub(bytes),
                bytes == 0,
            );
            match verified {
                Ok(Some(header)) => {
                    bytes += header.bytes;
                    next_offset = header.next_offset();
                }
                Err(why) if bytes == 0 => return Err(self.damaged(place, why).into()),
                Ok(None) | Err(_) => break,
            }
        }
        Ok(Slice {
            batches: loaded.slice(..bytes),
            next_offset,
        })
    }

    fn damaged(&self, place: Place, why: Malformed) -> Damage {
        Damage {
            offset: place.offset,
            path: self.segment.path().to_owned(),
            position: place.position,
            why: why.into(),
        }
    }
}

/// The batch at the start of `bytes`, `None` if it is too large to be read with those before it.
fn verify(
    bytes: &[u8],
    offset: i64,
    bytes_max: usize,
    first: bool,
) -> Result<Option<Header>, Malformed> {
    let header = Header::parse(bytes)?;
    if !first && header.bytes > bytes_max {
        return Ok(None);
    }
    Header::verify_at(bytes, offset).map(Some)
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
