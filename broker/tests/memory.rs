//! What a broker keeps of the memory that a catch-up took: measured in a process of its own, because its clients
//! take more.

#[allow(dead_code)]
#[path = "conformance/wat.rs"]
mod wat;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fluvio::consumer::{ConsumerConfigExt, ConsumerConfigExtBuilder, RetryMode};
use fluvio::metadata::topic::{TopicSpec, TopicStorageConfig};
use fluvio::{
    Fluvio, FluvioAdmin, FluvioClusterConfig, Offset, RecordKey, SmartModuleContextData,
    SmartModuleInvocation, SmartModuleInvocationWasm, SmartModuleKind, TopicProducerConfigBuilder,
};
use futures_util::StreamExt;
use millrace_broker::{Broker, Config, Storage};

const PATIENCE: Duration = Duration::from_secs(120);
const ASKING_EVERY: Duration = Duration::from_millis(100);
/// Names the broker's folder to the process that is one.
const FOLDER: &str = "MILLRACE_TEST_BROKER_FOLDER";

const TOPIC: &str = "large";
const RECORDS: usize = 3_000;
const RECORD_BYTES: usize = 64 * 1024;
const READERS: usize = 4;
/// What may stay of a catch-up of eight readers over 190 MiB: what their modules keep while they rest, and what the
/// allocator does of small buffers, in as many places as there are threads. It was 100 MiB, and 380 and more when
/// responses were as large as a client asks for.
const KEPT_MIB_MAX: u64 = 192;

/// Not a test: the broker of the one below.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a process of its own"]
async fn serve() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let config = Config::on_loopback(Storage::Directory(folder.into()));
    let broker = Broker::open(config).await.expect("opens");
    println!("\naddress {}", broker.sc_addr());
    let until_closed = || std::io::stdin().read_to_end(&mut Vec::new());
    let closed = tokio::task::spawn_blocking(until_closed).await;
    closed.expect("waited").expect("closed");
    broker.shutdown().await;
}

/// A broker in a process of its own; ends with this.
struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn start(folder: &Path) -> Process {
        let program = std::env::current_exe().expect("this test");
        let mut child = Command::new(program)
            .args(["--exact", "serve", "--ignored", "--nocapture"])
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let lines = output.lines().map_while(Result::ok);
        let address = lines
            .filter_map(|line| line.strip_prefix("address ").map(str::to_owned))
            .next();
        let address = address.expect("an address");
        Process { child, address }
    }

    fn cluster(&self) -> FluvioClusterConfig {
        FluvioClusterConfig::new(self.address.as_str())
    }

    fn resident_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("a size") / 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

async fn patient<T>(future: impl std::future::Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}

async fn fill(client: &Fluvio) {
    let config = TopicProducerConfigBuilder::default()
        .batch_size(1 << 20)
        .max_request_size(12 << 20)
        .build()
        .expect("config");
    let producer = patient(client.topic_producer_with_config(TOPIC, config));
    let producer = producer.await.expect("producer");
    let mut outputs = Vec::new();
    for _ in 0..RECORDS {
        let sent = patient(producer.send(RecordKey::NULL, vec![b'x'; RECORD_BYTES]));
        outputs.push(sent.await.expect("sent"));
    }
    patient(producer.flush()).await.expect("flushed");
    for output in outputs {
        patient(output.wait()).await.expect("acknowledged");
    }
}

fn reading(modules: Vec<SmartModuleInvocation>) -> ConsumerConfigExt {
    ConsumerConfigExtBuilder::default()
        .topic(TOPIC)
        .partition(0)
        .offset_start(Offset::beginning())
        .retry_mode(RetryMode::Disabled)
        .max_bytes(32 << 20)
        .smartmodule(modules)
        .build()
        .expect("config")
}

fn identity() -> SmartModuleInvocation {
    let wasm = SmartModuleInvocationWasm::adhoc_from_bytes(wat::identity().as_bytes());
    SmartModuleInvocation {
        wasm: wasm.expect("gzip"),
        kind: SmartModuleKind::Generic(SmartModuleContextData::None),
        params: Default::default(),
        name: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_gives_back_what_a_catch_up_took() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = Process::start(folder.path());
    let cluster = broker.cluster();
    let admin = patient(FluvioAdmin::connect_with_config(&cluster)).await;
    let admin = admin.expect("connects");
    let mut spec = TopicSpec::new_computed(1, 1, None);
    spec.set_storage(TopicStorageConfig {
        segment_size: Some(16_000_000),
        max_partition_size: None,
    });
    let created = patient(admin.create(TOPIC.to_owned(), false, spec));
    created.await.expect("created");
    let at_first = broker.resident_mib();
    let client = patient(Fluvio::connect_with_config(&cluster)).await;
    let client = client.expect("connects");
    fill(&client).await;
    let filled = broker.resident_mib();
    let mut readers = tokio::task::JoinSet::new();
    for number in 0..2 * READERS {
        let modules = (number % 2 == 0).then(identity);
        let cluster = broker.cluster();
        readers.spawn(async move {
            let client = Fluvio::connect_with_config(&cluster)
                .await
                .expect("connects");
            let config = reading(modules.into_iter().collect());
            let mut stream = client.consumer_with_config(config).await.expect("consumer");
            for _ in 0..RECORDS {
                stream.next().await.expect("goes on").expect("a record");
            }
            // It stays, as the services' streams do.
            (client, stream)
        });
    }
    let caught_up = patient(readers.join_all()).await;
    let highest = broker.resident_mib();
    let given_back = async {
        while broker.resident_mib() > at_first + KEPT_MIB_MAX {
            tokio::time::sleep(ASKING_EVERY).await;
        }
    };
    let given_back = tokio::time::timeout(Duration::from_secs(20), given_back).await;
    let kept = broker.resident_mib();
    println!(
        "MiB: {at_first} at first, {filled} filled, {highest} after the catch-up, {kept} kept"
    );
    drop(caught_up);
    assert!(given_back.is_ok(), "{kept} MiB, of {at_first} at first");
}
