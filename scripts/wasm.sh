#!/usr/bin/env bash
# Builds every SmartModule in smartmodules/ to target/smartmodules/<name>.wasm.
#
#   scripts/wasm.sh [--toolchain auto|installed|rustup|debian] [--toolchain-only]
#
# A compiler for wasm32-unknown-unknown is taken from the first of these that works:
#   installed  the rustc on PATH already has the target
#   rustup     rustup can add it
#   debian     Debian 13's rustc, unpacked (never installed) into target/wasm-toolchain
# CARGO_FLAGS is passed on to cargo (the Makefile sets it to --locked). The build script of cli runs this too.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
toolchain=$root/target/wasm-toolchain
choice=auto
build=yes
target=wasm32-unknown-unknown
. "$root/scripts/debian.sh"

say() { echo "wasm: $*" >&2; }
fail() { say "$*"; exit 1; }

while [ $# -gt 0 ]; do
    case $1 in
        --toolchain) choice=${2:?--toolchain needs a value}; shift ;;
        --toolchain-only) build=no ;;
        *) fail "unknown argument $1" ;;
    esac
    shift
done

main() {
    command -v cargo >/dev/null || fail "cargo is missing: it builds everything here; see https://rustup.rs"
    case $choice in
        auto) use_installed || use_rustup || use_debian || no_toolchain ;;
        installed) use_installed || no_toolchain ;;
        rustup) use_installed || use_rustup || no_toolchain ;;
        debian) use_debian || no_toolchain ;;
        *) fail "--toolchain is one of auto, installed, rustup, debian" ;;
    esac
    [ "$build" = no ] || build_modules
}

no_toolchain() {
    fail "no Rust compiler for $target could be had; the SmartModules are built with it. Try: rustup target add $target"
}

use_installed() {
    local libdir
    libdir=$(rustc --print target-libdir --target $target 2>/dev/null) || return 1
    ls "$libdir"/libcore-*.rlib >/dev/null 2>&1
}

use_rustup() {
    command -v rustup >/dev/null || return 1
    say "adding the target $target with rustup"
    timeout 180 rustup target add $target >&2 || { say "rustup cannot reach its server"; return 1; }
    use_installed
}

# Debian's rustc runs through the loader and libraries unpacked beside it; what it links for the host
# (build scripts, macros) it links with the host's cc, and the modules with the host's LLD.
use_debian() {
    local lld
    lld=$(find_lld) || { say "no LLD on this machine to link WebAssembly (apt-get install lld)"; return 1; }
    if ! [ -x "$toolchain/rustc" ]; then
        say "unpacking Debian 13's rustc into ${toolchain#"$root/"} (about 200 MB of packages, nothing is installed)"
        mkdir -p "$root/target"
        debian_unpack trixie "$toolchain" "rustc libstd-rust-dev-wasm32" "libstd-rust-dev" || return 1
        write_wrapper || return 1
    fi
    "$toolchain/rustc" -V >&2 || return 1
    export RUSTC=$toolchain/rustc
    export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$lld
    unset RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER
}

write_wrapper() {
    local loader libraries
    loader=$(debian_loader "$toolchain") || return 1
    libraries=$(debian_libraries "$toolchain")
    cat >"$toolchain/rustc.new" <<WRAPPER
#!/bin/sh
exec "$loader" --library-path "$libraries" "$toolchain/usr/bin/rustc" --sysroot "$toolchain/usr" "\$@"
WRAPPER
    chmod +x "$toolchain/rustc.new"
    mv "$toolchain/rustc.new" "$toolchain/rustc"
}

find_lld() {
    local sysroot
    sysroot=$(rustc --print sysroot 2>/dev/null) || sysroot=/nonexistent
    find "$sysroot"/lib/rustlib/*/bin -maxdepth 1 -name rust-lld 2>/dev/null | grep . && return 0
    command -v rust-lld wasm-ld wasm-ld-19 wasm-ld-16 wasm-ld-14 | head -n 1 | grep .
}

# A target folder and settings of their own, so that the host's build stays fresh. From Rust 1.96 on the
# functions that the broker lends to a module (copy_records) must be allowed to be undefined explicitly.
build_modules() {
    local -a packages=() names=()
    local manifest name
    for manifest in "$root"/smartmodules/*/Cargo.toml; do
        name=$(basename "$(dirname "$manifest")")
        names+=("$name")
        packages+=(-p "millrace-sm-$name")
    done
    say "building ${names[*]}"
    unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET RUSTC_WORKSPACE_WRAPPER CLIPPY_ARGS
    (cd "$root" && cargo build ${CARGO_FLAGS:-} --release --lib --target $target --target-dir "$root/target/wasm" \
        --config 'profile.release.opt-level=3' \
        --config 'profile.release.lto=true' \
        --config 'profile.release.codegen-units=1' \
        --config 'profile.release.panic="abort"' \
        --config 'profile.release.strip="symbols"' \
        --config "target.$target.rustflags=[\"-C\", \"link-arg=--allow-undefined\"]" \
        "${packages[@]}")
    mkdir -p "$root/target/smartmodules"
    for name in "${names[@]}"; do
        keep "$root/target/wasm/$target/release/millrace_sm_${name//-/_}.wasm" "$root/target/smartmodules/$name.wasm"
    done
}

# Replaces a module only if it changed, so that what embeds it is not built again for nothing.
keep() {
    [ -f "$1" ] || fail "cargo built no $(basename "$1"): does its Cargo.toml say crate-type = [\"cdylib\", \"rlib\"]?"
    cmp -s "$1" "$2" && return 0
    cp "$1" "$2.$$"
    mv "$2.$$" "$2"
    say "$(basename "$2"): $(wc -c <"$2") bytes"
}

main
