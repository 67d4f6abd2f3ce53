//! Capture between a real PostgreSQL and the embedded broker.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod begun_again;
mod copies;
mod forgetful;
mod handover;
mod hindered;
mod history;
mod kills;

mod lag;
mod large_values;
mod log;
mod model;
mod patience;
mod postgres;
mod refusals;
mod rig;
mod rows;
mod selected;
mod storm;
mod strangers;
mod trimmed;
mod unsent;
mod writers;
