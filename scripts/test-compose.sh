#!/usr/bin/env bash
# Runs docker-compose.yml from nothing and looks at what README.md promises of it. Needs a container engine and the
# images (or stand-ins of the same names); without an engine: one line that says so, exit code 3. Everything is made
# under a project name of its own and removed at the end.
#
#   scripts/test-compose.sh
#
# COMPOSE names the program (default: "docker compose"), FLUVIO_CLI the fluvio client; without one, that part is
# skipped and said so. HOST_PREFIX is put before commands of the host that use published ports.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
compose=${COMPOSE:-docker compose}
export COMPOSE_PROJECT_NAME=millrace-test-$$ DOCKER_BUILDKIT=1
token=compose
millrace=${MILLRACE:-target/release/millrace}
services="capture ingest generate project dashboard postgres mysql sc spu"

skip() { echo "make test-compose: SKIPPED, $*" >&2; exit 3; }
say() { echo "compose: $*" >&2; }
fail() {
    say "FAILED: $*"
    $compose ps >&2 || true
    $compose logs --tail 20 >&2 2>&1 || true
    exit 1
}
on_host() { ${HOST_PREFIX:-} env MILLRACE_CONTROL_TOKEN=$token "$@"; }

docker version >/dev/null 2>&1 || skip "there is no container engine (docker) to run it with"
$compose version >/dev/null 2>&1 || skip "there is no $compose"
trap '$compose down -v --timeout 10 >/dev/null 2>&1 || true' EXIT

container() { $compose ps -q -a "$1" 2>/dev/null || $compose ps -q "$1"; }
state() { docker inspect -f "{{$2}}" "$(container "$1")"; }

# until SECONDS COMMAND...: again and again.
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 1
    done
}

is_well() {
    local service
    for service in $services; do
        [ "$(state "$service" .State.Running)" = true ] || return 1
        case $(state "$service" 'if .State.Health}}{{.State.Health.Status}}{{else}}none{{end') in
            healthy | none) ;;
            *) return 1 ;;
        esac
    done
}

returns() {
    until_true 180 is_well || fail "$1: not every service is back and well"
    until_true 120 $compose run --rm tool wait-for --timeout 20 || fail "$1: MySQL does not catch up"
    say "$1: everything is well, MySQL has caught up"
}

say "starting from nothing"
$compose up --build -d || fail "up --build"
returns "after up"
for service in init fill; do
    [ "$(state $service .State.Status) $(state $service .State.ExitCode)" = "exited 0" ] || fail "$service did not end well"
done
for service in $services; do
    [ "$(state "$service" .RestartCount)" = 0 ] || fail "$service had to be started more than once"
done
if $compose logs 2>&1 | grep -i "reachable from other machines"; then fail "a warning where nothing is published"; fi

before=$(docker ps -aq | sort)
$compose run --rm tool status || fail "tool status"
$compose run --rm tool verify || fail "tool verify"
[ "$before" = "$(docker ps -aq | sort)" ] || fail "the tool started or left something"
say "the tool starts nothing"

on_host "$millrace" status || fail "status from the host"
if [ -n "${FLUVIO_CLI:-}" ]; then
    export FLV_PROFILE_PATH=${TMPDIR:-/tmp}/millrace-test-$$-profile
    on_host "$FLUVIO_CLI" profile add millrace 127.0.0.1:9003 local >/dev/null || fail "fluvio profile add"
    records=$(on_host timeout 60 "$FLUVIO_CLI" consume shop-changes -B -d 2>/dev/null | wc -l)
    [ "$records" -gt 10 ] || fail "fluvio consume on the host: $records records"
    say "fluvio consume on the host: $records records"
    rm -f "$FLV_PROFILE_PATH"
else
    say "SKIPPED: no FLUVIO_CLI to consume from the host"
fi

$compose restart --timeout 10 || fail "restart"
returns "after restart"

began=$SECONDS
$compose stop --timeout 20 || fail "stop"
for service in $services; do
    code=$(state "$service" .State.ExitCode)
    # 143: ended by SIGTERM, as asked, without a handler of its own.
    case $service:$code in *:0 | sc:143 | spu:143) ;; *) fail "$service ended with $code" ;; esac
done
[ $((SECONDS - began)) -lt 20 ] || fail "stopping took $((SECONDS - began)) s"
say "stopped within $((SECONDS - began)) s, with clean exit codes"

$compose up -d || fail "up again"
returns "after the second up"
$compose run --rm tool verify || fail "verify at the end"
say "all is well"
