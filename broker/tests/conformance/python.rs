//! Fluvio's own Python client: `tests/python/fluvio_client.py` says what must hold. `make test` runs
//! it where that client can be had, and says so where it cannot.

use std::path::Path;

use tokio::process::Command;

use crate::support::*;
use crate::wat;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Fluvio's Python client: MILLRACE_TEST_PYTHON=$(scripts/python.sh)"]
async fn embedded() {
    let cluster = Cluster::embedded().await;
    is_satisfied(&cluster).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Fluvio's Python client and a Fluvio cluster: MILLRACE_TEST_PYTHON, MILLRACE_TEST_FLUVIO=host:port"]
async fn real() {
    let cluster = Cluster::real();
    is_satisfied(&cluster).await;
    cluster.end().await;
}

async fn is_satisfied(cluster: &Cluster) {
    let python = std::env::var_os("MILLRACE_TEST_PYTHON")
        .expect("MILLRACE_TEST_PYTHON=$(scripts/python.sh)");
    let folder = tempfile::tempdir().expect("a folder");
    let filter = folder.path().join("filter.wat");
    std::fs::write(&filter, wat::every()).expect("written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python/fluvio_client.py");
    let output = Command::new(python)
        .arg(script)
        .arg(cluster.endpoint())
        .arg(&filter)
        // Seconds until it gives a request up, as a real controller does not answer each.
        .env("FLV_SOCKET_WAIT", "10")
        // The person's own profile stays out of it.
        .env("HOME", folder.path())
        .kill_on_drop(true)
        .output()
        .await
        .expect("it runs");
    let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}\n{}{}",
        output.status,
        said(&output.stdout),
        said(&output.stderr)
    );
}
