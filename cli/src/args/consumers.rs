//! `millrace consumers`.

use clap::{Args, Subcommand};

use super::{Asked, Target, TARGET_HELP};

/// `millrace consumers`
#[derive(Debug, Args)]
pub struct Consumers {
    /// What to do
    #[command(subcommand)]
    pub action: ConsumersAction,
}

/// What to do with named consumers.
#[derive(Debug, Subcommand)]
pub enum ConsumersAction {
    /// List them: what each reads, the offset that it published last, and how far that is behind
    List(Asked),
    /// Delete the offsets of a consumer. The embedded broker then keeps no records for it beyond their retention
    Delete(DeletedConsumer),
}

/// `millrace consumers delete`
#[derive(Debug, Args)]
#[command(after_help = TARGET_HELP)]
pub struct DeletedConsumer {
    /// Its name, as `millrace consumers list` shows it
    pub consumer: String,
    /// Topic that it does not read any more; without it, all of its topics
    pub topic: Option<String>,
    /// Which deployment
    #[command(flatten)]
    pub target: Target,
}
