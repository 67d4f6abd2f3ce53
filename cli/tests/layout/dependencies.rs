//! The manifests: what `cargo metadata` says each crate is built from. Dependencies of tests and benches are free.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const LIBRARIES: &[&str] = &[
    "millrace-control",
    "millrace-events",
    "millrace-sessions",
    "millrace-topic",
];

/// Each crate with those of ours that it may be built from.
const ROOMS: &[(&str, &[&str])] = &[
    ("millrace-events", &[]),
    ("millrace-control", &[]),
    ("millrace-sessions", &["millrace-events"]),
    ("millrace-broker", &[]),
    ("millrace-topic", &["millrace-events"]),
    ("millrace-postgres-cdc", LIBRARIES),
    ("millrace-projections", LIBRARIES),
    ("millrace-dashboard", LIBRARIES),
    ("millrace-shop-generator", LIBRARIES),
    (
        "millrace-users-data",
        &[
            "millrace-control",
            "millrace-events",
            "millrace-sessions",
            "millrace-topic",
            "millrace-sm-user-event",
        ],
    ),
    ("millrace-sm-columns", &["millrace-events"]),
    ("millrace-sm-rows", &["millrace-events"]),
    ("millrace-sm-redact", &["millrace-events"]),
    ("millrace-sm-user-event", &[]),
];

/// The binary wires everything, and the end-to-end tests use everything.
const UNBOUND: [&str; 2] = ["millrace", "millrace-tests"];

/// Crates that speak Fluvio's protocol.
const DOORS: [&str; 2] = ["millrace-topic", "millrace-broker"];

/// A crate of the workspace and what it is built from.
struct Package {
    name: String,
    manifest: PathBuf,
    dependencies: Vec<String>,
}

impl Package {
    /// `FILE:LINE` of a dependency.
    fn place(&self, root: &Path, dependency: &str) -> String {
        let text = std::fs::read_to_string(&self.manifest).expect("a manifest");
        let is_it = |line: &str| {
            let behind = line.strip_prefix(dependency).unwrap_or_default();
            behind.starts_with(['.', ' ', '='])
        };
        let line = text.lines().position(is_it).map_or(0, |at| at + 1);
        let file = self.manifest.strip_prefix(root).unwrap_or(&self.manifest);
        format!("{}:{line}", file.display())
    }
}

fn packages(root: &Path) -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version=1",
            "--no-deps",
            "--offline",
            "--manifest-path",
        ])
        .arg(root.join("Cargo.toml"))
        .output()
        .expect("cargo");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().map(package).collect()
}

fn package(package: &Value) -> Package {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let dependencies = package["dependencies"].as_array().expect("dependencies");
    let built_from = dependencies.iter().filter(|one| one["kind"] != "dev");
    Package {
        name: text(&package["name"]),
        manifest: text(&package["manifest_path"]).into(),
        dependencies: built_from.map(|one| text(&one["name"])).collect(),
    }
}

/// Dependencies between our crates that no room allows, and crates without a room.
pub(crate) fn between_ours(root: &Path) -> Vec<String> {
    let packages = packages(root);
    assert!(packages.len() > 10, "{} packages", packages.len());
    let ours: Vec<&str> = packages.iter().map(|one| one.name.as_str()).collect();
    let mut violations = Vec::new();
    for package in packages
        .iter()
        .filter(|one| !UNBOUND.contains(&one.name.as_str()))
    {
        let Some((_, may)) = ROOMS.iter().find(|(name, _)| *name == package.name) else {
            violations.push(format!(
                "{}: {} has no room",
                package.manifest.display(),
                package.name
            ));
            continue;
        };
        let is_ours = |name: &&String| ours.contains(&name.as_str());
        for dependency in package.dependencies.iter().filter(is_ours) {
            if !may.contains(&dependency.as_str()) {
                let place = package.place(root, dependency);
                violations.push(format!("{place}: {} depends on {dependency}", package.name));
            }
        }
    }
    violations
}

/// Dependencies on Fluvio's crates of whoever is no door to it.
pub(crate) fn on_fluvio(root: &Path) -> Vec<String> {
    let mut violations = Vec::new();
    for package in packages(root) {
        let name = package.name.as_str();
        if DOORS.contains(&name) || name == "millrace-tests" {
            continue;
        }
        let is_module = name.starts_with("millrace-sm-");
        let fluvio = package
            .dependencies
            .iter()
            .filter(|one| one.starts_with("fluvio"));
        for dependency in fluvio.filter(|one| !is_module || *one != "fluvio-smartmodule") {
            let place = package.place(root, dependency);
            violations.push(format!("{place}: {name} depends on {dependency}"));
        }
    }
    violations
}
