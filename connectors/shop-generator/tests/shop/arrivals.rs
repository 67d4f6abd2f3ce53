//! Newcomers arrive on a topic of a real broker, and go on arriving after it was away.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use fluvio::consumer::{ConsumerConfigExtBuilder, RetryMode};
use fluvio::{Fluvio, FluvioClusterConfig, Offset};
use futures_util::StreamExt;
use millrace_broker::{Broker, Config as BrokerConfig, Handle as BrokerHandle, Storage};
use millrace_shop_generator::user_events::{Config, Handle, UserEvents};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);

async fn broker(data: &Path, addresses: Option<(SocketAddr, SocketAddr)>) -> BrokerHandle {
    let mut config = BrokerConfig::on_loopback(Storage::Directory(data.to_owned()));
    if let Some((sc, spu)) = addresses {
        (config.sc_bind, config.spu_bind) = (sc, spu);
    }
    Broker::open(config).await.unwrap()
}

async fn wait_for_sent(handle: &Handle, sent: u64) {
    let waiting = async {
        while handle.status().sent < sent {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("{:?}", handle.status()));
}

async fn read(endpoint: &str, amount: usize) -> Vec<serde_json::Value> {
    let fluvio = Fluvio::connect_with_config(&FluvioClusterConfig::new(endpoint))
        .await
        .unwrap();
    let config = ConsumerConfigExtBuilder::default()
        .topic("users-data")
        .partition(0)
        .offset_start(Offset::beginning())
        .retry_mode(RetryMode::Disabled)
        .build()
        .unwrap();
    let stream = fluvio.consumer_with_config(config).await.unwrap();
    let events = stream
        .take(amount)
        .map(|record| serde_json::from_slice(record.unwrap().value()).unwrap());
    timeout(PATIENCE, events.collect()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn newcomers_arrive_once_each_and_go_on_after_the_broker_was_away() {
    let data = tempfile::tempdir().unwrap();
    let first = broker(data.path(), None).await;
    let addresses = (first.sc_addr(), first.spu_addr());
    let endpoint = first.sc_addr().to_string();
    let service = UserEvents::new(Config {
        endpoint: endpoint.clone(),
        period: Duration::from_millis(10),
        ..Config::default()
    })
    .unwrap();
    let (handle, shutdown) = (service.handle(), CancellationToken::new());
    let running = tokio::spawn(service.run(shutdown.clone()));
    wait_for_sent(&handle, 20).await;

    first.shutdown().await;
    let away = handle.status().sent;
    let second = broker(data.path(), Some(addresses)).await;
    wait_for_sent(&handle, away + 20).await;
    shutdown.cancel();
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();

    let sent = handle.status().sent;
    let events = read(&endpoint, usize::try_from(sent).unwrap()).await;
    let emails: HashSet<_> = events
        .iter()
        .map(|event| event["email"].to_string())
        .collect();
    // What was under way when the broker left may stand there twice.
    assert!(
        emails.len() + 1 >= events.len(),
        "{} addresses in {} events",
        emails.len(),
        events.len()
    );
    second.shutdown().await;
}
