//! Real servers on `::1`, where the machine has it. Both spellings of the host are tested in `address` and `endpoints`.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use fluvio::metadata::topic::TopicSpec;
use fluvio::{Fluvio, FluvioClusterConfig, Offset, RecordKey};
use futures_util::StreamExt;
use millrace_broker::{Broker, Config, Storage};
use millrace_cli::address::HostPort;
use millrace_cli::cluster;

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_on_an_ipv6_address_takes_and_gives_records() {
    if !has_ipv6() {
        return;
    }
    let any_port = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let config = Config {
        sc_bind: any_port,
        spu_bind: any_port,
        ..Config::on_loopback(Storage::Temporary)
    };
    let broker = Broker::open(config).await.unwrap();
    let spelled = format!("::1:{}", broker.sc_addr().port());
    let endpoint = spelled.parse::<HostPort>().unwrap().to_string();

    let admin = cluster::connect(&endpoint).await.unwrap();
    cluster::wait_for_spu(&admin).await.unwrap();
    let topic = TopicSpec::new_computed(1, 1, None);
    admin.create("t".to_owned(), false, topic).await.unwrap();
    let client = Fluvio::connect_with_config(&FluvioClusterConfig::new(&endpoint))
        .await
        .unwrap();
    // The controller has told the client where records are: at the broker's second address.
    let producer = client.topic_producer("t").await.unwrap();
    producer.send(RecordKey::NULL, "over IPv6").await.unwrap();
    producer.flush().await.unwrap();
    let config = fluvio::consumer::ConsumerConfigExtBuilder::default()
        .topic("t")
        .partition(0)
        .offset_start(Offset::beginning())
        .build()
        .unwrap();
    let mut records = client.consumer_with_config(config).await.unwrap();
    let record = records.next().await.unwrap().unwrap();
    assert_eq!(record.value(), b"over IPv6");
    broker.shutdown().await;
}
