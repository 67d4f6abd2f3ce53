//! Named consumers' offsets.

use std::time::Duration;

use fluvio::consumer::{ConsumerStream, OffsetManagementStrategy};

use crate::support::*;

conforms!(offsets_can_be_deleted_and_go_with_their_topic,);

fn named(topic: &str, consumer_id: &str) -> fluvio::consumer::ConsumerConfigExt {
    let mut config = consumer(topic);
    config
        .offset_consumer(consumer_id)
        .offset_strategy(OffsetManagementStrategy::Manual);
    config.build().expect("config")
}

/// Reads a topic of two records as a consumer without an offset, and commits; the offset that is known then.
pub(crate) async fn commit_at_end(client: &fluvio::Fluvio, topic: &str, consumer: &str) -> i64 {
    let mut stream = patient(client.consumer_with_config(named(topic, consumer)))
        .await
        .expect("consumer");
    assert_eq!(offsets(&next(&mut stream, 2).await), [0, 1]);
    patient(stream.offset_commit()).await.expect("commit");
    patient(stream.offset_flush()).await.expect("flush");
    let known = patient(client.consumer_offsets()).await.expect("list");
    known
        .iter()
        .find(|known| known.consumer_id == consumer)
        .expect("known")
        .offset
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_consumer_resumes_after_what_it_committed_even_after_a_restart() {
    let dir = tempfile::tempdir().expect("directory");
    let broker = start(dir.path()).await;
    create_topic(&broker, "orders", 1).await;
    {
        let client = client(&broker).await;
        let producer = producer(&client, "orders").await;
        send_all(&producer, (0..30).map(|id| id.to_string())).await;
        let mut stream = patient(client.consumer_with_config(named("orders", "reader")))
            .await
            .expect("consumer");
        next(&mut stream, 10).await;
        patient(stream.offset_commit()).await.expect("commit");
        patient(stream.offset_flush()).await.expect("flush");
    }
    broker.shutdown().await;
    let broker = start(dir.path()).await;
    let client = client(&broker).await;
    let mut stream = patient(client.consumer_with_config(named("orders", "reader")))
        .await
        .expect("consumer");
    assert_eq!(
        offsets(&next(&mut stream, 20).await),
        (10..30).collect::<Vec<_>>()
    );
    let known = patient(client.consumer_offsets()).await.expect("list");
    assert_eq!(known.len(), 1);
    assert_eq!(
        (
            known[0].consumer_id.as_str(),
            known[0].topic.as_str(),
            known[0].partition,
            known[0].offset
        ),
        ("reader", "orders", 0, 9)
    );
    assert!(Duration::from_secs(known[0].modified_time) > Duration::from_secs(1_600_000_000));
    broker.shutdown().await;
}

async fn offsets_can_be_deleted_and_go_with_their_topic(cluster: &Cluster) {
    let orders = &cluster.topic("orders", 1).await;
    let client = client(cluster).await;
    let producer = producer(&client, orders).await;
    send_all(&producer, ["a", "b"]).await;
    for consumer_id in ["one", "two"] {
        let mut stream = patient(client.consumer_with_config(named(orders, consumer_id)))
            .await
            .expect("consumer");
        next(&mut stream, 1).await;
        patient(stream.offset_commit()).await.expect("commit");
        patient(stream.offset_flush()).await.expect("flush");
    }
    patient(client.delete_consumer_offset("one", (orders, 0)))
        .await
        .expect("delete");
    let known = patient(client.consumer_offsets()).await.expect("list");
    assert_eq!(
        known
            .iter()
            .map(|offset| offset.consumer_id.as_str())
            .collect::<Vec<_>>(),
        ["two"]
    );
    admin(cluster)
        .await
        .delete::<fluvio::metadata::topic::TopicSpec>(orders)
        .await
        .expect("delete");
    assert!(patient(client.consumer_offsets())
        .await
        .expect("list")
        .is_empty());
}
