//! SmartModules on the way from a producer into the log.

use std::time::{Duration, Instant};

use fluvio::{
    Fluvio, RecordKey, SmartModuleInvocation, TopicProducerConfigBuilder, TopicProducerPool,
};
use fluvio_protocol::record::{Batch, RawRecords, Record, RecordSet};
use fluvio_smartmodule::dataplane::smartmodule::Lookback;
use fluvio_spu_schema::produce::{DefaultProduceRequest, PartitionProduceData, TopicProduceData};
use millrace_broker::{Broker, Config, Storage};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::deaf::encoded;
use crate::durability::in_small_segments;
use crate::garbage::frame;
use crate::modules::{named, sent};
use crate::support::*;
use crate::wat;

conforms!(
    what_a_producers_modules_leave_is_written_without_gaps,
    what_a_producers_modules_drop_altogether_is_acknowledged,
    an_error_of_a_producers_module_fails_the_request_and_writes_nothing,
    a_producers_module_is_shown_what_is_in_the_log,
    a_batch_larger_than_a_segment_of_its_topic_is_refused_whenever_it_comes,
);

/// A producer whose batches are as large as what is sent before a flush.
async fn producing_through(
    client: &Fluvio,
    topic: &str,
    chain: Vec<SmartModuleInvocation>,
) -> TopicProducerPool {
    let config = TopicProducerConfigBuilder::default()
        .linger(Duration::from_secs(60))
        .smartmodules(chain)
        .build()
        .expect("producer config");
    patient(client.topic_producer_with_config(topic, config))
        .await
        .expect("producer")
}

fn ids(range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|id| id.to_string()).collect()
}

/// Sends values through modules that the SPU of a real cluster may not have heard of yet; nothing is written
/// then, and it is tried again.
async fn when_known(
    client: &Fluvio,
    topic: &str,
    chain: Vec<SmartModuleInvocation>,
    values: Vec<String>,
) -> TopicProducerPool {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let producer = producing_through(client, topic, chain.clone()).await;
        let mut outputs = Vec::new();
        for value in &values {
            outputs.push(
                producer
                    .send(RecordKey::NULL, value.as_str())
                    .await
                    .expect("send"),
            );
        }
        let _ = patient(producer.flush()).await;
        let mut refusals = Vec::new();
        for output in outputs {
            refusals.extend(patient(output.wait()).await.err());
        }
        let Some(refusal) = refusals.pop() else {
            return producer;
        };
        let text = refusal.to_string();
        assert!(
            text.contains("not found") && Instant::now() < deadline,
            "{text}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn stored(cluster: &Cluster, topic: &str) -> Vec<fluvio::consumer::Record> {
    read_to_end(&client(cluster).await, consumer(topic)).await
}

async fn what_a_producers_modules_leave_is_written_without_gaps(cluster: &Cluster) {
    let orders = &cluster.topic("orders", 1).await;
    let every = &cluster.module("every", &wat::every()).await;
    let client = client(cluster).await;
    let chain = vec![
        named(every, &[("n", "2")]),
        sent(&wat::second_incremented(), &[]),
    ];
    let producer = when_known(&client, orders, chain, ids(0..8)).await;
    send_all(&producer, ids(10..18)).await;
    let records = stored(cluster, orders).await;
    assert_eq!(values(&records), ["1", "5", "11", "15"]);
    cluster.differs(
        Difference::DroppedLeaveGaps,
        offsets(&records) == [0, 1, 2, 3],
    );
    let timed = records.iter().all(|record| record.timestamp() > 0);
    cluster.differs(Difference::TimesLost, timed);
}

async fn what_a_producers_modules_drop_altogether_is_acknowledged(cluster: &Cluster) {
    let orders = &cluster.topic("orders", 1).await;
    let client = client(cluster).await;
    let nothing = vec![sent(&wat::nothing(), &[])];
    let producer = producing_through(&client, orders, nothing).await;
    send_all(&producer, ids(0..5)).await;
    let plain = crate::support::producer(&client, orders).await;
    assert_eq!(send_all(&plain, ["kept"]).await, [0]);
    assert_eq!(values(&stored(cluster, orders).await), ["kept"]);
}

async fn an_error_of_a_producers_module_fails_the_request_and_writes_nothing(cluster: &Cluster) {
    let orders = &cluster.topic("orders", 1).await;
    let client = client(cluster).await;
    let cases = [
        (sent(&wat::fails_on_third(), &[]), "bad"),
        (named("missing", &[]), "SmartModule missing was not found"),
        (sent(&wat::every(), &[]), "Error initializing"),
    ];
    for (module, text) in cases {
        let producer = producing_through(&client, orders, vec![module]).await;
        let mut outputs = Vec::new();
        for id in ids(0..5) {
            outputs.push(producer.send(RecordKey::NULL, id).await.expect("send"));
        }
        let _ = patient(producer.flush()).await;
        for output in outputs {
            let error = patient(output.wait()).await.expect_err("refused");
            assert!(error.to_string().contains(text), "{error}");
        }
    }
    let plain = producer(&client, orders).await;
    assert_eq!(send_all(&plain, ["kept"]).await, [0]);
    assert_eq!(values(&stored(cluster, orders).await), ["kept"]);
}

async fn a_producers_module_is_shown_what_is_in_the_log(cluster: &Cluster) {
    let orders = &cluster.topic("orders", 1).await;
    let client = client(cluster).await;
    let mut unseen = sent(&wat::unseen(), &[]);
    unseen.params.set_lookback(Some(Lookback::last(4)));
    let producer = producing_through(&client, orders, vec![unseen]).await;
    for sent in [0..6, 3..8, 0..2] {
        send_all(&producer, ids(sent)).await;
    }
    // The last four stored were 2 to 5, then 4 to 7.
    let expected = [ids(0..6), ids(6..8), ids(0..2)].concat();
    assert_eq!(values(&stored(cluster, orders).await), expected);
}

async fn a_batch_larger_than_a_segment_of_its_topic_is_refused_whenever_it_comes(
    cluster: &Cluster,
) {
    let narrow = in_small_segments(3_600, 1 << 20);
    let orders = &cluster.topic_with("orders", narrow).await;
    let producer = producer(&client(cluster).await, orders).await;
    for _ in 0..2 {
        let sent = producer.send(RecordKey::NULL, vec![b'x'; 4_096]).await;
        patient(producer.flush()).await.ok();
        let refused = patient(sent.expect("send").wait()).await;
        let error = refused.expect_err("refused").to_string();
        assert!(error.contains("too large"), "{error}");
        producer.clear_errors().await;
    }
    assert_eq!(send_all(&producer, ["fits"]).await, [0]);
}

/// Longer than a module that has its turn takes for a record.
const NO_TURN: Duration = Duration::from_secs(2);

/// A request to append one record through a module.
fn one_record_through(topic: &str, module: SmartModuleInvocation) -> Vec<u8> {
    let mut batch = Batch::default();
    batch.add_record(Record::new("record"));
    let batch = Batch::<RawRecords>::try_from(batch).expect("a batch");
    let partition = PartitionProduceData {
        records: RecordSet::default().add(batch),
        ..PartitionProduceData::default()
    };
    let data = TopicProduceData {
        name: topic.to_owned(),
        partitions: vec![partition],
        ..TopicProduceData::default()
    };
    frame(&encoded(DefaultProduceRequest {
        topics: vec![data],
        smartmodules: vec![module],
        ..DefaultProduceRequest::default()
    }))
}

/// As many modules run at once as there are processors: those of producers that have left must not keep a turn
/// until the time of a call is over, which is an hour here.
#[tokio::test(flavor = "multi_thread")]
async fn a_producers_module_ends_when_the_producer_has_gone() {
    let mut config = Config::on_loopback(Storage::Temporary);
    config.limits.wasm_call_time_max = Duration::from_secs(3_600);
    let broker = Broker::open(config).await.expect("opens");
    create_topic(&broker, "orders", 1).await;
    let client = client(&broker).await;
    send_all(&producer(&client, "orders").await, ["0"]).await;
    let request = one_record_through("orders", sent(&wat::endless(false), &[]));
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    let mut producers = Vec::new();
    for _ in 0..processors {
        let mut socket = TcpStream::connect(broker.spu_addr())
            .await
            .expect("connects");
        socket.write_all(&request).await.expect("sent");
        producers.push(socket);
    }
    let through_a_module = || {
        let mut config = consumer("orders");
        config.smartmodule(vec![sent(&wat::identity(), &[])]);
        take(&client, config.build().expect("config"), 1)
    };
    // Until all of them run others have turns.
    let none_is_left = async {
        while tokio::time::timeout(NO_TURN, through_a_module())
            .await
            .is_ok()
        {}
    };
    patient(none_is_left).await;
    drop(producers);
    assert_eq!(patient(through_a_module()).await.len(), 1);
    broker.shutdown().await;
}
