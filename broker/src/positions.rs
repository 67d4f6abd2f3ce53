//! Named consumers' offsets: a journal of sealed entries, rewritten when most of it is outdated.
//!
//! An entry is `deleted bool | consumer String | topic String | partition u32 | offset i64 |
//! modified u64 (Unix seconds)` in the protocol's encoding. The stored offset is that of the last
//! record consumed; clients resume after it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use fluvio_protocol::record::ReplicaKey;
use fluvio_protocol::{Decoder, Encoder};
use fluvio_spu_schema::server::consumer_offset::ConsumerOffset;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::disk::{self, DataDir};
use crate::group::{Committer, Sink};
use crate::request;

const FILE: &str = "consumer-offsets";
const VERSION: i16 = 1;
/// The journal is rewritten when it is larger than this and mostly outdated.
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

/// Offset and time of change, by consumer and replica. All of them are durable.
type Offsets = BTreeMap<Key, (i64, u64)>;

struct Tail {
    file: File,
    /// Durable bytes; whatever follows them is overwritten.
    bytes: u64,
}

impl Positions {
    /// Reads the journal; a torn tail is cut off.
    pub(crate) fn open(data: Arc<DataDir>, tasks: TaskTracker) -> io::Result<Self> {
        let path = data.path.join(FILE);
        let mut rest = disk::read(&path)?.unwrap_or_default();
        let whole = rest.len();
        let mut offsets = Offsets::new();
        while let Some((version, body)) = disk::unseal(&mut rest) {
            let entry: Entry = request::decode(body, version)?;
            remember(&mut offsets, &entry);
        }
        let bytes = (whole - rest.len()) as u64;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)?;
        file.set_len(bytes)?;
        disk::sync_parent(&path, data.sync)?;
        let journal = Journal {
            data,
            file: Mutex::new(Tail { file, bytes }),
            offsets: RwLock::new(offsets),
        };
        Ok(Self {
            committer: Committer::new(Arc::new(journal), tasks),
        })
    }

    /// Stores an offset, in the order of these calls; the receiver is told when it is durable.
    pub(crate) fn store(&self, consumer: &str, replica: ReplicaKey, offset: i64) -> Outcome {
        let entry = Entry {
            deleted: false,
            consumer: consumer.to_owned(),
            replica,
            offset,
            modified: unix_seconds(),
        };
        self.submit(entry)
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
        kept.map(|((name, of), (offset, modified))| {
            ConsumerOffset::new(name.clone(), of.clone(), *offset, *modified)
        })
        .collect()
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
        self.rewrite_if_outdated(&mut tail)
    }

    fn rewrite_if_outdated(&self, tail: &mut Tail) -> io::Result<()> {
        const ENTRY_BYTES_ESTIMATE: u64 = 64;
        let offsets = self.read();
        if tail.bytes < REWRITE_BYTES
            || tail.bytes < 4 * ENTRY_BYTES_ESTIMATE * offsets.len() as u64
        {
            return Ok(());
        }
        let live = offsets
            .iter()
            .map(|((consumer, replica), (offset, modified))| Entry {
                deleted: false,
                consumer: consumer.clone(),
                replica: replica.clone(),
                offset: *offset,
                modified: *modified,
            });
        let encoded = encode(&live.collect::<Vec<_>>())?;
        let path: PathBuf = self.data.path.join(FILE);
        disk::replace(&path, &encoded, self.data.sync)?;
        tail.file = OpenOptions::new().write(true).open(&path)?;
        tail.bytes = encoded.len() as u64;
        Ok(())
    }
}

fn remember(offsets: &mut Offsets, entry: &Entry) {
    let key = (entry.consumer.clone(), entry.replica.clone());
    match entry.deleted {
        true => offsets.remove(&key),
        false => offsets.insert(key, (entry.offset, entry.modified)),
    };
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
