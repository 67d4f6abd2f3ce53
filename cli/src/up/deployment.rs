//! The servers of one data directory: Postgres, MySQL or MariaDB, and the broker.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{bail, Context};
use millrace_broker::Broker;
use millrace_sessions::mysql::Flavour;
use tokio_util::sync::CancellationToken;

use super::failure::Secrets;
use super::parts::{States, Supervisor};
use super::servers::{keep_broker, keep_server, BrokerOptions};
use crate::address::HostPort;
use crate::endpoints::{write_private, Endpoints};
use crate::servers::{
    check_free, free_ports, MySqlOptions, PostgresOptions, PrivateMySql, PrivatePostgres,
};
use crate::settings::table::{
    DASHBOARD_PORT, FLUVIO_HOST, FLUVIO_PORT, FLUVIO_SPU_PORT, MILLRACE_CAPTURE_CONTROL_PORT,
    MILLRACE_CONTROL_PORT, MILLRACE_CONTROL_TOKEN, MILLRACE_INGEST_CONTROL_PORT,
    MILLRACE_MYSQL_BIN, MILLRACE_POSTGRES_BIN, MYSQL_DB, MYSQL_HOST, MYSQL_PASSWORD, MYSQL_PORT,
    MYSQL_USER, POSTGRES_DB, POSTGRES_HOST, POSTGRES_PASSWORD, POSTGRES_PORT, POSTGRES_SCHEMA,
    POSTGRES_USER,
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

/// Where a private database listens if its host is given as `::1`; we ourselves use the first one.
const BOTH_LOOPBACKS: &str = "127.0.0.1,::1";

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
    pub(super) databases: Databases,
}

/// The private databases, for people.
pub(super) struct Databases {
    pub(super) postgres_jdbc: String,
    pub(super) mysql_jdbc: String,
    /// `MySQL` or `MariaDB`.
    pub(super) mysql_product: &'static str,
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
        settings: &Settings,
        data_dir: &Path,
        cluster: Option<&HostPort>,
        terminal: &mut Terminal,
    ) -> anyhow::Result<Deployment> {
        loopback_only(settings)?;
        for setting in SERVICE_PORTS {
            check_free(settings.get(setting), setting.name())?;
        }
        let broker = match cluster {
            Some(_) => None,
            None => Some(start_broker(settings, data_dir).await?),
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
        tell(&postgres, &mysql, terminal);
        let mut endpoints = Endpoints::from_settings(settings)?;
        if let Some(cluster) = cluster {
            endpoints.fluvio = cluster.to_string();
        }
        endpoints.postgres = postgres.url();
        endpoints.mysql = mysql.url();
        endpoints.pid = std::process::id();
        endpoints.control_token = control_token(settings, data_dir)?;
        let databases = Databases {
            postgres_jdbc: postgres.jdbc_url(),
            mysql_jdbc: mysql.jdbc_url(),
            mysql_product: product(&mysql),
        };
        let states = States::new(Secrets::of(settings, &[&endpoints.control_token]));
        let mut servers = Supervisor::new(&states, CancellationToken::new());
        let options = postgres.options().clone();
        keep_server(&mut servers, "Postgres", postgres, options);
        let options = mysql.options().clone();
        keep_server(&mut servers, databases.mysql_product, mysql, options);
        if let Some(broker) = broker {
            keep_broker(&mut servers, broker, BrokerOptions::of(settings, data_dir));
        }
        Ok(Deployment {
            servers,
            states,
            endpoints,
            databases,
        })
    }

    /// Stops everything side by side, within eight seconds; the first error is told after all have been
    /// asked to stop.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.servers.stop(STOP_WITHIN).await
    }
}

fn tell(postgres: &PrivatePostgres, mysql: &PrivateMySql, terminal: &mut Terminal) {
    let adopted = |yes| match yes {
        true => ", adopted from an earlier run",
        false => "",
    };
    terminal.step(format!(
        "Postgres {} listens on port {}{}",
        postgres.binaries().version,
        postgres.options().port,
        adopted(postgres.was_adopted())
    ));
    terminal.step(format!(
        "{} {} listens on port {}{}",
        product(mysql),
        mysql.binary().version,
        mysql.options().port,
        adopted(mysql.was_adopted())
    ));
}

/// `MySQL` or `MariaDB`.
fn product(mysql: &PrivateMySql) -> &'static str {
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
    for setting in [POSTGRES_HOST, MYSQL_HOST, FLUVIO_HOST] {
        let host = settings.get(setting);
        if !host.is_loopback() {
            bail!(
                "{} = {host}: `up` starts private servers on this machine only; to work with servers elsewhere, run \
                 the services one by one (`millrace capture`, `millrace project`, …)",
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

fn postgres_options(settings: &Settings, data_dir: &Path) -> anyhow::Result<PostgresOptions> {
    Ok(PostgresOptions {
        data_dir: data_dir.join("postgres"),
        port: settings.get(POSTGRES_PORT),
        db: settings.get(POSTGRES_DB).into(),
        user: settings.get(POSTGRES_USER).into(),
        password: settings.get(POSTGRES_PASSWORD).into(),
        schema: settings.get(POSTGRES_SCHEMA).as_str().to_owned(),
        binaries: settings.get(MILLRACE_POSTGRES_BIN),
        settings: match settings.get(POSTGRES_HOST).is_ipv6() {
            true => vec![("listen_addresses".to_owned(), BOTH_LOOPBACKS.to_owned())],
            false => Vec::new(),
        },
    })
}

fn mysql_options(settings: &Settings, data_dir: &Path) -> anyhow::Result<MySqlOptions> {
    Ok(MySqlOptions {
        data_dir: data_dir.join("mysql"),
        port: settings.get(MYSQL_PORT),
        db: settings.get(MYSQL_DB).into(),
        user: settings.get(MYSQL_USER).into(),
        password: settings.get(MYSQL_PASSWORD).into(),
        all_rights: false,
        arguments: match settings.get(MYSQL_HOST).is_ipv6() {
            true => vec![format!("--bind-address={BOTH_LOOPBACKS}")],
            false => Vec::new(),
        },
        binary: settings.get(MILLRACE_MYSQL_BIN),
    })
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
