//! The command line of millrace: settings, wiring of the services, and private servers for `up`.
//!
//! A library so that the end-to-end tests use the same servers and settings; the binary is a shim.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod address;
pub mod args;
pub mod cluster;
mod codes;
mod commands;
mod control;
pub mod endpoints;
mod exposure;
mod health;
mod log;
pub mod mirror;
mod projection;
mod rejected;
pub mod servers;
pub mod services;
pub mod settings;
pub mod smartmodules;
mod spu;
mod status;
mod terminal;
mod up;
mod verify;
mod wait_for;

pub use address::HostPort;
pub use codes::code;
pub use commands::run;
pub use log::log_format;
pub use spu::StreamingUnit;
