//! The servers of one data directory: Postgres, MySQL or MariaDB, and the broker.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{bail, Context};
use millrace_broker::Broker;

use crate::address::HostPort;
use crate::endpoints::{write_private, Endpoints};
use crate::servers::{
    check_free, free_ports, Flavour, MySqlOptions, PostgresOptions, PrivateMySql, PrivatePostgres,
};
use crate::settings::Settings;
use crate::terminal::Terminal;

/// Settings that hold a port of the machine, in the order in which they are checked.
const PORTS: [&str; 8] = [
    "POSTGRES_PORT",
    "MYSQL_PORT",
    "FLUVIO_PORT",
    "FLUVIO_SPU_PORT",
    "MILLRACE_CONTROL_PORT",
    "MILLRACE_CAPTURE_CONTROL_PORT",
    "MILLRACE_INGEST_CONTROL_PORT",
    "DASHBOARD_PORT",
];

/// Those of them that services listen on; they are checked before anything is started.
const SERVICE_PORTS: [&str; 4] = [
    "MILLRACE_CONTROL_PORT",
    "MILLRACE_CAPTURE_CONTROL_PORT",
    "MILLRACE_INGEST_CONTROL_PORT",
    "DASHBOARD_PORT",
];

/// About what stopping a database takes at worst, so that nothing waits for the broker alone.
const BROKER_STOPS_WITHIN: Duration = Duration::from_secs(6);

/// Running servers. Dropping it stops the databases hard, and they recover at the next start; call
/// [`Deployment::stop`]. Only a kill of this process leaves them running, to be adopted.
pub(crate) struct Deployment {
    /// The source.
    pub postgres: PrivatePostgres,
    /// The target.
    pub mysql: PrivateMySql,
    /// The topics; `None` where a cluster was given.
    pub broker: Option<millrace_broker::Handle>,
    /// Where everything is.
    pub endpoints: Endpoints,
}

/// Puts the ports that were chosen for this data directory above those of the settings.
pub(super) fn choose_ports(settings: &mut Settings, data_dir: &Path) -> anyhow::Result<()> {
    for (name, port) in free_ports(data_dir, &PORTS)? {
        let Some(name) = PORTS.iter().find(|known| **known == name) else {
            continue;
        };
        settings.set(name, port.to_string());
    }
    Ok(())
}

impl Deployment {
    /// Starts, or adopts, what the data directory holds. The databases start side by side. May be
    /// dropped at any instant: what was started is stopped hard, what was about to be adopted stays.
    pub(crate) async fn start(
        settings: &Settings,
        data_dir: &Path,
        cluster: Option<&str>,
        terminal: &mut Terminal,
    ) -> anyhow::Result<Deployment> {
        loopback_only(settings)?;
        for name in SERVICE_PORTS {
            check_free(settings.port(name)?, name)?;
        }
        let broker = match cluster {
            Some(_) => None,
            None => Some(start_broker(settings, data_dir.join("broker")).await?),
        };
        if let Some(broker) = &broker {
            terminal.step(format!("broker listens on {}", broker.sc_addr()));
        }
        let (postgres, mysql) = tokio::join!(
            PrivatePostgres::start(postgres_options(settings, data_dir)?),
            PrivateMySql::start(mysql_options(settings, data_dir)?),
        );
        let (postgres, mysql) = match (postgres, mysql) {
            (Ok(postgres), Ok(mysql)) => (postgres, mysql),
            (postgres, mysql) => return Err(half_started(postgres, mysql).await),
        };
        let adopted = |yes| {
            if yes {
                ", adopted from an earlier run"
            } else {
                ""
            }
        };
        terminal.step(format!(
            "Postgres {} listens on port {}{}",
            postgres.binaries().version,
            postgres.options().port,
            adopted(postgres.was_adopted())
        ));
        terminal.step(format!(
            "{} {} listens on port {}{}",
            product(&mysql),
            mysql.binary().version,
            mysql.options().port,
            adopted(mysql.was_adopted())
        ));
        let mut endpoints = Endpoints::from_settings(settings)?;
        if let Some(cluster) = cluster {
            endpoints.fluvio = cluster.to_owned();
        }
        endpoints.postgres = postgres.url();
        endpoints.mysql = mysql.url();
        endpoints.pid = std::process::id();
        endpoints.control_token = control_token(settings, data_dir)?;
        Ok(Deployment {
            postgres,
            mysql,
            broker,
            endpoints,
        })
    }

    /// Fails if a server has ended by itself, with the end of its log.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        self.postgres.check_alive()?;
        self.mysql.check_alive()?;
        Ok(())
    }

    /// Stops everything side by side, within seven seconds; the first error is told after all have been
    /// asked to stop.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let broker = async {
            if let Some(broker) = self.broker {
                // Acknowledged records are on disk: a broker that hangs may be left.
                let _ = tokio::time::timeout(BROKER_STOPS_WITHIN, broker.shutdown()).await;
            }
        };
        let (postgres, mysql, ()) = tokio::join!(self.postgres.stop(), self.mysql.stop(), broker);
        postgres?;
        mysql?;
        Ok(())
    }
}

/// `MySQL` or `MariaDB`.
pub(super) fn product(mysql: &PrivateMySql) -> &'static str {
    match mysql.binary().flavour {
        Flavour::MySql => "MySQL",
        Flavour::MariaDb => "MariaDB",
    }
}

async fn half_started(
    postgres: Result<PrivatePostgres, crate::servers::Error>,
    mysql: Result<PrivateMySql, crate::servers::Error>,
) -> anyhow::Error {
    let mut reasons = BTreeMap::new();
    match postgres {
        Ok(server) => drop(server.stop().await),
        Err(error) => drop(reasons.insert("Postgres", error.to_string())),
    }
    match mysql {
        Ok(server) => drop(server.stop().await),
        Err(error) => drop(reasons.insert("MySQL", error.to_string())),
    }
    let reasons: Vec<String> = reasons.into_values().collect();
    anyhow::anyhow!(reasons.join("\n"))
}

/// `up` starts private servers, and those are for this machine alone.
fn loopback_only(settings: &Settings) -> anyhow::Result<()> {
    for name in ["POSTGRES_HOST", "MYSQL_HOST", "FLUVIO_HOST"] {
        let host = settings.text(name);
        if !["127.0.0.1", "localhost"].contains(&host) {
            bail!(
                "{name} = {host}: `up` starts private servers on 127.0.0.1; to work with servers elsewhere, \
                 run the services one by one (`millrace capture`, `project`, …)"
            );
        }
    }
    Ok(())
}

async fn start_broker(
    settings: &Settings,
    log_dir: PathBuf,
) -> anyhow::Result<millrace_broker::Handle> {
    let at = |name| -> anyhow::Result<SocketAddr> {
        let port = settings.port(name)?;
        check_free(port, name)?;
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    };
    open_broker(
        log_dir,
        at("FLUVIO_PORT")?,
        at("FLUVIO_SPU_PORT")?,
        None,
        None,
    )
    .await
}

/// Opens the broker on its two addresses; clients are told `advertised` instead of the second, if given.
pub(crate) async fn open_broker(
    log_dir: PathBuf,
    sc_bind: SocketAddr,
    spu_bind: SocketAddr,
    advertised: Option<&HostPort>,
    tls: Option<millrace_broker::Tls>,
) -> anyhow::Result<millrace_broker::Handle> {
    let config = millrace_broker::Config {
        sc_bind,
        spu_bind,
        advertised: advertised.map(|address| (address.host.clone(), address.port)),
        tls,
        ..millrace_broker::Config::on_loopback(millrace_broker::Storage::Directory(log_dir))
    };
    Broker::open(config)
        .await
        .context("the broker cannot start")
}

fn postgres_options(settings: &Settings, data_dir: &Path) -> anyhow::Result<PostgresOptions> {
    Ok(PostgresOptions {
        data_dir: data_dir.join("postgres"),
        port: settings.port("POSTGRES_PORT")?,
        db: settings.text("POSTGRES_DB").to_owned(),
        user: settings.text("POSTGRES_USER").to_owned(),
        password: settings.text("POSTGRES_PASSWORD").to_owned(),
        schema: settings.text("POSTGRES_SCHEMA").to_owned(),
        binaries: path(settings.text("MILLRACE_POSTGRES_BIN")),
        settings: Vec::new(),
    })
}

fn mysql_options(settings: &Settings, data_dir: &Path) -> anyhow::Result<MySqlOptions> {
    Ok(MySqlOptions {
        data_dir: data_dir.join("mysql"),
        port: settings.port("MYSQL_PORT")?,
        db: settings.text("MYSQL_DB").to_owned(),
        user: settings.text("MYSQL_USER").to_owned(),
        password: settings.text("MYSQL_PASSWORD").to_owned(),
        all_rights: false,
        arguments: Vec::new(),
        binary: path(settings.text("MILLRACE_MYSQL_BIN")),
    })
}

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// The token of the settings, or one made once for this data directory. It outlives `endpoints.json`,
/// so that a tool that was given it goes on working after a restart.
fn control_token(settings: &Settings, data_dir: &Path) -> anyhow::Result<String> {
    let given = settings.text("MILLRACE_CONTROL_TOKEN");
    if !given.is_empty() {
        return Ok(given.to_owned());
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
