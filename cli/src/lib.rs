//! The command line of millrace: settings, wiring of the services, and private servers for `up`.
//!
//! A library so that the end-to-end tests use the same servers and settings; the binary is a shim.

#![cfg_attr(test, allow(clippy::unwrap_used))]
// They panic where nobody reads; `output` does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod address;
mod answer;
pub mod args;
pub mod cluster;
mod codes;
mod commands;
mod config;
mod consumers;
mod control;
pub mod data_dir;
pub mod endpoints;
mod exposure;
mod health;
mod log;
mod marts;
pub mod mirror;
pub mod output;
mod projection;
mod quarantine;
mod rejected;
pub mod servers;
pub mod services;
pub mod settings;
pub mod smartmodules;
mod source;
mod spu;
mod status;
mod tables;
mod terminal;
mod up;
mod verify;
mod wait_for;

pub use address::HostPort;
pub use codes::code;
pub use commands::run;
pub use log::{log_format, log_in_colour};
pub use up::shutdown_on_signal;
