//! The command line: one definition for parsing and `--help`.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use millrace_events::{Lsn, TableId};

use crate::address::HostPort;

mod consumers;
mod marts;
mod pipeline;
mod quarantine;
mod rejected;
mod services;
mod tables;

pub use consumers::{Consumers, ConsumersAction, DeletedConsumer};
pub use marts::{Marts, MartsAction, RebuiltMarts};
pub use pipeline::{Pipeline, Source};
pub use quarantine::{Quarantine, QuarantineAction, QuarantineList};
pub use rejected::{Rejected, RejectedAction, RejectedList, RejectedOne, RejectedState};
pub use services::{Broker, Dashboard, Generate, Init};
pub use tables::{RemovedTables, Tables, TablesAction};

/// Where `up` keeps its data, and where the other commands look for a running one.
pub const DATA_DIR: &str = ".millrace";

/// Keep a MySQL replica and analytic marts of a Postgres database up to date, exactly once, through Fluvio
#[derive(Debug, Parser)]
#[command(name = "millrace", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    /// Read settings from this file [default: .env in the working directory, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// Format of the log on standard error [default: human]
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// The command
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
A flag overrides the environment, the environment overrides the settings file, and the settings file \
overrides the built-in defaults. `millrace config` prints the values in force.

Results are written to standard output, messages and the log to standard error.

Exit codes:
  0  the command succeeded
  1  the answer is no: something is different, behind, refused, or was not reached in time
  2  the command could not be carried out
A closed pipe (`millrace status | head -1`) changes none of them.

Try it:  millrace up --demo
Then:    millrace status      millrace verify";

/// Lines are as long as they are: clap breaks them for the terminal.
macro_rules! target_help {
    () => {
        "Without --data-dir, the command talks to the `millrace up` that runs on .millrace in the working directory. If \
         none runs there, or if a *_HOST setting names another machine, it uses the addresses in the settings."
    };
}

const TARGET_HELP: &str = target_help!();

/// Formats of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Human,
    /// One JSON object per line
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Human => "human",
            LogFormat::Json => "json",
        })
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process, with private servers (Postgres, MySQL or MariaDB, a broker) or your own
    Up(Up),
    /// Run only the embedded broker
    Broker(Broker),
    /// Run capture, which writes every change in Postgres to the change log
    Capture(Source),
    /// Run ingest, which stores incoming users from their topic in Postgres
    Ingest,
    /// Fill the shop of the demonstration, keep it trading, and send incoming users
    Generate(Generate),
    /// Run the projector, which applies the change log to the MySQL replica and the marts
    Project(Pipeline),
    /// Run the page, which shows how far behind each part is, and why
    Dashboard(Dashboard),
    /// Prepare a Fluvio cluster: register the SmartModules and, if asked, a streaming unit
    Init(Init),
    /// Show how far behind each part of the pipeline is
    Status(Status),
    /// Check whether a service is alive or ready, as a probe for containers
    Health(Health),
    /// Compare Postgres, the replica and the marts at one point of the log while changes go on
    Verify(Verify),
    /// Wait until MySQL has everything that Postgres has committed so far
    WaitFor(WaitFor),
    /// List, pause and resume the projections (the replica and the marts)
    Projection(Projection),
    /// List the captured tables, and change which they are, while everything else stays live
    Tables(Tables),
    /// List the marts, and build them again, while everything else stays live
    Marts(Marts),
    /// Look at values that MySQL cannot hold, such as NaN in a number
    Quarantine(Quarantine),
    /// List the consumers of the topics, and delete one that never comes back, so that nothing is kept for it
    Consumers(Consumers),
    /// Look at rejected incoming users, send them again, or discard them
    Rejected(Rejected),
    /// Remove the data directory of an `up` that is not running
    Clean(Clean),
    /// List every setting with its value, its default and where the value comes from
    Config,
    /// Print the version
    Version,
}

impl Command {
    /// The flags that are settings, by the names of those.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        match self {
            Command::Capture(source) => source.settings(),
            Command::Up(args) => args.pipeline.settings(),
            Command::Project(pipeline) => pipeline.settings(),
            Command::Dashboard(args) => args.pipeline.settings(),
            Command::Verify(args) => args.pipeline.settings(),
            _ => Vec::new(),
        }
    }
}

/// Which deployment a command talks to.
#[derive(Debug, Args)]
pub struct Target {
    /// Talk to the `millrace up` that runs on this data directory [default: .millrace, if one runs there]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// `millrace up`
#[derive(Debug, Args)]
pub struct Up {
    /// Fill the shop of the demonstration in the private Postgres, let it trade, and store incoming users
    #[arg(long, conflicts_with = "postgres")]
    pub demo: bool,
    /// With --demo: trade for a while, wait until MySQL has caught up, verify, print the marts, and stop
    #[arg(long, requires = "demo")]
    pub once: bool,
    /// Directory in which the private servers and the broker keep their data
    #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
    pub data_dir: PathBuf,
    /// What to capture and to keep
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// Capture this Postgres, instead of a private one
    #[arg(long, value_name = "URL", value_parser = pipeline::postgres_url)]
    pub postgres: Option<String>,
    /// Keep replica and marts in this MySQL or MariaDB, instead of a private one
    #[arg(long, value_name = "URL", value_parser = pipeline::mysql_url)]
    pub mysql: Option<String>,
    /// Use the Fluvio cluster whose controller listens here, instead of the embedded broker
    #[arg(long, value_name = "HOST:PORT")]
    pub fluvio: Option<HostPort>,
    /// Use ports that are free on this machine; they are chosen once and kept in the data directory
    #[arg(long)]
    pub free_ports: bool,
}

/// `millrace clean`
#[derive(Debug, Args)]
pub struct Clean {
    /// The data directory. Only what millrace made in it is removed; anything else stays and is named
    #[arg(long, value_name = "DIR", default_value = ".millrace")]
    pub data_dir: PathBuf,
}

/// `millrace status`
#[derive(Debug, Args)]
#[command(after_help = STATUS_HELP)]
pub struct Status {
    /// Which deployment
    #[command(flatten)]
    pub target: Target,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print the status every second until interrupted
    #[arg(long)]
    pub watch: bool,
}

const STATUS_HELP: &str = concat!(
    "Exit codes: 0 the marts are fresh, 1 they are late, stopped or different, 2 it is not known. A closed pipe \
     (`status | head -1`) does not change them; `status --watch` then ends with the code of the last status.\n\n",
    target_help!()
);

/// `millrace health`
#[derive(Debug, Args)]
#[command(after_help = TARGET_HELP)]
pub struct Health {
    /// Service to ask; without it, all of them
    #[arg(value_enum)]
    pub service: Option<Probed>,
    /// Which deployment
    #[command(flatten)]
    pub target: Target,
    /// Ask whether it does its work now (a paused projector does), not only whether it is alive
    #[arg(long)]
    pub ready: bool,
}

/// The services that can be asked, by the command that starts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Probed {
    /// The embedded broker, or the Fluvio cluster in its place
    Broker,
    /// Capture, from Postgres to the change log
    Capture,
    /// Ingest, from incoming users to Postgres
    Ingest,
    /// The projector, from the change log to MySQL
    Project,
    /// The page
    Dashboard,
    /// The generator, if MILLRACE_GENERATE_CONTROL_PORT is set
    Generate,
}

impl Probed {
    /// Those that are always there, in the order of the data.
    pub const ALWAYS: [Probed; 5] = [
        Probed::Broker,
        Probed::Capture,
        Probed::Ingest,
        Probed::Project,
        Probed::Dashboard,
    ];

    /// As on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Probed::Broker => "broker",
            Probed::Capture => "capture",
            Probed::Ingest => "ingest",
            Probed::Project => "project",
            Probed::Dashboard => "dashboard",
            Probed::Generate => "generate",
        }
    }
}

/// `millrace verify`
#[derive(Debug, Args)]
#[command(after_help = VERIFY_HELP)]
pub struct Verify {
    /// Which deployment
    #[command(flatten)]
    pub target: Target,
    /// What to compare
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// Read every row of both databases, instead of those only whose sums differ
    #[arg(long)]
    pub rows: bool,
    /// Let what differs be made again, while everything else stays live: tables are copied again, and marts built again.
    /// With tables, only these are compared, and all marts
    #[arg(long, value_name = "TABLE", num_args = 0..)]
    pub repair: Option<Vec<TableId>>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const VERIFY_HELP: &str = concat!(
    "Exit codes: 0 everything is equal, 1 something differs, 2 something is not live or could not be compared. With \
     --repair they say what was found, not what it is afterwards: 0 there is nothing to repair, 1 a repair was begun.\n\n",
    target_help!()
);

/// `millrace wait-for`
#[derive(Debug, Args)]
#[command(after_help = TARGET_HELP)]
pub struct WaitFor {
    /// Which deployment
    #[command(flatten)]
    pub target: Target,
    /// Wait for this position in the WAL instead of everything committed so far
    #[arg(long)]
    pub lsn: Option<Lsn>,
    /// Give up after this many seconds, with exit code 1
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    pub timeout: f64,
}

/// `millrace projection`
#[derive(Debug, Args)]
pub struct Projection {
    /// What to do
    #[command(subcommand)]
    pub action: ProjectionAction,
}

/// What to do with the projections, which move together.
#[derive(Debug, Subcommand)]
pub enum ProjectionAction {
    /// List the replica and the marts, and how far each has got
    List(Asked),
    /// Pause after the current transaction; the pause outlives a restart of the projector
    Pause(Asked),
    /// Resume after a pause
    Resume(Asked),
}

/// Which deployment, and how to answer.
#[derive(Debug, Args)]
#[command(after_help = TARGET_HELP)]
pub struct Asked {
    /// Which deployment
    #[command(flatten)]
    pub target: Target,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
