//! Topics that deduplicate what is produced to them.

use std::collections::BTreeMap;
use std::time::Duration;

use fluvio::metadata::topic::{
    Bounds, Deduplication, Filter, TopicSpec, TopicStorageConfig, Transform,
};
use fluvio::{RecordKey, TopicProducerConfigBuilder, TopicProducerPool};
use millrace_broker::{Config, Limits, Storage};

use crate::support::*;
use crate::wat;

conforms!(
    duplicates_are_dropped_within_a_batch_and_after_it,
    a_duplicate_is_no_longer_one_behind_the_bounds,
    producers_at_the_same_time_deduplicate_each_other,
    a_topic_whose_module_is_missing_is_refused,
    an_error_of_the_module_fails_the_request_and_writes_nothing,
    what_was_refused_may_come_again,
);

/// A topic that drops what is among its last `count` records.
fn deduplicating(module: &str, count: u64) -> TopicSpec {
    let mut spec = TopicSpec::new_computed(1, 1, None);
    spec.set_deduplication(Some(Deduplication {
        bounds: Bounds {
            count,
            age: Some(Duration::from_secs(3600)),
        },
        filter: Filter {
            transform: Transform {
                uses: module.to_owned(),
                with: BTreeMap::new(),
            },
        },
    }));
    spec
}

async fn topic(cluster: &Cluster, module: &str, count: u64) -> String {
    let module = cluster.module("dedup", module).await;
    cluster
        .topic_with("orders", deduplicating(&module, count))
        .await
}

/// A producer that sends a batch only when it is flushed.
async fn batching(cluster: &impl Endpoint, topic: &str) -> TopicProducerPool {
    let config = TopicProducerConfigBuilder::default()
        .linger(Duration::from_secs(60))
        .build()
        .expect("producer config");
    let client = client(cluster).await;
    patient(client.topic_producer_with_config(topic, config))
        .await
        .expect("producer")
}

/// Sends values as one batch; the error with which all of them were refused, if they were.
async fn send_batch(producer: &TopicProducerPool, values: &[&str]) -> Option<String> {
    let mut outputs = Vec::new();
    for value in values {
        outputs.push(producer.send(RecordKey::NULL, *value).await.expect("send"));
    }
    let _ = patient(producer.flush()).await;
    let mut refusal = None;
    for output in outputs {
        let error = patient(output.wait()).await.err();
        refusal = error.map(|error| error.to_string());
    }
    refusal
}

async fn stored(cluster: &impl Endpoint, topic: &str) -> Vec<fluvio::consumer::Record> {
    read_to_end(&client(cluster).await, consumer(topic)).await
}

async fn duplicates_are_dropped_within_a_batch_and_after_it(cluster: &Cluster) {
    let orders = &topic(cluster, &wat::unseen(), 10).await;
    let producer = batching(cluster, orders).await;
    for batch in [["a", "b", "a"], ["b", "c", "c"], ["a", "b", "c"]] {
        assert_eq!(send_batch(&producer, &batch).await, None);
    }
    // A key makes another record of it.
    patient(producer.send("key", "a")).await.expect("send");
    patient(producer.flush()).await.expect("flush");
    let records = stored(cluster, orders).await;
    assert_eq!(values(&records), ["a", "b", "c", "a"]);
    cluster.differs(
        Difference::DroppedLeaveGaps,
        offsets(&records) == [0, 1, 2, 3],
    );
    let timed = records.iter().all(|record| record.timestamp() > 0);
    cluster.differs(Difference::TimesLost, timed);
}

async fn a_duplicate_is_no_longer_one_behind_the_bounds(cluster: &Cluster) {
    let orders = &topic(cluster, &wat::unseen(), 3).await;
    let producer = batching(cluster, orders).await;
    for batch in [["a", "b", "c"], ["a", "d", "b"], ["a", "d", "c"]] {
        assert_eq!(send_batch(&producer, &batch).await, None);
    }
    let kept = values(&stored(cluster, orders).await);
    assert_eq!(kept, ["a", "b", "c", "d", "a"]);
}

async fn producers_at_the_same_time_deduplicate_each_other(cluster: &Cluster) {
    let orders = &topic(cluster, &wat::unseen(), 60).await;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let producer = batching(cluster, orders).await;
        writers.spawn(async move {
            for id in 0..60 {
                assert_eq!(send_batch(&producer, &[&id.to_string()]).await, None);
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.expect("writer");
    }
    let kept = values(&stored(cluster, orders).await);
    let once: Vec<String> = (0..60).map(|id| id.to_string()).collect();
    assert_eq!(kept, once);
}

async fn a_topic_whose_module_is_missing_is_refused(cluster: &Cluster) {
    let admin = admin(cluster).await;
    let name = cluster.name("orders");
    let spec = deduplicating("missing", 10);
    let error = admin.create(name, false, spec).await.expect_err("refused");
    let error = error.to_string();
    assert!(
        error.starts_with("Deduplication SmartModule is not loaded"),
        "{error}"
    );
}

async fn an_error_of_the_module_fails_the_request_and_writes_nothing(cluster: &Cluster) {
    let orders = &topic(cluster, &wat::fails_on_third(), 10).await;
    let producer = batching(cluster, orders).await;
    let error = send_batch(&producer, &["a", "b", "c"]).await;
    let error = error.expect("refused");
    // A real SPU calls it a storage error.
    assert!(cluster.is_real() || error.contains("bad"), "{error}");
    let producer = batching(cluster, orders).await;
    assert_eq!(send_batch(&producer, &["d", "e"]).await, None);
    assert_eq!(values(&stored(cluster, orders).await), ["d", "e"]);
}

async fn what_was_refused_may_come_again(cluster: &Cluster) {
    let module = cluster.module("dedup", &wat::unseen()).await;
    let mut spec = deduplicating(&module, 10);
    spec.set_storage(TopicStorageConfig {
        segment_size: Some(2048),
        max_partition_size: None,
    });
    let orders = &cluster.topic_with("orders", spec).await;
    let large: Vec<String> = ["a", "b", "c"].map(|id| id.repeat(900)).to_vec();
    let large: Vec<&str> = large.iter().map(String::as_str).collect();
    let producer = batching(cluster, orders).await;
    // Together they do not fit into a segment.
    assert!(send_batch(&producer, &large).await.is_some());
    let producer = batching(cluster, orders).await;
    for value in &large {
        assert_eq!(send_batch(&producer, &[value]).await, None);
    }
    let patience = if cluster.is_real() { 1 } else { large.len() };
    let config = consumer(orders).build().expect("config");
    let kept = cluster.read(config, patience).await;
    cluster.differs(Difference::RefusedRemembered, values(&kept) == large);
}

async fn embedded(limits: Limits, dir: &std::path::Path) -> millrace_broker::Handle {
    let config = Config {
        limits,
        ..Config::on_loopback(Storage::Directory(dir.to_owned()))
    };
    millrace_broker::Broker::open(config)
        .await
        .expect("broker opens")
}

async fn create(broker: &millrace_broker::Handle, count: u64) {
    broker
        .put_smart_module("dedup", module_spec(&wat::unseen()))
        .await
        .expect("module");
    let spec = deduplicating("dedup", count);
    patient(admin(broker).await.create("orders".to_owned(), false, spec))
        .await
        .expect("topic is created");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_remembers_what_the_log_holds_within_the_bounds() {
    let dir = tempfile::tempdir().expect("directory");
    let broker = embedded(Limits::default(), dir.path()).await;
    create(&broker, 3).await;
    let producer = batching(&broker, "orders").await;
    send_batch(&producer, &["a", "b", "c", "d"]).await;
    broker.shutdown().await;
    let broker = embedded(Limits::default(), dir.path()).await;
    let producer = batching(&broker, "orders").await;
    assert_eq!(send_batch(&producer, &["b", "c", "d", "e"]).await, None);
    assert_eq!(send_batch(&producer, &["a", "d", "e"]).await, None);
    let kept = values(&stored(&broker, "orders").await);
    assert_eq!(kept, ["a", "b", "c", "d", "e", "a"]);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaking_module_is_replaced_and_shown_the_log_again() {
    let dir = tempfile::tempdir().expect("directory");
    let limits = Limits {
        wasm_recycle_bytes: 4 << 20,
        wasm_memory_bytes_max: 8 << 20,
        ..Limits::default()
    };
    let broker = embedded(limits, dir.path()).await;
    create(&broker, 4).await;
    let client = client(&broker).await;
    let producer = producer(&client, "orders").await;
    let value = |id: usize| format!("{id} {}", "x".repeat(60_000));
    // Most come again right away, up to four times, so that wherever an instance ends, the next one must
    // know what the last one has seen.
    let times = |id: usize| 1 + (5 * id + id / 3) % 4;
    let sent = (0..300).flat_map(|id| std::iter::repeat_n(value(id), times(id)));
    send_all(&producer, sent).await;
    let kept = values(&stored(&broker, "orders").await);
    assert_eq!(kept, (0..300).map(value).collect::<Vec<_>>());
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_cannot_run_is_refused_with_the_topic() {
    let broker = start_temporary().await;
    broker
        .put_smart_module("dedup", module_spec(""))
        .await
        .expect("module");
    let admin = admin(&broker).await;
    let spec = deduplicating("dedup", 3);
    let error = admin
        .create("orders".to_owned(), false, spec)
        .await
        .expect_err("refused")
        .to_string();
    assert!(error.contains("Error initializing"), "{error}");
    assert!(admin.all::<TopicSpec>().await.expect("list").is_empty());
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_module_is_gone_refuses_records_until_it_is_back() {
    let dir = tempfile::tempdir().expect("directory");
    let broker = embedded(Limits::default(), dir.path()).await;
    create(&broker, 3).await;
    send_batch(&batching(&broker, "orders").await, &["a"]).await;
    let gone = admin(&broker).await;
    gone.delete::<fluvio::metadata::smartmodule::SmartModuleSpec>("dedup")
        .await
        .expect("delete");
    broker.shutdown().await;
    let broker = embedded(Limits::default(), dir.path()).await;
    let error = send_batch(&batching(&broker, "orders").await, &["a", "b"]).await;
    let error = error.expect("refused");
    assert!(error.contains("not loaded"), "{error}");
    assert_eq!(values(&stored(&broker, "orders").await), ["a"]);
    broker
        .put_smart_module("dedup", module_spec(&wat::unseen()))
        .await
        .expect("module");
    let producer = batching(&broker, "orders").await;
    assert_eq!(send_batch(&producer, &["a", "b"]).await, None);
    assert_eq!(values(&stored(&broker, "orders").await), ["a", "b"]);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_partitions_deduplicate_than_there_is_room_for() {
    let dir = tempfile::tempdir().expect("directory");
    let limits = Limits {
        deduplicating_partitions_max: 1,
        ..Limits::default()
    };
    let broker = embedded(limits, dir.path()).await;
    create(&broker, 4).await;
    let spec = broker_topic(&broker, "orders").await;
    let admin = admin(&broker).await;
    let second = admin.create("second".to_owned(), false, spec);
    let error = second.await.expect_err("refused").to_string();
    assert!(
        error.contains("1 partitions deduplicate already"),
        "{error}"
    );
    broker.shutdown().await;
}

async fn broker_topic(broker: &impl Endpoint, name: &str) -> TopicSpec {
    let topics = admin(broker).await.all::<TopicSpec>().await.expect("list");
    let topic = topics.into_iter().find(|topic| topic.name == name);
    topic.expect("the topic").spec
}
