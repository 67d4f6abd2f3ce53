//! Builds the SmartModules and hands them to the binary.
//!
//! `scripts/wasm.sh` builds them to `<workspace>/target/smartmodules/*.wasm`. They and each module's
//! `SmartModule.toml` are copied to `OUT_DIR`, and `smartmodules.rs` is written there: one expression of the type
//! `&[Package]`, for `include!`. `MILLRACE_SMARTMODULES_DIR` names a folder that holds them already; then nothing is built.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::{env, fs};

const MODULES: [&str; 4] = ["columns", "user-event", "rows", "redact"];

/// What the modules are made of, in the workspace. A change there runs this script again, which builds them anew. The
/// modules themselves are not watched: cargo would find them younger than the start of the run that made them, and the
/// next build would run this again and link for nothing.
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

/// The folder with the modules. `CARGO_TARGET_DIR` may point anywhere, they always lie in the workspace's own target
/// folder; a folder that was given is watched, as nothing else tells that they changed.
fn modules_dir() -> Result<PathBuf, String> {
    let given = env::var_os("MILLRACE_SMARTMODULES_DIR").filter(|dir| !dir.is_empty());
    let workspace = required("CARGO_MANIFEST_DIR").join("..");
    if let Some(dir) = given.map(PathBuf::from) {
        for name in MODULES {
            watch(&dir.join(name).with_extension("wasm"));
            watch(&manifest(&workspace, name));
        }
        return Ok(dir);
    }
    for source in SOURCES {
        watch(&workspace.join(source));
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
        let folder = out.join(name);
        fs::create_dir_all(&folder).map_err(|error| format!("{name}: {error}"))?;
        let workspace = required("CARGO_MANIFEST_DIR").join("..");
        let manifest = keep(&manifest(&workspace, name), &folder)?;
        writeln!(
            table,
            "Package {{ name: {name:?}, wasm: include_bytes!({wasm:?}), manifest: include_str!({manifest:?}) }},"
        )
        .map_err(|error| error.to_string())?;
    }
    table.push(']');
    fs::write(out.join("smartmodules.rs"), table)
        .map_err(|error| format!("smartmodules.rs: {error}"))
}

fn manifest(workspace: &Path, module: &str) -> PathBuf {
    workspace
        .join("smartmodules")
        .join(module)
        .join("SmartModule.toml")
}

/// Runs this script again when the file, or anything in the folder, has changed.
fn watch(path: &Path) {
    println!("cargo:rerun-if-changed={}", path.display());
}

/// Copies a file into a folder.
fn keep(source: &Path, folder: &Path) -> Result<PathBuf, String> {
    let copy = folder.join(source.file_name().unwrap_or_default());
    fs::copy(source, &copy)
        .map_err(|error| format!("SmartModule {}: {error}", source.display()))?;
    Ok(copy)
}
