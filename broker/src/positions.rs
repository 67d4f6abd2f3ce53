//! Named consumers' offsets: a journal of sealed entries, rewritten when most of it is outdated.
//!
//! An entry is `deleted bool | consumer String | topic String | partition u32 | offset i64 |
//! modified u64 (Unix seconds)` in the protocol's encoding. The stored offset is that of the last
//! record consumed; clients resume after it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
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
    state: Mutex<State>,
}

struct State {
    file: File,
    /// Durable bytes; whatever follows them is overwritten.
    bytes: u64,
    offsets: BTreeMap<Key, (i64, u64)>,
}

impl Positions {
    /// Reads the journal; a torn tail is cut off.
    pub(crate) fn open(data: Arc<DataDir>, tasks: TaskTracker) -> io::Result<Self> {
        let path = data.path.join(FILE);
        let mut rest = disk::read(&path)?.unwrap_or_default();
        let whole = rest.len();
        let mut offsets = BTreeMap::new();
        while let Some((version, body)) = disk::unseal(&mut rest) {
            let entry: Entry = request::decode(body, version)?;
            remember(&mut offsets, &entry);
        }
        let bytes = (whole - rest.len()) as u64;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        file.set_len(bytes)?;
        disk::sync_parent(&path, data.sync)?;
        let journal = Journal { data, state: Mutex::new(State { file, bytes, offsets }) };
        Ok(Self { committer: Committer::new(Arc::new(journal), tasks) })
    }

    /// Stores an offset; returns when it is durable.
    pub(crate) async fn store(&self, consumer: &str, replica: ReplicaKey, offset: i64) -> Result<(), String> {
        let known = self.journal().lock().offsets.len();
        if known >= CONSUMERS_MAX {
            return Err(format!("more than {CONSUMERS_MAX} consumer offsets"));
        }
        self.submit(Entry { deleted: false, consumer: consumer.to_owned(), replica, offset, modified: unix_seconds() }).await
    }

    /// Removes an offset, if there is one.
    pub(crate) async fn delete(&self, consumer: &str, replica: ReplicaKey) -> Result<(), String> {
        self.submit(Entry { deleted: true, consumer: consumer.to_owned(), replica, ..Entry::default() }).await
    }

    async fn submit(&self, entry: Entry) -> Result<(), String> {
        let (done, outcome) = oneshot::channel();
        self.committer.submit(Change { entry, done });
        outcome.await.unwrap_or_else(|_| Err("shutting down".to_owned()))
    }

    /// Stored offsets of this replica and this consumer, or of all.
    pub(crate) fn list(&self, replica: Option<&ReplicaKey>, consumer: Option<&str>) -> Vec<ConsumerOffset> {
        let state = self.journal().lock();
        let wanted = |(name, of): &Key| replica.is_none_or(|replica| replica == of) && consumer.is_none_or(|consumer| consumer == name);
        let kept = state.offsets.iter().filter(|(key, _)| wanted(key));
        kept.map(|((name, of), (offset, modified))| ConsumerOffset::new(name.clone(), of.clone(), *offset, *modified)).collect()
    }

    /// Removes all offsets on a topic. Blocks.
    pub(crate) fn forget_topic(&self, topic: &str) -> io::Result<()> {
        let mut state = self.journal().lock();
        let gone: Vec<Key> = state.offsets.keys().filter(|(_, replica)| replica.topic == topic).cloned().collect();
        let entries: Vec<Entry> = gone.into_iter().map(|(consumer, replica)| Entry { deleted: true, consumer, replica, ..Entry::default() }).collect();
        self.journal().write(&mut state, &entries)
    }

    fn journal(&self) -> &Journal {
        self.committer.sink()
    }
}

impl Sink for Journal {
    type Item = Change;

    fn commit(&self, group: Vec<Change>) {
        let entries: Vec<Entry> = group.iter().map(|change| change.entry.clone()).collect();
        let outcome = self.write(&mut self.lock(), &entries).map_err(|error| error.to_string());
        for change in group {
            let _ = change.done.send(outcome.clone());
        }
    }
}

impl Journal {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, state: &mut State, entries: &[Entry]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let encoded = encode(entries)?;
        std::os::unix::fs::FileExt::write_all_at(&state.file, &encoded, state.bytes)?;
        disk::sync_data(&state.file, self.data.sync)?;
        state.bytes += encoded.len() as u64;
        for entry in entries {
            remember(&mut state.offsets, entry);
        }
        self.rewrite_if_outdated(state)
    }

    fn rewrite_if_outdated(&self, state: &mut State) -> io::Result<()> {
        const ENTRY_BYTES_ESTIMATE: u64 = 64;
        if state.bytes < REWRITE_BYTES || state.bytes < 4 * ENTRY_BYTES_ESTIMATE * state.offsets.len() as u64 {
            return Ok(());
        }
        let live = state.offsets.iter().map(|((consumer, replica), (offset, modified))| Entry {
            deleted: false,
            consumer: consumer.clone(),
            replica: replica.clone(),
            offset: *offset,
            modified: *modified,
        });
        let encoded = encode(&live.collect::<Vec<_>>())?;
        let path: PathBuf = self.data.path.join(FILE);
        disk::replace(&path, &encoded, self.data.sync)?;
        state.file = OpenOptions::new().write(true).open(&path)?;
        state.bytes = encoded.len() as u64;
        Ok(())
    }
}

fn remember(offsets: &mut BTreeMap<Key, (i64, u64)>, entry: &Entry) {
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
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
