//! SmartModule `columns`: drops the tables and columns that a reader of the change log does not
//! need, before the bytes leave the broker.
//!
//! It scans records and copies the slices that stay; it never parses them into a tree, which costs
//! several times more than everything else on the way to MySQL. One record in, one record out, so
//! that offsets stay exact. It never fails: what it cannot scan comes out as an error record with
//! its offset, and without any value of the input.
//!
//! - [`Plan`]: what to keep;
//! - [`apply`]: a record and a plan to the bytes that leave the broker;
//! - `scan`: a cursor over JSON text; `cuts`: the slices that stay.

#![cfg_attr(not(target_arch = "wasm32"), forbid(unsafe_code))]

mod apply;
mod cuts;
mod plan;
mod scan;
#[cfg_attr(target_arch = "wasm32", allow(unsafe_code, unreachable_pub))]
mod shim;

pub use apply::{apply, Refusal};
pub use plan::{Plan, PlanError};
pub use shim::error_record;
