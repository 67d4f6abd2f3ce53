//! The servers of one deployment: Postgres, MySQL or MariaDB, and the broker.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{bail, Context};
use millrace_broker::Broker;
use tokio_util::sync::CancellationToken;

use super::databases::{Databases, Shown};
use super::failure::Secrets;
use super::parts::Supervisor;
use super::servers::{keep_broker, BrokerOptions};
use super::states::States;
use crate::address::{password, HostPort};
use crate::args;
use crate::endpoints::{write_private, Endpoints};
use crate::servers::{check_free, free_ports};
use crate::settings::table::{
    DASHBOARD_PORT, FLUVIO_HOST, FLUVIO_PORT, FLUVIO_SPU_PORT, MILLRACE_CAPTURE_CONTROL_PORT,
    MILLRACE_CONTROL_PORT, MILLRACE_CONTROL_TOKEN, MILLRACE_INGEST_CONTROL_PORT, MYSQL_HOST,
    MYSQL_PORT, POSTGRES_HOST, POSTGRES_PORT,
};
use crate::settings::{Setting, Settings};
use crate::terminal::Terminal;

/// Settings that hold a port of the machine, in the order in which they are checked.
const PORTS: [Setting<u16>; 8] = [
    POSTGRES_PORT,
    MYSQL_PORT,
    FLUVIO_PORT,
    FLUVIO_SPU_PORT,
    MILLRACE_CONTROL_PORT,
    MILLRACE_CAPTURE_CONTROL_PORT,
    MILLRACE_INGEST_CONTROL_PORT,
    DASHBOARD_PORT,
];

/// Those of them that services listen on; they are checked before anything is started.
const SERVICE_PORTS: [Setting<u16>; 4] = [
    MILLRACE_CONTROL_PORT,
    MILLRACE_CAPTURE_CONTROL_PORT,
    MILLRACE_INGEST_CONTROL_PORT,
    DASHBOARD_PORT,
];

/// What the plans for stopping the databases add up to, and a little.
const STOP_WITHIN: Duration = Duration::from_secs(8);

/// Servers that are kept running. Dropping it stops the databases hard, and they recover at the next start; call
/// [`Deployment::stop`]. Only a kill of this process leaves them running, to be adopted.
pub(crate) struct Deployment {
    servers: Supervisor,
    /// How every part is doing.
    pub(super) states: States,
    /// Where everything is.
    pub endpoints: Endpoints,
    /// What is told of the databases.
    pub(super) databases: [Shown; 2],
}

/// Puts the ports that were chosen for this data directory above those of the settings.
pub(super) fn choose_ports(settings: &mut Settings, data_dir: &Path) -> anyhow::Result<()> {
    for (name, port) in free_ports(data_dir, &PORTS.map(Setting::name))? {
        let Some(setting) = PORTS.iter().find(|known| known.name() == name) else {
            continue;
        };
        settings.set(*setting, port);
    }
    Ok(())
}

impl Deployment {
    /// Starts, or adopts, what the data directory holds. The databases start side by side. May be
    /// dropped at any instant: what was started is stopped hard, what was about to be adopted stays.
    pub(crate) async fn start(
        args: &args::Up,
        settings: &Settings,
        terminal: &mut Terminal,
    ) -> anyhow::Result<Deployment> {
        loopback_only(args, settings)?;
        for setting in SERVICE_PORTS {
            check_free(settings.get(setting), setting.name())?;
        }
        let broker = match args.fluvio {
            Some(_) => None,
            None => Some(start_broker(settings, &args.data_dir).await?),
        };
        if let Some(broker) = &broker {
            terminal.step(format!("broker listens on {}", broker.sc_addr()));
        }
        let databases = Databases::start(args, settings).await?;
        databases.tell(terminal);
        let endpoints = endpoints(args, settings, &databases)?;
        let shown = databases.shown();
        let states = States::new(secrets(settings, &endpoints));
        let mut servers = Supervisor::new(&states, CancellationToken::new());
        databases.keep(&mut servers);
        if let Some(broker) = broker {
            let options = BrokerOptions::of(settings, &args.data_dir);
            keep_broker(&mut servers, broker, options);
        }
        Ok(Deployment {
            servers,
            states,
            endpoints,
            databases: shown,
        })
    }

    /// Stops everything side by side, within eight seconds; the first error is told after all have been
    /// asked to stop.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.servers.stop(STOP_WITHIN).await
    }
}

/// Where everything will be.
fn endpoints(
    args: &args::Up,
    settings: &Settings,
    databases: &Databases,
) -> anyhow::Result<Endpoints> {
    let mut endpoints = Endpoints::from_settings(settings)?;
    (endpoints.postgres, endpoints.mysql) = databases.urls();
    if let Some(cluster) = &args.fluvio {
        endpoints.fluvio = cluster.to_string();
    }
    if !args.demo {
        // Incoming users are the shop's.
        endpoints.ingest_control.clear();
    }
    endpoints.pid = std::process::id();
    endpoints.control_token = control_token(settings, &args.data_dir)?;
    endpoints.note_pipeline(settings)?;
    Ok(endpoints)
}

fn secrets(settings: &Settings, endpoints: &Endpoints) -> Secrets {
    let urls = [&endpoints.postgres, &endpoints.mysql];
    let passwords: Vec<String> = urls.iter().filter_map(|url| password(url)).collect();
    let further = passwords.iter().chain([&endpoints.control_token]);
    let further: Vec<&str> = further.map(String::as_str).collect();
    Secrets::of(settings, &further)
}

/// Private servers are for this machine alone.
fn loopback_only(args: &args::Up, settings: &Settings) -> anyhow::Result<()> {
    let private = [
        (POSTGRES_HOST, args.postgres.is_none()),
        (MYSQL_HOST, args.mysql.is_none()),
        (FLUVIO_HOST, true),
    ];
    for (setting, _) in private.into_iter().filter(|(_, private)| *private) {
        let host = settings.get(setting);
        if !host.is_loopback() {
            bail!(
                "{} = {host}: `up` starts private servers on this machine only; to use servers that run elsewhere, name \
                 them with --postgres URL, --mysql URL and --fluvio HOST:PORT, or run the services one by one \
                 (`millrace capture`, `millrace project`, …)",
                setting.name()
            );
        }
    }
    Ok(())
}

async fn start_broker(
    settings: &Settings,
    data_dir: &Path,
) -> anyhow::Result<millrace_broker::Handle> {
    for setting in [FLUVIO_PORT, FLUVIO_SPU_PORT] {
        check_free(settings.get(setting), setting.name())?;
    }
    BrokerOptions::of(settings, data_dir).open().await
}

/// Opens the broker on its two addresses; clients are told `advertised` instead of the second, if given. It keeps
/// what a service has not read up to `held_bytes_max`.
pub(crate) async fn open_broker(
    log_dir: PathBuf,
    held_bytes_max: u64,
    sc_bind: SocketAddr,
    spu_bind: SocketAddr,
    advertised: Option<&HostPort>,
    tls: Option<millrace_broker::Tls>,
) -> anyhow::Result<millrace_broker::Handle> {
    let config = millrace_broker::Config {
        sc_bind,
        spu_bind,
        advertised: advertised.map(|address| (address.host.to_string(), address.port)),
        tls,
        hold: Some(millrace_broker::Hold {
            bytes_max: held_bytes_max,
            ..millrace_broker::Hold::default()
        }),
        ..millrace_broker::Config::on_loopback(millrace_broker::Storage::Directory(log_dir))
    };
    Broker::open(config)
        .await
        .context("the broker cannot start")
}

/// The token of the settings, or one made once for this data directory. It outlives `endpoints.json`,
/// so that a tool that was given it goes on working after a restart.
fn control_token(settings: &Settings, data_dir: &Path) -> anyhow::Result<String> {
    let given = String::from(settings.get(MILLRACE_CONTROL_TOKEN));
    if !given.is_empty() {
        return Ok(given);
    }
    let path = data_dir.join("control-token");
    match std::fs::read_to_string(&path) {
        Ok(kept) if !kept.trim().is_empty() => return Ok(kept.trim().to_owned()),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
        _ => {}
    }
    let token = format!("{:032x}", rand::random::<u128>());
    write_private(&path, token.as_bytes())?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::servers::ScratchDir;

    #[test]
    fn a_token_is_made_once_and_only_its_owner_may_read_it() {
        let scratch = ScratchDir::new("token").unwrap();
        let made = control_token(&Settings::default(), scratch.path()).unwrap();
        let again = control_token(&Settings::default(), scratch.path()).unwrap();
        assert_eq!((made.len(), &made), (32, &again));
        let file = std::fs::metadata(scratch.path().join("control-token")).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
    }
}
