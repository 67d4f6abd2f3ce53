//! SmartModules: loaded by name or sent along, with parameters, over batches.

use std::time::Duration;

use fluvio::metadata::smartmodule::{SmartModuleSpec, SmartModuleWasm};
use fluvio::{
    Compression, Fluvio, SmartModuleContextData, SmartModuleInvocation, SmartModuleInvocationWasm,
    SmartModuleKind,
};
use fluvio_spu_schema::server::smartmodule as schema;
use futures_util::StreamExt;
use millrace_broker::{Broker, Config, Handle, Limits, Storage};

use crate::support::*;
use crate::wat;

conforms!(
    modules_are_created_replaced_listed_and_deleted,
    packages_of_one_name_stand_beside_each_other,
    a_map_keeps_offsets_and_timestamps_of_every_compression,
    a_filter_keeps_true_offsets_from_wherever_it_starts,
    reading_to_the_end_ends_even_if_everything_is_filtered,
    modules_of_a_chain_run_one_after_the_other,
    an_error_of_a_module_follows_the_records_before_it,
    what_cannot_run_is_refused_with_its_own_code,
);

pub(crate) fn invocation(
    wasm: SmartModuleInvocationWasm,
    params: &[(&str, &str)],
) -> SmartModuleInvocation {
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

pub(crate) fn named(name: &str, params: &[(&str, &str)]) -> SmartModuleInvocation {
    invocation(
        SmartModuleInvocationWasm::Predefined(name.to_owned()),
        params,
    )
}

pub(crate) fn sent(wat: &str, params: &[(&str, &str)]) -> SmartModuleInvocation {
    invocation(
        SmartModuleInvocationWasm::adhoc_from_bytes(wat.as_bytes()).expect("gzip"),
        params,
    )
}

/// A topic of `count` records, ten in each of its batches; its name.
pub(crate) async fn tens(
    cluster: &Cluster,
    topic: &str,
    count: i64,
    compression: Compression,
) -> String {
    let topic = cluster.topic(topic, 1).await;
    let client = client(cluster).await;
    fill_with_tens(&client, &topic, count, compression).await;
    topic
}

async fn fill_with_tens(client: &Fluvio, topic: &str, count: i64, compression: Compression) {
    let producer = compressing_producer(client, topic, compression).await;
    for start in (0..count).step_by(10) {
        send_all(&producer, (start..start + 10).map(|id| id.to_string())).await;
    }
}

async fn modules_are_created_replaced_listed_and_deleted(cluster: &Cluster) {
    cluster.module("same", &wat::identity()).await;
    let same = &cluster.module("same", &wat::every()).await;
    let empty = &cluster.module("empty", "").await;
    let admin = admin(cluster).await;
    let listed = admin
        .list_with_params::<SmartModuleSpec, String>(vec![], true)
        .await
        .expect("list");
    for name in [same, empty] {
        assert_eq!(
            listed.iter().filter(|module| &module.name == name).count(),
            1
        );
    }
    assert!(listed
        .iter()
        .all(|module| module.spec.summary.is_some() && module.spec.wasm.payload.is_empty()));
    admin.delete::<SmartModuleSpec>(same).await.expect("delete");
    let error = admin
        .delete::<SmartModuleSpec>(same)
        .await
        .expect_err("gone");
    assert_eq!(error.to_string(), "SmartModule not found");
}

async fn packages_of_one_name_stand_beside_each_other(cluster: &Cluster) {
    let all = &cluster
        .package("acme", "part", "0.1.0", &wat::identity())
        .await;
    let fourth = &cluster
        .package("other", "part", "0.2.0", &wat::every())
        .await;
    let orders = &tens(cluster, "orders", 20, Compression::None).await;
    for (name, expected) in [(all, 20), (fourth, 6)] {
        let config = consumer(orders)
            .smartmodule(vec![named(name, &[("n", "4")])])
            .build()
            .expect("config");
        let records = cluster.read(config, expected).await;
        assert_eq!(records.len(), expected, "{name}");
    }
    let admin = admin(cluster).await;
    let left = |modules: Vec<fluvio_sc_schema::objects::Metadata<SmartModuleSpec>>| {
        let names = modules
            .into_iter()
            .map(|module| module.spec.fqdn(&module.name).into_owned());
        names
            .filter(|name| name == all || name == fourth)
            .collect::<Vec<_>>()
    };
    admin.delete::<SmartModuleSpec>(all).await.expect("delete");
    let known = admin.list_with_params::<SmartModuleSpec, String>(vec![], true);
    assert_eq!(
        left(known.await.expect("list")),
        std::slice::from_ref(fourth)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_name_means_the_module_called_so_or_else_the_newest_version() {
    let cluster = &Cluster::embedded().await;
    let orders = &tens(cluster, "orders", 20, Compression::None).await;
    let count = async |expected| {
        let mut config = consumer(orders);
        config.smartmodule(vec![named("part", &[("n", "4")])]);
        let config = config.build().expect("config");
        cluster.read(config, expected).await.len()
    };
    cluster
        .package("acme", "part", "0.9.0", &wat::every())
        .await;
    cluster
        .package("acme", "part", "0.10.0", &wat::identity())
        .await;
    assert_eq!(count(20).await, 20, "0.10.0 is newer than 0.9.0");
    cluster.module("part", &wat::every()).await;
    assert_eq!(count(6).await, 6);
    let admin = admin(cluster).await;
    let taken = admin.create(
        "part-acme-0.9.0".to_owned(),
        false,
        module_spec(&wat::identity()),
    );
    let error = taken.await.expect_err("refused").to_string();
    assert!(error.contains("acme/part@0.9.0"), "{error}");
}

async fn a_map_keeps_offsets_and_timestamps_of_every_compression(cluster: &Cluster) {
    let same = &cluster.module("same", &wat::identity()).await;
    for (name, compression) in [
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
    ] {
        let topic = &tens(cluster, name, 50, compression).await;
        let client = client(cluster).await;
        let raw = take(&client, consumer(topic).build().expect("config"), 50).await;
        let config = consumer(topic)
            .smartmodule(vec![named(same, &[])])
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
        assert!(times(&raw).iter().all(|time| *time > 0));
        cluster.differs(Difference::TimesLost, times(&mapped) == times(&raw));
    }
}

async fn a_filter_keeps_true_offsets_from_wherever_it_starts(cluster: &Cluster) {
    let every = &cluster.module("every", &wat::every()).await;
    let orders = &tens(cluster, "orders", 100, Compression::None).await;
    let mut right = true;
    for start in [0, 1, 14, 15, 33, 91] {
        let expected: Vec<i64> = (start..100).filter(|offset| offset % 10 % 4 == 0).collect();
        let start = fluvio::Offset::absolute(start).expect("offset");
        for module in [
            named(every, &[("n", "4")]),
            sent(&wat::every(), &[("n", "4")]),
        ] {
            let config = consumer(orders)
                .offset_start(start.clone())
                .smartmodule(vec![module])
                .build()
                .expect("config");
            let records = cluster.read(config, expected.len()).await;
            let ids: Vec<String> = expected.iter().map(i64::to_string).collect();
            right &= offsets(&records) == expected && values(&records) == ids;
        }
    }
    cluster.differs(Difference::FilteredOffsets, right);
}

async fn reading_to_the_end_ends_even_if_everything_is_filtered(cluster: &Cluster) {
    let orders = &tens(cluster, "orders", 100, Compression::None).await;
    let client = client(cluster).await;
    let mut right = true;
    for (module, left) in [
        (sent(&wat::nothing(), &[]), 0),
        (sent(&wat::every(), &[("n", "9")]), 20),
    ] {
        let mut config = consumer(orders);
        config.smartmodule(vec![module]).max_bytes(300);
        let reading = read_to_end(&client, config);
        right &= match cluster.is_real() {
            false => reading.await.len() == left,
            true => tokio::time::timeout(Duration::from_secs(10), reading)
                .await
                .is_ok_and(|records| records.len() == left),
        };
    }
    cluster.differs(Difference::AllFiltered, right);
}

async fn modules_of_a_chain_run_one_after_the_other(cluster: &Cluster) {
    let orders = &tens(cluster, "orders", 30, Compression::None).await;
    let chain = vec![
        sent(&wat::every(), &[("n", "2")]),
        sent(&wat::identity(), &[]),
        sent(&wat::every(), &[("n", "2")]),
    ];
    let config = consumer(orders).smartmodule(chain).build().expect("config");
    // Of 0 2 4 6 8 the second filter keeps those at indices 0 2 4.
    let expected: Vec<i64> = (0..30).filter(|offset| offset % 10 % 4 == 0).collect();
    let records = cluster.read(config, expected.len()).await;
    let ids: Vec<String> = expected.iter().map(i64::to_string).collect();
    assert_eq!(values(&records), ids);
    cluster.differs(Difference::FilteredOffsets, offsets(&records) == expected);
}

async fn an_error_of_a_module_follows_the_records_before_it(cluster: &Cluster) {
    let orders = &tens(cluster, "orders", 20, Compression::None).await;
    let client = client(cluster).await;
    let config = consumer(orders)
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
}

async fn what_cannot_run_is_refused_with_its_own_code(cluster: &Cluster) {
    let empty = &cluster.module("empty", "").await;
    let orders = &tens(cluster, "orders", 10, Compression::None).await;
    let client = client(cluster).await;
    let cases = [
        (
            named("missing", &[]),
            "SmartModule missing was not found",
            "",
        ),
        (named(empty, &[]), "Error initializing", ""),
        (sent("(module)", &[]), "Error initializing", "copy_records"),
        (
            sent(&wat::every(), &[]),
            "Error initializing",
            "init returned -1",
        ),
    ];
    for (module, code, detail) in cases {
        let config = consumer(orders)
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
        assert!(error.contains(code), "{error}");
        // A real server words the rest of it otherwise.
        assert!(cluster.is_real() || error.contains(detail), "{error}");
    }
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
    create_topic(&broker, "orders", 1).await;
    let client = client(&broker).await;
    fill_with_tens(&client, "orders", 10, Compression::None).await;
    for (in_init, expected) in [(false, "smartmodule"), (true, "Error initializing")] {
        let error = error_of(&client, sent(&wat::endless(in_init), &[])).await;
        assert!(error.contains(expected), "{error}");
    }
    let config = consumer("orders")
        .smartmodule(vec![sent(&wat::identity(), &[])])
        .build()
        .expect("config");
    assert_eq!(take(&client, config, 10).await.len(), 10);
    broker.shutdown().await;
}

/// Of a stream of `orders` through this module, whose first item it must be.
async fn error_of(client: &Fluvio, module: SmartModuleInvocation) -> String {
    let config = consumer("orders")
        .smartmodule(vec![module])
        .build()
        .expect("config");
    let mut stream = patient(client.consumer_with_config(config))
        .await
        .expect("consumer");
    let item = patient(stream.next()).await.expect("an item");
    item.err().expect("an error").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_instead_of_a_module_is_kept_as_it_is_and_refused_when_used() {
    let limits = Limits {
        wasm_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let broker = limited(limits).await;
    create_topic(&broker, "orders", 1).await;
    let client = client(&broker).await;
    fill_with_tens(&client, "orders", 10, Compression::None).await;
    let bomb = Compression::Gzip
        .compress(&vec![0; 64 << 20])
        .expect("gzip");
    let spec = SmartModuleSpec {
        wasm: SmartModuleWasm::from_compressed_gzip(bomb.to_vec()),
        ..SmartModuleSpec::default()
    };
    let admin = admin(&broker).await;
    patient(admin.create("bomb".to_owned(), false, spec))
        .await
        .expect("created");
    let listed = patient(admin.list_with_params::<SmartModuleSpec, String>(vec![], true)).await;
    assert_eq!(listed.expect("list").len(), 1);
    let along = invocation(SmartModuleInvocationWasm::AdHoc(bomb.to_vec()), &[]);
    for module in [named("bomb", &[]), along] {
        let error = error_of(&client, module).await;
        assert!(error.contains("larger than 1048576 bytes"), "{error}");
    }
    let config = consumer("orders")
        .smartmodule(vec![sent(&wat::identity(), &[])])
        .build()
        .expect("config");
    assert_eq!(take(&client, config, 10).await.len(), 10);
    broker.shutdown().await;
}
