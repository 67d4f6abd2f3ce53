//! A durable single-node broker for Fluvio clients, to be embedded.
//!
//! It speaks the wire protocol of a Fluvio cluster: the controller's and the data plane's public
//! API, on two listeners in one process. The unmodified `fluvio` crate works against it. It is
//! *not* a cluster: no replication and no mirrors.
//!
//! What is acknowledged is on the disk: produce requests and consumer offsets are answered after
//! an fsync that all requests waiting at the time share.
//!
//! ```no_run
//! # async fn run() -> Result<(), millrace_broker::OpenError> {
//! use millrace_broker::{Broker, Config, Storage};
//!
//! let broker = Broker::open(Config::on_loopback(Storage::Directory("data".into()))).await?;
//! println!("clients connect to {}", broker.sc_addr());
//! broker.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod batch;
mod broker;
mod catalog;
mod config;
mod controller;
mod data;
mod disk;
mod files;
#[doc(hidden)]
pub mod fuzz;
mod group;
mod log;
mod net;
mod positions;
mod record;
mod request;
mod retention;
mod smart;
mod tls;

pub use broker::{Broker, Handle, OpenError};
pub use config::{Config, Hold, Limits, Storage, Tls};
pub use disk::DataDirError;
pub use tls::TlsError;
