//! Strangers on the ports: nothing they send may end the broker or fill its memory.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

/// Sends bytes, says that there are no more, and reads whatever comes back until the broker closes.
async fn send(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = patient(stream.read_to_end(&mut answer)).await;
    answer
}

pub(crate) fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

/// A request header: key, version, correlation id, client id.
pub(crate) fn request(key: u16, version: i16, body: &[u8]) -> Vec<u8> {
    frame(
        &[
            &key.to_be_bytes()[..],
            &version.to_be_bytes(),
            &7i32.to_be_bytes(),
            &[0, 1, b'c'],
            body,
        ]
        .concat(),
    )
}

/// An administrative body whose length fields lie.
fn lying(label: &str) -> Vec<u8> {
    let inner = [
        &[0, 1, b'x', 0, 0][..],
        &[0; 3],
        &u32::MAX.to_be_bytes(),
        b"short",
    ]
    .concat();
    [
        &(label.len() as u16).to_be_bytes(),
        label.as_bytes(),
        &(inner.len() as u32).to_be_bytes(),
        &inner,
    ]
    .concat()
}

pub(crate) async fn still_works(broker: &millrace_broker::Handle, topic: &str) {
    create_topic(broker, topic, 1).await;
    let client = client(broker).await;
    let producer = producer(&client, topic).await;
    assert_eq!(send_all(&producer, ["fine"]).await, [0]);
    assert_eq!(
        values(&take(&client, consumer(topic).build().expect("config"), 1).await),
        ["fine"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_about_lengths_end_only_their_own_connection() {
    let broker = start_temporary().await;
    let mut cases = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 64],
        u32::MAX.to_be_bytes().to_vec(),
        (i32::MAX as u32).to_be_bytes().to_vec(),
        frame(&[]),
        frame(&[0, 18]),
        vec![0, 0, 1],
    ];
    for key in [
        0, 1, 18, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 2000, 9999,
    ] {
        for version in [-1, 0, 2, 11, 19, 25, i16::MAX] {
            cases.push(request(key, version, &[]));
            cases.push(request(key, version, &[0xff; 40]));
            cases.push(request(key, version, &[0x7f; 40]));
            for label in [
                "Topic",
                "SmartModule",
                "TableFormat",
                "CustomSpu",
                "Partition",
                "SPU",
                "Mirror",
                "?",
            ] {
                cases.push(request(key, version, &lying(label)));
            }
        }
    }
    for case in &cases {
        send(broker.sc_addr(), case).await;
        send(broker.spu_addr(), case).await;
    }
    still_works(&broker, "after").await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_behind_valid_headers_do_no_harm() {
    let broker = start_temporary().await;
    let (sc, spu) = (broker.sc_addr(), broker.spu_addr());
    let runtime = tokio::runtime::Handle::current();
    let fuzz = move || {
        let mut runner = TestRunner::new(Cases {
            cases: 300,
            failure_persistence: None,
            ..Cases::default()
        });
        let keys = prop::sample::select(vec![
            0u16, 18, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008,
        ]);
        let strategy = (keys, 0i16..26, prop::collection::vec(any::<u8>(), 0..200));
        runner.run(&strategy, |(key, version, body)| {
            runtime.block_on(send(sc, &request(key, version, &body)));
            runtime.block_on(send(spu, &request(key, version, &body)));
            Ok(())
        })
    };
    tokio::task::spawn_blocking(fuzz)
        .await
        .expect("no panic")
        .expect("all cases pass");
    still_works(&broker, "after").await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_are_damaged_are_refused_and_not_stored() {
    use fluvio::dataplane::record::{Batch, RawRecords, Record, RecordSet};
    use fluvio_protocol::api::RequestMessage;
    use fluvio_protocol::Encoder;
    use fluvio_spu_schema::produce::{
        DefaultPartitionRequest, DefaultProduceRequest, DefaultTopicRequest,
    };

    let broker = start_temporary().await;
    create_topic(&broker, "orders", 1).await;
    let batch: Batch<RawRecords> = Batch::from(vec![Record::new("value")])
        .try_into()
        .expect("batch");
    let records = RecordSet {
        batches: vec![batch],
    };
    let partition = DefaultPartitionRequest {
        partition_index: 0,
        records,
    };
    let topic = DefaultTopicRequest {
        name: "orders".to_owned(),
        partitions: vec![partition],
        ..Default::default()
    };
    let produce = DefaultProduceRequest {
        topics: vec![topic],
        timeout: Duration::from_secs(1),
        ..Default::default()
    };
    let message = RequestMessage::new_request(produce);
    let mut good = Vec::new();
    message.encode(&mut good, 0).expect("encode");
    let at = good
        .windows(5)
        .position(|window| window == b"value")
        .expect("the record");
    for flipped in at - 40..at + 5 {
        let mut bad = good.clone();
        bad[flipped] ^= 0x10;
        send(broker.spu_addr(), &frame(&bad)).await;
    }
    let client = client(&broker).await;
    assert!(read_to_end(&client, consumer("orders")).await.is_empty());
    send(broker.spu_addr(), &frame(&good)).await;
    assert_eq!(
        values(&read_to_end(&client, consumer("orders")).await),
        ["value"]
    );
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_announces_two_gigabytes_is_hung_up_on_at_once() {
    let broker = start_temporary().await;
    for address in [broker.sc_addr(), broker.spu_addr()] {
        for announced in [1u32 << 31, (1 << 31) - 1, (1 << 30) + 1] {
            // It could send more: this end stays open.
            let mut stream = TcpStream::connect(address).await.expect("connects");
            stream.write_u32(announced).await.expect("sent");
            let _ = stream.write_all(&[0; 100]).await;
            let answer = patient(stream.read(&mut [0; 1])).await;
            assert!(!answer.is_ok_and(|read| read > 0), "{announced} bytes");
        }
    }
    still_works(&broker, "after").await;
    broker.shutdown().await;
}
