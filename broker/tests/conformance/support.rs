//! A broker and its clients, and the few things every test does with them.

use std::path::Path;
use std::time::Duration;

use fluvio::consumer::{
    ConsumerConfigExt, ConsumerConfigExtBuilder, ConsumerStream, Record, RetryMode,
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

pub(crate) async fn start(dir: &Path) -> Handle {
    Broker::open(Config::on_loopback(Storage::Directory(dir.to_owned())))
        .await
        .expect("broker opens")
}

pub(crate) async fn start_temporary() -> Handle {
    Broker::open(Config::on_loopback(Storage::Temporary))
        .await
        .expect("broker opens")
}

pub(crate) fn cluster(broker: &Handle) -> FluvioClusterConfig {
    FluvioClusterConfig::new(broker.sc_addr().to_string())
}

pub(crate) async fn client(broker: &Handle) -> Fluvio {
    patient(Fluvio::connect_with_config(&cluster(broker)))
        .await
        .expect("client connects")
}

pub(crate) async fn admin(broker: &Handle) -> FluvioAdmin {
    patient(FluvioAdmin::connect_with_config(&cluster(broker)))
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
