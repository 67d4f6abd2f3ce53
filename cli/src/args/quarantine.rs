//! `millrace quarantine`.

use clap::{Args, Subcommand};
use millrace_events::TableId;

use super::Asked;

/// `millrace quarantine`
#[derive(Debug, Args)]
pub struct Quarantine {
    /// What to do
    #[command(subcommand)]
    pub action: QuarantineAction,
}

/// What to do with values in quarantine.
#[derive(Debug, Subcommand)]
pub enum QuarantineAction {
    /// List them: table, key of the row, column, value and why MySQL cannot hold it. The column is NULL in MySQL
    List(QuarantineList),
}

/// `millrace quarantine list`
#[derive(Debug, Args)]
pub struct QuarantineList {
    /// List only the values of this table, as schema.table
    pub table: Option<TableId>,
    /// Which deployment, and how to answer
    #[command(flatten)]
    pub asked: Asked,
    /// List at most this many values
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub limit: u16,
    /// List only values behind this one, to see the next page
    #[arg(long, value_name = "VALUE")]
    pub after: Option<String>,
}
