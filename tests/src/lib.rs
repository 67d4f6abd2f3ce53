//! Support of the end-to-end tests: an independent model of what MySQL must hold, random
//! transactions, and the pipeline on real servers.

pub mod browser;
pub mod harness;
pub mod model;
mod webdriver;
pub mod workload;

/// The seed of this run, printed: `MILLRACE_TEST_SEED`, or a new one.
pub fn seed() -> u64 {
    let given = std::env::var("MILLRACE_TEST_SEED").ok();
    let seed = given.map_or_else(rand::random, |text| text.parse().expect("a whole number"));
    println!("MILLRACE_TEST_SEED={seed}");
    seed
}
