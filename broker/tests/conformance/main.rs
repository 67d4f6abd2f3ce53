//! The broker as the unmodified `fluvio` client sees it.

mod deaf;
mod deduplication;
mod durability;
mod fuzzed;
mod garbage;
mod held;
mod modules;
mod offsets;
mod producing;
mod python;
mod records;
mod retention;
mod support;
mod tls;
mod topics;
mod transforms;
mod wat;
