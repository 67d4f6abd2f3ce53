//! Every error code has its section under `docs/errors`, and no section is about a code that is gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Words of `text` that `is_code` takes for codes.
fn codes(text: &str, is_code: impl Fn(&str) -> bool) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| is_code(word))
        .map(str::to_owned)
        .collect()
}

fn sections(page: &str) -> BTreeSet<String> {
    read(page)
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(str::to_owned)
        .collect()
}

/// Only whole string literals: the word also stands in prose.
fn literals(source: &str, prefix: &str) -> BTreeSet<String> {
    let text = read(source);
    let quoted = text.split('"').skip(1).step_by(2);
    quoted
        .filter(|literal| literal.starts_with(prefix) && !literal.contains(' '))
        .map(str::to_owned)
        .collect()
}

fn numbered<'a>(prefix: &'a str) -> impl Fn(&str) -> bool + 'a {
    move |word| {
        let digits = word.strip_prefix(prefix).unwrap_or_default();
        digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit())
    }
}

#[test]
fn every_code_has_its_section() {
    let projector = read("projections/src/engine/error.rs");
    let mut capture = literals("connectors/postgres-cdc/src/error.rs", "capture-");
    let outlook = "connectors/postgres-cdc/src/error/outlook.rs";
    capture.extend(literals(outlook, "capture-"));
    capture.extend(literals("connectors/postgres-cdc/src/drift.rs", "capture-"));
    let pairs = [
        ("projector", codes(&projector, numbered("MR-P"))),
        (
            "verify",
            codes(&read("projections/src/verify/error.rs"), numbered("MR-V")),
        ),
        ("capture", capture),
        (
            "ingest",
            literals("connectors/users-data/src/error.rs", "ingest-"),
        ),
    ];
    let marts = codes(&read("projections/src/marts/folder.rs"), numbered("MR-M"));
    assert_eq!(marts.len(), 1, "{marts:?}");
    assert_eq!(sections("docs/errors/marts.md"), marts, "marts");
    let control = literals("control/src/server.rs", "control-");
    assert_eq!(control.len(), 2, "{control:?}");
    assert_eq!(sections("docs/errors/control.md"), control, "control");
    let mut broker = literals("broker/src/log/damage.rs", "broker-");
    broker.extend(literals("broker/src/positions.rs", "broker-"));
    broker.extend(literals("broker/src/catalog/store.rs", "broker-"));
    broker.extend(literals("broker/src/retention/notice.rs", "broker-"));
    assert_eq!(broker.len(), 7, "{broker:?}");
    assert_eq!(sections("docs/errors/broker.md"), broker, "broker");
    for (page, said) in pairs {
        assert!(said.len() >= 5, "{page}: only {said:?} found");
        assert_eq!(sections(&format!("docs/errors/{page}.md")), said, "{page}");
    }
}
