//! Live trading: random transactions at a steady rate, for as long as the shop is open.

pub mod decide;
mod orders;
mod people;
mod pick;
mod shelves;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{NaiveDateTime, Utc};
use futures_util::future::BoxFuture;
use millrace_control::in_words;
use millrace_sessions::postgres::{Server, UrlError, Work};
use rand::rngs::StdRng;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::decide::Action;
use crate::backoff::{pause, pause_until, Backoff};
use crate::plan::{stream, Details, Invalid};
use crate::schema::SchemaName;

/// How the shop trades.
#[derive(Debug, Clone)]
pub struct Config {
    /// `postgres://user:password@host:port/database`
    pub database_url: String,
    /// Where the seven tables are.
    pub schema: SchemaName,
    /// What happens, and in which sequence; what it happens to depends on the rows there are.
    pub seed: u64,
    /// All connections together. 0 pauses.
    pub transactions_per_second: f64,
    /// One is enough for some hundred transactions a second.
    pub connections: usize,
    /// How many products somebody looks at before ordering; what is out of stock is left out.
    pub details: Details,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            database_url: String::new(),
            schema: SchemaName::default(),
            seed: 42,
            transactions_per_second: 5.0,
            connections: 1,
            details: Details::default(),
        }
    }
}

/// A configuration that cannot be traded with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a URL of a Postgres database.
    #[error("the shop's database URL")]
    Url(#[source] UrlError),
    /// Negative, infinite, or above [`RATE_MAX`].
    #[error("transactions per second must be between 0 and {RATE_MAX}, not {0}")]
    Rate(f64),
    /// None, or more than [`CONNECTIONS_MAX`].
    #[error("the number of connections must be between 1 and {CONNECTIONS_MAX}, not {0}")]
    Connections(usize),
    /// No order can have so many details.
    #[error(transparent)]
    Details(#[from] Invalid),
}

/// Limit of [`Config::transactions_per_second`]: more than any server commits.
pub const RATE_MAX: f64 = 1_000_000.0;
/// Limit of [`Config::connections`]: within Postgres' default of 100.
pub const CONNECTIONS_MAX: usize = 64;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// No transaction takes this long: locks are waited for 5 s, statements 10 s.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// What a transaction that has begun is given to end when the shop closes.
const CLOSING_TIME: Duration = Duration::from_secs(2);
/// After a standstill, at most this much is made up for.
const ARREARS_MAX: Duration = Duration::from_secs(1);

/// What the trader has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Committed.
    pub transactions: u64,
    /// Rolled back on purpose.
    pub abandoned: u64,
    /// Found nothing to do: tables without rows.
    pub skipped: u64,
    /// Failed: refused by Postgres, or the connection was lost.
    pub errors: u64,
    /// Connections made, the first included.
    pub connects: u64,
    /// The last failure since the last success.
    pub last_error: Option<String>,
}

/// Reads the counters of a running [`Trader`]; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Handle(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    transactions: AtomicU64,
    abandoned: AtomicU64,
    skipped: AtomicU64,
    errors: AtomicU64,
    connects: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Handle {
    /// The counters now.
    pub fn status(&self) -> Status {
        let counters = &self.0;
        Status {
            transactions: counters.transactions.load(Relaxed),
            abandoned: counters.abandoned.load(Relaxed),
            skipped: counters.skipped.load(Relaxed),
            errors: counters.errors.load(Relaxed),
            connects: counters.connects.load(Relaxed),
            last_error: counters
                .last_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    fn succeeded(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Done => &self.0.transactions,
            Outcome::Abandon => &self.0.abandoned,
            Outcome::Nothing => &self.0.skipped,
        };
        counter.fetch_add(1, Relaxed);
        *self
            .0
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn failed(&self, error: &Failure) {
        self.0.errors.fetch_add(1, Relaxed);
        *self
            .0
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(in_words(error));
    }
}

/// Why a transaction did not come about. None of them ends the trade.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{action:?}")]
    Transaction { action: Action, source: sqlx::Error },
    #[error("connecting to Postgres")]
    Connect(#[source] sqlx::Error),
    #[error("Postgres did not answer within {0:?}")]
    Timeout(Duration),
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// To be committed.
    Done,
    /// To be rolled back, on purpose.
    Abandon,
    /// There was no row to do it to.
    Nothing,
}

impl Outcome {
    fn of_rows(rows: u64) -> Outcome {
        if rows > 0 {
            Outcome::Done
        } else {
            Outcome::Nothing
        }
    }
}

/// What `pg_stat_activity` shows.
const APPLICATION: &str = "millrace generate";
/// Clerks do not wait as long as others do.
const OWN_SETTINGS: &str = "SELECT set_config('search_path', $1, false), \
    set_config('lock_timeout', '5s', false), set_config('statement_timeout', '10s', false)";

/// The service that trades.
#[derive(Debug)]
pub struct Trader {
    config: Config,
    server: Server,
    handle: Handle,
}

impl Trader {
    /// Checks the configuration; does not connect yet.
    pub fn new(config: Config) -> Result<Trader, Error> {
        let rate = config.transactions_per_second;
        if !(0.0..=RATE_MAX).contains(&rate) {
            return Err(Error::Rate(rate));
        }
        if !(1..=CONNECTIONS_MAX).contains(&config.connections) {
            return Err(Error::Connections(config.connections));
        }
        config.details.check()?;
        let server = Server::parse(&config.database_url).map_err(Error::Url)?;
        Ok(Trader {
            config,
            server,
            handle: Handle::default(),
        })
    }

    /// To be kept before [`Trader::run`].
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Trades until `shutdown`, then ends within two seconds. Errors are counted and survived:
    /// a lost connection is made anew, with growing pauses of up to five seconds.
    pub fn run(self, shutdown: CancellationToken) -> BoxFuture<'static, Result<(), Error>> {
        // Boxed here, so that it is compiled with this crate only (ADR 14).
        Box::pin(self.run_until(shutdown))
    }

    async fn run_until(self, shutdown: CancellationToken) -> Result<(), Error> {
        let connections = self.config.connections;
        let mut clerks = JoinSet::new();
        for number in 0..connections {
            clerks.spawn(self.clerk(number).work(shutdown.clone()));
        }
        while clerks.join_next().await.is_some() {}
        Ok(())
    }

    fn clerk(&self, number: usize) -> Clerk {
        let rate = self.config.transactions_per_second / self.config.connections as f64;
        Clerk {
            schema: self.config.schema.clone(),
            server: self.server.clone(),
            handle: self.handle.clone(),
            rng: stream(self.config.seed, &format!("clerk {number}")),
            details: self.config.details,
            pace: (rate > 0.0).then(|| Duration::from_secs_f64((1.0 / rate).min(86_400.0))),
        }
    }
}

/// One connection's share of the trade.
struct Clerk {
    schema: SchemaName,
    server: Server,
    handle: Handle,
    rng: StdRng,
    details: Details,
    /// From one transaction to the next; None pauses.
    pace: Option<Duration>,
}

impl Clerk {
    async fn work(mut self, shutdown: CancellationToken) {
        let Some(pace) = self.pace else {
            return shutdown.cancelled().await;
        };
        let closed = closing_time(shutdown.clone());
        tokio::select! {
            () = self.trade(pace, &shutdown) => {}
            () = closed => info!("closing time: a transaction was cut off, Postgres rolls it back"),
        }
    }

    async fn trade(&mut self, pace: Duration, shutdown: &CancellationToken) {
        let mut backoff = Backoff::default();
        while !shutdown.is_cancelled() {
            match self.connect().await {
                Ok(connection) => self.serve(connection, pace, &mut backoff, shutdown).await,
                Err(error) => {
                    warn!(error = in_words(&error), "the shop waits for Postgres");
                    self.handle.failed(&error);
                }
            }
            pause(backoff.next_delay(), shutdown).await;
        }
    }

    /// Transactions on one connection, until it is lost or the shop closes.
    async fn serve(
        &mut self,
        mut connection: PgConnection,
        pace: Duration,
        backoff: &mut Backoff,
        shutdown: &CancellationToken,
    ) {
        let mut due = Instant::now();
        loop {
            pause_until(due, shutdown).await;
            if shutdown.is_cancelled() {
                let _ = timeout(CLOSING_TIME / 2, connection.close()).await;
                return;
            }
            match self.transact(&mut connection).await {
                Ok(outcome) => {
                    backoff.reset();
                    self.handle.succeeded(outcome);
                }
                Err(error) => {
                    warn!(error = in_words(&error), "a transaction failed");
                    self.handle.failed(&error);
                    if !is_alive(&mut connection).await {
                        return;
                    }
                }
            }
            due = next_due(due, pace, Instant::now());
        }
    }

    async fn connect(&self) -> Result<PgConnection, Failure> {
        let connecting = async {
            let session = self.server.connect(APPLICATION, Work::Write).await?;
            // Every transaction has a limit of its own, below.
            let mut connection = session.into_inner();
            sqlx::query(OWN_SETTINGS)
                .bind(self.schema.to_string())
                .execute(&mut connection)
                .await?;
            Ok(connection)
        };
        let connected = timeout(CONNECT_TIMEOUT, connecting).await;
        let connection = connected
            .map_err(|_| Failure::Timeout(CONNECT_TIMEOUT))?
            .map_err(Failure::Connect)?;
        self.handle.0.connects.fetch_add(1, Relaxed);
        Ok(connection)
    }

    /// The next transaction; if there is nothing it could be done to, an order instead.
    async fn transact(&mut self, connection: &mut PgConnection) -> Result<Outcome, Failure> {
        let action = decide::action(&mut self.rng);
        match self.attempt(connection, action).await? {
            Outcome::Nothing => self.attempt(connection, Action::PlaceOrder).await,
            outcome => Ok(outcome),
        }
    }

    async fn attempt(
        &mut self,
        connection: &mut PgConnection,
        action: Action,
    ) -> Result<Outcome, Failure> {
        let attempt = in_transaction(
            connection,
            &mut self.rng,
            self.details,
            action,
            Utc::now().naive_utc(),
        );
        timeout(TRANSACTION_TIMEOUT, attempt)
            .await
            .map_err(|_| Failure::Timeout(TRANSACTION_TIMEOUT))?
            .map_err(|source| Failure::Transaction { action, source })
    }
}

async fn in_transaction(
    connection: &mut PgConnection,
    rng: &mut StdRng,
    details: Details,
    action: Action,
    now: NaiveDateTime,
) -> sqlx::Result<Outcome> {
    let mut transaction = connection.begin().await?;
    let outcome = perform(&mut transaction, rng, details, action, now).await?;
    match outcome {
        Outcome::Done => transaction.commit().await?,
        Outcome::Abandon | Outcome::Nothing => transaction.rollback().await?,
    }
    Ok(outcome)
}

async fn perform(
    connection: &mut PgConnection,
    rng: &mut StdRng,
    details: Details,
    action: Action,
    now: NaiveDateTime,
) -> sqlx::Result<Outcome> {
    match action {
        Action::PlaceOrder => orders::place(connection, rng, details, now).await,
        Action::AbandonOrder => match orders::place(connection, rng, details, now).await? {
            Outcome::Done => Ok(Outcome::Abandon),
            outcome => Ok(outcome),
        },
        Action::AdvanceOrder => orders::advance(connection, rng, now).await,
        Action::SettleOrder => orders::settle(connection, rng, now).await,
        Action::AmendOrder => orders::amend(connection, rng).await,
        Action::DeleteOldOrder => orders::delete_old(connection, rng, now).await,
        Action::WriteReview => people::write_review(connection, rng, now).await,
        Action::EditReview => people::edit_review(connection, rng).await,
        Action::DeleteReview => people::delete_review(connection, rng).await,
        Action::GivePoints => people::give_points(connection, rng, now).await,
        Action::ExpirePoints => people::expire_points(connection, rng).await,
        Action::ChangeLoyaltyStatus => people::change_loyalty_status(connection, rng).await,
        Action::ChangePhone => people::change_phone(connection, rng).await,
        Action::ChangePrices => shelves::change_prices(connection, rng).await,
        Action::Restock => shelves::restock(connection, rng).await,
    }
}

/// A refused statement leaves the connection as good as it was; anything else does not.
async fn is_alive(connection: &mut PgConnection) -> bool {
    matches!(
        timeout(CONNECT_TIMEOUT, connection.ping()).await,
        Ok(Ok(()))
    )
}

/// When the next transaction is due: `pace` after the last one was, unless that is long past.
fn next_due(due: Instant, pace: Duration, now: Instant) -> Instant {
    let next = due + pace;
    now.checked_sub(ARREARS_MAX)
        .map_or(next, |earliest| next.max(earliest))
}

async fn closing_time(shutdown: CancellationToken) {
    shutdown.cancelled().await;
    sleep(CLOSING_TIME).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standstill_is_made_up_for_only_in_part() {
        let start = Instant::now();
        let pace = Duration::from_millis(200);
        let second = Duration::from_secs(1);
        assert_eq!(next_due(start, pace, start), start + pace);
        assert_eq!(next_due(start, pace, start + second / 2), start + pace);
        let much_later = start + 60 * second;
        assert_eq!(next_due(start, pace, much_later), much_later - ARREARS_MAX);
    }

    #[test]
    fn impossible_configurations_are_refused() {
        let with = |rate, connections| {
            Trader::new(Config {
                database_url: "postgres://shop@127.0.0.1/shop".into(),
                transactions_per_second: rate,
                connections,
                ..Config::default()
            })
        };
        assert!(with(5.0, 1).is_ok() && with(0.0, 1).is_ok());
        assert!(matches!(with(-1.0, 1), Err(Error::Rate(_))));
        assert!(matches!(with(f64::NAN, 1), Err(Error::Rate(_))));
        assert!(matches!(with(5.0, 0), Err(Error::Connections(0))));
    }
}
