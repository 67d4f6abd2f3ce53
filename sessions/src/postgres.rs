//! Sessions with Postgres.
//!
//! - [`Server`] is a parsed URL; every session of any service comes from it.
//! - [`Work`] says what a session is for; [`settings`] pins what could change the result of that.
//! - Ordinary sessions are [`PgSession`]s: no statement waits for ever. Those for replication are [`replication`].
//! - [`errors`] tells what may pass from what needs a person.

mod bounded;
pub mod errors;
mod frames;
pub mod point;
pub mod replication;
pub mod settings;

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, PgPool};
use url::Url;

pub use bounded::{in_time, PgSession};
use replication::{Replication, ReplicationError};
pub use settings::Work;

/// How long connecting may take, with everything that belongs to it.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// The URL cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// It is no URL of Postgres.
    #[error("{0}")]
    Invalid(String),
    /// It asks for TLS.
    #[error("this build has no TLS; use sslmode=disable on a trusted network")]
    Tls,
    /// Its password is not text.
    #[error("the password is not UTF-8")]
    Password,
}

/// A Postgres database and who connects to it. Cheap to clone; connects to nothing by itself.
#[derive(Clone, Debug)]
pub struct Server {
    options: PgConnectOptions,
    password: String,
}

impl Server {
    /// `postgres://user:password@host:port/database`. An IPv6 address stands in brackets, as in every URL.
    pub fn parse(url: &str) -> Result<Server, UrlError> {
        let parsed = Url::parse(url).map_err(|error| UrlError::Invalid(error.to_string()))?;
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| UrlError::Invalid(error.to_string()))?;
        match options.get_ssl_mode() {
            PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => {}
            _ => return Err(UrlError::Tls),
        }
        Ok(Server {
            options: options
                .ssl_mode(PgSslMode::Disable)
                .disable_statement_logging(),
            password: password(&parsed)?,
        })
    }

    /// The role that connects.
    pub fn user(&self) -> &str {
        self.options.get_username()
    }

    /// The database.
    pub fn database(&self) -> &str {
        self.options.get_database().unwrap_or(self.user())
    }

    /// A session for `work`. `application` is what `pg_stat_activity` shows.
    pub async fn connect(&self, application: &str, work: Work) -> Result<PgSession, sqlx::Error> {
        let options = self.options(application);
        let connecting = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            connection.execute(settings::pinning(work).as_str()).await?;
            Ok(connection)
        };
        let connection = in_time(CONNECT_TIME_MAX, connecting).await?;
        Ok(PgSession::new(connection, work.silence_max()))
    }

    /// At most `connections` sessions, made when they are needed. Only the server limits a statement in them:
    /// whoever uses one puts [`in_time`] around it.
    pub fn pool(&self, application: &str, work: Work, connections: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(CONNECT_TIME_MAX)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    connection.execute(settings::pinning(work).as_str()).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(self.options(application))
    }

    /// A session that takes replication commands.
    pub async fn replication(&self, application: &str) -> Result<Replication, ReplicationError> {
        Replication::connect(self, application).await
    }

    fn options(&self, application: &str) -> PgConnectOptions {
        self.options.clone().application_name(application)
    }

    /// Folder of the socket, or name or address of the host without brackets.
    fn place(&self) -> String {
        match self.options.get_socket() {
            Some(folder) => folder.to_string_lossy().into_owned(),
            None => {
                let host = self.options.get_host();
                host.trim_matches(['[', ']']).to_owned()
            }
        }
    }
}

/// `name` as an SQL identifier.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `schema.table` as SQL.
pub fn qualified(schema: &str, table: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(table))
}

/// sqlx does not hand out the password that it has read from the URL.
fn password(url: &Url) -> Result<String, UrlError> {
    let query = url.query_pairs().filter(|(name, _)| name == "password");
    if let Some((_, password)) = query.last() {
        return Ok(password.into_owned());
    }
    let bytes = percent_decoded(url.password().unwrap_or_default());
    String::from_utf8(bytes).map_err(|_| UrlError::Password)
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.extend_from_slice(before.as_bytes());
        let hex = after.get(..2);
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(byte.unwrap_or(b'%'));
        rest = match byte {
            Some(_) => after.get(2..).unwrap_or_default(),
            None => after,
        };
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_who() {
        let server =
            Server::parse("postgres://us%40er:p%3Ass%2Fwö@db.example:5433/shop").expect("valid");
        assert_eq!(server.place(), "db.example");
        assert_eq!(server.options.get_port(), 5433);
        assert_eq!(server.user(), "us@er");
        assert_eq!(server.password, "p:ss/wö");
        assert_eq!(server.database(), "shop");
    }

    #[test]
    fn a_socket_folder_and_an_ipv6_address_are_places() {
        let place = |url| Server::parse(url).expect("valid").place();
        assert_eq!(
            place("postgres://me@localhost/shop?host=/run/pg"),
            "/run/pg"
        );
        assert_eq!(place("postgres://me@[::1]:5433/shop"), "::1");
    }

    #[test]
    fn passwords_are_read_as_sqlx_reads_them() {
        let cases = [
            ("postgres://u:qwerty@h/d", "qwerty"),
            ("postgres://u:a%40b%25%2F@h/d", "a@b%/"),
            ("postgres://u@h/d", ""),
            ("postgres://u@h/d?password=x%20y", "x y"),
        ];
        for (url, expected) in cases {
            assert_eq!(Server::parse(url).expect("valid").password, expected);
        }
    }

    #[test]
    fn tls_is_refused_rather_than_left_out() {
        let refused = Server::parse("postgres://me@db/shop?sslmode=require");
        assert!(matches!(refused, Err(UrlError::Tls)));
    }

    #[test]
    fn identifiers_are_quoted() {
        assert_eq!(qualified("s", "a\"b"), "\"s\".\"a\"\"b\"");
    }
}
