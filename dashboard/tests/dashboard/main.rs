//! The dashboard over HTTP, with control APIs of the test's own; databases only where they are what is
//! tested.

// In a test, a panic is the report.
#![allow(clippy::unwrap_used)]

mod control;
mod databases;
mod page;
mod rig;
mod secured;
#[path = "../../../projections/tests/support/mod.rs"]
mod support;
