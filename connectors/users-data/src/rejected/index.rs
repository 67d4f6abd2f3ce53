//! Which rejected events the topic has: offsets, digests and reasons, nothing of their contents. Pure.

use std::collections::{BTreeMap, HashMap};

use millrace_sm_user_event::{RejectReason, RejectedEvent};
use sha2::{Digest as _, Sha256};

/// So many of the newest rejected events are listed and counted; older ones are still in the topic. Bounds
/// the memory to a few dozen bytes for each.
pub(crate) const RECORDS_MAX: usize = 100_000;

/// Tells whether two records are about one rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest(pub(crate) [u8; 16]);

impl Digest {
    /// Over the place of the event and what was sent: a topic that was created again has other events
    /// at the same places.
    pub(crate) fn of(letter: &RejectedEvent) -> Digest {
        let mut hash = Sha256::new();
        hash.update(letter.key());
        hash.update([0]);
        hash.update(letter.original.as_deref().unwrap_or_default());
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.finalize()[..16]);
        Digest(digest)
    }
}

/// What is known of a record without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) digest: Digest,
    pub(crate) reason: RejectReason,
}

impl Entry {
    pub(crate) fn of(letter: &RejectedEvent) -> Entry {
        Entry {
            digest: Digest::of(letter),
            reason: letter.rejection.reason,
        }
    }
}

/// The rejected events in a topic, each once: the first record stands for its copies.
#[derive(Debug)]
pub(crate) struct Index {
    records_max: usize,
    by_offset: BTreeMap<i64, Entry>,
    by_digest: HashMap<Digest, i64>,
}

impl Index {
    pub(crate) fn new(records_max: usize) -> Index {
        Index {
            records_max,
            by_offset: BTreeMap::new(),
            by_digest: HashMap::new(),
        }
    }

    /// Adds a record unless it is a copy of one that is there.
    pub(crate) fn insert(&mut self, offset: i64, entry: Entry) {
        if self.by_digest.contains_key(&entry.digest) {
            return;
        }
        self.by_offset.insert(offset, entry);
        self.by_digest.insert(entry.digest, offset);
        if self.by_offset.len() > self.records_max {
            self.drop_first();
        }
    }

    /// Forgets the records before `start`: the topic no longer has them.
    pub(crate) fn prune(&mut self, start: i64) {
        while self.oldest().is_some_and(|oldest| oldest < start) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((_, entry)) = self.by_offset.pop_first() {
            self.by_digest.remove(&entry.digest);
        }
    }

    /// The record that stands for this rejection, if it is known.
    pub(crate) fn canonical(&self, digest: Digest) -> Option<i64> {
        self.by_digest.get(&digest).copied()
    }

    /// Offset of the oldest record.
    pub(crate) fn oldest(&self) -> Option<i64> {
        self.by_offset.keys().next().copied()
    }

    /// The records from the newest on.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = (i64, Entry)> + '_ {
        self.by_offset
            .iter()
            .rev()
            .map(|(offset, entry)| (*offset, *entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest([n; 16])
    }

    fn index(records_max: usize, digests: &[u8]) -> Index {
        let mut index = Index::new(records_max);
        for (offset, n) in (0..).zip(digests) {
            let (digest, reason) = (digest(*n), RejectReason::BadEmail);
            index.insert(offset, Entry { digest, reason });
        }
        index
    }

    fn offsets(index: &Index) -> Vec<i64> {
        index.newest_first().map(|(offset, _)| offset).collect()
    }

    #[test]
    fn copies_of_a_rejection_are_one_record() {
        let index = index(9, &[1, 2, 1, 2, 3]);
        assert_eq!(offsets(&index), [4, 1, 0]);
        assert_eq!(index.canonical(digest(2)), Some(1));
    }

    #[test]
    fn beyond_the_limit_the_newest_stay() {
        let index = index(2, &[1, 2, 3, 4]);
        assert_eq!(offsets(&index), [3, 2]);
        assert_eq!(
            (index.canonical(digest(1)), index.by_digest.len()),
            (None, 2)
        );
    }

    #[test]
    fn what_retention_removed_is_forgotten() {
        let mut index = index(9, &[1, 2, 3, 4]);
        index.prune(2);
        assert_eq!((offsets(&index), index.oldest()), (vec![3, 2], Some(2)));
        index.prune(99);
        assert_eq!(index.oldest(), None);
    }

    #[test]
    fn other_events_at_the_same_place_are_other_rejections() {
        let letter = |original: &str| -> RejectedEvent {
            serde_json::from_value(serde_json::json!({
                "topic": "t", "partition": 0, "offset": 3, "at": "2026-01-02T03:04:05Z",
                "reason": "malformed_json", "original": original, "truncated": false, "lossy": false,
            }))
            .expect("a dead letter")
        };
        assert_eq!(Digest::of(&letter("a")), Digest::of(&letter("a")));
        assert_ne!(Digest::of(&letter("a")), Digest::of(&letter("b")));
    }
}
