//! Capture between a real PostgreSQL and the embedded broker.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod forgetful;
mod handover;
mod kills;
mod lag;
mod log;
mod model;
mod patience;
mod postgres;
mod refusals;
mod rig;
mod rows;
mod selected;
mod strangers;
mod writers;
