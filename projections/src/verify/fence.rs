//! The consistent point: a snapshot of Postgres that is exactly a prefix of the log.

use std::str::FromStr;
use std::time::Duration;

use millrace_events::Lsn;
use pgwire_replication::client::QueryRow;
use pgwire_replication::{PgWireError, ReplicationClient, ReplicationConfig, TlsConfig};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, Row};

use super::{postgres, Config, Error};

/// A connection attempt that takes longer is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Content prefix and body of the message that makes sure of a commit behind the consistent point.
const MESSAGE: (&str, &str) = ("millrace", "verify");

/// The same as those of capture: text output depends on them.
const SETTINGS: [(&str, &str); 11] = [
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
];

/// An open transaction that sees exactly the commits before an LSN.
pub(super) struct Fence {
    lsn: Lsn,
    session: PgConnection,
}

impl Fence {
    /// Takes a snapshot through a temporary slot, which is gone again when this returns: it would
    /// hold back Postgres' log for as long as the comparison takes.
    pub(super) async fn create(config: &Config) -> Result<Fence, Error> {
        let mut session = connect(config).await?;
        let mut replication = ReplicationClient::connect_gated(replication(config)?).await?;
        let created = create_slot(config, &mut session, &mut replication).await;
        let imported = match created {
            Ok((lsn, snapshot)) => import(&mut session, &snapshot).await.map(|()| lsn),
            Err(error) => Err(error),
        };
        replication.abort();
        Ok(Fence {
            lsn: imported?,
            session,
        })
    }

    /// The consistent point.
    pub(super) fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Commits a transaction behind the consistent point, so that the log reaches it on an idle source.
    pub(super) async fn emit_message(&self, config: &Config) -> Result<(), Error> {
        let mut conn = connect(config).await?;
        sqlx::query("SELECT pg_logical_emit_message(true, $1, $2)")
            .bind(MESSAGE.0)
            .bind(MESSAGE.1)
            .execute(&mut conn)
            .await
            .map_err(postgres("writing a message to the log"))?;
        let _ = conn.close().await;
        Ok(())
    }

    /// Where Postgres' log ends now; nobody can be beyond.
    pub(super) async fn log_end(&mut self) -> Result<Lsn, Error> {
        let asking = postgres("asking for the end of its log");
        let end: String = sqlx::query_scalar("SELECT pg_current_wal_insert_lsn()::text")
            .fetch_one(&mut self.session)
            .await
            .map_err(&asking)?;
        end.parse().map_err(|_| unexpected())
    }

    /// The session in which the rows are read.
    pub(super) fn into_session(self) -> PgConnection {
        self.session
    }
}

/// Creates the slot and returns its consistent point and the name of its snapshot.
async fn create_slot(
    config: &Config,
    session: &mut PgConnection,
    replication: &mut ReplicationClient,
) -> Result<(Lsn, String), Error> {
    let pid = replication
        .simple_query("SELECT pg_backend_pid()::text")
        .await?;
    let pid: i32 = field(&pid, 0)?.parse().map_err(|_| unexpected())?;
    let command = format!(
        "CREATE_REPLICATION_SLOT \"{}\" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT",
        slot_name()
    );
    let created = replication.simple_query(&command);
    let Ok(answer) = tokio::time::timeout(config.slot_timeout, created).await else {
        let blocker = blocker(session, pid).await?;
        terminate(session, pid).await?;
        return Err(Error::SlotBlocked {
            seconds: config.slot_timeout.as_secs(),
            blocker,
        });
    };
    let answer = answer?;
    let lsn = field(&answer, 1)?.parse().map_err(|_| unexpected())?;
    Ok((lsn, field(&answer, 2)?))
}

async fn import(session: &mut PgConnection, snapshot: &str) -> Result<(), Error> {
    let quoted = snapshot.replace('\'', "''");
    let statement = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{quoted}'"
    );
    let imported = session.execute(sqlx::raw_sql(&statement)).await;
    imported
        .map(|_| ())
        .map_err(postgres("importing the slot's snapshot"))
}

// The oldest transaction is the answer where the lock table does not show one.
const BLOCKER: &str = "
    SELECT pid, coalesce(usename::text, '?'), coalesce(application_name, ''),
           coalesce(state, '?'), coalesce(extract(epoch FROM clock_timestamp() - xact_start), 0)::int8
      FROM pg_stat_activity
     WHERE pid <> $1 AND (pid = ANY (pg_blocking_pids($1)) OR backend_xid IS NOT NULL)
     ORDER BY (pid = ANY (pg_blocking_pids($1))) DESC, xact_start LIMIT 1";

async fn blocker(session: &mut PgConnection, walsender: i32) -> Result<String, Error> {
    let looking = postgres("looking for the transaction in the way");
    let row = sqlx::query(BLOCKER)
        .bind(walsender)
        .fetch_optional(session)
        .await;
    let Some(row) = row.map_err(&looking)? else {
        return Ok(
            "a transaction that pg_stat_activity does not show is in the way \
                   (look at pg_prepared_xacts)"
                .into(),
        );
    };
    let text = |i: usize| row.try_get::<String, _>(i).map_err(&looking);
    Ok(format!(
        "process {} (user {}, application {:?}, {}) has had a transaction open for {} s",
        row.try_get::<i32, _>(0).map_err(&looking)?,
        text(1)?,
        text(2)?,
        text(3)?,
        row.try_get::<i64, _>(4).map_err(&looking)?,
    ))
}

/// A session that waits for a transaction does not notice that we have gone.
async fn terminate(session: &mut PgConnection, pid: i32) -> Result<(), Error> {
    sqlx::query("SELECT pg_terminate_backend($1)")
        .bind(pid)
        .execute(session)
        .await
        .map(|_| ())
        .map_err(postgres("ending the slot's session"))
}

fn field(rows: &[QueryRow], column: usize) -> Result<String, Error> {
    let cell = rows
        .first()
        .and_then(|row| row.get(column))
        .and_then(Option::as_ref);
    let cell = cell.ok_or_else(unexpected)?;
    String::from_utf8(cell.to_vec()).map_err(|_| unexpected())
}

fn unexpected() -> Error {
    PgWireError::Protocol("unexpected answer to a replication command".into()).into()
}

fn slot_name() -> String {
    format!("millrace_verify_{:016x}", rand::random::<u64>())
}

fn options(config: &Config) -> Result<PgConnectOptions, Error> {
    let options = PgConnectOptions::from_str(&config.postgres_url)
        .map_err(|error| Error::Config(format!("postgres_url: {error}")))?;
    Ok(options
        .application_name("millrace-verify")
        .options(SETTINGS)
        .ssl_mode(PgSslMode::Disable)
        .disable_statement_logging())
}

async fn connect(config: &Config) -> Result<PgConnection, Error> {
    let options = options(config)?;
    let connecting = PgConnection::connect_with(&options);
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected.map_err(postgres("connecting")),
        Err(_) => {
            let source = sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
            Err(Error::Postgres {
                doing: "connecting",
                source,
            })
        }
    }
}

fn replication(config: &Config) -> Result<ReplicationConfig, Error> {
    let options = options(config)?;
    let url = reqwest::Url::parse(&config.postgres_url)
        .map_err(|error| Error::Config(format!("postgres_url: {error}")))?;
    let host = match options.get_socket() {
        Some(path) => path.to_string_lossy().into_owned(),
        None => options.get_host().to_owned(),
    };
    let user = options.get_username();
    let database = options.get_database().unwrap_or(user);
    let settings: Vec<String> = SETTINGS
        .iter()
        .map(|(name, value)| format!("-c {name}={value}"))
        .collect();
    // Slot and publication are only used by START_REPLICATION, which is never sent.
    let unused = "millrace_verify";
    Ok(
        ReplicationConfig::new(host, user, password(&url)?, database, unused, unused)
            .with_port(options.get_port())
            .with_tls(TlsConfig::disabled())
            .with_options(settings.join(" "))
            .with_application_name("millrace-verify"),
    )
}

/// sqlx does not hand out the password that it has read from the URL.
fn password(url: &reqwest::Url) -> Result<String, Error> {
    let query = url.query_pairs().filter(|(name, _)| name == "password");
    if let Some((_, password)) = query.last() {
        return Ok(password.into_owned());
    }
    String::from_utf8(percent_decoded(url.password().unwrap_or_default()))
        .map_err(|_| Error::Config("postgres_url: the password is not UTF-8".into()))
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.extend_from_slice(before.as_bytes());
        let byte = after
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(byte.unwrap_or(b'%'));
        rest = if byte.is_some() {
            after.get(2..).unwrap_or_default()
        } else {
            after
        };
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_read_as_sqlx_reads_them() {
        let cases = [
            ("postgres://u:qwerty@h/d", "qwerty"),
            ("postgres://u:a%40b%25%2F@h/d", "a@b%/"),
            ("postgres://u@h/d", ""),
            ("postgres://u@h/d?password=x%20y", "x y"),
        ];
        for (url, expected) in cases {
            let url = reqwest::Url::parse(url).expect("a URL");
            assert_eq!(password(&url).expect("a password"), expected);
        }
    }
}
