//! Named consumers' offsets: a journal of sealed entries, rewritten when most of it is outdated.
//!
//! An entry is `deleted bool | consumer String | topic String | partition u32 | offset i64 |
//! modified u64 (Unix seconds)` in the protocol's encoding. The stored offset is that of the last
//! record consumed; clients resume after it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use fluvio_protocol::record::ReplicaKey;
use fluvio_protocol::{Decoder, Encoder};
use fluvio_spu_schema::server::consumer_offset::ConsumerOffset;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::disk::{self, DataDir};
use crate::group::{Committer, Sink};
use crate::request;

/// Names the section of `docs/errors/broker.md`.
const CODE: &str = "broker-offsets-damaged";
const FILE: &str = "consumer-offsets";
const VERSION: i16 = 1;
/// A journal of fewer bytes is not worth rewriting.
const REWRITE_BYTES: u64 = 1024 * 1024;
/// Named consumers in total: each takes memory for good.
const CONSUMERS_MAX: usize = 1_000_000;

/// Who consumes what.
type Key = (String, ReplicaKey);

/// Told when a change is durable, or why it is not.
pub(crate) type Outcome = oneshot::Receiver<Result<(), String>>;

/// Durable consumer offsets.
pub(crate) struct Positions {
    committer: Arc<Committer<Journal>>,
}

#[derive(Debug, Clone, Default, Encoder, Decoder)]
struct Entry {
    deleted: bool,
    consumer: String,
    replica: ReplicaKey,
    offset: i64,
    modified: u64,
}

struct Change {
    entry: Entry,
    done: oneshot::Sender<Result<(), String>>,
}

struct Journal {
    data: Arc<DataDir>,
    /// Held while the disk is busy; readers do not wait for it.
    file: Mutex<Tail>,
    offsets: RwLock<Offsets>,
}

/// By consumer and replica. All of them are durable.
type Offsets = BTreeMap<Key, Kept>;

/// A consumer's offset. Times are Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    offset: i64,
    /// When it was stored last, with whatever value.
    modified: u64,
    /// When it got its value.
    moved: u64,
}

/// The consumer that is furthest behind on a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slowest {
    pub(crate) consumer: String,
    /// Of the last record that it is done with.
    pub(crate) offset: i64,
    /// When it came there.
    pub(crate) moved: SystemTime,
}

struct Tail {
    file: File,
    /// Durable bytes; whatever follows them is overwritten.
    bytes: u64,
    /// The journal is rewritten when it is larger than this and mostly outdated.
    rewrite_bytes: u64,
}

impl Positions {
    /// Reads the journal. What is not whole entries is left out: the torn end of a write, or damage. The
    /// file as it was is kept then, beside the new one. Where these cannot be written, on a full disk for example,
    /// the journal goes on as it is: what is not whole is left out again at the next start.
    pub(crate) fn open(data: Arc<DataDir>, tasks: TaskTracker) -> io::Result<Self> {
        let path = data.path.join(FILE);
        let found = disk::read(&path)?.unwrap_or_default();
        let (offsets, lost_bytes) = recall(found.clone())?;
        if lost_bytes > 0 {
            let copy = path.with_extension("damaged");
            let mended = disk::replace(&copy, &found, data.sync)
                .and_then(|()| disk::replace(&path, &encode(&live(&offsets))?, data.sync));
            let copy = copy.display();
            tracing::warn!(lost_bytes, %copy, "{CODE}: consumer offsets are not whole: a torn write, or damage");
            if let Err(error) = mended {
                tracing::warn!(%error, "{CODE}: copy or new file could not be written; the old one is used as it is");
            }
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)?;
        let bytes = file.metadata()?.len();
        disk::sync_parent(&path, data.sync)?;
        let journal = Journal {
            data,
            file: Mutex::new(Tail {
                file,
                bytes,
                rewrite_bytes: REWRITE_BYTES,
            }),
            offsets: RwLock::new(offsets),
        };
        Ok(Self {
            committer: Committer::new(Arc::new(journal), tasks),
        })
    }

    /// Stores an offset, in the order of these calls; the receiver is told when it is durable.
    pub(crate) fn store(&self, consumer: &str, replica: ReplicaKey, offset: i64) -> Outcome {
        self.store_at(consumer, replica, offset, unix_seconds())
    }

    /// As [`Positions::store`], at a time in Unix seconds.
    pub(crate) fn store_at(
        &self,
        consumer: &str,
        replica: ReplicaKey,
        offset: i64,
        modified: u64,
    ) -> Outcome {
        self.submit(Entry {
            deleted: false,
            consumer: consumer.to_owned(),
            replica,
            offset,
            modified,
        })
    }

    /// Removes an offset, if there is one.
    pub(crate) fn delete(&self, consumer: &str, replica: ReplicaKey) -> Outcome {
        self.submit(Entry {
            deleted: true,
            consumer: consumer.to_owned(),
            replica,
            ..Entry::default()
        })
    }

    fn submit(&self, entry: Entry) -> Outcome {
        let (done, outcome) = oneshot::channel();
        if !entry.deleted && self.journal().read().len() >= CONSUMERS_MAX {
            let _ = done.send(Err(format!("more than {CONSUMERS_MAX} consumer offsets")));
        } else {
            self.committer.submit(Change { entry, done });
        }
        outcome
    }

    /// Stored offsets of this replica and this consumer, or of all.
    pub(crate) fn list(
        &self,
        replica: Option<&ReplicaKey>,
        consumer: Option<&str>,
    ) -> Vec<ConsumerOffset> {
        let offsets = self.journal().read();
        let wanted = |(name, of): &Key| {
            replica.is_none_or(|replica| replica == of)
                && consumer.is_none_or(|consumer| consumer == name)
        };
        let kept = offsets.iter().filter(|(key, _)| wanted(key));
        kept.map(|((name, of), kept)| {
            ConsumerOffset::new(name.clone(), of.clone(), kept.offset, kept.modified)
        })
        .collect()
    }

    /// By partition, who is furthest behind among the consumers whose names begin with `prefix`.
    pub(crate) fn slowest(&self, prefix: &str) -> BTreeMap<ReplicaKey, Slowest> {
        let offsets = self.journal().read();
        let from = (prefix.to_owned(), ReplicaKey::default());
        let wanted = offsets
            .range(from..)
            .take_while(|((name, _), _)| name.starts_with(prefix));
        let mut slowest = BTreeMap::new();
        for ((consumer, replica), kept) in wanted {
            let one = Slowest {
                consumer: consumer.clone(),
                offset: kept.offset,
                moved: UNIX_EPOCH + Duration::from_secs(kept.moved),
            };
            let known = slowest
                .entry(replica.clone())
                .or_insert_with(|| one.clone());
            if one.offset < known.offset {
                *known = one;
            }
        }
        slowest
    }

    /// Removes all offsets on a topic. Blocks.
    pub(crate) fn forget_topic(&self, topic: &str) -> io::Result<()> {
        self.forget(|replica| replica.topic == topic)
    }

    /// Removes all offsets. Blocks.
    pub(crate) fn forget_all(&self) -> io::Result<()> {
        self.forget(|_| true)
    }

    fn forget(&self, doomed: impl Fn(&ReplicaKey) -> bool) -> io::Result<()> {
        let offsets = self.journal().read();
        let gone = offsets.keys().filter(|(_, replica)| doomed(replica));
        let gone: Vec<Key> = gone.cloned().collect();
        drop(offsets);
        let entries: Vec<Entry> = gone
            .into_iter()
            .map(|(consumer, replica)| Entry {
                deleted: true,
                consumer,
                replica,
                ..Entry::default()
            })
            .collect();
        self.journal().write(&entries)
    }

    fn journal(&self) -> &Journal {
        self.committer.sink()
    }
}

impl Sink for Journal {
    type Item = Change;

    fn commit(&self, group: Vec<Change>) {
        let entries: Vec<Entry> = group.iter().map(|change| change.entry.clone()).collect();
        let outcome = self.write(&entries).map_err(|error| error.to_string());
        for change in group {
            let _ = change.done.send(outcome.clone());
        }
    }
}

impl Journal {
    fn read(&self) -> RwLockReadGuard<'_, Offsets> {
        self.offsets.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, entries: &[Entry]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut tail = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let encoded = encode(entries)?;
        tail.file.write_all_at(&encoded, tail.bytes)?;
        disk::sync_data(&tail.file, self.data.sync)?;
        tail.bytes += encoded.len() as u64;
        let mut offsets = self.offsets.write().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            remember(&mut offsets, entry);
        }
        drop(offsets);
        if let Err(error) = self.rewrite_if_outdated(&mut tail) {
            // What was to be stored is durable. Another attempt is made when the journal is twice as large.
            tail.rewrite_bytes = tail.bytes.saturating_mul(2);
            tracing::warn!(%error, "the journal of consumer offsets could not be rewritten; it goes on as it is");
        }
        Ok(())
    }

    fn rewrite_if_outdated(&self, tail: &mut Tail) -> io::Result<()> {
        const ENTRY_BYTES_ESTIMATE: u64 = 64;
        let offsets = self.read();
        let outdated = 4 * ENTRY_BYTES_ESTIMATE * offsets.len() as u64;
        if tail.bytes < tail.rewrite_bytes.max(outdated) {
            return Ok(());
        }
        let encoded = encode(&live(&offsets))?;
        let path = self.data.path.join(FILE);
        // From here on the old file has no name: what is written must go to the new one, whatever fails next.
        tail.file = disk::put(&path, &encoded, self.data.sync)?;
        tail.bytes = encoded.len() as u64;
        tail.rewrite_bytes = REWRITE_BYTES;
        disk::sync_parent(&path, self.data.sync)
    }
}

/// The offsets that a journal tells of, and how many of its bytes tell nothing.
fn recall(mut journal: Bytes) -> io::Result<(Offsets, usize)> {
    let (mut offsets, mut lost_bytes) = (Offsets::new(), 0);
    while !journal.is_empty() {
        if let Some((version, body)) = disk::unseal(&mut journal) {
            remember(&mut offsets, &request::decode(body, version)?);
        } else {
            let next = disk::find_sealed(&journal).unwrap_or(journal.len());
            lost_bytes += next;
            journal.advance(next);
        }
    }
    Ok((offsets, lost_bytes))
}

/// The entries that a journal of these offsets needs: one, or another before it that tells since when the offset
/// has its value.
fn live(offsets: &Offsets) -> Vec<Entry> {
    let entries = |((consumer, replica), kept): (&Key, &Kept)| {
        let stored_at = |modified| Entry {
            deleted: false,
            consumer: consumer.clone(),
            replica: replica.clone(),
            offset: kept.offset,
            modified,
        };
        let moved = (kept.moved != kept.modified).then(|| stored_at(kept.moved));
        moved.into_iter().chain([stored_at(kept.modified)])
    };
    offsets.iter().flat_map(entries).collect()
}

fn remember(offsets: &mut Offsets, entry: &Entry) {
    let key = (entry.consumer.clone(), entry.replica.clone());
    if entry.deleted {
        offsets.remove(&key);
        return;
    }
    let (offset, modified) = (entry.offset, entry.modified);
    let earlier = offsets.get(&key).filter(|kept| kept.offset == offset);
    let moved = earlier.map_or(modified, |kept| kept.moved);
    let kept = Kept {
        offset,
        modified,
        moved,
    };
    offsets.insert(key, kept);
}

fn encode(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut encoded = Vec::new();
    for entry in entries {
        let mut body = Vec::new();
        entry.encode(&mut body, VERSION)?;
        encoded.write_all(&disk::seal(VERSION, &body))?;
    }
    Ok(encoded)
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(consumer: &str, offset: i64) -> Entry {
        Entry {
            consumer: consumer.to_owned(),
            offset,
            ..Entry::default()
        }
    }

    #[test]
    fn a_journal_that_cannot_be_rewritten_goes_on_as_it_is() {
        let dir = tempfile::tempdir().expect("directory");
        let data = DataDir::open(dir.path(), disk::Sync::Never).map(Arc::new);
        let data = data.expect("data directory");
        let mut torn = encode(&[entry("one", 1), entry("two", 2)]).expect("encoded");
        torn.truncate(torn.len() - 1);
        std::fs::write(dir.path().join(FILE), &torn).expect("written");
        // Nothing can be put at the copy's name.
        let copy = dir.path().join(FILE).with_extension("damaged");
        std::fs::create_dir(&copy).expect("directory");
        let open = || Positions::open(data.clone(), TaskTracker::new()).expect("opened");
        let positions = open();
        assert_eq!(positions.list(None, None).len(), 1);
        positions
            .journal()
            .write(&[entry("six", 6)])
            .expect("written");
        assert_eq!(open().list(None, None).len(), 2);
    }

    #[test]
    fn a_journal_that_cannot_be_rewritten_takes_offsets_all_the_same() {
        let dir = tempfile::tempdir().expect("directory");
        let data = DataDir::open(dir.path(), disk::Sync::Never).map(Arc::new);
        let data = data.expect("data directory");
        // Nothing can be written beside it.
        let beside = dir.path().join(FILE).with_extension("tmp");
        std::fs::create_dir(&beside).expect("directory");
        let open = || Positions::open(data.clone(), TaskTracker::new()).expect("opened");
        let positions = open();
        let many = vec![entry("one", 1); REWRITE_BYTES as usize / 40];
        positions.journal().write(&many).expect("written");
        let bytes = || {
            std::fs::metadata(dir.path().join(FILE))
                .expect("journal")
                .len()
        };
        assert!(bytes() > REWRITE_BYTES);
        std::fs::remove_dir(&beside).expect("removed");
        positions
            .journal()
            .write(&[entry("two", 2)])
            .expect("written");
        assert!(bytes() > REWRITE_BYTES, "not again at once");
        positions.journal().write(&many).expect("written");
        assert!(bytes() < REWRITE_BYTES, "rewritten");
        positions
            .journal()
            .write(&[entry("six", 6)])
            .expect("written");
        assert_eq!(open().list(None, None).len(), 3);
    }

    #[test]
    fn a_flipped_bit_loses_one_entry_and_not_those_behind_it() {
        let entries = [entry("one", 1), entry("two", 2), entry("six", 6)];
        let whole = encode(&entries).expect("encoded");
        let len = whole.len() / entries.len();
        // Bytes 4 and 5 of a seal are the version of the encoding, of which there is one.
        for at in (0..whole.len()).filter(|at| !(4..6).contains(&(at % len))) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            let (offsets, lost_bytes) = recall(damaged.into()).expect("read");
            assert_eq!(offsets.len(), 2, "byte {at}");
            assert!(lost_bytes > 0, "byte {at}");
        }
    }

    #[test]
    fn since_when_an_offset_has_its_value_outlives_a_rewritten_journal() {
        let stored = |offset, modified| Entry {
            offset,
            modified,
            ..entry("one", 0)
        };
        let journal = encode(&[stored(3, 10), stored(7, 20), stored(7, 30), stored(7, 40)]);
        let (offsets, _) = recall(journal.expect("encoded").into()).expect("read");
        let kept = Kept {
            offset: 7,
            modified: 40,
            moved: 20,
        };
        assert_eq!(offsets.values().collect::<Vec<_>>(), [&kept]);
        let rewritten = encode(&live(&offsets)).expect("encoded");
        assert_eq!(recall(rewritten.into()).expect("read"), (offsets, 0));
    }

    #[test]
    fn a_torn_write_loses_its_own_entry_only() {
        let first = encode(&[entry("first", 1)]).expect("encoded");
        let both = encode(&[entry("first", 1), entry("second", 2)]).expect("encoded");
        for len in first.len()..both.len() {
            let torn = Bytes::copy_from_slice(&both[..len]);
            let (offsets, lost_bytes) = recall(torn).expect("read");
            assert_eq!((offsets.len(), lost_bytes), (1, len - first.len()));
        }
    }
}
