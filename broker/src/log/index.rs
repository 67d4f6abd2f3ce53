//! A sparse index from offsets to positions in a segment's file.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};

use crate::disk::{self, Sync};

/// Bytes of log between two entries (a batch larger than this has an entry of its own).
pub(super) const INDEX_INTERVAL_BYTES: u64 = 16 * 1024;

const VERSION: i16 = 1;

/// Entries `(offset, position)`, ascending.
#[derive(Debug, Default)]
pub(super) struct Index(Vec<(i64, u64)>);

impl Index {
    /// Notes where a batch begins, unless the last entry is near enough.
    pub(super) fn add(&mut self, offset: i64, position: u64) {
        let due = self
            .0
            .last()
            .is_none_or(|&(_, last)| position >= last + INDEX_INTERVAL_BYTES);
        if due {
            self.0.push((offset, position));
        }
    }

    /// Offset and position of a batch at or before the one that holds `offset`.
    pub(super) fn before(&self, offset: i64) -> Option<(i64, u64)> {
        let after = self.0.partition_point(|&(first, _)| first <= offset);
        self.0.get(after.checked_sub(1)?).copied()
    }

    /// Writes `segment bytes u64 | next offset i64 | entries {offset i64, position u64}`, sealed.
    pub(super) fn save(
        &self,
        segment: &Path,
        bytes: u64,
        next_offset: i64,
        sync: Sync,
    ) -> io::Result<()> {
        let mut body = Vec::with_capacity(16 + self.0.len() * 16);
        body.put_u64(bytes);
        body.put_i64(next_offset);
        for &(offset, position) in &self.0 {
            body.put_i64(offset);
            body.put_u64(position);
        }
        disk::replace(&path(segment), &disk::seal(VERSION, &body), sync)
    }

    /// The saved index and next offset of a closed segment, if it was saved for a file this long.
    pub(super) fn load(segment: &Path, bytes: u64) -> io::Result<Option<(Self, i64)>> {
        let Some(mut file) = disk::read(&path(segment))? else {
            return Ok(None);
        };
        Ok(disk::unseal(&mut file).and_then(|(version, body)| Self::decode(version, body, bytes)))
    }

    fn decode(version: i16, mut body: Bytes, bytes: u64) -> Option<(Self, i64)> {
        if version != VERSION || body.len() < 16 || body.get_u64() != bytes {
            return None;
        }
        let next_offset = body.get_i64();
        let mut entries = Vec::with_capacity(body.len() / 16);
        while body.len() >= 16 {
            entries.push((body.get_i64(), body.get_u64()));
        }
        Some((Self(entries), next_offset))
    }
}

/// The index file that belongs to a segment file.
pub(super) fn path(segment: &Path) -> PathBuf {
    segment.with_extension("index")
}
