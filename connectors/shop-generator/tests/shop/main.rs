//! The shop from outside: its plan, and its tables in a private Postgres.
#![allow(clippy::unwrap_used)]

mod arrivals;
mod filling;
mod plan;
mod postgres;
mod trading;
