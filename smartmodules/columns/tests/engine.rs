//! The modules as the broker runs them: compiled to WebAssembly, in Fluvio's own engine.

use std::path::Path;

use fluvio_smartengine::{
    SmartEngine, SmartModuleChainBuilder, SmartModuleChainInstance, SmartModuleConfig,
};
use fluvio_smartmodule::dataplane::smartmodule::SmartModuleInput;
use fluvio_smartmodule::Record;
use millrace_sm_columns::{apply, Plan};
use serde_json::{json, Value};

/// Version of the interface between engine and module that a 0.18 server speaks.
const INTERFACE_VERSION: i16 = 22;
const BASE_OFFSET: i64 = 40;
const TRANSACTION: &str = r#"{"kind":"transaction","epoch":1,"commit_lsn":"0/10","end_lsn":"0/20","prev":"0/10","xid":7,"at":"2026-01-02T03:04:05.000006Z","part":0,"last":true,"changes":[{"table":"orders","op":"delete","schema":2,"before":{"order_id":1}},{"table":"users","op":"insert","schema":1,"after":{"user_id":1,"email":"a@example.org"}}]}"#;

fn start(name: &str, params: &[(&str, &str)]) -> Result<SmartModuleChainInstance, String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/smartmodules")
        .join(format!("{name}.wasm"));
    let wasm = std::fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; run `make smartmodules`", file.display()));
    let mut config = SmartModuleConfig::builder();
    config.smartmodule_names(vec![name.to_owned()]);
    for (param, value) in params {
        config.param(*param, *value);
    }
    let mut chain = SmartModuleChainBuilder::default();
    chain.add_smart_module(config.build().expect("a configuration"), wasm);
    let engine = SmartEngine::new();
    chain
        .initialize(&engine)
        .map_err(|error| format!("{error:#}"))
}

/// What comes out for each of the values, from one batch.
fn run(chain: &mut SmartModuleChainInstance, values: &[&str]) -> Vec<String> {
    let records = values.iter().enumerate().map(|(delta, value)| {
        let mut record = Record::new(*value);
        record.preamble.set_offset_delta(delta as i64);
        record
    });
    let mut input = SmartModuleInput::try_from_records(records.collect(), INTERFACE_VERSION)
        .expect("records to bytes");
    input.set_base_offset(BASE_OFFSET);
    let output = chain.process(input).expect("the module runs");
    assert!(output.error.is_none(), "{:?}", output.error);
    let text = |record: &Record| String::from_utf8(record.value().to_vec()).expect("UTF-8");
    output.successes.iter().map(text).collect()
}

fn parsed(record: &str) -> Value {
    serde_json::from_str(record).expect("JSON")
}

#[test]
fn columns_in_the_engine_equals_columns_on_the_host() {
    let plan = r#"{"users":["user_id"]}"#;
    let mut chain = start("columns", &[("plan", plan)]).expect("columns starts");
    let out = run(
        &mut chain,
        &[TRANSACTION, "secret", r#"{"kind":"start","epoch":1}"#],
    );
    let on_host = apply(&Plan::parse(plan).expect("a plan"), TRANSACTION.as_bytes());
    assert_eq!(Some(out[0].as_bytes()), on_host.expect("scan").as_deref());
    let error = parsed(&out[1]);
    assert_eq!(
        (&error["kind"], &error["offset"]),
        (&json!("error"), &json!(BASE_OFFSET + 1))
    );
    assert!(!out[1].contains("secret"));
    assert_eq!(out[2], r#"{"kind":"start","epoch":1}"#);
}

#[test]
fn columns_without_a_plan_changes_nothing_and_with_a_wrong_one_does_not_start() {
    let mut chain = start("columns", &[]).expect("columns starts");
    assert_eq!(
        run(&mut chain, &[TRANSACTION, "anything"]),
        [TRANSACTION, "anything"]
    );
    let error = start("columns", &[("plan", "all")]).expect_err("no plan");
    assert!(error.contains("plan is not a JSON object"), "{error}");
}

#[test]
fn user_event_normalises_and_rejects() {
    let mut chain = start("user-event", &[("max_bytes", "300")]).expect("user-event starts");
    let good = r#"{"first_name":"Ada","last_name":"L","email":"ADA@Example.org","registration_date":"2026-01-02T03:04:05+01:00","loyalty_status":"Gold"}"#;
    let big = format!(r#"{{"first_name":"{}"}}"#, "x".repeat(300));
    let out = run(&mut chain, &[good, "{", &big]);
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
    assert!(start("user-event", &[("max_bytes", "many")]).is_err());
}

#[test]
fn rows_gives_one_record_per_change_of_its_table() {
    let mut chain = start("rows", &[("table", "source.users")]).expect("rows starts");
    let out = run(&mut chain, &[TRANSACTION, "secret"]);
    assert_eq!(
        parsed(&out[0])["after"],
        json!({"user_id": 1, "email": "a@example.org"})
    );
    assert_eq!(parsed(&out[1])["offset"], json!(BASE_OFFSET + 1));
    assert_eq!(out.len(), 2);
}

#[test]
fn redact_hides_values_and_wants_a_policy() {
    let params = [("policy", r#"{"users":{"email":"hash"}}"#), ("salt", "s")];
    let mut chain = start("redact", &params).expect("redact starts");
    let out = run(&mut chain, &[TRANSACTION]);
    assert!(!out[0].contains("example.org"), "{}", out[0]);
    assert!(start("redact", &[]).is_err());
    assert!(start("redact", &params[..1]).is_err());
}
