#!/usr/bin/env bash
# Brings what building and running millrace needs and this machine lacks. Safe to run again: what is there is
# used as it is, and no service or database cluster is created, started or touched.
#
#   tools:
#   cargo                    asked for, never installed: https://rustup.rs
#   C compiler, make         for C code in the dependencies
#   WebAssembly target       see wasm.sh
#   servers:
#   Postgres 14 or newer     programs only; `millrace up` and the tests run private servers
#   MySQL 8.0.23 or newer    likewise; or MariaDB 10.6 or newer
#   tests, beside the servers:
#   Chromium, chromedriver   for the tests of the page
#   clients:
#   Fluvio's Python client   in target/python, for one test, which is skipped without it; see python.sh
#   checks, for `make check` only; what cannot be had is skipped there, and counted:
#   cargo-deny               built from crates.io into target/tools, which takes minutes once
#   promtool                 of Debian's package prometheus
#
# `setup.sh tools` and `setup.sh servers` bring one of them, so that servers are installed while cargo compiles;
# `setup.sh tests` brings servers and clients; `setup.sh checks` brings what only `make check` needs.
#
# Installs with apt-get, as root or through sudo. Elsewhere one line says what is missing, why, and what to run.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
rust_minimum=1.89
cargo_deny=0.20.2

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }

main() {
    case "${1:-all}" in
        all) tools && servers && browser && clients ;;
        tools) tools && ask_ahead ;;
        servers) servers ;;
        tests) servers && browser && clients ;;
        checks) tools && checks ;;
        *) fail "setup.sh [tools|servers|tests|checks], not $1" ;;
    esac
}

tools() {
    need_cargo
    need "a C compiler" "dependencies contain C code" have_cc \
        "gcc libc6-dev" "dnf install gcc | pacman -S gcc | xcode-select --install"
    need "make" "every task here is a make target" have_make \
        "make" "dnf install make | pacman -S make | xcode-select --install"
    "$root/scripts/wasm.sh" --toolchain-only
    say "cargo, a C compiler and a WebAssembly compiler are here"
}

servers() {
    need "Postgres 14 or newer" "the demo and the tests run private Postgres servers" have_postgres \
        "postgresql" "dnf install postgresql-server | pacman -S postgresql | brew install postgresql@16"
    need "MySQL 8.0.23 or MariaDB 10.6" "the demo and the tests run private MySQL or MariaDB servers" have_mysql \
        "mariadb-server-core mariadb-client-core / mysql-server-core-8.4 / mysql-server-core-8.0" \
        "dnf install mariadb-server | pacman -S mariadb | brew install mariadb"
    say "Postgres and MySQL or MariaDB are here"
}

browser() {
    need "Chromium with chromedriver" "the tests of the page drive a real browser" have_browser \
        "chromium chromium-driver / chromium-chromedriver" "dnf install chromium chromedriver | pacman -S chromium"
    say "Chromium is here"
}

# Nothing fails without it: python.sh says what is missing, and that the test is skipped.
clients() {
    if ! have_venv && command -v apt-get >/dev/null && admin >/dev/null; then
        install python3-venv || true
    fi
    "$root/scripts/python.sh" >/dev/null || true
}

# Nothing fails without them: the Makefile says what is skipped.
checks() {
    have_cargo_deny || {
        say "building cargo-deny $cargo_deny in target/tools"
        cargo install --quiet cargo-deny --locked --version "$cargo_deny" --root "$root/target/tools" ||
            say "cargo-deny could not be built: make deny will be skipped"
    }
    if ! have_promtool && command -v apt-get >/dev/null && admin >/dev/null; then
        install prometheus || say "promtool could not be installed: make test-alerts will be skipped"
    fi
}

# In the background nobody can answer when sudo asks for a password.
ask_ahead() {
    { have_postgres && have_mysql; } || admin >/dev/null || true
}

need_cargo() {
    local version
    command -v cargo >/dev/null ||
        fail "cargo is missing: it builds everything. Run: curl --proto '=https' -sSf https://sh.rustup.rs | sh"
    version=$(cd "$root" && cargo --version | awk '{ print $2 }')
    at_least "$version" $rust_minimum ||
        fail "cargo $version is too old: Rust $rust_minimum or newer builds this. Run: rustup update stable"
}

# need WHAT WHY TEST APT-PACKAGES COMMAND-ELSEWHERE; alternatives among the packages are separated by " / ".
need() {
    local what=$1 why=$2 test=$3 packages=$4 elsewhere=$5 choice
    "$test" && return 0
    say "$what is missing ($why)"
    command -v apt-get >/dev/null || fail "$what is missing: $why. Run one of: $elsewhere"
    while IFS= read -r choice; do
        # shellcheck disable=SC2086
        install $choice && "$test" && return 0
    done < <(sed 's# / #\n#g' <<<"$packages")
    fail "$what is missing and could not be installed: $why. Run: apt-get install ${packages%% / *}"
}

have_cc() { command -v cc >/dev/null && echo 'int main(void){return 0;}' | cc -x c -o /dev/null - 2>/dev/null; }
have_browser() { command -v chromedriver >/dev/null && command -v chromium chromium-browser google-chrome >/dev/null; }
have_make() { command -v make >/dev/null; }

have_postgres() {
    local dir
    for dir in "$(setting MILLRACE_POSTGRES_BIN)" ${PATH//:/ } /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
        /usr/local/pgsql/bin /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin; do
        [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] || continue
        at_least "$("$dir/postgres" --version | grep -oE '[0-9]+' | head -n 1)" 14 && return 0
    done
    return 1
}

have_cargo_deny() { PATH="$root/target/tools/bin:$PATH" cargo deny --version >/dev/null 2>&1; }
have_promtool() { command -v promtool >/dev/null; }
have_venv() { python3 -c 'import ensurepip, venv' 2>/dev/null; }

# MariaDB's data are made by mariadb-install-db, which needs my_print_defaults from the client's package.
have_mysql() {
    local dir server version
    server=$(setting MILLRACE_MYSQL_BIN)
    [ -n "$server" ] && return 0
    for dir in ${PATH//:/ } /usr/sbin /usr/bin /usr/libexec /usr/local/mysql/bin /usr/local/sbin /opt/homebrew/bin /usr/local/bin; do
        for server in "$dir/mariadbd" "$dir/mysqld"; do
            [ -x "$server" ] || continue
            version=$("$server" --version 2>/dev/null | grep -oE 'Ver +[0-9.]+' | awk '{ print $2 }') || continue
            if "$server" --version 2>/dev/null | grep -q MariaDB; then
                at_least "$version" 10.6 && command -v mariadb-install-db mysql_install_db >/dev/null &&
                    command -v my_print_defaults >/dev/null && return 0
            else
                at_least "$version" 8.0.23 && return 0
            fi
        done
    done
    return 1
}

# A setting from the environment or from .env.
setting() {
    local value=${!1:-}
    [ -n "$value" ] || value=$(sed -n "s/^$1=//p" "$root/.env" 2>/dev/null | tail -n 1)
    echo "$value"
}

at_least() {
    [ -n "$1" ] && [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

install() {
    local admin
    admin=$(admin) || fail "missing packages need root to be installed. As root, run: apt-get install -y --no-install-recommends $*"
    say "installing $* with apt-get${admin:+ (through sudo)}; no service is started"
    hold_services "$admin"
    local result=0
    apt "$admin" "$@" || result=$?
    release_services "$admin"
    return $result
}

# Nothing to put before a command for root, "sudo" where it is allowed.
admin() {
    [ "$(id -u)" != 0 ] || return 0
    command -v sudo >/dev/null || return 1
    sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; } || return 1
    echo sudo
}

# --no-remove: better to fail than to displace something that the machine's owner installed. What apt-get has to
# tell matters only when it fails.
apt() {
    local admin=$1 log
    shift
    log=$(mktemp)
    if ! $admin apt-get install -qq --simulate --no-remove --no-install-recommends "$@" >/dev/null 2>&1; then
        $admin apt-get update -qq >"$log" 2>&1 || true
    fi
    if ! $admin env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get install -y -qq --no-remove --no-install-recommends "$@" >>"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# While packages are installed: Debian's Postgres makes no cluster, and no service of any package is started.
mark="millrace setup: no services while packages are installed"
policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.d/millrace-setup.conf

hold_services() {
    local admin=$1
    trap 'release_services "$(admin || true)"' EXIT
    if ! [ -e $policy ]; then
        printf '#!/bin/sh\n# %s\nexit 101\n' "$mark" | $admin tee $policy >/dev/null
        $admin chmod 755 $policy
    fi
    $admin mkdir -p "$(dirname $cluster)"
    printf '# %s\ncreate_main_cluster = false\n' "$mark" | $admin tee $cluster >/dev/null
}

release_services() {
    local admin=$1
    if grep -qs "$mark" $policy; then $admin rm -f $policy; fi
    if [ -e $cluster ]; then $admin rm -f $cluster; fi
}

# What a killed run may have left behind would keep the machine's own services from starting.
if grep -qs "$mark" $policy || [ -e $cluster ]; then
    if cleaner=$(admin); then release_services "$cleaner"; fi
fi

main "$@"
