//! SmartModules: WebAssembly that transforms batches on their way in or out.
//!
//! A runtime of our own on `wasmtime`, speaking the guest interface of `fluvio-smartmodule` 0.50.
//! It differs from the published engine where that one hurts: a module is compiled once per
//! content; a call has a time limit; an instance is replaced before the guest's leaked output
//! buffers fill its memory; and offsets and timestamps of the records are kept.

mod chain;
mod deduplicate;
mod engine;
mod host;
mod inflate;
mod instance;
mod look_back;
mod output;

pub(crate) use chain::{compacted, repacked, Chain, Transformed};
pub(crate) use deduplicate::Deduplicator;
pub(crate) use engine::Engine;

use fluvio_protocol::link::ErrorCode;
use fluvio_protocol::Version;

/// The version of the guest interface, `SMARTMODULE_TIMESTAMPS_VERSION`.
const GUEST_VERSION: Version = 22;

/// An error without a code of its own.
fn other(error: impl std::fmt::Display) -> ErrorCode {
    ErrorCode::Other(format!("smartmodule: {error:#}"))
}
