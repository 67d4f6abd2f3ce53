//! What a dashboard is told.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::status::PartDown;

/// Runs `verify` and answers with its report, as `millrace verify --json` prints it.
pub type VerifyFn =
    Arc<dyn Fn() -> BoxFuture<'static, Result<serde_json::Value, String>> + Send + Sync>;

/// Asks whoever runs the services which parts are down that cannot say so themselves.
pub type PartsFn = Arc<dyn Fn() -> Vec<PartDown> + Send + Sync>;

/// Where everything is, and who may do what.
#[derive(Clone)]
pub struct Config {
    /// Address of the page. Beyond loopback, reading needs the login.
    pub bind: SocketAddr,
    /// Names with a dot that it goes by, beside its addresses.
    pub names: Vec<String>,
    /// User of the login; without one, changing needs the control token.
    pub user: Option<String>,
    /// Password of the login.
    pub password: Option<String>,
    /// Bearer token: what the control APIs ask for, and what scripts may use here.
    pub control_token: String,
    /// Sources of the numbers.
    pub sources: Sources,
    /// Marts in the order of the page.
    pub marts: Vec<Mart>,
    /// History is kept here over restarts.
    pub state_dir: Option<PathBuf>,
    /// One status each.
    pub tick: Duration,
    /// A heartbeat each; zero switches them off.
    pub heartbeat_period: Duration,
    /// Version that the status shows.
    pub millrace: String,
    /// The button of `verify`; without it, there is none.
    pub verify: Option<VerifyFn>,
    /// Parts that are down; without it, nobody knows of any.
    pub parts_down: Option<PartsFn>,
    /// Streams of events at a time; the next viewer is refused.
    pub viewers_max: usize,
}

/// Where the numbers come from.
#[derive(Clone, Default)]
pub struct Sources {
    /// `postgres://` URL.
    pub postgres: String,
    /// Capture's slot.
    pub slot: String,
    /// `mysql://` URL.
    pub mysql: String,
    /// `host:port` of the Fluvio controller.
    pub fluvio: String,
    /// Names of the topics.
    pub topics: Topics,
    /// `http://` URL of the projector's control API.
    pub projector: String,
    /// Of capture's.
    pub capture: String,
    /// Of ingest's; empty where there is no ingest.
    pub ingest: String,
}

/// Names of topics.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    /// The change log.
    pub changes: String,
    /// What names of snapshot topics begin with.
    pub snapshot_prefix: String,
    /// Incoming users.
    pub users: String,
    /// Users that were refused.
    pub rejected: String,
}

/// A mart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mart {
    /// Name, and name of its table.
    pub name: String,
    /// Its statement.
    pub sql: String,
    /// The tables in MySQL that it reads.
    pub reads: Vec<String>,
    /// How it is drawn, if it is.
    pub chart: Option<Chart>,
}

/// How a mart is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chart {
    /// What is shown.
    pub title: String,
    /// What the values count.
    pub unit: String,
    /// A `SELECT` with the columns category, series and value, in the order wanted. `{table}` stands for the mart.
    pub sql: String,
}

impl Config {
    /// The defaults: no login, ticks of a second, a heartbeat every two, a hundred viewers.
    pub fn new(bind: SocketAddr, sources: Sources) -> Config {
        Config {
            bind,
            names: Vec::new(),
            user: None,
            password: None,
            control_token: String::new(),
            sources,
            marts: Vec::new(),
            state_dir: None,
            tick: Duration::from_secs(1),
            heartbeat_period: Duration::from_secs(2),
            millrace: env!("CARGO_PKG_VERSION").to_owned(),
            verify: None,
            parts_down: None,
            viewers_max: 100,
        }
    }
}

/// Without passwords and tokens.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("bind", &self.bind)
            .field("user", &self.user)
            .field("sources", &self.sources)
            .field("marts", &self.marts.len())
            .field("state_dir", &self.state_dir)
            .field("tick", &self.tick)
            .field("heartbeat_period", &self.heartbeat_period)
            .finish_non_exhaustive()
    }
}

/// Without the user and password of URLs.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("postgres", &without_login(&self.postgres))
            .field("slot", &self.slot)
            .field("mysql", &without_login(&self.mysql))
            .field("fluvio", &self.fluvio)
            .field("topics", &self.topics)
            .field("projector", &without_login(&self.projector))
            .field("capture", &without_login(&self.capture))
            .field("ingest", &without_login(&self.ingest))
            .finish()
    }
}

/// A URL without what stands before its `@`, and without its parameters, which may hold a password.
fn without_login(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    match (plain.split_once("://"), plain.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{place}"),
        _ => plain.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_in_the_debug_text() {
        let sources = Sources {
            postgres: "postgres://u:hid@den1@host:5/db?password=hidden2".into(),
            mysql: "mysql://u:hidden3@host:5/db".into(),
            ..Sources::default()
        };
        let mut config = Config::new("127.0.0.1:0".parse().unwrap(), sources);
        config.password = Some("hidden4".into());
        config.control_token = "hidden5".into();
        let text = format!("{config:?}");
        assert!(!text.contains("hid"), "{text}");
        assert!(text.contains("postgres://host:5/db"), "{text}");
    }
}
