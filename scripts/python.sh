#!/usr/bin/env bash
# Makes target/python, a virtual environment with Fluvio's own Python client (tests/python/requirements.txt), and prints
# its interpreter. Nothing is installed elsewhere. Where it cannot be had: one line that says why, exit code 3.
#
#   $(scripts/python.sh) tests/python/fluvio_client.py HOST:PORT FILTER
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
wanted=$root/tests/python/requirements.txt
folder=$root/target/python

skip() { echo "Fluvio's Python client: SKIPPED, $*" >&2; exit 3; }

make() {
    local log=$folder/install.log
    command -v python3 >/dev/null || skip "there is no python3 (apt-get install python3-venv)"
    python3 -c 'import ensurepip, venv' 2>/dev/null || skip "python3 has no venv (apt-get install python3-venv)"
    rm -rf "$folder"
    mkdir -p "$root/target"
    python3 -m venv "$folder" >&2 || skip "python3 cannot make a virtual environment"
    timeout 180 "$folder/bin/pip" install --quiet --disable-pip-version-check --retries 1 --timeout 15 --no-deps \
        --only-binary :all: --require-hashes -r "$wanted" >"$log" 2>&1 ||
        skip "pip cannot install it for $(python3 -V) on $(uname -sm): $(grep -i error "$log" | tail -n 1)"
    "$folder/bin/python" -c 'import fluvio' 2>"$log" || skip "it does not run here: $(tail -n 1 "$log")"
    cp "$wanted" "$folder/requirements.txt"
}

# Complete only with the list of what was installed, which is copied last.
cmp -s "$wanted" "$folder/requirements.txt" || make
echo "$folder/bin/python"
