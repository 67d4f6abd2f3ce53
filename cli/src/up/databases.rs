//! The two databases of a deployment: private servers in its data directory, or servers of one's own, which `up` uses
//! and neither starts nor stops.

use std::path::Path;

use millrace_control::in_words;
use millrace_sessions::mysql::Flavour;

use super::parts::Supervisor;
use super::servers::{keep_server, start_server, Database};
use crate::address::without_login;
use crate::args;
use crate::servers::{Error, MySqlOptions, PostgresOptions, PrivateMySql, PrivatePostgres};
use crate::settings::table::{
    MILLRACE_MYSQL_BIN, MILLRACE_POSTGRES_BIN, MYSQL_DB, MYSQL_HOST, MYSQL_PASSWORD, MYSQL_PORT,
    MYSQL_USER, POSTGRES_DB, POSTGRES_HOST, POSTGRES_PASSWORD, POSTGRES_PORT, POSTGRES_SCHEMA,
    POSTGRES_USER,
};
use crate::settings::Settings;
use crate::terminal::Terminal;

/// Where a private database listens if its host is given as `::1`; we ourselves use the first one.
const BOTH_LOOPBACKS: &str = "127.0.0.1,::1";
/// What every Postgres has.
const COMMON_SCHEMA: &str = "public";
/// In place of user and password of a server that is not ours.
const AS_GIVEN: &str = "as given";

/// Source and target, which answer (private ones) or were named.
pub(super) struct Databases {
    postgres: Place<PrivatePostgres>,
    mysql: Place<PrivateMySql>,
}

/// A private server, or the URL of one that is not ours.
enum Place<D> {
    Private(D),
    Own(String),
}

/// A database, for people.
pub(super) struct Shown {
    pub(super) title: String,
    /// URL without login.
    pub(super) address: String,
    /// For JDBC tools.
    pub(super) jdbc: Option<String>,
    pub(super) user: String,
    pub(super) password: String,
}

impl Databases {
    /// Starts, or adopts, the private ones side by side.
    ///
    /// # Errors
    /// The reasons of those that did not start; nothing runs then.
    pub(super) async fn start(args: &args::Up, settings: &Settings) -> anyhow::Result<Databases> {
        let started = tokio::join!(
            place(args.postgres.clone(), postgres_options(args, settings)),
            place(args.mysql.clone(), mysql_options(settings, &args.data_dir)),
        );
        let failed = match started {
            (Ok(postgres), Ok(mysql)) => return Ok(Databases { postgres, mysql }),
            (postgres, mysql) => [stopped(postgres).await, stopped(mysql).await],
        };
        let reasons: Vec<String> = failed
            .iter()
            .flatten()
            .map(|error| in_words(error))
            .collect();
        Err(anyhow::anyhow!(reasons.join("\n")))
    }

    /// Says which servers these are.
    pub(super) fn tell(&self, terminal: &mut Terminal) {
        let adopted = |yes| match yes {
            true => ", adopted from an earlier run",
            false => "",
        };
        terminal.step(match &self.postgres {
            Place::Private(server) => format!(
                "Postgres {} listens on port {}{}",
                server.installation().version,
                server.options().port,
                adopted(server.was_adopted())
            ),
            Place::Own(url) => format!("the source is {}", without_login(url)),
        });
        terminal.step(match &self.mysql {
            Place::Private(server) => format!(
                "{} {} listens on port {}{}",
                product(server),
                server.installation().version,
                server.options().port,
                adopted(server.was_adopted())
            ),
            Place::Own(url) => format!("the target is {}", without_login(url)),
        });
    }

    /// `postgres://` and `mysql://` URL, with password.
    pub(super) fn urls(&self) -> (String, String) {
        let postgres = match &self.postgres {
            Place::Private(server) => server.url(),
            Place::Own(url) => url.clone(),
        };
        let mysql = match &self.mysql {
            Place::Private(server) => server.url(),
            Place::Own(url) => url.clone(),
        };
        (postgres, mysql)
    }

    /// Both, for people.
    pub(super) fn shown(&self) -> [Shown; 2] {
        let postgres = match &self.postgres {
            Place::Private(server) => Shown {
                title: "Postgres (source)".to_owned(),
                address: without_login(&server.url()),
                jdbc: Some(server.jdbc_url()),
                user: server.options().user.clone(),
                password: server.options().password.clone(),
            },
            Place::Own(url) => not_ours("Postgres (source)", url),
        };
        let mysql = match &self.mysql {
            Place::Private(server) => Shown {
                title: format!("{} (replica, marts)", product(server)),
                address: without_login(&server.url()),
                jdbc: Some(server.jdbc_url()),
                user: server.options().user.clone(),
                password: server.options().password.clone(),
            },
            Place::Own(url) => not_ours("MySQL (replica, marts)", url),
        };
        [postgres, mysql]
    }

    /// Keeps the private ones running.
    pub(super) fn keep(self, servers: &mut Supervisor) {
        if let Place::Private(postgres) = self.postgres {
            let options = postgres.options().clone();
            keep_server(servers, "Postgres", postgres, options);
        }
        if let Place::Private(mysql) = self.mysql {
            let (name, options) = (product(&mysql), mysql.options().clone());
            keep_server(servers, name, mysql, options);
        }
    }
}

async fn place<D: Database>(own: Option<String>, options: D::Options) -> Result<Place<D>, Error> {
    match own {
        Some(url) => Ok(Place::Own(url)),
        None => Ok(Place::Private(start_server(options).await?)),
    }
}

/// Stops what has started beside something that has not; the reason if it is what has not.
async fn stopped<D: Database>(started: Result<Place<D>, Error>) -> Option<Error> {
    match started {
        Ok(Place::Private(server)) => drop(server.stop().await),
        Ok(Place::Own(_)) => {}
        Err(error) => return Some(error),
    }
    None
}

fn not_ours(title: &str, url: &str) -> Shown {
    Shown {
        title: title.to_owned(),
        address: without_login(url),
        jdbc: None,
        user: AS_GIVEN.to_owned(),
        password: AS_GIVEN.to_owned(),
    }
}

/// `MySQL` or `MariaDB`.
fn product(mysql: &PrivateMySql) -> &'static str {
    match mysql.installation().flavour {
        Flavour::MySql => "MySQL",
        Flavour::MariaDb => "MariaDB",
    }
}

fn postgres_options(args: &args::Up, settings: &Settings) -> PostgresOptions {
    PostgresOptions {
        data_dir: args.data_dir.join("postgres"),
        port: settings.get(POSTGRES_PORT),
        db: settings.get(POSTGRES_DB).into(),
        user: settings.get(POSTGRES_USER).into(),
        password: settings.get(POSTGRES_PASSWORD).into(),
        schema: match args.demo {
            true => settings.get(POSTGRES_SCHEMA).as_str().to_owned(),
            false => COMMON_SCHEMA.to_owned(),
        },
        binaries: settings.get(MILLRACE_POSTGRES_BIN),
        settings: match settings.get(POSTGRES_HOST).is_ipv6() {
            true => vec![("listen_addresses".to_owned(), BOTH_LOOPBACKS.to_owned())],
            false => Vec::new(),
        },
    }
}

fn mysql_options(settings: &Settings, data_dir: &Path) -> MySqlOptions {
    MySqlOptions {
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
    }
}
