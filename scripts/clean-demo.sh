#!/usr/bin/env bash
# Removes a data directory of `millrace up`, after stopping what a killed run may have left running in it.
#
#   scripts/clean-demo.sh [DATA_DIR]          default: .millrace
set -euo pipefail

dir=${1:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.millrace}

# The pid file also holds when the process started: a pid alone may be somebody else's by now.
left_running() {
    local pid started
    pid=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$1")
    started=$(sed -n 's/.*"started":"[^ "]* \([0-9]*\)".*/\1/p' "$1")
    [ -n "$pid" ] && [ -n "$started" ] || return 1
    [ "$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d ' ' -f 20)" = "$started" ] || return 1
    echo "$pid"
}

# stop PID SIGNAL...: one after the other, each with five seconds to work.
stop() {
    local pid=$1 signal
    shift
    echo "stopping process $pid, left behind by an earlier run" >&2
    for signal in "$@"; do
        kill -s $signal "$pid" 2>/dev/null || return 0
        for _ in $(seq 50); do
            kill -0 "$pid" 2>/dev/null || return 0
            sleep 0.1
        done
    done
}

# take LOCK: holds it until this script ends, and refuses to go on without it.
take() {
    local lock status=0
    command -v flock >/dev/null || return 0
    if ! { exec {lock}>>"$1"; } 2>/dev/null; then
        echo "cannot open the lock $1; whose is it? Run this as the user who ran millrace" >&2
        exit 1
    fi
    flock --nonblock --conflict-exit-code 75 "$lock" || status=$?
    case $status in
        0) return 0 ;;
        75) echo "millrace still runs on $dir: stop it first (Ctrl-C in its terminal)" >&2 ;;
        *) echo "cannot take the lock $1, so that nobody knows whether millrace still runs" >&2 ;;
    esac
    exit 1
}

[ -e "$dir" ] || { echo "nothing to remove: $dir is not there" >&2; exit 0; }
if ! [ -e "$dir/ports.json" ] && ! [ -e "$dir/endpoints.json" ] && ! [ -e "$dir/postgres" ] && ! [ -e "$dir/mysql" ]; then
    echo "$dir does not look like a data directory of millrace: not removed" >&2
    exit 1
fi
# `up` takes this one before anything else; the servers have locks of their own, for tools that run them alone.
take "$dir/lock"
for server in "$dir"/postgres "$dir"/mysql; do
    [ -e "$server" ] || continue
    take "$server/lock"
    if pid=$(left_running "$server/server.pid" 2>/dev/null); then
        case $server in
            */mysql) stop "$pid" TERM KILL ;;
            *) stop "$pid" INT QUIT KILL ;;
        esac
    fi
    # Where root's data had to live elsewhere, a link leads there.
    if [ -L "$server" ]; then
        real=$(readlink "$server")
        case $real in
            /var/tmp/millrace-*/*) rm -rf "$real"; rmdir --ignore-fail-on-non-empty "$(dirname "$real")" ;;
        esac
    fi
done
rm -rf "$dir"
echo "removed $dir" >&2
