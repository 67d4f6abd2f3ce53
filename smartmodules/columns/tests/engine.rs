//! The compiled modules, `make smartmodules`, as a broker runs them for a real client.

use std::path::Path;
use std::time::Duration;

use fluvio::consumer::{ConsumerConfigExtBuilder, Record, RetryMode};
use fluvio::metadata::topic::TopicSpec;
use fluvio::{
    Fluvio, FluvioAdmin, FluvioClusterConfig, Offset, RecordKey, SmartModuleContextData,
    SmartModuleInvocation, SmartModuleInvocationWasm, SmartModuleKind, TopicProducerConfigBuilder,
};
use futures_util::TryStreamExt;
use millrace_broker::{Broker, Config, Handle, Storage};
use millrace_sm_columns::{apply, Plan};
use serde_json::{json, Value};

/// Long enough for a busy machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);
const TOPIC: &str = "changes";
/// Records in front of those under test: an error names the record's own offset.
const BASE_OFFSET: usize = 40;
const TRANSACTION: &str = r#"{"kind":"transaction","epoch":1,"commit_lsn":"0/10","end_lsn":"0/20","prev":"0/10","xid":7,"at":"2026-01-02T03:04:05.000006Z","part":0,"last":true,"changes":[{"table":"source.orders","op":"delete","schema":2,"before":{"order_id":1}},{"table":"source.users","op":"insert","schema":1,"after":{"user_id":1,"email":"a@example.org"}}]}"#;

/// A broker with one topic, filled with the values under test.
struct Log {
    broker: Handle,
    client: Fluvio,
}

async fn log(values: &[&str]) -> Log {
    let broker = Broker::open(Config::on_loopback(Storage::Temporary))
        .await
        .expect("broker opens");
    let cluster = FluvioClusterConfig::new(broker.sc_addr().to_string());
    let admin = FluvioAdmin::connect_with_config(&cluster);
    let spec = TopicSpec::new_computed(1, 1, None);
    let admin = admin.await.expect("admin connects");
    let topic = admin.create(TOPIC.to_owned(), false, spec);
    topic.await.expect("topic is created");
    let client = Fluvio::connect_with_config(&cluster)
        .await
        .expect("client connects");
    // One batch, as a busy producer writes it.
    let config = TopicProducerConfigBuilder::default()
        .linger(Duration::from_millis(100))
        .batch_size(1024 * 1024)
        .build()
        .expect("producer config");
    let producer = client
        .topic_producer_with_config(TOPIC, config)
        .await
        .expect("producer");
    let before = (0..BASE_OFFSET).map(|_| r#"{"kind":"start","epoch":1}"#);
    for value in before.chain(values.iter().copied()) {
        let sent = producer.send(RecordKey::NULL, value);
        sent.await.expect("record is sent");
    }
    producer.flush().await.expect("records are acknowledged");
    Log { broker, client }
}

impl Log {
    /// What a reader gets with the module, from [`BASE_OFFSET`] to the end; the module's own words
    /// if it does not start.
    async fn read(&self, name: &str, params: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../target/smartmodules")
            .join(format!("{name}.wasm"));
        let wasm = std::fs::read(&file)
            .unwrap_or_else(|error| panic!("{}: {error}; run `make smartmodules`", file.display()));
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let params: std::collections::BTreeMap<_, _> = params.iter().map(own).collect();
        let module = SmartModuleInvocation {
            wasm: SmartModuleInvocationWasm::adhoc_from_bytes(&wasm).expect("gzip"),
            kind: SmartModuleKind::Generic(SmartModuleContextData::None),
            params: params.into(),
            name: None,
        };
        let config = ConsumerConfigExtBuilder::default()
            .topic(TOPIC)
            .partition(0)
            .offset_start(Offset::absolute(BASE_OFFSET as i64).expect("an offset"))
            .retry_mode(RetryMode::Disabled)
            .smartmodule(vec![module])
            .disable_continuous(true)
            .build()
            .expect("consumer config");
        let stream = self.client.consumer_with_config(config);
        let stream = stream.await.map_err(|error| format!("{error:#}"))?;
        let text = |record: Record| String::from_utf8(record.value().to_vec()).expect("UTF-8");
        // Up to the first error: after one, a stream neither goes on nor ends.
        let read = stream.map_ok(text).map_err(|error| error.to_string());
        let read = tokio::time::timeout(PATIENCE, read.try_collect());
        read.await.expect("in time")
    }
}

fn parsed(record: &str) -> Value {
    serde_json::from_str(record).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_in_the_broker_equals_columns_on_the_host() {
    let plan = r#"{"source.users":["user_id"]}"#;
    let log = log(&[TRANSACTION, "secret", r#"{"kind":"start","epoch":1}"#]).await;
    let out = log.read("columns", &[("plan", plan)]).await.expect("reads");
    let on_host = apply(&Plan::parse(plan).expect("a plan"), TRANSACTION.as_bytes());
    assert_eq!(Some(out[0].as_bytes()), on_host.expect("scan").as_deref());
    let error = parsed(&out[1]);
    assert_eq!(
        (&error["kind"], &error["offset"]),
        (&json!("error"), &json!(BASE_OFFSET + 1))
    );
    assert!(!out[1].contains("secret"));
    assert_eq!(out[2], r#"{"kind":"start","epoch":1}"#);
    log.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_without_a_plan_changes_nothing_and_with_a_wrong_one_does_not_start() {
    let log = log(&[TRANSACTION, "anything"]).await;
    let out = log.read("columns", &[]).await.expect("reads");
    assert_eq!(out, [TRANSACTION, "anything"]);
    let error = log.read("columns", &[("plan", "all")]).await;
    let error = error.expect_err("no plan");
    assert!(error.contains("plan is not a JSON object"), "{error}");
    log.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn user_event_normalises_and_rejects() {
    let good = r#"{"first_name":"Ada","last_name":"L","email":"ADA@Example.org","registration_date":"2026-01-02T03:04:05+01:00","loyalty_status":"Gold"}"#;
    let big = format!(r#"{{"first_name":"{}"}}"#, "x".repeat(300));
    let log = log(&[good, "{", &big]).await;
    let out = log.read("user-event", &[("max_bytes", "300")]).await;
    let out = out.expect("reads");
    let user = &parsed(&out[0])["user"];
    assert_eq!(user["email"], json!("ada@example.org"));
    assert_eq!(
        user["registration_date"],
        json!("2026-01-02 02:04:05.000000")
    );
    assert_eq!(
        parsed(&out[1]),
        json!({"kind": "rejected", "reason": "malformed_json"})
    );
    assert_eq!(
        parsed(&out[2]),
        json!({"kind": "rejected", "reason": "oversized"})
    );
    let error = log.read("user-event", &[("max_bytes", "many")]).await;
    assert!(error.expect_err("no number").contains("max_bytes"));
    log.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_gives_one_record_per_change_of_its_table() {
    let log = log(&[TRANSACTION, "secret"]).await;
    let out = log.read("rows", &[("table", "source.users")]).await;
    let out = out.expect("reads");
    assert_eq!(
        parsed(&out[0])["after"],
        json!({"user_id": 1, "email": "a@example.org"})
    );
    assert_eq!(parsed(&out[1])["offset"], json!(BASE_OFFSET + 1));
    assert_eq!(out.len(), 2);
    log.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redact_hides_values_and_wants_a_policy() {
    let params = [
        ("policy", r#"{"source.users":{"email":"hash"}}"#),
        ("salt", "s"),
    ];
    let log = log(&[TRANSACTION]).await;
    let out = log.read("redact", &params).await.expect("reads");
    assert!(!out[0].contains("example.org"), "{}", out[0]);
    for incomplete in [&params[..0], &params[..1]] {
        let error = log.read("redact", incomplete).await;
        assert!(error.is_err(), "{incomplete:?}");
    }
    log.broker.shutdown().await;
}
