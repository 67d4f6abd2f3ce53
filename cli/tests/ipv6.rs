//! Real servers on `::1`, where the machine has it. Both spellings of the host are tested in `address` and `endpoints`.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use millrace_broker::{Broker, Config, Storage};
use millrace_cli::address::HostPort;
use millrace_cli::cluster;
use millrace_cli::endpoints::Endpoints;
use millrace_cli::settings::Settings;
use millrace_control::{Front, Server};
use millrace_topic::{AppendLimits, Appender, Read, Retention};
use tokio_util::sync::CancellationToken;

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

    let cluster = cluster::connect(&endpoint).await.unwrap();
    cluster::wait_for_spu(&cluster).await.unwrap();
    let retention = Retention {
        age: Duration::from_secs(3600),
        bytes: Retention::BYTES_DEFAULT,
    };
    cluster.create("t", &retention).await.unwrap();
    // The controller has told the client where records are: at the broker's second address.
    let mut topic: Appender<()> = cluster
        .appender("t", AppendLimits::default())
        .await
        .unwrap();
    topic.append_and_wait(b"over IPv6".to_vec()).await.unwrap();
    let mut records = cluster.read(Read::new("t").unnumbered()).await.unwrap();
    let record = records.next().await.unwrap().unwrap();
    assert_eq!(record.value, b"over IPv6");
    broker.shutdown().await;
}

/// In a URL the brackets count: without them `::1:8081` is another address.
#[tokio::test(flavor = "multi_thread")]
async fn a_control_api_on_an_ipv6_address_is_asked_at_the_url_of_the_settings() {
    if !has_ipv6() {
        return;
    }
    for spelled in ["::1", "[::1]"] {
        let any_port = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        let server = Server::bind(any_port).await.unwrap();
        let port = server.address().port().to_string();
        let shutdown = CancellationToken::new();
        let nothing = Front::new(&[], || None).router();
        let serving = tokio::spawn(server.run(nothing, shutdown.clone()));
        let settings = [
            ("MILLRACE_CONTROL_HOST", spelled),
            ("MILLRACE_CONTROL_PORT", &port),
        ];
        let settings = settings.map(|(name, value)| (name.into(), value.into()));
        let settings = Settings::resolve(None, settings.into()).unwrap();
        let endpoints = Endpoints::from_settings(&settings).unwrap();
        let health = format!("{}/health", endpoints.control);
        reqwest::get(health).await.unwrap();
        shutdown.cancel();
        serving.await.unwrap().unwrap();
    }
}
