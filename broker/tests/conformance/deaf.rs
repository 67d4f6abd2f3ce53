//! Clients that send and never read: they hold up nobody, and take no more than their share of memory.

use std::net::SocketAddr;
use std::time::Duration;

use fluvio::Compression;
use fluvio_protocol::api::RequestMessage;
use fluvio_protocol::record::{RawRecords, RecordSet};
use fluvio_protocol::Encoder;
use fluvio_spu_schema::server::consumer_offset::DeleteConsumerOffsetRequest;
use fluvio_spu_schema::server::smartmodule::SmartModuleInvocation;
use fluvio_spu_schema::server::stream_fetch::StreamFetchRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use millrace_broker::{Broker, Config, Limits, Storage};

use crate::garbage::{frame, request, still_works};
use crate::support::*;

/// More than the system keeps for a connection on its way.
const FLOOD_BYTES: usize = 96 << 20;
/// So long without one byte taken: nobody reads. There is no event that says so.
const SILENCE: Duration = Duration::from_secs(3);

/// Bytes that a fetch asks for; there are as many.
const RESPONSE_BYTES: usize = 32 << 20;

const CONNECTIONS: usize = 8;

type Fetch = StreamFetchRequest<RecordSet<RawRecords>>;

#[tokio::test(flavor = "multi_thread")]
async fn a_deaf_administrator_does_not_hold_up_others() {
    let broker = start_temporary().await;
    let mut silent = TcpStream::connect(broker.sc_addr())
        .await
        .expect("connects");
    // Watches of topics, as many as a connection may have, and not one answer read.
    let watch = request(
        1004,
        19,
        &[&[0, 5][..], b"Topic", &9u32.to_be_bytes(), &[0; 9]].concat(),
    );
    for _ in 0..200 {
        silent.write_all(&watch).await.expect("sent");
    }
    for round in 0..20 {
        create_topic(&broker, &format!("round-{round}"), 50).await;
    }
    still_works(&broker, "after").await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deaf_consumers_of_much_do_not_hold_up_others() {
    let broker = start_temporary().await;
    create_topic(&broker, "much", 1).await;
    let ours = client(&broker).await;
    let producer = compressing_producer(&ours, "much", Compression::None).await;
    send_all(&producer, (0..64).map(|_| vec![b'x'; 512 * 1024])).await;
    let stream = frame(&encoded(fetch("much", vec![])));
    let mut silent = Vec::new();
    for _ in 0..10 {
        let mut socket = TcpStream::connect(broker.spu_addr())
            .await
            .expect("connects");
        for _ in 0..20 {
            socket.write_all(&stream).await.expect("sent");
        }
        silent.push(socket);
    }
    assert_eq!(read_to_end(&ours, consumer("much")).await.len(), 64);
    still_works(&broker, "after").await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_and_never_reads_is_not_read_from_any_more() {
    let broker = start_temporary().await;
    create_topic(&broker, "orders", 1).await;
    for (what, body) in [
        (
            "offsets to delete",
            encoded(DeleteConsumerOffsetRequest::new("orders", 0, "nobody")),
        ),
        ("streams of nothing", encoded(fetch("missing", vec![]))),
    ] {
        let taken = flood(broker.spu_addr(), &frame(&body)).await;
        assert!(taken < FLOOD_BYTES, "all of the {what} were read");
        println!("{what}: {taken} bytes taken");
        still_works(&broker, &format!("after-{}", what.replace(' ', "-"))).await;
    }
    broker.shutdown().await;
}

/// Half a connection is none: a client that has ended its side and does not read is let go, its place given
/// to the next.
#[tokio::test(flavor = "multi_thread")]
async fn who_ends_its_side_and_never_reads_loses_its_place() {
    let config = Config::on_loopback(Storage::Temporary);
    let limits = Limits {
        connections_max: CONNECTIONS,
        response_bytes_max: RESPONSE_BYTES,
        ..Limits::default()
    };
    let broker = Broker::open(Config { limits, ..config })
        .await
        .expect("opens");
    create_topic(&broker, "much", 1).await;
    // Stays, so that the places it has do not become free.
    let ours = client(&broker).await;
    let producer = compressing_producer(&ours, "much", Compression::None).await;
    send_all(&producer, (0..64).map(|_| vec![b'x'; 512 * 1024])).await;
    let stream = frame(&encoded(fetch("much", vec![])));
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut socket = slow_to_receive(broker.spu_addr()).await;
        let _ = socket.write_all(&stream).await;
        // What comes is more than the system keeps on its way; nothing comes where there is no place.
        if patient(socket.peek(&mut [0]))
            .await
            .is_ok_and(|bytes| bytes > 0)
        {
            socket.shutdown().await.expect("half closed");
            silent.push(socket);
        }
    }
    assert!(!silent.is_empty());
    // Beyond the limit a connection is closed at once; one of these is not, as soon as there is room. Those that are
    // served take the places of all that were let go, some of which are a moment later than the first.
    let mut served_now = Vec::new();
    let all_are_free = async {
        while served_now.len() < silent.len() {
            served_now.extend(served(broker.spu_addr()).await);
        }
    };
    patient(all_are_free).await;
    for mut socket in silent {
        let mut received = Vec::new();
        // It ends in the middle of a response, or with a reset.
        let _ = patient(socket.read_to_end(&mut received)).await;
        assert!(received.len() < RESPONSE_BYTES, "{}", received.len());
    }
    broker.shutdown().await;
}

async fn connected(address: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(address))
        .await
        .expect("connects")
}

/// Some systems keep a whole response on its way, unless they are told not to.
async fn slow_to_receive(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("socket");
    socket.set_recv_buffer_size(64 * 1024).expect("set");
    patient(socket.connect(address)).await.expect("connects")
}

/// A connection that was answered; `None` if there was no place for it.
async fn served(address: SocketAddr) -> Option<TcpStream> {
    let mut socket = connected(address).await;
    let _ = socket.write_all(&request(18, 0, &[])).await;
    socket.read_u8().await.is_ok().then_some(socket)
}

/// Sends a request again and again until nobody takes it any more; how many bytes were taken.
async fn flood(address: SocketAddr, request: &[u8]) -> usize {
    let socket = TcpSocket::new_v4().expect("socket");
    socket.set_send_buffer_size(64 * 1024).expect("set");
    let stream = patient(socket.connect(address)).await.expect("connects");
    let many = request.repeat(64 * 1024 / request.len());
    let mut taken = 0;
    while taken < FLOOD_BYTES {
        match tokio::time::timeout(SILENCE, stream.writable()).await {
            Ok(ready) => ready.expect("open"),
            Err(_) => break,
        }
        // Where it stopped in the middle of a request it goes on there.
        if let Ok(more) = stream.try_write(&many[taken % many.len()..]) {
            taken += more;
        }
    }
    taken
}

fn fetch(topic: &str, smartmodules: Vec<SmartModuleInvocation>) -> Fetch {
    Fetch::builder()
        .topic(topic.to_owned())
        .max_bytes(RESPONSE_BYTES as i32)
        .smartmodules(smartmodules)
        .build()
        .expect("request")
}

pub(crate) fn encoded<R: fluvio_protocol::api::Request>(request: R) -> Vec<u8> {
    let mut bytes = Vec::new();
    let message = RequestMessage::new_request(request);
    message.encode(&mut bytes, 0).expect("encode");
    bytes
}
