//! `millrace tables`.

use clap::{Args, Subcommand};
use millrace_events::TableId;

use super::Asked;

/// `millrace tables`
#[derive(Debug, Args)]
pub struct Tables {
    /// What to do
    #[command(subcommand)]
    pub action: TablesAction,
}

/// What to do with tables. All others stay live meanwhile.
#[derive(Debug, Subcommand)]
pub enum TablesAction {
    /// List tables: where each stands, how large it is, how far its copy is, and why it is not live
    List(SomeTables),
    /// Capture tables that MILLRACE_TABLES selects and that are not captured yet
    Add(NamedTables),
    /// Capture tables no longer. MySQL keeps them as they are then, unless --drop is given
    Remove(RemovedTables),
    /// Copy tables again beside their old rows, which stay until the copy takes their place: repairs whatever differs
    Resnapshot(NamedTables),
    /// Begin again a log that cannot go on (see `millrace status`): another slot, and copies of all tables. MySQL keeps what
    /// it has until the copies take its place
    BeginAgain(Asked),
}

/// `millrace tables list`
#[derive(Debug, Args)]
pub struct SomeTables {
    /// Tables, as schema.table; without any, all of them
    pub tables: Vec<TableId>,
    /// Which deployment, and how to answer
    #[command(flatten)]
    pub asked: Asked,
}

/// `millrace tables add|resnapshot`
#[derive(Debug, Args)]
pub struct NamedTables {
    /// Tables, as schema.table
    #[arg(required = true)]
    pub tables: Vec<TableId>,
    /// Which deployment, and how to answer
    #[command(flatten)]
    pub asked: Asked,
}

/// `millrace tables remove`
#[derive(Debug, Args)]
pub struct RemovedTables {
    /// Which tables
    #[command(flatten)]
    pub named: NamedTables,
    /// Also delete the tables from MySQL, with all their rows; asks first. Works on tables that were removed before, too
    #[arg(long)]
    pub drop: bool,
    /// With --drop: do not ask
    #[arg(long, requires = "drop")]
    pub yes: bool,
}
