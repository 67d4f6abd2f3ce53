//! The dashboard over HTTP, with control APIs of the test's own and without databases.

mod control;
mod page;
mod rig;
mod secured;
