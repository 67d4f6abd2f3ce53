//! The parts of the `millrace` program.

pub mod servers;
