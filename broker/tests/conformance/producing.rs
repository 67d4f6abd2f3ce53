//! SmartModules on the way from a producer into the log.

use std::time::{Duration, Instant};

use fluvio::{
    Fluvio, RecordKey, SmartModuleInvocation, TopicProducerConfigBuilder, TopicProducerPool,
};
use fluvio_smartmodule::dataplane::smartmodule::Lookback;

use crate::modules::{named, sent};
use crate::support::*;
use crate::wat;

conforms!(
    what_a_producers_modules_leave_is_written_without_gaps,
    what_a_producers_modules_drop_altogether_is_acknowledged,
    an_error_of_a_producers_module_fails_the_request_and_writes_nothing,
    a_producers_module_is_shown_what_is_in_the_log,
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
