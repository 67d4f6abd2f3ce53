//! Builds the SmartModules and hands them to the binary.
//!
//! `scripts/wasm.sh` builds them to `<workspace>/target/smartmodules/*.wasm`. They and each module's
//! `SmartModule.toml` are copied to `OUT_DIR`, and `smartmodules.rs` is written there: one expression of the type
//! `&[Module]`, for `include!`. `MILLRACE_SMARTMODULES_DIR` names a folder that holds them already; then nothing is built.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::{env, fs};

const MODULES: [&str; 4] = ["columns", "user-event", "rows", "redact"];

/// What the modules are made of, in the workspace.
const SOURCES: [&str; 5] = [
    "smartmodules",
    "events",
    "Cargo.lock",
    "Cargo.toml",
    "scripts/wasm.sh",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=MILLRACE_SMARTMODULES_DIR");
    let embedded = modules_dir().and_then(|from| embed(&from, &required("OUT_DIR")));
    if let Err(problem) = embedded {
        eprintln!("{problem}");
        process::exit(1);
    }
}

/// `CARGO_TARGET_DIR` may point anywhere, the modules always lie in the workspace's own target folder.
fn modules_dir() -> Result<PathBuf, String> {
    let given = env::var_os("MILLRACE_SMARTMODULES_DIR").filter(|dir| !dir.is_empty());
    if let Some(dir) = given {
        return Ok(dir.into());
    }
    let workspace = required("CARGO_MANIFEST_DIR").join("..");
    for source in SOURCES {
        println!(
            "cargo:rerun-if-changed={}",
            workspace.join(source).display()
        );
    }
    build(&workspace)?;
    Ok(workspace.join("target/smartmodules"))
}

/// One that `make` has started already is waited for: cargo locks the folder that it builds in.
fn build(workspace: &Path) -> Result<(), String> {
    let script = workspace.join("scripts/wasm.sh");
    let built = Command::new("bash")
        .arg(&script)
        .stdin(Stdio::null())
        .status();
    match built {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} failed: {status}", script.display())),
        Err(error) => Err(format!("{}: {error}", script.display())),
    }
}

fn required(name: &str) -> PathBuf {
    env::var_os(name).map_or_else(|| panic!("cargo sets {name}"), PathBuf::from)
}

fn embed(from: &Path, out: &Path) -> Result<(), String> {
    let mut table = String::from("&[\n");
    for name in MODULES {
        let wasm = keep(&from.join(name).with_extension("wasm"), out)?;
        let manifests = required("CARGO_MANIFEST_DIR").join("../smartmodules");
        let manifest = out.join(name);
        fs::create_dir_all(&manifest).map_err(|error| format!("{name}: {error}"))?;
        let manifest = keep(&manifests.join(name).join("SmartModule.toml"), &manifest)?;
        writeln!(
            table,
            "Module {{ name: {name:?}, wasm: include_bytes!({wasm:?}), manifest: include_str!({manifest:?}) }},"
        )
        .map_err(|error| error.to_string())?;
    }
    table.push(']');
    fs::write(out.join("smartmodules.rs"), table)
        .map_err(|error| format!("smartmodules.rs: {error}"))
}

/// Copies a file into a folder, and has it looked at again when it changes.
fn keep(source: &Path, folder: &Path) -> Result<PathBuf, String> {
    println!("cargo:rerun-if-changed={}", source.display());
    let copy = folder.join(source.file_name().unwrap_or_default());
    fs::copy(source, &copy)
        .map_err(|error| format!("SmartModule {}: {error}", source.display()))?;
    Ok(copy)
}
