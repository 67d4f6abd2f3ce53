//! A broker with SmartModule `user-event`, a database with the shop's tables, and ingest between.

use std::path::Path;
use std::time::Duration;

use fluvio::consumer::{ConsumerConfigExtBuilder, RetryMode};
use fluvio::metadata::smartmodule::{SmartModuleSpec, SmartModuleWasm};
use fluvio::metadata::topic::TopicSpec;
use fluvio::{Fluvio, FluvioClusterConfig, Offset, RecordKey};
use futures_util::StreamExt;
use millrace_broker::{Broker, Storage};
use millrace_sm_user_event::RejectedEvent;
use millrace_users_data::{Config, Error, Handle, Service};
use sqlx::{Executor, PgConnection, Row};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::postgres::Postgres;

/// Long enough for a busy machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(120);
const TABLES: &str = include_str!("../../../shop-generator/schema.sql");

pub(crate) struct Shop {
    pub(crate) broker: millrace_broker::Handle,
    pub(crate) postgres: PgConnection,
    pub(crate) config: Config,
}

/// A running ingest.
pub(crate) struct Ingest {
    pub(crate) handle: Handle,
    pub(crate) task: JoinHandle<Result<(), Error>>,
    shutdown: CancellationToken,
}

impl Shop {
    /// `name` names the database.
    pub(crate) async fn open(name: &str) -> Shop {
        let config = millrace_broker::Config::on_loopback(Storage::Temporary);
        Shop::with(name, Broker::open(config).await.expect("the broker opens")).await
    }

    pub(crate) async fn with(name: &str, broker: millrace_broker::Handle) -> Shop {
        let server = Postgres::shared().await;
        let mut postgres = server.create(name).await;
        let tables = format!("CREATE SCHEMA source; SET search_path = source; {TABLES}");
        postgres
            .execute(tables.as_str())
            .await
            .expect("the shop's tables");
        let config = Config {
            endpoint: broker.sc_addr().to_string(),
            postgres_url: server.url(name),
            ..Config::default()
        };
        let shop = Shop {
            broker,
            postgres,
            config,
        };
        shop.load_module().await;
        shop
    }

    async fn load_module(&self) {
        let wasm =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/smartmodules/user-event.wasm");
        let wasm = std::fs::read(&wasm)
            .unwrap_or_else(|error| panic!("{}: {error}; run `make smartmodules`", wasm.display()));
        let wasm = SmartModuleWasm::from_raw_wasm_bytes(&wasm).expect("gzip");
        let spec = SmartModuleSpec {
            wasm,
            ..SmartModuleSpec::default()
        };
        let admin = self.client().await.admin().await;
        patient(admin.create("user-event".to_owned(), false, spec))
            .await
            .expect("the module is loaded");
    }

    pub(crate) async fn client(&self) -> Fluvio {
        let config = FluvioClusterConfig::new(self.config.endpoint.as_str());
        patient(Fluvio::connect_with_config(&config))
            .await
            .expect("the broker answers")
    }

    /// Sends events; returns the offset of the last.
    pub(crate) async fn send(&self, events: impl IntoIterator<Item = String>) -> i64 {
        let client = self.client().await;
        let admin = client.admin().await;
        // Ingest creates it as well; whoever comes second is told so.
        let _ = admin
            .create(
                "users-data".to_owned(),
                false,
                TopicSpec::new_computed(1, 1, None),
            )
            .await;
        let events = events.into_iter().map(|event| (RecordKey::NULL, event));
        self.produce("users-data", events).await
    }

    /// Sends records to a topic that is there; returns the offset of the last.
    pub(crate) async fn produce(
        &self,
        topic: &str,
        records: impl IntoIterator<Item = (RecordKey, String)>,
    ) -> i64 {
        let client = self.client().await;
        let producer = patient(client.topic_producer(topic))
            .await
            .expect("a producer");
        let mut last = -1;
        let mut outputs = Vec::new();
        for (key, value) in records {
            outputs.push(producer.send(key, value).await.expect("sent"));
        }
        for output in outputs {
            last = patient(output.wait()).await.expect("acknowledged").offset();
        }
        last
    }

    pub(crate) fn ingest(&self) -> Ingest {
        let (service, handle) = Service::new(self.config.clone()).expect("a valid configuration");
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(service.run(shutdown.clone()));
        Ingest {
            handle,
            task,
            shutdown,
        }
    }

    /// `first_name` by email.
    pub(crate) async fn users(&mut self) -> Vec<(String, String)> {
        let sql = "SELECT email, first_name FROM source.users ORDER BY email";
        let rows = self.postgres.fetch_all(sql).await.expect("users");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Everything in the topic of rejected events.
    pub(crate) async fn rejected(&self) -> Vec<RejectedEvent> {
        let config = ConsumerConfigExtBuilder::default()
            .topic("users-data-rejected")
            .partition(0)
            .offset_start(Offset::beginning())
            .retry_mode(RetryMode::Disabled)
            .disable_continuous(true)
            .build()
            .expect("a valid configuration");
        let client = self.client().await;
        let stream = patient(client.consumer_with_config(config))
            .await
            .expect("a stream");
        let records: Vec<_> = patient(stream.collect()).await;
        let read = |record: Result<fluvio::consumer::Record, _>| {
            let record = record.expect("a record");
            let letter: RejectedEvent =
                serde_json::from_slice(record.value()).expect("a dead letter");
            assert_eq!(record.key(), Some(letter.key().as_bytes()));
            letter
        };
        records.into_iter().map(read).collect()
    }
}

impl Ingest {
    /// Waits until every event before and at `offset` is stored or rejected.
    pub(crate) async fn reach(&self, offset: i64) {
        let reached = self
            .handle
            .wait_for(|status| status.next_offset > Some(offset));
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        assert!(matches!(reached, Ok(Some(_))), "{:?}", self.handle.status());
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        patient(self.task)
            .await
            .expect("no panic")
            .expect("no error");
    }

    /// The error that ends it.
    pub(crate) async fn error(self) -> Error {
        patient(self.task)
            .await
            .expect("no panic")
            .expect_err("an error")
    }
}

pub(crate) async fn patient<T>(future: impl std::future::Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}

/// A valid event.
pub(crate) fn user(email: &str, first_name: &str) -> String {
    format!(
        r#"{{"first_name":"{first_name}","last_name":"Lovelace","email":"{email}","phone":"1","registration_date":"2026-01-02T03:04:05Z","loyalty_status":"Gold"}}"#
    )
}

pub(crate) fn pairs(users: &[(&str, &str)]) -> Vec<(String, String)> {
    users
        .iter()
        .map(|(email, name)| ((*email).to_owned(), (*name).to_owned()))
        .collect()
}
