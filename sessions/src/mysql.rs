//! Sessions with MySQL and MariaDB.
//!
//! [`connect`] opens a [`Session`]: its settings are pinned, so that no `SET GLOBAL` of the server's owner changes a
//! result or ends a service; every statement has a time limit, so that a server which vanished without a word is
//! noticed. `docs/sessions-mysql.md` goes through all session variables of both servers.

mod passing;
mod pins;
mod pool;
mod server;
mod session;

use std::str::FromStr;
use std::time::Duration;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, MySqlConnection};

pub use passing::{is_lock_conflict, is_silence, may_pass, server_code, server_refused};
pub use pool::{pool, Pool, Pooled};
pub use server::{Flavour, Server, OLDEST};
pub use session::{Answers, Session, Within, PING_EVERY, STATEMENT};

/// A connection attempt that takes longer is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a session is for. Isolation and time limits follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The projector: the only writer, which must see its own last commit.
    Project,
    /// Verify: several statements see one state, and a statement may read a whole table.
    Compare,
    /// People who look at marts: one state, no writing, and no statement that runs long.
    Look,
}

/// No usable session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not a MySQL URL.
    #[error("the MySQL URL cannot be used")]
    Url(#[source] sqlx::Error),
    /// Nobody answers, or the server lets nobody in.
    #[error("no connection to MySQL")]
    Sql(#[from] sqlx::Error),
    /// It took longer than the limit.
    #[error("no connection to MySQL within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    /// Too old.
    #[error(
        "MySQL server version {0:?} is not supported; {oldest} or later is needed",
        oldest = OLDEST
    )]
    Version(String),
    /// The server's binary log takes no row changes.
    #[error(
        "the server has binlog_format=STATEMENT, under which it refuses transactions at READ COMMITTED (error 1665); \
         run SET GLOBAL binlog_format = 'ROW' (or 'MIXED') as an administrator, and set it in the server's configuration"
    )]
    StatementBinlog,
    /// The server refuses a setting that results depend on.
    #[error("MySQL refused to pin the settings of the session")]
    Settings(#[source] sqlx::Error),
}

impl ConnectError {
    /// True if another attempt may succeed without anybody changing a setting of ours.
    pub fn may_pass(&self) -> bool {
        match self {
            // An expired password is let in, and refused by the first statement.
            ConnectError::Sql(error) | ConnectError::Settings(error) => {
                may_pass(error) || server_refused(error)
            }
            ConnectError::Timeout => true,
            ConnectError::Url(_) | ConnectError::Version(_) | ConnectError::StatementBinlog => {
                false
            }
        }
    }
}

/// Opens a session with every setting pinned that a result or an outcome depends on.
pub async fn connect(url: &str, purpose: Purpose) -> Result<Session, ConnectError> {
    let options = options(url).map_err(ConnectError::Url)?;
    tokio::time::timeout(CONNECT_TIMEOUT, async {
        let mut conn = options.connect().await?;
        let server = prepare(&mut conn, purpose).await?;
        Ok(Session::new(conn, server, purpose))
    })
    .await
    .map_err(|_| ConnectError::Timeout)?
}

/// How to connect. The client sets nothing on its own, and statements are never logged: they carry values.
fn options(url: &str) -> Result<MySqlConnectOptions, sqlx::Error> {
    let options = MySqlConnectOptions::from_str(url)?
        .charset("utf8mb4")
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .set_names(false)
        .disable_statement_logging();
    // The brackets of an IPv6 address belong to the URL, not to the address.
    let host = options.get_host();
    let bare = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    Ok(options.host(&bare))
}

/// Pins the settings of a new connection.
async fn prepare(conn: &mut MySqlConnection, purpose: Purpose) -> Result<Server, ConnectError> {
    // Before anything else: limits of the server that would end, or shorten, what follows.
    sqlx::Executor::execute(&mut *conn, pins::FIRST)
        .await
        .map_err(ConnectError::Settings)?;
    let server = Server::detect(conn).await?;
    pins::pin(conn, &server, purpose)
        .await
        .map_err(ConnectError::Settings)?;
    if purpose == Purpose::Project && server.logs_statements(conn).await? {
        return Err(ConnectError::StatementBinlog);
    }
    Ok(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server says that refuses a connection with this error.
    async fn refused_with(code: u16) -> sqlx::Error {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            let [low, high] = code.to_le_bytes();
            let mut packet = vec![9, 0, 0, 0, 0xff, low, high];
            packet.extend(b"#HY000");
            std::io::Write::write_all(&mut client, &packet).expect("sent");
        });
        let url = format!("mysql://u:p@127.0.0.1:{port}/db");
        let error = connect(&url, Purpose::Look).await.expect_err("refused");
        server.join().expect("no panic");
        match error {
            ConnectError::Sql(error) => error,
            other => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn an_account_that_is_refused_is_waited_for_whenever_the_server_says_so() {
        const EXPIRED: u16 = 1820;
        const NO_SUCH_VARIABLE: u16 = 1193;
        for (code, passes) in [(EXPIRED, true), (NO_SUCH_VARIABLE, false)] {
            let error = refused_with(code).await;
            assert_eq!(server_code(&error), Some(code));
            assert_eq!(ConnectError::Settings(error).may_pass(), passes, "{code}");
            let error = refused_with(code).await;
            assert_eq!(ConnectError::Sql(error).may_pass(), passes, "{code}");
        }
    }

    #[test]
    fn an_ipv6_address_is_reached_without_its_brackets() {
        for (url, host) in [
            ("mysql://u:p@[::1]:3306/db", "::1"),
            ("mysql://u:p@127.0.0.1:3306/db", "127.0.0.1"),
            ("mysql://u:p@db.example/db", "db.example"),
        ] {
            assert_eq!(options(url).expect("a URL").get_host(), host, "{url}");
        }
    }
}
