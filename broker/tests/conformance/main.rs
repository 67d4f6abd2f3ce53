//! The broker as the unmodified `fluvio` client sees it.

mod deduplication;
mod durability;
mod garbage;
mod modules;
mod offsets;
mod producing;
mod records;
mod retention;
mod support;
mod tls;
mod topics;
mod transforms;
mod wat;
