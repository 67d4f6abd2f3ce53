//! Capture: writes the committed transactions of a Postgres database, in commit order, into one
//! Fluvio topic, and copies of its tables into others while it does.
//!
//! It adds a publication and a replication slot to the source, and nothing else. It keeps no state
//! of its own: every start reads the topic, fences off its predecessor, and continues after the
//! last transaction that counts by the rules of the log (`millrace-events`). It can be killed at any
//! instant.
//!
//! One database, one partition, no schema registry.

mod append;
mod assemble;
mod begin;
mod capture;
mod catalog;
mod cell;
mod checkpoint;
mod config;
pub mod control;
mod copy;
mod cut;
mod drift;
mod error;
mod lock;
mod log_scan;
mod log_state;
mod observe;
pub mod pgoutput;
mod preflight;
mod provenance;
mod publication;
mod readiness;
mod receive;
mod relation;
mod relations;
mod resolve;
mod selection;
mod session;
mod slot;
mod source;
mod start;
mod status;
mod stream;
mod tables;
mod watch;
mod wide;
mod witness;

pub use capture::Capture;
pub use config::Config;
pub use drift::NotLive;
pub use error::Error;
pub use resolve::Unsuitable;
pub use selection::{ParseSelectionError, Selection};
pub use status::{Handle, State, Status};
pub use tables::{RequestError, TableRequest, TableState, TableStatus};
