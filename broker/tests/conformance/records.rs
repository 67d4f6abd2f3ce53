//! Producing and consuming.

use fluvio::consumer::ConsumerConfigExtBuilder;
use fluvio::{Compression, Isolation, Offset, RecordKey};
use futures_util::StreamExt;

use crate::support::*;

conforms!(
    records_come_back_in_order_with_key_offset_and_time,
    a_large_topic_is_read_without_loss_whatever_max_bytes_is,
    records_of_megabytes_pass,
    a_client_may_send_its_whole_queue_in_one_request,
    a_stream_goes_on_while_others_produce,
    each_partition_counts_for_itself,
    streams_start_where_they_are_told_to,
    a_deleted_topic_ends_its_streams_and_a_new_one_starts_empty,
);

async fn records_come_back_in_order_with_key_offset_and_time(cluster: &Cluster) {
    let orders = &cluster.topic("orders", 1).await;
    let client = client(cluster).await;
    let producer = producer(&client, orders).await;
    let before = std::time::UNIX_EPOCH.elapsed().expect("time").as_millis() as i64;
    for id in 0..10 {
        let sent = producer
            .send(format!("key-{id}"), format!("value-{id}"))
            .await
            .expect("send");
        assert_eq!(
            patient(sent.wait()).await.expect("acknowledged").offset(),
            id
        );
    }
    let records = take(&client, consumer(orders).build().expect("config"), 10).await;
    assert_eq!(offsets(&records), (0..10).collect::<Vec<_>>());
    for (id, record) in records.iter().enumerate() {
        assert_eq!(record.key().expect("key"), format!("key-{id}").as_bytes());
        assert_eq!(record.value(), format!("value-{id}").as_bytes());
        assert!(
            record.timestamp() >= before,
            "{} < {before}",
            record.timestamp()
        );
    }
}

async fn a_large_topic_is_read_without_loss_whatever_max_bytes_is(cluster: &Cluster) {
    let large = &cluster.topic("large", 1).await;
    let client = client(cluster).await;
    for compression in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let producer = compressing_producer(&client, large, compression).await;
        let filler = "x".repeat(40);
        send_all(&producer, (0..10_000).map(|id| format!("{id}-{filler}"))).await;
    }
    for max_bytes in [1, 10_000, 1_048_576, 32 * 1024 * 1024] {
        let mut config = consumer(large);
        config.max_bytes(max_bytes);
        let records = match cluster.is_real() {
            false => read_to_end(&client, config).await,
            // Where a batch was cut, a stream to the end may not end.
            true => {
                let config = config.build().expect("config");
                cluster.read(config, 50_000).await
            }
        };
        let whole = offsets(&records) == (0..50_000).collect::<Vec<_>>()
            && values(&records)
                .iter()
                .enumerate()
                .all(|(at, value)| value.starts_with(&format!("{}-", at % 10_000)));
        // A batch has up to 64 KiB here.
        match max_bytes < 64 * 1024 {
            true => cluster.differs(Difference::BatchesCut, whole),
            false => assert!(whole, "max_bytes {max_bytes}"),
        }
    }
}

async fn records_of_megabytes_pass(cluster: &Cluster) {
    let large = &cluster.topic("large", 1).await;
    let client = client(cluster).await;
    let producer = producer(&client, large).await;
    let sent: Vec<Vec<u8>> = (1..=5)
        .map(|mib| vec![mib as u8; mib * 2 * 1024 * 1024])
        .collect();
    for value in &sent {
        send_all(&producer, [value.clone()]).await;
    }
    reads_whole(cluster, large, &sent).await;
}

async fn a_client_may_send_its_whole_queue_in_one_request(cluster: &Cluster) {
    let large = &cluster.topic("large", 1).await;
    let client = client(cluster).await;
    let producer = producer(&client, large).await;
    // Each larger than a batch: a hundred batches of a mebibyte are ready at once.
    let sent: Vec<Vec<u8>> = (0..120).map(|id| vec![id; 1024 * 1024]).collect();
    let offsets = send_all(&producer, sent.clone()).await;
    assert_eq!(offsets, (0..120).collect::<Vec<_>>());
    reads_whole(cluster, large, &sent).await;
}

/// That a topic holds these values, each larger than what a client asks for by default.
async fn reads_whole(cluster: &Cluster, topic: &str, sent: &[Vec<u8>]) {
    let whole = |records: &[fluvio::consumer::Record]| {
        records.len() == sent.len()
            && records
                .iter()
                .zip(sent)
                .all(|(record, sent)| record.value() == sent.as_slice())
    };
    let config = consumer(topic).build().expect("config");
    let records = cluster.read(config, sent.len()).await;
    cluster.differs(Difference::BatchesCut, whole(&records));
    let config = consumer(topic)
        .max_bytes(256 * 1024 * 1024)
        .build()
        .expect("config");
    assert!(whole(&cluster.read(config, sent.len()).await));
}

async fn a_stream_goes_on_while_others_produce(cluster: &Cluster) {
    let orders = &cluster.topic("orders", 1).await;
    let reader = client(cluster).await;
    let mut streams = Vec::new();
    for isolation in [Isolation::ReadUncommitted, Isolation::ReadCommitted] {
        let config = consumer(orders)
            .isolation(isolation)
            .build()
            .expect("config");
        streams.push(
            patient(reader.consumer_with_config(config))
                .await
                .expect("consumer"),
        );
    }
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let (client, orders) = (client(cluster).await, orders.clone());
        tasks.spawn(async move {
            let producer = producer(&client, &orders).await;
            for chunk in 0..10 {
                send_all(
                    &producer,
                    (0..50).map(|id| format!("{writer}:{}", chunk * 50 + id)),
                )
                .await;
            }
        });
    }
    for stream in &mut streams {
        let records = next(stream, 2000).await;
        assert_eq!(offsets(&records), (0..2000).collect::<Vec<_>>());
        for writer in 0..4 {
            let own: Vec<String> = values(&records)
                .into_iter()
                .filter(|value| value.starts_with(&format!("{writer}:")))
                .collect();
            assert_eq!(
                own,
                (0..500)
                    .map(|id| format!("{writer}:{id}"))
                    .collect::<Vec<_>>()
            );
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("writer");
    }
}

async fn each_partition_counts_for_itself(cluster: &Cluster) {
    let spread = &cluster.topic("spread", 3).await;
    let client = client(cluster).await;
    let producer = producer(&client, spread).await;
    let mut sent = Vec::new();
    for id in 0..300 {
        sent.push(
            producer
                .send(RecordKey::NULL, format!("{id}"))
                .await
                .expect("send"),
        );
    }
    producer.flush().await.expect("flush");
    let mut counts = [0i64; 3];
    for output in sent {
        let metadata = patient(output.wait()).await.expect("acknowledged");
        counts[metadata.partition_id() as usize] += 1;
    }
    let mut all = Vec::new();
    for partition in 0..3u32 {
        let mut config = ConsumerConfigExtBuilder::default();
        config
            .topic(spread)
            .partition(partition)
            .offset_start(Offset::beginning())
            .retry_mode(fluvio::consumer::RetryMode::Disabled);
        let records = read_to_end(&client, config).await;
        assert_eq!(
            offsets(&records),
            (0..counts[partition as usize]).collect::<Vec<_>>()
        );
        all.extend(values(&records));
    }
    all.sort_by_key(|value| value.parse::<u32>().expect("number"));
    assert_eq!(all, (0..300).map(|id| id.to_string()).collect::<Vec<_>>());
}

async fn streams_start_where_they_are_told_to(cluster: &Cluster) {
    let orders = &cluster.topic("orders", 1).await;
    let client = client(cluster).await;
    let producer = producer(&client, orders).await;
    send_all(&producer, (0..100).map(|id| id.to_string())).await;
    for (start, first) in [
        (Offset::absolute(37).expect("offset"), 37),
        (Offset::from_beginning(5), 5),
        (Offset::from_end(10), 90),
    ] {
        let config = consumer(orders)
            .offset_start(start)
            .build()
            .expect("config");
        let records = take(&client, config, 100 - first).await;
        assert_eq!(records[0].offset, first as i64);
        assert_eq!(records.len(), 100 - first);
    }
    let config = consumer(orders)
        .offset_start(Offset::absolute(500).expect("offset"))
        .build()
        .expect("config");
    let mut stream = patient(client.consumer_with_config(config))
        .await
        .expect("consumer");
    let error = patient(stream.next())
        .await
        .expect("an item")
        .err()
        .expect("beyond the end");
    assert!(
        error
            .to_string()
            .contains("start offset: 500 is greater than leo: 100"),
        "{error}"
    );
}

async fn a_deleted_topic_ends_its_streams_and_a_new_one_starts_empty(cluster: &Cluster) {
    let orders = &cluster.topic("orders", 1).await;
    let reader = client(cluster).await;
    let producer = producer(&reader, orders).await;
    send_all(&producer, ["old"]).await;
    let config = consumer(orders).build().expect("config");
    let mut stream = patient(reader.consumer_with_config(config))
        .await
        .expect("consumer");
    next(&mut stream, 1).await;
    admin(cluster)
        .await
        .delete::<fluvio::metadata::topic::TopicSpec>(orders)
        .await
        .expect("delete");
    let error = patient(stream.next())
        .await
        .expect("an item")
        .err()
        .expect("deleted");
    assert!(error.to_string().contains("deleted"), "{error}");
    cluster.topic("orders", 1).await;
    let again = client(cluster).await;
    let producer = crate::support::producer(&again, orders).await;
    assert_eq!(send_all(&producer, ["new"]).await, [0]);
    let records = take(&again, consumer(orders).build().expect("config"), 1).await;
    assert_eq!(values(&records), ["new"]);
}
