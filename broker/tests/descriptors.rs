//! A broker whose logs have more segments than it may open files. A process of its own: the limit is the process's.

use std::path::Path;

use fluvio::consumer::{ConsumerConfigExtBuilder, RetryMode};
use fluvio::metadata::topic::{TopicSpec, TopicStorageConfig};
use fluvio::{
    Fluvio, FluvioAdmin, FluvioClusterConfig, Offset, RecordKey, TopicProducerConfigBuilder,
};
use futures_util::StreamExt;
use millrace_broker::{Broker, Config, Handle, Storage};

/// Of which the test's own runtimes and connections take about forty.
const FILES_MAX: u64 = 128;
const RECORDS: i64 = 300;

async fn open(dir: &Path) -> Handle {
    let storage = Storage::Directory(dir.to_owned());
    Broker::open(Config::on_loopback(storage))
        .await
        .expect("opens")
}

fn cluster(broker: &Handle) -> FluvioClusterConfig {
    FluvioClusterConfig::new(broker.sc_addr().to_string())
}

/// Each record fills a segment.
async fn fill(broker: &Handle) {
    let mut spec = TopicSpec::new_computed(1, 1, None);
    spec.set_storage(TopicStorageConfig {
        segment_size: Some(2048),
        max_partition_size: Some(1 << 30),
    });
    let admin = FluvioAdmin::connect_with_config(&cluster(broker))
        .await
        .expect("admin");
    admin
        .create("orders".to_owned(), false, spec)
        .await
        .expect("created");
    let client = Fluvio::connect_with_config(&cluster(broker))
        .await
        .expect("client");
    let config = TopicProducerConfigBuilder::default()
        .build()
        .expect("config");
    let producer = client.topic_producer_with_config("orders", config).await;
    let producer = producer.expect("producer");
    for _ in 0..RECORDS {
        let sent = producer
            .send(RecordKey::NULL, vec![b'x'; 1900])
            .await
            .expect("sent");
        sent.wait().await.expect("acknowledged");
    }
}

async fn read(broker: &Handle) -> i64 {
    let client = Fluvio::connect_with_config(&cluster(broker))
        .await
        .expect("client");
    let config = ConsumerConfigExtBuilder::default()
        .topic("orders")
        .offset_start(Offset::beginning())
        .retry_mode(RetryMode::Disabled)
        .disable_continuous(true)
        .build()
        .expect("config");
    let mut stream = client.consumer_with_config(config).await.expect("consumer");
    let mut count = 0;
    while let Some(record) = stream.next().await {
        assert_eq!(record.expect("a record").offset, count);
        count += 1;
    }
    count
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("descriptors")
        .count()
}

fn segments(dir: &Path) -> usize {
    let topics = std::fs::read_dir(dir.join("topics")).expect("topics");
    let topics = topics.map(|topic| topic.expect("topic").path().join("0"));
    let files = topics.flat_map(|partition| std::fs::read_dir(partition).expect("partition"));
    files
        .filter(|file| {
            let path = file.as_ref().expect("file").path();
            path.extension().is_some_and(|extension| extension == "log")
        })
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_more_segments_than_files_may_be_open_are_written_and_read() {
    // The soft limit is raised to the hard one when the broker opens.
    rlimit::setrlimit(rlimit::Resource::NOFILE, FILES_MAX / 2, FILES_MAX).expect("limited");
    let dir = tempfile::tempdir().expect("directory");
    let broker = open(dir.path()).await;
    let (soft, _) = rlimit::getrlimit(rlimit::Resource::NOFILE).expect("limit");
    assert_eq!(soft, FILES_MAX);
    fill(&broker).await;
    assert!(segments(dir.path()) as u64 > 2 * FILES_MAX);
    assert_eq!(read(&broker).await, RECORDS);
    broker.shutdown().await;
    let broker = open(dir.path()).await;
    assert_eq!(read(&broker).await, RECORDS);
    let open = open_files();
    assert!((open as u64) < FILES_MAX, "{open}");
    broker.shutdown().await;
}
