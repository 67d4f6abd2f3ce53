//! Capture: writes the committed transactions of a Postgres database, in commit order, into one
//! Fluvio topic, after a snapshot of its tables into another.
//!
//! It adds a publication and a replication slot to the source, and nothing else. It keeps no state
//! of its own: every start reads the topic, fences off its predecessor, and continues after the
//! last transaction that counts by the rules of the log (`millrace-events`). It can be killed at any
//! instant.
//!
//! One database, one partition, no schema registry.

mod append;
mod assemble;
mod capture;
mod catalog;
mod cell;
mod config;
pub mod control;
mod error;
mod lock;
mod log_scan;
pub mod pgoutput;
mod preflight;
mod publication;
mod readiness;
mod receive;
mod relation;
mod resolve;
mod selection;
mod session;
mod slot;
mod snapshot;
mod source;
mod status;
mod stream;

pub use capture::Capture;
pub use config::Config;
pub use error::{Error, Unsuitable};
pub use selection::{ParseSelectionError, Selection};
pub use status::{Handle, State, Status};
