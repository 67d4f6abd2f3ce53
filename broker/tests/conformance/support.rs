//! A broker or a cluster, its clients, and the few things every test does with them.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fluvio::consumer::{
    ConsumerConfigExt, ConsumerConfigExtBuilder, ConsumerStream, Record, RetryMode,
};
use fluvio::metadata::smartmodule::{
    FluvioSemVersion, SmartModuleMetadata, SmartModulePackage, SmartModuleSpec, SmartModuleWasm,
};
use fluvio::metadata::topic::TopicSpec;
use fluvio::{
    Compression, Fluvio, FluvioAdmin, FluvioClusterConfig, Offset, RecordKey,
    TopicProducerConfigBuilder, TopicProducerPool,
};
use futures_util::StreamExt;
use millrace_broker::{Broker, Config, Handle, Storage};

/// Long enough for a busy machine; nothing waits for it to pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a real cluster may be silent before a test concludes that nothing more will come,
/// where that is what a known difference looks like.
const SILENCE: Duration = Duration::from_secs(5);

/// How many topics a real cluster is asked for until it answers; see [`Cluster::topic_with`].
const CREATIONS_MAX: u32 = 5;

/// Makes two tests of each of these functions: one on the embedded broker and one, ignored unless
/// asked for, on the cluster that `MILLRACE_TEST_FLUVIO` names.
macro_rules! conforms {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn embedded() {
                let cluster = crate::support::Cluster::embedded().await;
                super::$name(&cluster).await;
                cluster.end().await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs a Fluvio cluster: MILLRACE_TEST_FLUVIO=host:port"]
            async fn real() {
                let cluster = crate::support::Cluster::real();
                super::$name(&cluster).await;
                cluster.end().await;
            }
        }
    )+};
}
pub(crate) use conforms;

/// What a real 0.18 server does otherwise than it should. `broker/README.md` has a table of them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Difference {
    /// A read is cut at `max_bytes` in the middle of a batch, and the client drops the rest of it.
    BatchesCut,
    /// The offsets of what a filter leaves are positions in the output, also when resuming.
    FilteredOffsets,
    /// A read of which nothing is left ends nowhere, or skips to the end of the log.
    AllFiltered,
    /// What a SmartModule was given keeps its times, what it returns has none.
    TimesLost,
    /// A damaged batch is stored like any other.
    #[expect(dead_code, reason = "sent as raw bytes, to the embedded broker only")]
    DamageStored,
    /// The deduplication of a topic remembers records that were refused after it.
    RefusedRemembered,
    /// What a SmartModule drops on its way into the log leaves a gap in the offsets.
    DroppedLeaveGaps,
    /// A topic that cannot be placed is created, and its creation answered after a time-out.
    Unplaceable,
}

/// A SmartModule without a package.
pub(crate) fn module_spec(wat: &str) -> SmartModuleSpec {
    SmartModuleSpec {
        wasm: SmartModuleWasm::from_raw_wasm_bytes(wat.as_bytes()).expect("gzip"),
        ..SmartModuleSpec::default()
    }
}

/// Where clients connect to.
pub(crate) trait Endpoint {
    fn endpoint(&self) -> String;
}

impl Endpoint for Handle {
    fn endpoint(&self) -> String {
        self.sc_addr().to_string()
    }
}

/// The embedded broker or a real cluster.
pub(crate) struct Cluster {
    broker: Option<Handle>,
    endpoint: String,
    /// Ends the names of whatever a test makes on a cluster that others use as well.
    suffix: String,
    topics: Mutex<Vec<String>>,
    modules: Mutex<Vec<String>>,
}

impl Endpoint for Cluster {
    fn endpoint(&self) -> String {
        self.endpoint.clone()
    }
}

impl Cluster {
    pub(crate) async fn embedded() -> Cluster {
        Self::of(start_temporary().await)
    }

    pub(crate) async fn embedded_in(dir: &Path) -> Cluster {
        Self::of(start(dir).await)
    }

    fn of(broker: Handle) -> Cluster {
        Cluster {
            endpoint: broker.endpoint(),
            broker: Some(broker),
            suffix: String::new(),
            topics: Mutex::default(),
            modules: Mutex::default(),
        }
    }

    pub(crate) fn real() -> Cluster {
        let endpoint = std::env::var("MILLRACE_TEST_FLUVIO")
            .expect("MILLRACE_TEST_FLUVIO=host:port of the cluster's controller");
        let now = std::time::UNIX_EPOCH
            .elapsed()
            .expect("a clock")
            .as_micros();
        Cluster {
            broker: None,
            endpoint,
            suffix: format!("-{:x}", now & 0xffff_ffff),
            topics: Mutex::default(),
            modules: Mutex::default(),
        }
    }

    pub(crate) fn is_real(&self) -> bool {
        self.broker.is_none()
    }

    /// The name that stands for `name` here; what is made under it is removed at the end.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{name}{}", self.suffix)
    }

    /// Creates a topic; its name here.
    pub(crate) async fn topic(&self, name: &str, partitions: u32) -> String {
        self.topic_with(name, TopicSpec::new_computed(partitions, 1, None))
            .await
    }

    pub(crate) async fn topic_with(&self, name: &str, spec: TopicSpec) -> String {
        // A real controller now and then loses what the SPU says of a new partition: its creation
        // is not answered, and the partition cannot be used until the SPU has restarted.
        for attempt in 0..CREATIONS_MAX {
            let mut name = self.name(name);
            if attempt > 0 {
                name.push_str(&format!("-{attempt}"));
            }
            self.remove_topic_later(&name);
            let admin = admin(self).await;
            let creation = admin.create(name.clone(), false, spec.clone());
            if !self.is_real() {
                patient(creation).await.expect("topic is created");
                return name;
            }
            if let Ok(created) = tokio::time::timeout(SILENCE, creation).await {
                created.expect("topic is created");
                return name;
            }
            println!("the answer to the creation of {name} did not come");
        }
        panic!("{CREATIONS_MAX} creations of {name} were not answered");
    }

    pub(crate) fn remove_topic_later(&self, name: &str) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.push(name.to_owned());
    }

    /// Creates or replaces a SmartModule; its name here.
    pub(crate) async fn module(&self, name: &str, wat: &str) -> String {
        let name = self.name(name);
        patient(
            admin(self)
                .await
                .create(name.clone(), false, module_spec(wat)),
        )
        .await
        .expect("module is created");
        self.remove_at_end(&name);
        name
    }

    /// Creates a package; its full name.
    pub(crate) async fn package(
        &self,
        group: &str,
        name: &str,
        version: &str,
        wat: &str,
    ) -> String {
        let package = SmartModulePackage {
            name: self.name(name),
            group: self.name(group),
            version: FluvioSemVersion::parse(version).expect("version"),
            ..SmartModulePackage::default()
        };
        let full_name = package.fqdn();
        let meta = SmartModuleMetadata {
            package,
            ..SmartModuleMetadata::default()
        };
        let spec = SmartModuleSpec {
            meta: Some(meta),
            ..module_spec(wat)
        };
        patient(admin(self).await.create(self.name(name), false, spec))
            .await
            .expect("package is created");
        self.remove_at_end(&full_name);
        full_name
    }

    fn remove_at_end(&self, module: &str) {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        modules.push(module.to_owned());
    }

    /// On the embedded broker `right` must hold. On a real cluster it must not: if it does, the
    /// difference is no longer one, and its test and the table are to be changed.
    pub(crate) fn differs(&self, difference: Difference, right: bool) {
        match self.is_real() {
            false => assert!(right, "{difference:?}"),
            true => assert!(!right, "{difference:?} is gone: no longer a difference"),
        }
    }

    /// Reads up to `count` records. Where a real cluster may send fewer, its silence ends it.
    pub(crate) async fn read(&self, config: ConsumerConfigExt, count: usize) -> Vec<Record> {
        let client = client(self).await;
        if !self.is_real() {
            return take(&client, config, count).await;
        }
        let mut stream = patient(client.consumer_with_config(config))
            .await
            .expect("consumer");
        let mut records = Vec::new();
        while records.len() < count {
            match tokio::time::timeout(SILENCE, stream.next()).await {
                Ok(Some(Ok(record))) => records.push(record),
                _ => break,
            }
        }
        records
    }

    /// Removes what was made and stops the broker if it is ours.
    pub(crate) async fn end(self) {
        if let Some(broker) = self.broker {
            return broker.shutdown().await;
        }
        let admin = admin(&self).await;
        for topic in taken(&self.topics) {
            // Some tests have removed theirs themselves.
            let _ = patient(admin.delete::<TopicSpec>(topic)).await;
        }
        for module in taken(&self.modules) {
            let _ = patient(admin.delete::<SmartModuleSpec>(module)).await;
        }
    }
}

fn taken(names: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut *names.lock().unwrap_or_else(PoisonError::into_inner))
}

pub(crate) async fn start(dir: &Path) -> Handle {
    open(Storage::Directory(dir.to_owned())).await
}

pub(crate) async fn start_temporary() -> Handle {
    open(Storage::Temporary).await
}

/// Looks after retention so often that no test waits for it.
async fn open(storage: Storage) -> Handle {
    let mut config = Config::on_loopback(storage);
    config.limits.retention_interval = Duration::from_millis(20);
    Broker::open(config).await.expect("broker opens")
}

fn cluster_config(cluster: &impl Endpoint) -> FluvioClusterConfig {
    FluvioClusterConfig::new(cluster.endpoint())
}

pub(crate) async fn client(cluster: &impl Endpoint) -> Fluvio {
    patient(Fluvio::connect_with_config(&cluster_config(cluster)))
        .await
        .expect("client connects")
}

pub(crate) async fn admin(cluster: &impl Endpoint) -> FluvioAdmin {
    patient(FluvioAdmin::connect_with_config(&cluster_config(cluster)))
        .await
        .expect("admin connects")
}

pub(crate) async fn create_topic(broker: &Handle, name: &str, partitions: u32) {
    let spec = TopicSpec::new_computed(partitions, 1, None);
    patient(admin(broker).await.create(name.to_owned(), false, spec))
        .await
        .expect("topic is created");
}

pub(crate) async fn producer(client: &Fluvio, topic: &str) -> TopicProducerPool {
    compressing_producer(client, topic, Compression::None).await
}

pub(crate) async fn compressing_producer(
    client: &Fluvio,
    topic: &str,
    compression: Compression,
) -> TopicProducerPool {
    let config = TopicProducerConfigBuilder::default()
        .linger(Duration::from_millis(5))
        .batch_size(64 * 1024)
        .max_request_size(12 * 1024 * 1024)
        .compression(compression)
        .build()
        .expect("producer config");
    patient(client.topic_producer_with_config(topic, config))
        .await
        .expect("producer")
}

/// Sends values and waits for every acknowledgement; the offsets they got.
pub(crate) async fn send_all<V: Into<fluvio::dataplane::record::RecordData>>(
    producer: &TopicProducerPool,
    values: impl IntoIterator<Item = V>,
) -> Vec<i64> {
    let mut outputs = Vec::new();
    for value in values {
        outputs.push(
            patient(producer.send(RecordKey::NULL, value))
                .await
                .expect("send"),
        );
    }
    patient(producer.flush()).await.expect("flush");
    let mut offsets = Vec::new();
    for output in outputs {
        offsets.push(patient(output.wait()).await.expect("acknowledged").offset());
    }
    offsets
}

pub(crate) fn consumer(topic: &str) -> ConsumerConfigExtBuilder {
    let mut config = ConsumerConfigExtBuilder::default();
    config
        .topic(topic)
        .partition(0)
        .offset_start(Offset::beginning())
        .retry_mode(RetryMode::Disabled);
    config
}

/// The next `count` records of a stream.
pub(crate) async fn take(client: &Fluvio, config: ConsumerConfigExt, count: usize) -> Vec<Record> {
    let mut stream = patient(client.consumer_with_config(config))
        .await
        .expect("consumer");
    next(&mut stream, count).await
}

pub(crate) async fn next<S>(stream: &mut S, count: usize) -> Vec<Record>
where
    S: ConsumerStream<Item = Result<Record, fluvio::dataplane::link::ErrorCode>> + Unpin,
{
    let mut records = Vec::with_capacity(count);
    while records.len() < count {
        let record = patient(stream.next())
            .await
            .expect("the stream goes on")
            .expect("a record");
        records.push(record);
    }
    records
}

/// Everything up to the present end.
pub(crate) async fn read_to_end(
    client: &Fluvio,
    mut config: ConsumerConfigExtBuilder,
) -> Vec<Record> {
    let config = config
        .disable_continuous(true)
        .build()
        .expect("consumer config");
    let stream = patient(client.consumer_with_config(config))
        .await
        .expect("consumer");
    let records: Vec<_> = patient(stream.collect()).await;
    records
        .into_iter()
        .map(|record| record.expect("a record"))
        .collect()
}

pub(crate) fn values(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| String::from_utf8_lossy(record.value()).into_owned())
        .collect()
}

pub(crate) fn offsets(records: &[Record]) -> Vec<i64> {
    records.iter().map(|record| record.offset).collect()
}

pub(crate) async fn patient<T>(future: impl std::future::Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}
