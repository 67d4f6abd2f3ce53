//! Support of the end-to-end tests: an independent model of what MySQL must hold, random
//! transactions, and the pipeline on real servers.

pub mod model;
pub mod workload;
