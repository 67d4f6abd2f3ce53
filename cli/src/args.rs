//! The command line: one definition for parsing and `--help`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use millrace_events::Lsn;

use crate::address::HostPort;
use crate::spu::StreamingUnit;

/// Keeps a MySQL replica and analytic marts of a Postgres shop up to date, exactly once, through Fluvio.
#[derive(Debug, Parser)]
#[command(name = "millrace", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    /// File with settings [default: .env in the working directory, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// Form of the log on standard error [default: human]
    #[arg(long, global = true, value_enum, value_name = "FORM")]
    pub log_format: Option<LogFormat>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Settings come from flags, then the environment, then the settings file, then built-in defaults.
Data goes to standard output, talk to standard error.
Exit codes: 0 done, 1 the answer is no (different, behind, timed out), 2 it could not be done.

Try it:  millrace up --demo
Then:    millrace status --data-dir .millrace      millrace verify --data-dir .millrace";

/// Forms of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Human,
    /// One JSON object a line
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process, with a private Postgres, MySQL or MariaDB, and broker
    Up(Up),
    /// Run the embedded broker alone
    Broker(Broker),
    /// Run capture: Postgres to the change log
    Capture,
    /// Run ingest: incoming users from their topic to Postgres
    Ingest,
    /// Fill the shop, keep it trading, and send incoming users
    Generate(Generate),
    /// Run the projector: the change log to the MySQL replica and the marts
    Project,
    /// Run the page: how far behind everything is, and why
    Dashboard(Dashboard),
    /// Create topics and register SmartModules on a broker or cluster, and a custom SPU if asked
    Init(Init),
    /// Show how far behind each service is
    Status(Status),
    /// Ask whether a service lives, or is ready: the probe for containers
    Health(Health),
    /// Compare Postgres, the replica and the marts at one point of the log, under live traffic
    Verify(Verify),
    /// Wait until MySQL has everything that Postgres has committed so far
    WaitFor(WaitFor),
    /// List what the projector keeps, let it stand still, let it go on
    Projection(Projection),
    /// Look at rejected incoming users, send them again, or put them away
    Rejected(Rejected),
    /// List every setting with its value, its default and its meaning
    Config,
    /// Print the version
    Version,
}

/// Where the servers of a running `up` are.
#[derive(Debug, Args)]
pub struct Target {
    /// Data directory of a running `millrace up`; without it, the settings say where the servers are
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// `millrace up`
#[derive(Debug, Args)]
pub struct Up {
    /// Fill a shop and let it trade
    #[arg(long)]
    pub demo: bool,
    /// With --demo: trade for a while, wait until MySQL has caught up, verify, print, stop
    #[arg(long, requires = "demo")]
    pub once: bool,
    /// Where the private servers and the log keep their data
    #[arg(long, value_name = "DIR", default_value = ".millrace")]
    pub data_dir: PathBuf,
    /// Use this Fluvio cluster (HOST:PORT of its controller) instead of the embedded broker
    #[arg(long, value_name = "HOST:PORT")]
    pub fluvio: Option<String>,
    /// Choose free ports once for this data directory and keep them
    #[arg(long)]
    pub free_ports: bool,
}

/// `millrace broker`
#[derive(Debug, Args)]
pub struct Broker {
    /// Where the log is kept
    #[arg(long, value_name = "DIR", default_value = ".millrace/broker")]
    pub log_dir: PathBuf,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub bind: std::net::IpAddr,
    /// Tell clients that the streaming unit is here: the address that is forwarded to it, of a container for
    /// example [default: the address to listen on]
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<HostPort>,
    /// Speak TLS only, with this certificate (PEM) for the clients' domain and *.domain
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Serve only clients that show a certificate signed by one of these (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
}

impl Broker {
    /// What `--tls-…` say.
    #[must_use]
    pub fn tls(&self) -> Option<millrace_broker::Tls> {
        Some(millrace_broker::Tls {
            certificate: self.tls_cert.clone()?,
            key: self.tls_key.clone()?,
            client_ca: self.tls_client_ca.clone(),
        })
    }
}

/// `millrace dashboard`
#[derive(Debug, Args)]
pub struct Dashboard {
    /// Where the history of the lag is kept over restarts; without it, it is not
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// `millrace generate`
#[derive(Debug, Args)]
pub struct Generate {
    /// Seed of the shop; the same seed makes the same rows
    #[arg(long)]
    pub seed: Option<u64>,
    /// Fill the shop and stop
    #[arg(long)]
    pub fill_only: bool,
}

/// `millrace init`
#[derive(Debug, Args)]
pub struct Init {
    /// Register a streaming unit: its id, its address for clients, its address for other units, and, if clients
    /// in its own network reach it elsewhere, its address for those. One that is registered with other addresses
    /// gets these
    #[arg(long, value_name = "ID,PUBLIC,PRIVATE[,LOCAL]")]
    pub spu: Option<StreamingUnit>,
}

/// `millrace status`
#[derive(Debug, Args)]
pub struct Status {
    /// Where
    #[command(flatten)]
    pub target: Target,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print again every second until interrupted
    #[arg(long)]
    pub watch: bool,
}

/// `millrace health`
#[derive(Debug, Args)]
pub struct Health {
    /// Service to ask; without it, all of them
    #[arg(value_enum)]
    pub service: Option<Probed>,
    /// Where
    #[command(flatten)]
    pub target: Target,
    /// Ask whether it does its work now (a paused projector does), not only whether it lives
    #[arg(long)]
    pub ready: bool,
}

/// The services that can be asked, by the command that starts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Probed {
    /// The embedded broker, or the cluster in its place
    Broker,
    /// Postgres to the change log
    Capture,
    /// Incoming users to Postgres
    Ingest,
    /// The change log to MySQL
    Project,
    /// The page
    Dashboard,
}

impl Probed {
    /// In the order of the data.
    pub const ALL: [Probed; 5] = [
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
        }
    }
}

/// `millrace verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// Where
    #[command(flatten)]
    pub target: Target,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `millrace wait-for`
#[derive(Debug, Args)]
pub struct WaitFor {
    /// Where
    #[command(flatten)]
    pub target: Target,
    /// Wait for this position instead of everything committed so far
    #[arg(long)]
    pub lsn: Option<Lsn>,
    /// Give up after this many seconds
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
    /// List the replica and the marts, and how far they are
    List(Asked),
    /// Stand still between two commits until resumed, over restarts too
    Pause(Asked),
    /// Go on
    Resume(Asked),
}

/// Where, and how to answer.
#[derive(Debug, Args)]
pub struct Asked {
    /// Where
    #[command(flatten)]
    pub target: Target,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

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
    /// List them, the newest first
    List(RejectedList),
    /// Show one with what was sent and what SmartModule user-event makes of it
    Show(RejectedOne),
    /// Send one again
    Retry(RejectedOne),
    /// Put one away
    Discard(RejectedOne),
}

/// `millrace rejected list`
#[derive(Debug, Args)]
pub struct RejectedList {
    /// Where, and how to answer
    #[command(flatten)]
    pub asked: Asked,
    /// Only those in this state
    #[arg(long, value_enum, default_value = "open")]
    pub state: RejectedState,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub limit: u16,
    /// Only those before this offset: the next page
    #[arg(long, value_name = "OFFSET")]
    pub before: Option<u64>,
}

/// States of a rejected event.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum RejectedState {
    /// Nobody has done anything about it
    Open,
    /// Sent again
    Retried,
    /// Put away
    Discarded,
    /// Whatever its state
    All,
}

/// `millrace rejected show|retry|discard`
#[derive(Debug, Args)]
pub struct RejectedOne {
    /// Its offset in the topic of rejected events
    pub offset: u64,
    /// Where, and how to answer
    #[command(flatten)]
    pub asked: Asked,
}
