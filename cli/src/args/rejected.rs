//! `millrace rejected`.

use clap::{Args, Subcommand};

use super::Asked;

/// `millrace rejected`
#[derive(Debug, Args)]
pub struct Rejected {
    /// What to do
    #[command(subcommand)]
    pub action: RejectedAction,
}

/// What to do with rejected events.
#[derive(Debug, Subcommand)]
pub enum RejectedAction {
    /// List them by reason, with what would have been valid
    List(RejectedList),
    /// Show one: what was sent, what is wrong with it, and what would be valid
    Show(RejectedOne),
    /// Send one again; refused if it would be rejected again
    Retry(RejectedOne),
    /// Take one off the list of open events
    Discard(RejectedOne),
}

/// `millrace rejected list`
#[derive(Debug, Args)]
pub struct RejectedList {
    /// Which deployment, and how to answer
    #[command(flatten)]
    pub asked: Asked,
    /// List only the events in this state
    #[arg(long, value_enum, default_value = "open")]
    pub state: RejectedState,
    /// List at most this many events, the newest ones
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub limit: u16,
    /// List only events before this offset, to see the next page
    #[arg(long, value_name = "OFFSET")]
    pub before: Option<u64>,
}

/// States of a rejected event.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum RejectedState {
    /// Nobody has done anything about it
    Open,
    /// It was sent again
    Retried,
    /// It was discarded
    Discarded,
    /// Any state
    All,
}

/// `millrace rejected show|retry|discard`
#[derive(Debug, Args)]
pub struct RejectedOne {
    /// Its offset in the topic of rejected events, as `millrace rejected list` shows it
    pub offset: u64,
    /// Which deployment, and how to answer
    #[command(flatten)]
    pub asked: Asked,
}
