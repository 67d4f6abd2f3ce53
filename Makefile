# Everything that CI and people run. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The lock file decides which dependencies are built; CARGO_FLAGS= lets cargo update it.
CARGO_FLAGS ?= --locked
export CARGO_FLAGS

# A target folder of your own is honoured; the binary still ends at target/release/millrace.
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
BINARY := target/release/millrace
DATA_DIR ?= .millrace

# Tools that setup.sh builds for `make check`.
export PATH := $(abspath target/tools/bin):$(PATH)

# $(call skip,TEXT) says that a step was left out. `make check` counts these lines.
SKIPPED := target/skipped
skip = mkdir -p target && echo "$(1)" | tee -a $(SKIPPED)

.PHONY: help setup setup-tools smartmodules build demo clean-demo test test-mysql test-fluvio test-compose test-snapshot test-kills fuzz check deny fmt lint doc bench bench-restart

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

setup: ## install what is missing (idempotent; starts no service)
	@scripts/setup.sh

# Not again below a make that has done it: a second setup beside a running one would undo its precautions.
setup-tools:
	@[ -n "$(TOOLS_READY)" ] || scripts/setup.sh tools

smartmodules: setup-tools ## build the SmartModules to target/smartmodules/*.wasm
	@scripts/wasm.sh

# $(call beside_modules,COMMAND) runs COMMAND while the SmartModules are built. What embeds them waits for them: the build
# script of cli runs the same script, which finds them built or being built.
beside_modules = scripts/wasm.sh & modules=$$!; made=0; $(1) || made=$$?; wait $$modules || true; \
    [ $$made = 0 ] || exit $$made

# The binary alone: the tests' own crates and what they need are built by `make test`, with nothing built twice.
build: setup-tools ## build target/release/millrace
	@$(call beside_modules,cargo build --release -p millrace $(CARGO_FLAGS))
	@if [ "$(TARGET_DIR)" != "$(abspath target)" ]; then \
	    mkdir -p target/release && \
	    { cmp -s "$(TARGET_DIR)/release/millrace" $(BINARY) || install -m 755 "$(TARGET_DIR)/release/millrace" $(BINARY); }; \
	fi

# $(call beside,PART,TARGET) makes TARGET while what PART of setup.sh finds missing is installed, and waits for both.
beside = scripts/setup.sh $(1) & part=$$!; made=0; $(MAKE) --no-print-directory TOOLS_READY=1 $(2) || made=$$?; \
    wait $$part; [ $$made = 0 ] || exit $$made

demo: setup-tools ## run everything; ONCE=1: trade 20 s, verify, stop. FLAGS="--free-ports" and the like are passed on
	@$(call beside,servers,build)
	@exec $(BINARY) up --demo $(if $(filter-out 0,$(ONCE)),--once) --data-dir "$(DATA_DIR)" $(FLAGS)

clean-demo: ## remove the demo's data directory
	@[ -x $(BINARY) ] || { echo "millrace is not built, and knows alone what it made: make build, then make clean-demo"; exit 2; }
	@$(BINARY) clean --data-dir "$(DATA_DIR)"

.PHONY: test-build
test-build: setup-tools
	@$(call beside_modules,cargo test --release --workspace --no-run $(CARGO_FLAGS))

test: setup-tools ## every test, end-to-end ones on real servers included
	@$(call beside,tests,test-build)
	@cargo test --release --workspace $(CARGO_FLAGS)
	@result=0; python=$$(scripts/python.sh) || result=$$?; \
	if [ $$result = 0 ]; then \
	    MILLRACE_TEST_PYTHON="$$python" cargo test --release --workspace --test conformance $(CARGO_FLAGS) -- \
	        --ignored --exact python::embedded; \
	elif [ $$result != 3 ]; then \
	    exit $$result; \
	else \
	    $(call skip,make test: the test of Fluvio's Python client was SKIPPED; scripts/python.sh says why); \
	fi

test-mysql: setup smartmodules ## the tests that need MySQL, against a real MySQL instead of MariaDB
	@if mysqld=$$(scripts/real-mysql.sh); then \
	    MILLRACE_MYSQL_BIN="$$mysqld" cargo test --release --workspace --no-fail-fast $(CARGO_FLAGS); \
	else \
	    $(call skip,make test-mysql: SKIPPED; scripts/real-mysql.sh says why); \
	fi

RECORDS ?= 5000000
bench-restart: setup ## how long capture takes to stream again, against a log of RECORDS=5000000 records
	@RECORDS=$(RECORDS) cargo run --release -p millrace-postgres-cdc --example restart_bench $(CARGO_FLAGS)

ROUNDS ?= 40
test-snapshot: setup ## copies of tables under load, for long, across the end of the transaction numbers (ROUNDS=40)
	@MILLRACE_TEST_ROUNDS=$(ROUNDS) cargo test --release -p millrace-postgres-cdc --test e2e $(CARGO_FLAGS) -- \
	    --include-ignored --nocapture --test-threads 1 copies::

ROWS ?= 5000000
test-kills: test-build ## broker, capture and projector killed one by one during a copy of ROWS=5000000 rows under load
	@MILLRACE_TEST_ROWS=$(ROWS) cargo test --release --workspace --test e2e $(CARGO_FLAGS) -- --nocapture services::

# One at a time: a real controller answers the requests of a connection, and of many at once, slowly.
test-fluvio: smartmodules ## the conformance suite against a real cluster: make test-fluvio FLUVIO=host:port
	@[ -n "$(FLUVIO)" ] || { echo "which cluster? make test-fluvio FLUVIO=host:port of its controller"; exit 2; }
	@python=$$(scripts/python.sh) || without="--skip python::real"; \
	MILLRACE_TEST_PYTHON="$$python" MILLRACE_TEST_FLUVIO="$(FLUVIO)" cargo test --release -p millrace-broker \
	    --test conformance $(CARGO_FLAGS) -- --ignored --test-threads 1 --skip python::embedded $${without:-}

test-compose: ## docker-compose.yml with a container engine: up, tool, restart, stop; FLUVIO_CLI=… consumes from the host too
	@code=0; scripts/test-compose.sh || code=$$?; [ $$code = 3 ] || exit $$code

test-alerts: ## the rules in docs/monitoring, with promtool (Debian's package prometheus has it)
	@if command -v promtool >/dev/null; then \
	    promtool check rules docs/monitoring/alerts.yml && promtool test rules docs/monitoring/alerts_test.yml; \
	else \
	    $(call skip,make test-alerts: SKIPPED; there is no promtool on this machine (Debian: package prometheus)); \
	fi

# Advisories need RustSec's database, which lies on github.com and in no package registry.
deny: ## licences, bans, sources and known vulnerabilities of the dependencies, with cargo-deny
	@if ! cargo deny --version >/dev/null 2>&1; then \
	    $(call skip,make deny: SKIPPED; there is no cargo-deny (scripts/setup.sh checks builds it)); \
	    exit 0; \
	fi; \
	cargo deny --locked check --hide-inclusion-graph licenses bans sources; \
	if cargo deny --locked fetch db >/dev/null 2>&1; then \
	    cargo deny --locked --offline check --hide-inclusion-graph advisories; \
	else \
	    $(call skip,make deny: advisories SKIPPED; RustSec's database on github.com cannot be fetched); \
	fi

CHECKS := fmt-check lint deny doc test-alerts test

check: ## format, lints, dependencies, documentation, alerts, tests; ends with what was skipped
	@scripts/setup.sh checks
	@rm -f $(SKIPPED)
	@for step in $(CHECKS); do echo "== make $$step"; $(MAKE) --no-print-directory TOOLS_READY=1 $$step; done
	@skipped=$$(cat $(SKIPPED) 2>/dev/null | wc -l); \
	echo "make check: everything else is green; $$skipped skipped"; \
	[ "$$skipped" = 0 ] || sed 's/^/  /' $(SKIPPED)

.PHONY: fmt-check
fmt-check:
	@cargo fmt --all --check

fmt: ## format the sources
	@cargo fmt --all

lint: setup-tools ## clippy and the compiler's lints, warnings denied
	@cargo clippy --release --workspace --all-targets $(CARGO_FLAGS) -- -D warnings -D missing_docs

doc: setup-tools ## documentation of the workspace, broken links denied
	@RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps --lib $(CARGO_FLAGS)

# cargo-fuzz uses flags that only a nightly compiler has; a stable one is told to allow them.
FUZZ_SECONDS ?= 120
fuzz: ## fuzz the broker, FUZZ_SECONDS=120 each target: needs cargo-fuzz (cargo install cargo-fuzz) and a C++ compiler
	@cargo fuzz --version >/dev/null 2>&1 || { echo "cargo-fuzz is missing: cargo install cargo-fuzz --locked"; exit 2; }
	@cd broker && for target in frame batch request; do \
	    mkdir -p fuzz/corpus/$$target && \
	    RUSTC_BOOTSTRAP=1 cargo fuzz run $$target fuzz/corpus/$$target fuzz/inputs/$$target -- \
	        -max_total_time=$(FUZZ_SECONDS) -malloc_limit_mb=512 -rss_limit_mb=4096 -timeout=25 -detect_leaks=0; \
	done

bench: setup smartmodules ## measure what the record format and each stage cost
	@cargo build --release --workspace --examples $(CARGO_FLAGS)
	@for bench in columns capture write broker; do \
	    echo "== $$bench"; \
	    "$(TARGET_DIR)/release/examples/$${bench}_bench"; \
	done
