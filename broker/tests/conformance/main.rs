//! The broker as the unmodified `fluvio` client sees it.

mod deaf;
mod durability;
mod fuzzed;
mod garbage;
mod modules;
mod offsets;
mod python;
mod records;
mod support;
mod tls;
mod topics;
mod wat;
