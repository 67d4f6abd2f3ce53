//! Who may depend on whom, who may speak Fluvio's protocol, and who may know the shop of the demonstration. Reads the
//! manifests and the sources of the workspace; needs no server. A violation is named with its file and line.

mod dependencies;
mod names;
mod source;

use std::path::{Path, PathBuf};

/// The workspace. Asked for when the test runs, so that it can be pointed at another working copy.
fn root() -> PathBuf {
    let cli = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where it runs the test");
    Path::new(&cli)
        .join("..")
        .canonicalize()
        .expect("the workspace")
}

/// Fails with one violation a line.
#[track_caller]
fn assert_none(rule: &str, violations: &[String]) {
    let count = violations.len();
    assert!(
        count == 0,
        "{count} violations of: {rule}\n{}",
        violations.join("\n")
    );
}

#[test]
fn each_crate_depends_only_on_those_that_its_room_may_know() {
    let violations = dependencies::between_ours(&root());
    assert_none("connectors and projections depend on topic, events, control and sessions, never on the broker or on each other (dependencies.rs has all rooms)", &violations);
}

#[test]
fn only_the_door_to_fluvio_uses_fluvios_crates() {
    let root = root();
    let mut violations = dependencies::on_fluvio(&root);
    violations.extend(source::uses_of_fluvio(&root));
    assert_none(
        "only topic, broker and the SmartModules' shim.rs use fluvio crates; tests and benches may",
        &violations,
    );
}

#[test]
fn no_engine_code_knows_the_shop() {
    let root = root();
    let violations = names::of_the_shop(&root);
    assert_none("only the generator, ingest (users-data with its SmartModule), projections/marts, .env, docs, tests and examples name the shop's tables and marts", &violations);
}
