//! Reading a segment from its beginning: how much of it is whole, contiguous, undamaged batches?

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::index::Index;
use crate::batch::{Header, Malformed, HEADER_BYTES};

const CHUNK_BYTES: usize = 4 * 1024 * 1024;

/// What a segment's file holds.
pub(super) struct Scanned {
    pub(super) index: Index,
    /// Offset after the last good batch.
    pub(super) next_offset: i64,
    /// Where the last good batch ends.
    pub(super) bytes: u64,
    /// Why that is not the end of the file.
    pub(super) stop: Option<Malformed>,
}

/// Reads the good batches of the segment that begins at offset `base`.
pub(super) fn scan(file: &File, base: i64) -> io::Result<Scanned> {
    let mut reader = Reader::new(file)?;
    let mut index = Index::default();
    let (mut next_offset, mut position) = (base, 0u64);
    let stop = loop {
        if position == reader.end {
            break None;
        }
        match reader
            .batch_at(position)?
            .and_then(|header| header.at(next_offset))
        {
            Ok(header) => {
                index.add(header.base_offset, position);
                next_offset = header.next_offset();
                position += header.bytes as u64;
            }
            Err(malformed) => break Some(malformed),
        }
    };
    Ok(Scanned {
        index,
        next_offset,
        bytes: position,
        stop,
    })
}

/// Looks for undamaged batches behind `position` that hold offsets from `next_offset` on, wherever they
/// begin: a damaged length hides where the next batch is. Returns the offset after the last one.
pub(super) fn find_behind(file: &File, position: u64, next_offset: i64) -> io::Result<Option<i64>> {
    let mut reader = Reader::new(file)?;
    let (mut at, mut found) = (position + 1, None);
    while at + HEADER_BYTES as u64 <= reader.end {
        let continues = |header: &Header| header.base_offset >= found.unwrap_or(next_offset);
        let batch = match reader.header_at(at)?.is_ok_and(|header| continues(&header)) {
            true => reader.batch_at(at)?.ok(),
            false => None,
        };
        found = batch.map(|batch| batch.next_offset()).or(found);
        at += batch.map_or(1, |batch| batch.bytes as u64);
    }
    Ok(found)
}

/// Reads a file in chunks.
struct Reader<'a> {
    file: &'a File,
    end: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(file: &'a File) -> io::Result<Self> {
        Ok(Self {
            end: file.metadata()?.len(),
            file,
            start: 0,
            bytes: Vec::new(),
        })
    }

    fn header_at(&mut self, position: u64) -> io::Result<Result<Header, Malformed>> {
        if !self.fill(position, HEADER_BYTES)? {
            return Ok(Err(Malformed::Short));
        }
        Ok(Header::parse(self.from(position)))
    }

    /// The batch at `position`, if it is whole and its checksum is right.
    fn batch_at(&mut self, position: u64) -> io::Result<Result<Header, Malformed>> {
        let header = match self.header_at(position)? {
            Ok(header) => header,
            malformed => return Ok(malformed),
        };
        if !self.fill(position, header.bytes)? {
            return Ok(Err(Malformed::Short));
        }
        Ok(Header::verify(self.from(position)))
    }

    fn from(&self, position: u64) -> &[u8] {
        let at = usize::try_from(position - self.start).unwrap_or(usize::MAX);
        self.bytes.get(at..).unwrap_or_default()
    }

    /// Reads on if need be; false if the file has fewer than `wanted` bytes at `position`.
    fn fill(&mut self, position: u64, wanted: usize) -> io::Result<bool> {
        if position + wanted as u64 > self.end {
            return Ok(false);
        }
        let have = self.start + self.bytes.len() as u64;
        if position < self.start || position + wanted as u64 > have {
            let len = wanted
                .max(CHUNK_BYTES)
                .min(usize::try_from(self.end - position).unwrap_or(usize::MAX));
            self.bytes.resize(len, 0);
            self.file.read_exact_at(&mut self.bytes, position)?;
            self.start = position;
        }
        Ok(true)
    }
}
