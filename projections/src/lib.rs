//! Projections of the change log in MySQL or MariaDB: an exact replica of the source tables, and marts.
//!
//! - [`engine`]: reads the log, folds transactions into net effects and commits them together with
//!   the position they bring;
//! - [`replica`]: how Postgres tables, types and values look on the MySQL side;
//! - [`marts`]: the tables that are kept equal to a `SELECT` over the replica;
//! - [`script`]: statements that travel together;
//! - [`verify`]: the proof that replica and marts are what they should be;
//! - [`control`]: the HTTP interface of a running projector.

pub mod control;
pub mod engine;
pub mod marts;
mod readiness;
pub mod replica;
pub mod script;
pub mod verify;
