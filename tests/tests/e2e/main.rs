//! End-to-end tests on real servers. See each module for what it shows.

mod attack;
mod binary;
mod interrupt;
mod kill;
mod oracle;
