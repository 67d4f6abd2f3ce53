//! `millrace marts`.

use clap::{Args, Subcommand};

use super::Asked;

/// `millrace marts`
#[derive(Debug, Args)]
pub struct Marts {
    /// What to do
    #[command(subcommand)]
    pub action: MartsAction,
}

/// What to do with marts. The replica and all other marts stay live meanwhile.
#[derive(Debug, Subcommand)]
pub enum MartsAction {
    /// List the marts: where each stands, since when, and why it is not live
    List(Asked),
    /// Build marts again beside their old tables, which stay until the new ones take their place
    Rebuild(RebuiltMarts),
}

/// `millrace marts rebuild`
#[derive(Debug, Args)]
pub struct RebuiltMarts {
    /// Marts, by the names of their files without .sql
    #[arg(required = true)]
    pub marts: Vec<String>,
    /// Which deployment, and how to answer
    #[command(flatten)]
    pub asked: Asked,
}
