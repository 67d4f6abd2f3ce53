//! Hands the compiled SmartModules to the binary.
//!
//! Copies `<workspace>/target/smartmodules/*.wasm` and each module's `SmartModule.toml` into `OUT_DIR` and
//! writes `smartmodules.rs` there: one expression of the type `&[Module]`, for `include!`. The modules are
//! built by `make smartmodules`; `MILLRACE_SMARTMODULES_DIR` names another folder that holds them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

const MODULES: [&str; 4] = ["columns", "user-event", "rows", "redact"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=MILLRACE_SMARTMODULES_DIR");
    if let Err(problem) = embed(&modules_dir(), &required("OUT_DIR")) {
        eprintln!("{problem}");
        process::exit(1);
    }
}

/// `CARGO_TARGET_DIR` may point anywhere, the modules always lie in the workspace's own target folder.
fn modules_dir() -> PathBuf {
    match env::var_os("MILLRACE_SMARTMODULES_DIR") {
        Some(dir) if !dir.is_empty() => dir.into(),
        _ => required("CARGO_MANIFEST_DIR").join("../target/smartmodules"),
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
    fs::copy(source, &copy).map_err(|error| {
        format!(
            "SmartModule {}: {error}; run `make smartmodules` first",
            source.display()
        )
    })?;
    Ok(copy)
}
