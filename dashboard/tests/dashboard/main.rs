//! The dashboard over HTTP, with control APIs of the test's own; databases only where they are what is
//! tested.

mod control;
mod databases;
mod page;
mod rig;
mod secured;
#[path = "../../../projections/tests/support/mod.rs"]
mod support;
