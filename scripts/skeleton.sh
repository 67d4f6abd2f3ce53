#!/usr/bin/env bash
# Reduces a copy of the sources to what decides which dependencies are built: manifests, lock file, and an empty
# file for every target that cargo expects. For the Dockerfile, whose layer of dependencies then survives every
# edit of the sources.
#
#   scripts/skeleton.sh FOLDER
set -euo pipefail

cd "${1:?which folder?}"

find . -type f ! -name Cargo.toml ! -path ./Cargo.lock ! -path './scripts/*' -delete
find . -type d -empty -delete
find . -mindepth 2 -name Cargo.toml | while IFS= read -r manifest; do
    package=$(dirname "$manifest")
    { echo src/lib.rs; sed -n 's/^path = "\(.*\.rs\)"$/\1/p' "$manifest"; } | while IFS= read -r target; do
        mkdir -p "$package/$(dirname "$target")"
        echo 'fn main() {}' >"$package/$target"
    done
done
