//! The rules of a snapshot topic: which pieces of which chunks count.
//!
//! 1. A `start` record fences, as in the log: behind it nothing of an earlier epoch counts.
//! 2. Pieces join only within one reading of a chunk, that is with one epoch and one `visible`, and are numbered without
//!    gap. Piece 0 begins another reading and voids a pending one.
//! 3. The first complete reading of a chunk is the chunk; later ones are duplicates.
//!
//! Pieces may be loaded as they come. Rows of a reading that was given up may then stay behind, so its snapshot counts
//! like that of a chunk: a change is contained in the copy only if every reading sees it ([`TableChunks::contains`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Chunk, CopyId, Epoch, Lsn, Record, TableCopied, TableId, Visibility, Xid};

/// What a record of a snapshot topic means to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkVerdict {
    /// Load its rows: they replace rows of the same keys.
    Accepted {
        /// With this piece the chunk is complete.
        complete: bool,
    },
    /// The chunk is complete already, or this piece of it was accepted before.
    Duplicate,
    /// Written by a capture that a later start has fenced off.
    Stale,
    /// Earlier pieces of this reading are missing; the chunk comes again.
    MissingPiece {
        /// Piece that should have come.
        expected: u32,
        /// Piece that came.
        found: u32,
    },
    /// A start or a plan: nothing to load.
    NoRows,
    /// A record that has no place in this topic.
    Foreign,
}

/// The state of a reader of a snapshot topic. Pure; feed it records in offset order. Keep it with the loaded rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyReader {
    copy: CopyId,
    epoch: Epoch,
    tables: Vec<(TableId, TableChunks)>,
}

/// What a reader has of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableChunks {
    complete: BTreeSet<u32>,
    reading: BTreeMap<u32, Reading>,
    rows: u64,
    lsn: Lsn,
    /// What all readings see.
    visible: Option<Visibility>,
    /// The snapshots of chunks with [`Chunk::again`], by chunk.
    again: BTreeMap<u32, Visibility>,
}

/// A chunk of which pieces are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reading {
    epoch: Epoch,
    visible: Visibility,
    next_piece: u32,
    rows: u64,
}

impl CopyReader {
    /// A reader at the beginning of the topic of `copy`.
    pub fn new(copy: CopyId) -> CopyReader {
        CopyReader {
            copy,
            epoch: Epoch::default(),
            tables: Vec::new(),
        }
    }

    /// The highest epoch seen.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What there is of a table; `None` before its first piece.
    pub fn table(&self, table: &TableId) -> Option<&TableChunks> {
        let found = self.tables.iter().find(|(name, _)| name == table);
        found.map(|(_, chunks)| chunks)
    }

    /// Whether all chunks are there that `copied` counts. A table without rows has a chunk too.
    pub fn is_complete(&self, copied: &TableCopied) -> bool {
        let has = |chunks: &TableChunks| (1..=copied.chunks).all(|chunk| chunks.has(chunk));
        copied.copy == self.copy && self.table(&copied.table).is_some_and(has)
    }

    /// Judges a record, and counts it if it is accepted.
    pub fn offer(&mut self, record: &Record) -> ChunkVerdict {
        let (epoch, copy) = match record {
            Record::Start(start) => (start.epoch, self.copy),
            Record::Plan(plan) => (plan.epoch, plan.copy),
            Record::Chunk(chunk) => (chunk.epoch, chunk.copy),
            _ => return ChunkVerdict::Foreign,
        };
        if copy != self.copy {
            return ChunkVerdict::Foreign;
        }
        self.epoch = self.epoch.max(epoch);
        match record {
            _ if epoch < self.epoch => ChunkVerdict::Stale,
            Record::Chunk(chunk) => self.chunks_of(&chunk.table).offer(chunk),
            _ => ChunkVerdict::NoRows,
        }
    }

    fn chunks_of(&mut self, table: &TableId) -> &mut TableChunks {
        let known = self.tables.iter().position(|(name, _)| name == table);
        let at = known.unwrap_or(self.tables.len());
        if known.is_none() {
            self.tables.push((table.clone(), TableChunks::default()));
        }
        &mut self.tables[at].1
    }
}

impl TableChunks {
    /// Whether the chunk of that number is complete.
    pub fn has(&self, chunk: u32) -> bool {
        self.complete.contains(&chunk)
    }

    /// How many chunks are complete.
    pub fn complete(&self) -> u32 {
        self.complete.len() as u32
    }

    /// Rows in complete chunks. Those that were read again count again.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The highest LSN of a reading.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Whether every reading sees the transaction: what it did to the table is contained in the rows, and is not to be
    /// applied. False as long as nothing was read.
    pub fn contains(&self, xid: Xid) -> bool {
        let all_see = |visible: &Visibility| visible.sees(xid);
        self.visible.as_ref().is_some_and(all_see)
    }

    /// The same for a key that was loaded from a chunk with [`Chunk::again`], the newest one that has it: such a chunk
    /// contains more than the others, and what it contains must not be applied to the key.
    pub fn again_contains(&self, chunk: u32, xid: Xid) -> bool {
        let sees = |again: &Visibility| again.sees(xid);
        self.again
            .get(&chunk)
            .map_or_else(|| self.contains(xid), sees)
    }

    /// Chunks with [`Chunk::again`] of which pieces are missing, and what their rows contain. Such a reading was given up,
    /// but its rows are loaded: it must be ended as it is, and its number not be used for another.
    pub fn unfinished_again(&self) -> impl Iterator<Item = (u32, &Visibility)> {
        let again = self.again.iter().map(|(chunk, visible)| (*chunk, visible));
        again.filter(|(chunk, _)| !self.has(*chunk))
    }

    fn offer(&mut self, chunk: &Chunk) -> ChunkVerdict {
        if self.has(chunk.chunk) {
            return ChunkVerdict::Duplicate;
        }
        let pending = self.reading.remove(&chunk.chunk);
        let mut reading = match (pending, chunk.piece) {
            (Some(reading), piece) if piece > 0 || reading.is_of(chunk) => reading,
            (_, _) => Reading::begin(chunk),
        };
        let verdict = reading.join(chunk);
        match verdict {
            ChunkVerdict::Accepted { complete } => self.accept(reading, chunk, complete),
            _ if reading.next_piece > 0 => {
                self.reading.insert(chunk.chunk, reading);
            }
            _ => {}
        }
        verdict
    }

    fn accept(&mut self, reading: Reading, chunk: &Chunk, complete: bool) {
        self.lsn = self.lsn.max(chunk.lsn);
        if chunk.piece == 0 {
            self.visible = Some(match &self.visible {
                Some(visible) => visible.both(&chunk.visible),
                None => chunk.visible.clone(),
            });
        }
        if chunk.again {
            self.again.insert(chunk.chunk, chunk.visible.clone());
        }
        if complete {
            self.complete.insert(chunk.chunk);
            self.rows += reading.rows;
        } else {
            self.reading.insert(chunk.chunk, reading);
        }
    }
}

impl Reading {
    fn begin(chunk: &Chunk) -> Reading {
        Reading {
            epoch: chunk.epoch,
            visible: chunk.visible.clone(),
            next_piece: 0,
            rows: 0,
        }
    }

    fn is_of(&self, chunk: &Chunk) -> bool {
        self.epoch == chunk.epoch && self.visible == chunk.visible
    }

    fn join(&mut self, chunk: &Chunk) -> ChunkVerdict {
        let (expected, found) = (self.next_piece, chunk.piece);
        if self.is_of(chunk) && found < expected {
            return ChunkVerdict::Duplicate;
        }
        if !self.is_of(chunk) || found > expected {
            return ChunkVerdict::MissingPiece { expected, found };
        }
        self.next_piece += 1;
        self.rows += chunk.rows.len() as u64;
        ChunkVerdict::Accepted {
            complete: chunk.last,
        }
    }
}

#[cfg(test)]
#[path = "copy_reader_tests.rs"]
mod tests;
