# The program for docker-compose.yml: SmartModules and binary from source, then only the binary.
FROM rust:1-bookworm AS build
WORKDIR /millrace
COPY . .
ENV CARGO_FLAGS=--locked
# Rust's own target if its server can be reached, Debian's compiler otherwise.
RUN scripts/wasm.sh && cargo build --release --locked -p millrace

FROM debian:bookworm-slim
RUN useradd --system --home-dir /nonexistent millrace && \
    install -d -o millrace /var/lib/millrace
COPY --from=build /millrace/target/release/millrace /usr/local/bin/millrace
USER millrace
ENTRYPOINT ["millrace"]
