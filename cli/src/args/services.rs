//! The services that a machine can run one by one, and what prepares a cluster for them.

use std::path::PathBuf;

use clap::Args;
use millrace_topic::StreamingUnit;

use super::{Pipeline, Target, TARGET_HELP};
use crate::address::{Host, HostPort};
use crate::spu;

/// `millrace broker`
#[derive(Debug, Args)]
pub struct Broker {
    /// Directory in which the broker keeps its topics
    #[arg(long, value_name = "DIR", default_value = ".millrace/broker")]
    pub log_dir: PathBuf,
    /// Address on which the broker listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = ip_address)]
    pub bind: std::net::IpAddr,
    /// Tell clients to read and write records at this address, for example that of a container whose ports
    /// are published elsewhere [default: the address on which the broker listens]
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<HostPort>,
    /// Accept TLS connections only, with this certificate (PEM) for the clients' domain and *.domain
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Accept only clients whose certificate is signed by one of these certificates (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
}

/// `::1` and `[::1]` alike.
fn ip_address(text: &str) -> Result<std::net::IpAddr, String> {
    let host = Host::parse(text).and_then(|host| host.bare().parse().ok());
    host.ok_or_else(|| "expected an IP address, such as 127.0.0.1 or ::1".to_owned())
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
    /// What is shown
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// Keep the history of the lag in this directory; without it, the history is lost at a restart
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// `millrace generate`
#[derive(Debug, Args)]
#[command(after_help = TARGET_HELP)]
pub struct Generate {
    /// Which deployment
    #[command(flatten)]
    pub target: Target,
    /// Seed of the shop; the same seed generates the same rows [default: MILLRACE_SEED]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Fill the shop and exit
    #[arg(long)]
    pub fill_only: bool,
}

/// `millrace init`
#[derive(Debug, Args)]
#[command(after_help = TARGET_HELP)]
pub struct Init {
    /// Which deployment
    #[command(flatten)]
    pub target: Target,
    /// Register a streaming unit (SPU): its id, its address for clients, its address for other units, and
    /// optionally its address for clients in its own network, if that is another one. A unit that is
    /// registered with other addresses is changed to these
    #[arg(long, value_name = "ID,PUBLIC,PRIVATE[,LOCAL]", value_parser = spu::parse)]
    pub spu: Option<StreamingUnit>,
}
