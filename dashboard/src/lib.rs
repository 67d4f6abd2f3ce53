//! The dashboard of millrace: how far behind the replica and the marts are, and why.
//!
//! A [`Collector`] asks everybody once a second (Postgres, MySQL, Fluvio, the services' control APIs) and makes
//! one [`status::Status`] of the answers. The page, `/metrics`, the history and `millrace status` show that
//! struct and nothing else. A [`Service`] serves the page beside it.
//!
//! What it is not: it holds no position and steers nothing by itself. What a person does on the page
//! goes to the services' control APIs.

mod assets;
mod collect;
mod config;
mod heartbeat;
mod history;
mod http;
mod judge;
mod latency;
mod marts;
mod metrics;
mod records;
mod service;
pub mod status;
mod verify;

pub use collect::Collector;
pub use config::{Chart, Config, Mart, PartsFn, Sources, Topics, VerifyFn};
pub use service::{Error, Service};
