//! SmartModule `redact`: hashes, masks, nulls or drops columns of the change log by a policy, for
//! third parties. One record in, one record out. It never fails: what it cannot redact comes out as
//! an error record with its offset, and without any value of the input, never unredacted.

#![cfg_attr(not(target_arch = "wasm32"), forbid(unsafe_code))]

mod apply;
mod policy;
#[cfg_attr(target_arch = "wasm32", allow(unsafe_code, unreachable_pub))]
mod shim;
#[cfg(test)]
mod tests;

pub use apply::{apply, Refusal};
pub use policy::{Action, Policy, PolicyError};
pub use shim::error_record;
