//! Connections to Postgres: ordinary ones and the one for replication, all with the same pinned
//! settings, because text output depends on them.

use std::str::FromStr;
use std::time::Duration;

use pgwire_replication::{ReplicationConfig, TlsConfig};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, PgConnection};
use url::Url;

use crate::config::MESSAGE_BYTES_MAX;
use crate::{Config, Error};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages that the replication client reads ahead. Few, because each may be a row of megabytes.
pub(crate) const EVENTS_MAX: usize = 32;

/// Settings of every session. Those on text output are part of the record format; the time-outs are
/// switched off because a role may have its own; without `row_security = off` a policy would hide
/// rows from the snapshot silently.
const SETTINGS: [(&str, &str); 12] = [
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO,YMD"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("search_path", "pg_catalog"),
    ("row_security", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
];

/// The source database.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    options: PgConnectOptions,
    replication: ReplicationConfig,
}

impl Source {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let invalid =
            |error: &dyn std::fmt::Display| Error::Config(format!("postgres_url: {error}"));
        let url = Url::parse(&config.postgres_url).map_err(|error| invalid(&error))?;
        let application = format!("millrace-{}", config.slot);
        let options = PgConnectOptions::from_str(&config.postgres_url)
            .map_err(|error| invalid(&error))?
            .application_name(&application)
            .options(SETTINGS)
            .disable_statement_logging();
        if !matches!(
            options.get_ssl_mode(),
            PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer
        ) {
            return Err(Error::Config(
                "postgres_url: this build has no TLS; use sslmode=disable on a trusted network"
                    .into(),
            ));
        }
        let options = options.ssl_mode(PgSslMode::Disable);
        let replication = replication(config, &url, &options, application)?;
        Ok(Source {
            options,
            replication,
        })
    }

    pub(crate) async fn connect(&self) -> Result<PgConnection, Error> {
        let connect = PgConnection::connect_with(&self.options);
        match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(connection) => Ok(connection?),
            Err(_) => Err(Error::Timeout {
                what: "connecting to Postgres",
                seconds: CONNECT_TIMEOUT.as_secs(),
            }),
        }
    }

    /// For the replication connection; its start LSN is still to be set.
    pub(crate) fn replication(&self) -> ReplicationConfig {
        self.replication.clone()
    }

    pub(crate) fn user(&self) -> &str {
        self.options.get_username()
    }
}

fn replication(
    config: &Config,
    url: &Url,
    options: &PgConnectOptions,
    application: String,
) -> Result<ReplicationConfig, Error> {
    let host = match options.get_socket() {
        Some(path) => path.to_string_lossy().into_owned(),
        None => options.get_host().to_owned(),
    };
    let user = options.get_username();
    let settings: Vec<_> = SETTINGS
        .iter()
        .map(|(name, value)| format!("-c {name}={value}"))
        .collect();
    Ok(ReplicationConfig::new(
        host,
        user,
        password(url)?,
        options.get_database().unwrap_or(user),
        &config.slot,
        config.publication.as_str(),
    )
    .with_port(options.get_port())
    .with_tls(TlsConfig::disabled())
    .with_options(settings.join(" "))
    .with_application_name(application)
    .with_status_interval(config.feedback_period)
    .with_wakeup_interval(config.feedback_period.max(Duration::from_secs(1)))
    .with_buffer_size(EVENTS_MAX)
    .with_max_message_size(MESSAGE_BYTES_MAX))
}

/// sqlx does not hand out the password that it has read from the URL.
fn password(url: &Url) -> Result<String, Error> {
    let query = url.query_pairs().filter(|(name, _)| name == "password");
    if let Some((_, password)) = query.last() {
        return Ok(password.into_owned());
    }
    let bytes = percent_decode(url.password().unwrap_or_default());
    String::from_utf8(bytes)
        .map_err(|_| Error::Config("postgres_url: the password is not UTF-8".into()))
}

fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&byte) = bytes.get(i) {
        let hex = text.get(i + 1..i + 3).filter(|_| byte == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                i += 3;
            }
            None => {
                out.push(byte);
                i += 1;
            }
        }
    }
    out
}

/// `name` as an SQL identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `schema.table` as SQL.
pub(crate) fn qualified(schema: &str, table: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(table))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(url: &str) -> Result<Source, Error> {
        Source::new(&Config::new(url, "", "s", ["t"]))
    }

    #[test]
    fn the_replication_connection_gets_what_the_url_says() {
        let source = source("postgres://us%40er:p%3Ass%2Fwö@db.example:5433/shop").expect("valid");
        let replication = source.replication();
        assert_eq!(replication.host, "db.example");
        assert_eq!(replication.port, 5433);
        assert_eq!(replication.user, "us@er");
        assert_eq!(replication.password, "p:ss/wö");
        assert_eq!(replication.database, "shop");
        assert!(replication
            .options
            .expect("set")
            .contains("-c TimeZone=UTC"));
    }

    #[test]
    fn a_socket_folder_is_a_host() {
        let source = source("postgres://me@localhost/shop?host=/run/pg").expect("valid");
        assert_eq!(source.replication().host, "/run/pg");
    }

    #[test]
    fn tls_is_refused_rather_than_left_out() {
        let error = source("postgres://me@db/shop?sslmode=require").expect_err("refused");
        assert_eq!(error.code(), Some("capture-config"));
    }

    #[test]
    fn identifiers_are_quoted() {
        assert_eq!(qualified("s", "a\"b"), "\"s\".\"a\"\"b\"");
    }
}
