//! What the rows of a table that catches up contain already, so that it is not applied again. Pure.

use std::collections::{BTreeMap, BTreeSet};

use millrace_events::{Lsn, TableChunks, TransactionPart};

use super::fold::Key;

/// Keys that were read again, and in which chunk.
pub(crate) type AgainKeys = BTreeMap<Key, u32>;

/// What a shadow table contains.
#[derive(Clone, Debug)]
pub(crate) struct Contained {
    /// Commits before this have been applied to it.
    pub(crate) applied: Lsn,
    /// What its chunks were read under.
    pub(crate) chunks: TableChunks,
    /// Keys of which it contains more than of the others.
    pub(crate) again: AgainKeys,
    /// Nothing that a chunk sees was committed at this or behind it.
    pub(crate) complete_at: Lsn,
}

impl Contained {
    /// True if nothing of a transaction is to be applied.
    pub(crate) fn has(&self, part: &TransactionPart) -> bool {
        part.commit_lsn < self.applied
            || (self.is_open(part.commit_lsn) && self.chunks.contains(part.xid))
    }

    /// The keys at which a transaction is contained although it is not contained elsewhere.
    pub(crate) fn spared(&self, part: &TransactionPart) -> BTreeSet<Key> {
        if self.again.is_empty() || !self.is_open(part.commit_lsn) {
            return BTreeSet::new();
        }
        let spared = |(_, chunk): &(&Key, &u32)| self.chunks.again_contains(**chunk, part.xid);
        self.again
            .iter()
            .filter(spared)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// True while a chunk may be ahead of the log: a row that is missing then was deleted later.
    pub(crate) fn is_open(&self, at: Lsn) -> bool {
        at < self.complete_at
    }
}
