//! Live trading: every promise holds while it goes on, and nothing that happens to Postgres ends it.

use std::time::Duration;

use millrace_shop_generator::plan;
use millrace_shop_generator::trade::{Config, Handle, Status, Trader};
use millrace_shop_generator::{prepare, Progress};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::filling::{schema, BROKEN_PROMISES};
use crate::postgres::Postgres;

const PATIENCE: Duration = Duration::from_secs(60);

struct Shop {
    postgres: Postgres,
    handle: Handle,
    shutdown: CancellationToken,
    trading: JoinHandle<()>,
}

impl Shop {
    async fn open(transactions_per_second: f64, connections: usize) -> Shop {
        let postgres = Postgres::start();
        let pool = postgres.pool().await;
        let progress = watch::Sender::new(Progress::default());
        prepare(
            &pool,
            &schema("source"),
            &plan::Config::default(),
            &progress,
        )
        .await
        .unwrap();
        let trader = Trader::new(Config {
            database_url: postgres.url(),
            transactions_per_second,
            connections,
            ..Config::default()
        })
        .unwrap();
        let (handle, shutdown) = (trader.handle(), CancellationToken::new());
        let run = trader.run(shutdown.clone());
        let trading = tokio::spawn(async move { run.await.unwrap() });
        Shop {
            postgres,
            handle,
            shutdown,
            trading,
        }
    }

    /// Returns as soon as the counters satisfy `reached`.
    async fn wait_for(&self, reached: impl Fn(&Status) -> bool) -> Status {
        let waiting = async {
            loop {
                let status = self.handle.status();
                if reached(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, waiting)
            .await
            .unwrap_or_else(|_| panic!("{:?}", self.handle.status()))
    }

    async fn close(self) -> (Postgres, Status) {
        self.shutdown.cancel();
        timeout(Duration::from_secs(5), self.trading)
            .await
            .unwrap()
            .unwrap();
        (self.postgres, self.handle.status())
    }
}

async fn broken_promises(postgres: &Postgres) -> Vec<String> {
    let pool = postgres.pool().await;
    sqlx::raw_sql("ALTER ROLE shop SET search_path TO source")
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query_scalar(BROKEN_PROMISES)
        .fetch_all(&postgres.pool().await)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn four_clerks_keep_every_promise() {
    let shop = Shop::open(100_000.0, 4).await;
    shop.wait_for(|status| status.transactions > 4_000 && status.abandoned > 0)
        .await;
    let (postgres, status) = shop.close().await;
    assert_eq!((status.errors, status.skipped), (0, 0), "{status:?}");
    assert!(broken_promises(&postgres).await.is_empty());
    let touched: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "SELECT relname::text, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables ORDER BY 1",
    )
    .fetch_all(&postgres.pool().await)
    .await
    .unwrap();
    println!("{status:?} {touched:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_is_kept() {
    let shop = Shop::open(100.0, 2).await;
    let start = shop
        .wait_for(|status| status.transactions + status.abandoned > 10)
        .await;
    let begun = std::time::Instant::now();
    let made = |status: &Status| status.transactions + status.abandoned;
    let goal = made(&start) + 200;
    shop.wait_for(|status| made(status) >= goal).await;
    let seconds = begun.elapsed().as_secs_f64();
    assert!(
        seconds > 1.8,
        "200 transactions at 100 a second took only {seconds} s"
    );
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trade_survives_a_crash_of_postgres_and_emptied_tables() {
    let shop = Shop::open(500.0, 2).await;
    shop.wait_for(|status| status.transactions > 100).await;
    shop.postgres.crash();
    let during = shop
        .wait_for(|status| status.errors > 0 && status.last_error.is_some())
        .await;
    shop.postgres.boot();
    shop.wait_for(|status| status.transactions > during.transactions + 200)
        .await;
    assert!(shop.handle.status().connects > 2);

    let pool = shop.postgres.pool().await;
    sqlx::raw_sql("TRUNCATE source.users CASCADE")
        .execute(&pool)
        .await
        .unwrap();
    let emptied = shop.handle.status();
    shop.wait_for(|status| status.skipped > emptied.skipped + 20)
        .await;
    sqlx::raw_sql("DROP SCHEMA source CASCADE")
        .execute(&pool)
        .await
        .unwrap();
    shop.wait_for(|status| status.errors > emptied.errors + 20)
        .await;
    let progress = watch::Sender::new(Progress::default());
    prepare(
        &pool,
        &schema("source"),
        &plan::Config::default(),
        &progress,
    )
    .await
    .unwrap();
    let filled = shop.handle.status();
    shop.wait_for(|status| status.transactions > filled.transactions + 100)
        .await;
    let (postgres, _) = shop.close().await;
    assert!(broken_promises(&postgres).await.is_empty());
}
