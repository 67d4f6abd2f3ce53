//! SmartModules: loaded by name or sent along, with parameters, over batches.

use std::time::Duration;

use fluvio::metadata::smartmodule::{SmartModuleSpec, SmartModuleWasm};
use fluvio::{
    Compression, SmartModuleContextData, SmartModuleInvocation, SmartModuleInvocationWasm,
    SmartModuleKind,
};
use fluvio_spu_schema::server::smartmodule as schema;
use futures_util::StreamExt;
use millrace_broker::{Broker, Config, Handle, Limits, Storage};

use crate::support::*;
use crate::wat;

async fn load(broker: &Handle, name: &str, wat: &str) {
    let wasm = SmartModuleWasm::from_raw_wasm_bytes(wat.as_bytes()).expect("gzip");
    let spec = SmartModuleSpec {
        wasm,
        ..SmartModuleSpec::default()
    };
    admin(broker)
        .await
        .create(name.to_owned(), false, spec)
        .await
        .expect("module is created");
}

fn invocation(wasm: SmartModuleInvocationWasm, params: &[(&str, &str)]) -> SmartModuleInvocation {
    let params: std::collections::BTreeMap<_, _> = params
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    schema::SmartModuleInvocation {
        wasm,
        kind: SmartModuleKind::Generic(SmartModuleContextData::None),
        params: params.into(),
        name: None,
    }
}

fn named(name: &str, params: &[(&str, &str)]) -> SmartModuleInvocation {
    invocation(
        SmartModuleInvocationWasm::Predefined(name.to_owned()),
        params,
    )
}

fn sent(wat: &str, params: &[(&str, &str)]) -> SmartModuleInvocation {
    invocation(
        SmartModuleInvocationWasm::adhoc_from_bytes(wat.as_bytes()).expect("gzip"),
        params,
    )
}

/// A topic of `count` records, ten in each of its batches.
async fn tens(broker: &Handle, topic: &str, count: i64, compression: Compression) {
    create_topic(broker, topic, 1).await;
    let client = client(broker).await;
    let producer = compressing_producer(&client, topic, compression).await;
    for start in (0..count).step_by(10) {
        send_all(&producer, (start..start + 10).map(|id| id.to_string())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_are_created_replaced_listed_and_deleted() {
    let broker = start_temporary().await;
    load(&broker, "same", &wat::identity()).await;
    load(&broker, "same", &wat::every()).await;
    load(&broker, "empty", "").await;
    let admin = admin(&broker).await;
    let listed = admin
        .list_with_params::<SmartModuleSpec, String>(vec![], true)
        .await
        .expect("list");
    assert_eq!(
        listed
            .iter()
            .map(|module| module.name.as_str())
            .collect::<Vec<_>>(),
        ["empty", "same"]
    );
    assert!(listed
        .iter()
        .all(|module| module.spec.summary.is_some() && module.spec.wasm.payload.is_empty()));
    admin
        .delete::<SmartModuleSpec>("same")
        .await
        .expect("delete");
    let error = admin
        .delete::<SmartModuleSpec>("same")
        .await
        .expect_err("gone");
    assert_eq!(error.to_string(), "SmartModule not found");
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_keeps_offsets_and_timestamps_of_every_compression() {
    let broker = start_temporary().await;
    load(&broker, "same", &wat::identity()).await;
    for (name, compression) in [
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
    ] {
        tens(&broker, name, 50, compression).await;
        let client = client(&broker).await;
        let raw = take(&client, consumer(name).build().expect("config"), 50).await;
        let config = consumer(name)
            .smartmodule(vec![named("same", &[])])
            .build()
            .expect("config");
        let mapped = take(&client, config, 50).await;
        assert_eq!(offsets(&mapped), (0..50).collect::<Vec<_>>());
        assert_eq!(values(&mapped), values(&raw));
        let times = |records: &[fluvio::consumer::Record]| {
            records
                .iter()
                .map(|record| record.timestamp())
                .collect::<Vec<_>>()
        };
        assert_eq!(times(&mapped), times(&raw));
        assert!(times(&mapped).iter().all(|time| *time > 0));
    }
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_keeps_true_offsets_from_wherever_it_starts() {
    let broker = start_temporary().await;
    load(&broker, "every", &wat::every()).await;
    tens(&broker, "orders", 100, Compression::None).await;
    let client = client(&broker).await;
    for start in [0, 1, 14, 15, 33, 91] {
        let expected: Vec<i64> = (start..100).filter(|offset| offset % 10 % 4 == 0).collect();
        let start = fluvio::Offset::absolute(start).expect("offset");
        for module in [
            named("every", &[("n", "4")]),
            sent(&wat::every(), &[("n", "4")]),
        ] {
            let config = consumer("orders")
                .offset_start(start.clone())
                .smartmodule(vec![module])
                .build()
                .expect("config");
            let records = take(&client, config, expected.len()).await;
            assert_eq!(offsets(&records), expected);
            assert_eq!(
                values(&records),
                expected.iter().map(i64::to_string).collect::<Vec<_>>()
            );
        }
    }
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_to_the_end_ends_even_if_everything_is_filtered() {
    let broker = start_temporary().await;
    tens(&broker, "orders", 100, Compression::None).await;
    let client = client(&broker).await;
    let mut config = consumer("orders");
    config
        .smartmodule(vec![sent(&wat::nothing(), &[])])
        .max_bytes(300);
    assert!(read_to_end(&client, config).await.is_empty());
    let mut config = consumer("orders");
    config
        .smartmodule(vec![sent(&wat::every(), &[("n", "9")])])
        .max_bytes(300);
    assert_eq!(read_to_end(&client, config).await.len(), 20);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_of_a_chain_run_one_after_the_other() {
    let broker = start_temporary().await;
    tens(&broker, "orders", 30, Compression::None).await;
    let client = client(&broker).await;
    let chain = vec![
        sent(&wat::every(), &[("n", "2")]),
        sent(&wat::identity(), &[]),
        sent(&wat::every(), &[("n", "2")]),
    ];
    let config = consumer("orders")
        .smartmodule(chain)
        .build()
        .expect("config");
    // Of 0 2 4 6 8 the second filter keeps those at indices 0 2 4.
    let expected: Vec<i64> = (0..30).filter(|offset| offset % 10 % 4 == 0).collect();
    assert_eq!(
        offsets(&take(&client, config, expected.len()).await),
        expected
    );
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_a_module_follows_the_records_before_it() {
    let broker = start_temporary().await;
    tens(&broker, "orders", 20, Compression::None).await;
    let client = client(&broker).await;
    let config = consumer("orders")
        .smartmodule(vec![sent(&wat::fails_on_third(), &[])])
        .build()
        .expect("config");
    let mut stream = patient(client.consumer_with_config(config))
        .await
        .expect("consumer");
    assert_eq!(offsets(&next(&mut stream, 2).await), [0, 1]);
    let error = patient(stream.next())
        .await
        .expect("an item")
        .err()
        .expect("an error")
        .to_string();
    assert!(
        error.contains("bad") && error.contains("Offset: 2"),
        "{error}"
    );
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_refused_with_its_own_code() {
    let broker = start_temporary().await;
    load(&broker, "empty", "").await;
    tens(&broker, "orders", 10, Compression::None).await;
    let client = client(&broker).await;
    let cases = [
        (named("missing", &[]), "SmartModule missing was not found"),
        (named("empty", &[]), "SmartModule is invalid"),
        (sent("(module)", &[]), "copy_records"),
        (sent(&wat::every(), &[]), "init returned -1"),
    ];
    for (module, expected) in cases {
        let config = consumer("orders")
            .smartmodule(vec![module])
            .build()
            .expect("config");
        let mut stream = patient(client.consumer_with_config(config))
            .await
            .expect("consumer");
        let error = patient(stream.next())
            .await
            .expect("an item")
            .err()
            .expect("an error")
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
    broker.shutdown().await;
}

async fn limited(limits: Limits) -> Handle {
    Broker::open(Config {
        limits,
        ..Config::on_loopback(Storage::Temporary)
    })
    .await
    .expect("broker opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaking_module_is_replaced_before_its_memory_is_full() {
    let limits = Limits {
        wasm_recycle_bytes: 4 << 20,
        wasm_memory_bytes_max: 8 << 20,
        ..Limits::default()
    };
    let broker = limited(limits).await;
    create_topic(&broker, "large", 1).await;
    let client = client(&broker).await;
    let producer = producer(&client, "large").await;
    send_all(&producer, (0..400).map(|_| vec![b'x'; 60_000])).await;
    let config = consumer("large")
        .smartmodule(vec![sent(&wat::identity(), &[])])
        .build()
        .expect("config");
    assert_eq!(
        offsets(&take(&client, config, 400).await),
        (0..400).collect::<Vec<_>>()
    );
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_module_ends_only_its_own_stream() {
    let limits = Limits {
        wasm_call_time_max: Duration::from_millis(300),
        ..Limits::default()
    };
    let broker = limited(limits).await;
    tens(&broker, "orders", 10, Compression::None).await;
    let client = client(&broker).await;
    let config = consumer("orders")
        .smartmodule(vec![sent(&wat::endless(), &[])])
        .build()
        .expect("config");
    let mut stream = patient(client.consumer_with_config(config))
        .await
        .expect("consumer");
    let error = patient(stream.next())
        .await
        .expect("an item")
        .err()
        .expect("an error")
        .to_string();
    assert!(error.contains("smartmodule"), "{error}");
    let config = consumer("orders")
        .smartmodule(vec![sent(&wat::identity(), &[])])
        .build()
        .expect("config");
    assert_eq!(take(&client, config, 10).await.len(), 10);
    broker.shutdown().await;
}
