//! What exists: topics with their partitions, SmartModules, table formats, and the one SPU.
//!
//! Every change is durable before it is visible. Each object carries the epoch of its last change,
//! so that a watcher can be told everything that happened since the epoch it has seen.

mod deduplication;
mod object;
mod smart_module;
mod store;
mod topic;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use fluvio_protocol::record::ReplicaKey;
use fluvio_sc_schema::errors::ErrorCode;
use fluvio_sc_schema::partition::PartitionSpec;
use fluvio_sc_schema::smartmodule::SmartModuleSpec;
use fluvio_sc_schema::spu::SpuSpec;
use fluvio_sc_schema::tableformat::TableFormatSpec;
use fluvio_sc_schema::topic::TopicSpec;
use fluvio_types::defaults::CONSUMER_STORAGE_TOPIC;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::config::Limits;
use crate::disk::DataDir;
use crate::files::Files;
use crate::log::{PartitionLog, Retention};
use crate::smart::Engine;
pub(crate) use object::Listed;
use store::Store;
use topic::Topic;

/// Id of the only SPU, the first that a real cluster hands out.
pub(crate) const SPU_ID: i32 = 5001;
/// Its name in a real local cluster.
pub(crate) const SPU_NAME: &str = "custom-spu-5001";

/// Why a change was refused: the code and text that the client is sent.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: Option<String>,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: Some(message.into()),
        }
    }

    pub(crate) fn code(code: ErrorCode) -> Self {
        Self {
            code,
            message: None,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.message {
            Some(message) => f.write_str(message),
            None => self.code.fmt(f),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        tracing::error!(%error, "the catalog could not be written");
        Self::new(ErrorCode::StorageError, error.to_string())
    }
}

/// An object and the epoch of its last change.
#[derive(Debug, Clone)]
struct Entry<T> {
    epoch: i64,
    value: T,
}

/// A partition and what its topic keeps.
pub(crate) struct Partition {
    pub(crate) replica: ReplicaKey,
    pub(crate) retention: Retention,
    pub(crate) log: PartitionLog,
}

/// Everything that exists, at one epoch.
struct State {
    epoch: i64,
    topics: BTreeMap<String, Entry<Topic>>,
    smart_modules: BTreeMap<String, Entry<SmartModuleSpec>>,
    table_formats: BTreeMap<String, Entry<TableFormatSpec>>,
    spu: Entry<SpuSpec>,
}

/// The catalog. Methods that change it block on the file system.
pub(crate) struct Catalog {
    state: RwLock<State>,
    /// Held while changing, so that a change can be made durable before it is visible.
    changing: Mutex<()>,
    store: Store,
    epoch: watch::Sender<i64>,
    engine: Arc<Engine>,
    files: Arc<Files>,
    limits: Limits,
    tasks: TaskTracker,
}

impl Catalog {
    /// Opens the catalog and the logs of all partitions.
    pub(crate) fn open(
        data: &Arc<DataDir>,
        spu: SpuSpec,
        engine: &Arc<Engine>,
        limits: &Limits,
        tasks: &TaskTracker,
    ) -> io::Result<Self> {
        let store = Store::open(data.clone())?;
        let smart_modules = entries(store.load::<SmartModuleSpec>("smartmodules")?);
        let table_formats = entries(store.load::<TableFormatSpec>("tableformats")?);
        let state = State {
            epoch: 1,
            topics: BTreeMap::new(),
            smart_modules,
            table_formats,
            spu: Entry {
                epoch: 1,
                value: spu,
            },
        };
        let catalog = Self {
            state: RwLock::new(state),
            changing: Mutex::new(()),
            store,
            epoch: watch::channel(1).0,
            engine: engine.clone(),
            files: Files::new(limits.open_segments_max),
            limits: limits.clone(),
            tasks: tasks.clone(),
        };
        catalog.open_topics()?;
        catalog.ensure_system_topic()?;
        Ok(catalog)
    }

    /// The topic that a real cluster keeps consumer offsets in. Here it stays empty, but it must
    /// exist: clients wait up to a minute for the first topic and partition to be named.
    fn ensure_system_topic(&self) -> io::Result<()> {
        if self.read().topics.contains_key(CONSUMER_STORAGE_TOPIC) {
            return Ok(());
        }
        let mut spec = TopicSpec::new_computed(1, 1, None);
        spec.set_system(true);
        self.create_topic(CONSUMER_STORAGE_TOPIC, spec, false)
            .map(|_| ())
            .map_err(|refusal| io::Error::other(format!("{refusal:?}")))
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> std::sync::MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change visible under a new epoch, then tells the watchers.
    fn apply(&self, change: impl FnOnce(&mut State, i64)) -> i64 {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.epoch += 1;
        let epoch = state.epoch;
        change(&mut state, epoch);
        drop(state);
        self.epoch.send_replace(epoch);
        epoch
    }

    /// Follows the epoch of the last change.
    pub(crate) fn follow(&self) -> watch::Receiver<i64> {
        self.epoch.subscribe()
    }

    /// All objects of one kind, with the epoch that this is true at.
    pub(crate) fn list<S: Listed>(&self) -> (i64, Vec<(i64, S::Object)>) {
        let state = self.read();
        (state.epoch, S::list(&state))
    }

    /// The log of a partition, if it exists.
    pub(crate) fn partition(&self, topic: &str, partition: u32) -> Option<PartitionLog> {
        let state = self.read();
        state
            .topics
            .get(topic)?
            .value
            .logs
            .get(partition as usize)
            .cloned()
    }

    /// A topic's specification, if it exists.
    pub(crate) fn topic_spec(&self, topic: &str) -> Option<TopicSpec> {
        self.read()
            .topics
            .get(topic)
            .map(|entry| entry.value.spec.clone())
    }

    /// All partitions, with what their topics keep.
    pub(crate) fn partitions(&self) -> Vec<Partition> {
        let state = self.read();
        let of_topic = |(name, entry): (&String, &Entry<Topic>)| {
            let retention = topic::retention(&entry.value.spec);
            let of = |(number, log): (usize, &PartitionLog)| Partition {
                replica: ReplicaKey::new(name.clone(), number as u32),
                retention,
                log: log.clone(),
            };
            let logs = entry.value.logs.iter().enumerate();
            logs.map(of).collect::<Vec<_>>()
        };
        state.topics.iter().flat_map(of_topic).collect()
    }

    /// Stores a table format; its name must be new.
    pub(crate) fn create_table_format(
        &self,
        name: &str,
        spec: TableFormatSpec,
    ) -> Result<i64, Refusal> {
        check_name(name, ErrorCode::InvalidCreateRequest)?;
        let _changing = self.changing();
        if self.read().table_formats.contains_key(name) {
            return Err(Refusal::new(
                ErrorCode::TableFormatAlreadyExists,
                "TableFormat already exists",
            ));
        }
        self.store.put("tableformats", name, &spec)?;
        Ok(self.apply(|state, epoch| {
            state
                .table_formats
                .insert(name.to_owned(), Entry { epoch, value: spec });
        }))
    }

    /// Removes a table format.
    pub(crate) fn delete_table_format(&self, name: &str) -> Result<i64, Refusal> {
        let _changing = self.changing();
        if !self.read().table_formats.contains_key(name) {
            return Err(Refusal::new(
                ErrorCode::TableFormatNotFound,
                "TableFormat not found",
            ));
        }
        self.store.remove("tableformats", name)?;
        Ok(self.apply(|state, _| {
            state.table_formats.remove(name);
        }))
    }

    /// Where the logs of a topic lie.
    fn topic_dir(&self, name: &str, id: u64) -> PathBuf {
        self.store
            .data
            .path
            .join("topics")
            .join(format!("{name}.{id}"))
    }
}

/// Names become file names: nothing but `[a-z0-9-._]`, as a real cluster has it (plus the dot of versions).
fn check_name(name: &str, code: ErrorCode) -> Result<(), Refusal> {
    let valid =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.' || c == '_';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if name.len() <= 200
        && name.chars().all(valid)
        && edge(name.chars().next())
        && edge(name.chars().last())
    {
        return Ok(());
    }
    Err(Refusal::new(
        code,
        format!("name {name:?}: lowercase letters, digits, '-', '_' and '.' only"),
    ))
}

fn entries<T>(loaded: Vec<(String, T)>) -> BTreeMap<String, Entry<T>> {
    loaded
        .into_iter()
        .map(|(name, value)| (name, Entry { epoch: 1, value }))
        .collect()
}

fn partition_spec(topic: &TopicSpec) -> PartitionSpec {
    PartitionSpec::from_replicas(vec![SPU_ID], topic, None)
}
