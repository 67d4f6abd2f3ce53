# The program for docker-compose.yml: SmartModules and binary from source, then only the binary. Needs BuildKit, the
# default of Docker 23; on an older one set DOCKER_BUILDKIT=1.
#
# Three layers cost time: the WebAssembly target, the dependencies, our own crates. Only the last one is built again
# after an edit of the sources (what .dockerignore lets through), and none after an edit of anything else.
FROM rust:1.90.0-bookworm AS toolchain
WORKDIR /millrace
ENV CARGO_FLAGS=--locked
COPY scripts/wasm.sh scripts/debian.sh scripts/
# Rust's own target if its server can be reached, Debian's compiler otherwise.
RUN scripts/wasm.sh --toolchain-only

# What is left of the sources is the same after most edits, and with it the layer that is copied from here.
FROM toolchain AS skeleton
COPY . .
RUN scripts/skeleton.sh .

FROM toolchain AS build
COPY --from=skeleton /millrace .
# The skeleton's own crates are empty: their traces are removed, or cargo would take them for built.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    scripts/wasm.sh && cargo build --release --locked -p millrace && \
    rm -rf target/smartmodules target/*/.fingerprint/millrace* target/*/*/.fingerprint/millrace* \
        target/*/*/*/.fingerprint/millrace*
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    scripts/wasm.sh && cargo build --release --locked -p millrace

FROM debian:12.11-slim
LABEL org.opencontainers.image.title="millrace" \
      org.opencontainers.image.description="Postgres to a MySQL replica and marts, exactly once, through Fluvio" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --home-dir /nonexistent millrace && \
    install -d -o millrace /var/lib/millrace
COPY --from=build /millrace/target/release/millrace /usr/local/bin/millrace
# The demonstration's marts; docker-compose.yml says where they are. Mount a folder of your own there to keep others.
COPY projections/marts /usr/share/millrace/marts
USER millrace
# Page; control APIs of projector, capture and ingest; controller and streaming unit of the embedded broker.
EXPOSE 8080 8081 8082 8083 9003 9010
ENTRYPOINT ["millrace"]
