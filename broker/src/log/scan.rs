//! Reading a segment from its beginning: how much of it is whole, contiguous, undamaged batches?

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::index::Index;
use crate::batch::{Header, HEADER_BYTES};

const CHUNK_BYTES: usize = 4 * 1024 * 1024;

/// Returns the index, the offset after the last good batch, and the bytes up to there.
pub(super) fn scan(file: &File, base: i64) -> io::Result<(Index, i64, u64)> {
    let end = file.metadata()?.len();
    let mut index = Index::default();
    let (mut next_offset, mut position) = (base, 0u64);
    let mut chunk = Chunk::default();
    while let Some(header) = chunk.batch_at(file, position, end)? {
        if header.base_offset != next_offset {
            break;
        }
        index.add(header.base_offset, position);
        next_offset = header.next_offset();
        position += header.bytes as u64;
    }
    Ok((index, next_offset, position))
}

#[derive(Default)]
struct Chunk {
    start: u64,
    bytes: Vec<u8>,
}

impl Chunk {
    /// The batch at `position` if it is whole and its checksum is right.
    fn batch_at(&mut self, file: &File, position: u64, end: u64) -> io::Result<Option<Header>> {
        if !self.fill(file, position, end, HEADER_BYTES)? {
            return Ok(None);
        }
        let Ok(header) = Header::parse(self.from(position)) else {
            return Ok(None);
        };
        if !self.fill(file, position, end, header.bytes)? {
            return Ok(None);
        }
        Ok(Header::verify(self.from(position)).ok())
    }

    fn from(&self, position: u64) -> &[u8] {
        let at = usize::try_from(position - self.start).unwrap_or(usize::MAX);
        self.bytes.get(at..).unwrap_or_default()
    }

    /// Reads on if need be; false if the file has fewer than `wanted` bytes at `position`.
    fn fill(&mut self, file: &File, position: u64, end: u64, wanted: usize) -> io::Result<bool> {
        if position + wanted as u64 > end {
            return Ok(false);
        }
        let have = self.start + self.bytes.len() as u64;
        if position < self.start || position + wanted as u64 > have {
            let len = wanted
                .max(CHUNK_BYTES)
                .min(usize::try_from(end - position).unwrap_or(usize::MAX));
            self.bytes.resize(len, 0);
            file.read_exact_at(&mut self.bytes, position)?;
            self.start = position;
        }
        Ok(true)
    }
}
