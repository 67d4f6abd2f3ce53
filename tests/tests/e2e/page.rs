//! The page, in a real browser, on a real deployment.

use std::time::{Duration, Instant};

use anyhow::{ensure, Context};
use fluvio::{Fluvio, RecordKey};
use millrace_cli::endpoints::Endpoints;
use millrace_tests::browser::Browser;
use serde_json::{json, Value};
use sqlx::{Connection, Executor, MySqlConnection, PgConnection};

use crate::binary::Demo;

const SOON: Duration = Duration::from_secs(20);
const WIDE: u32 = 1400;
const NARROW: u32 = 390;
/// So long the projector stands still in the test of the lag.
const PAUSE: Duration = Duration::from_secs(30);
/// What the page and the JSON say may be as old as this.
const TICK: Duration = Duration::from_secs(1);

/// A deployment that is caught up, and a browser that shows its page.
struct Stage {
    demo: Demo,
    endpoints: Endpoints,
    browser: Browser,
    http: reqwest::Client,
}

impl Stage {
    async fn set(demo: Demo) -> anyhow::Result<Stage> {
        let demo = tokio::task::spawn_blocking(move || demo.wait_for().map(|()| demo)).await??;
        let endpoints = Endpoints::read(&demo.data_dir())?;
        let browser = Browser::start().await?;
        browser.open(&endpoints.dashboard, WIDE, 1000).await?;
        let stage = Stage {
            demo,
            endpoints,
            browser,
            http: reqwest::Client::new(),
        };
        stage.sees("#verdict[data-verdict=\"ok\"]").await?;
        Ok(stage)
    }

    /// Waits for an element.
    async fn sees(&self, css: &str) -> anyhow::Result<()> {
        let there = format!("document.querySelector({})", json!(css));
        let seen = self.browser.until(&there, SOON).await;
        seen.with_context(|| self.demo.log())
    }

    /// Scrolls there, as lists are loaded only when they can be seen.
    async fn goes_to(&self, css: &str) -> anyhow::Result<()> {
        let scroll = format!("document.querySelector({}).scrollIntoView();", json!(css));
        self.browser.script(&scroll).await.map(drop)
    }

    /// Logs in through the page's own dialog.
    async fn log_in(&self) -> anyhow::Result<()> {
        self.browser.click("#login").await?;
        self.browser.fill("#login-user", "admin").await?;
        self.browser.fill("#login-password", "admin").await?;
        self.browser.click("#login-submit").await?;
        self.browser
            .until("!document.querySelector('#logout').hidden", SOON)
            .await
    }

    /// No script failed, nothing was refused, and nobody else was asked for anything.
    async fn is_quiet(&self) -> anyhow::Result<()> {
        let complaints = self.browser.complaints().await?;
        ensure!(complaints.is_empty(), "the console says {complaints:?}");
        let own = format!("{}/", self.endpoints.dashboard);
        let requested = self.browser.requested().await?;
        let foreign: Vec<_> = requested
            .iter()
            .filter(|url| {
                // What Chromium asks itself leaves no machine.
                let inner = ["data:", "blob:", "chrome:", "about:"];
                !url.starts_with(&own) && !inner.iter().any(|scheme| url.starts_with(scheme))
            })
            .collect();
        ensure!(foreign.is_empty(), "requested from elsewhere: {foreign:?}");
        Ok(())
    }

    /// The page scrolls down, never sideways.
    async fn fits(&self) -> anyhow::Result<()> {
        let width = "return [document.documentElement.scrollWidth, window.innerWidth];";
        let width = self.browser.script(width).await?;
        ensure!(width[0].as_u64() <= width[1].as_u64(), "{width}");
        Ok(())
    }

    async fn status(&self) -> anyhow::Result<Value> {
        let url = format!("{}/api/status", self.endpoints.dashboard);
        Ok(self.http.get(url).send().await?.json().await?)
    }

    async fn metrics(&self) -> anyhow::Result<String> {
        let url = format!("{}/metrics", self.endpoints.dashboard);
        Ok(self.http.get(url).send().await?.text().await?)
    }

    /// One attribute of every row of the table of projections.
    async fn rows(&self, attribute: &str) -> anyhow::Result<Vec<String>> {
        let body = format!(
            "return [...document.querySelectorAll('#projections-body [data-projection]')].map(row => row.getAttribute({}));",
            json!(attribute)
        );
        Ok(serde_json::from_value(self.browser.script(&body).await?)?)
    }
}

/// Value of a metric without labels, or with exactly these.
fn metric(text: &str, series: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_whole_quiet_and_fits_every_window() -> anyhow::Result<()> {
    let mut demo = Demo::new("page")?;
    demo.start()?;
    let stage = Stage::set(demo).await?;
    let browser = &stage.browser;
    stage.goes_to("#marts-panel").await?;
    stage.sees("#marts-body tr").await?;
    stage.sees("[data-peek=\"shop-changes\"]").await?;
    ensure!(stage.rows("data-projection").await?.len() == 5);
    stage.fits().await?;
    browser.screenshot("wide-light", WIDE).await?;
    browser.prefer("dark").await?;
    browser.screenshot("wide-dark", WIDE).await?;
    browser.resize(NARROW, 844).await?;
    stage.fits().await?;
    browser.screenshot("narrow-dark", NARROW).await?;
    browser.prefer("light").await?;
    browser.screenshot("narrow-light", NARROW).await?;
    stage.is_quiet().await
}

/// Under load the projector is paused from the page for half a minute: page, JSON and metrics say so, and
/// never less than it is; afterwards it falls to zero.
#[tokio::test(flavor = "multi_thread")]
async fn lag_rises_while_the_projector_stands_still_and_falls_to_zero_after() -> anyhow::Result<()>
{
    let mut demo = Demo::new("page-lag")?;
    // Slow enough that there are moments in which nothing is on its way.
    demo.set("MILLRACE_TRADES_PER_SECOND", "10");
    demo.set("MILLRACE_USER_EVENT_PERIOD_MS", "2000");
    demo.start()?;
    let stage = Stage::set(demo).await?;
    stage.log_in().await?;
    stage.browser.click("#pause").await?;
    stage
        .sees("#projections-body [data-verdict=\"stopped\"]")
        .await?;
    let paused = Instant::now();
    let late = format!(
        "[...document.querySelectorAll('#projections-body [data-projection]')].every(row => Number(row.dataset.lagMs) >= {})",
        PAUSE.as_millis()
    );
    // It stood still before the page said so: later than this, and the lag is not the truth.
    let within = PAUSE + TICK * 3;
    stage.browser.until(&late, within).await?;
    let least = u64::try_from((paused.elapsed() - TICK * 2).as_millis())?;
    let status = stage.status().await?;
    for projection in status["projections"].as_array().context("no projections")? {
        let lag = projection["lag"]["total_ms"].as_u64();
        ensure!(lag >= Some(least), "{lag:?} < {least}: {projection}");
        ensure!(projection["lag"]["basis"] == "exact", "{projection}");
    }
    let metrics = stage.metrics().await?;
    let series = "millrace_projection_lag_seconds{projection=\"replica\"}";
    let seconds = metric(&metrics, series).context("no lag in the metrics")?;
    ensure!(seconds * 1000.0 >= least as f64, "{seconds} s < {least} ms");
    stage.browser.screenshot("in-trouble", WIDE).await?;

    stage.browser.click("#resume").await?;
    let fresh = "[...document.querySelectorAll('#projections-body [data-projection]')].every(row => row.dataset.verdict === 'ok' && Number(row.dataset.lagMs) < 1000)";
    stage.browser.until(fresh, Duration::from_secs(60)).await?;
    let zero = "[...document.querySelectorAll('#projections-body [data-projection]')].every(row => row.dataset.lagMs === '0')";
    stage.browser.until(zero, Duration::from_secs(60)).await?;
    stage.is_quiet().await
}

/// Nobody knows how late a replica is when its source does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_does_not_answer_makes_the_lag_unknown() -> anyhow::Result<()> {
    let mut demo = Demo::new("page-unknown")?;
    demo.start()?;
    let stage = Stage::set(demo).await?;
    let frozen = stage.demo.freeze_postgres()?;
    let unknown = "[...document.querySelectorAll('#projections-body [data-projection]')].every(row => row.dataset.lagMs === 'unknown')";
    stage.browser.until(unknown, SOON).await?;
    stage.sees("#verdict[data-verdict=\"unknown\"]").await?;
    let status = stage.status().await?;
    ensure!(status["source"]["unknown"].is_string(), "{status}");
    ensure!(status["projections"][0]["lag"]["total_ms"].is_null());
    let metrics = stage.metrics().await?;
    ensure!(metric(&metrics, "millrace_source_up{source=\"postgres\"}") == Some(0.0));
    ensure!(!metrics.contains("millrace_projection_lag_seconds{"));
    stage.browser.screenshot("source-unknown", WIDE).await?;
    drop(frozen);
    stage.sees("#verdict[data-verdict=\"ok\"]").await
}

/// The database refuses a user; somebody takes the obstacle away, and retries from the page.
#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_record_is_retried_from_the_page() -> anyhow::Result<()> {
    let mut demo = Demo::new("page-rejected")?;
    demo.start_empty()?;
    let stage = Stage::set(demo).await?;
    let mut source = PgConnection::connect(&stage.endpoints.postgres).await?;
    let obstacle =
        "ALTER TABLE source.users ADD CONSTRAINT nobody_late CHECK (email <> 'late@example.org')";
    source.execute(obstacle).await?;
    send_user(&stage.endpoints.fluvio, "late@example.org", "Late").await?;
    stage.goes_to("#rejected-panel").await?;
    stage.sees("#rejected-body [data-action=\"retry\"]").await?;
    let reason = stage.browser.text("#rejected-body").await?;
    ensure!(reason.contains("refused_by_database"), "{reason}");
    source
        .execute("ALTER TABLE source.users DROP CONSTRAINT nobody_late")
        .await?;
    stage.log_in().await?;
    stage
        .browser
        .click("#rejected-body [data-action=\"retry\"]")
        .await?;
    let done = "document.querySelector('#rejected-open').textContent.startsWith('0')";
    stage.browser.until(done, SOON).await?;
    let mut target = MySqlConnection::connect(&stage.endpoints.mysql).await?;
    let deadline = Instant::now() + SOON;
    let arrived = "SELECT COUNT(*) FROM users WHERE email = 'late@example.org'";
    while sqlx::query_scalar::<_, i64>(arrived)
        .fetch_one(&mut target)
        .await?
        == 0
    {
        ensure!(Instant::now() < deadline, "{}", stage.demo.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stage.is_quiet().await
}

async fn send_user(endpoint: &str, email: &str, first_name: &str) -> anyhow::Result<()> {
    let user = json!({
        "first_name": first_name, "last_name": "User", "email": email, "phone": "1",
        "registration_date": "2026-01-02 03:04:05", "loyalty_status": "Gold",
    });
    let client =
        Fluvio::connect_with_config(&fluvio::FluvioClusterConfig::new(endpoint.to_owned())).await?;
    let producer = client.topic_producer("users-data").await?;
    producer
        .send(RecordKey::NULL, user.to_string())
        .await?
        .wait()
        .await?;
    Ok(())
}

/// Markup, a right-to-left override, and 10 kB without a place to break, in every text column that holds
/// them: shown, never run, and never wider than the page.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_is_shown_harmlessly() -> anyhow::Result<()> {
    let mut demo = Demo::new("page-hostile")?;
    demo.start_empty()?;
    let stage = Stage::set(demo).await?;
    let mut source = PgConnection::connect(&stage.endpoints.postgres).await?;
    source.execute(HOSTILE_SHOP).await?;
    send_user(&stage.endpoints.fluvio, "not an address", HOSTILE).await?;
    stage.goes_to("#marts-panel").await?;
    for mart in [
        "mart_user_activity",
        "mart_product_rating",
        "mart_user_loyalty_points",
    ] {
        let tab = format!("[data-mart=\"{mart}\"]");
        stage.sees(&tab).await?;
        stage.browser.click(&tab).await?;
        let shown =
            "document.querySelector('#marts-body').textContent.includes('<script>window.hacked')";
        stage.browser.until(shown, SOON).await?;
        stage.fits().await?;
    }
    stage.browser.click("[data-peek=\"shop-changes\"]").await?;
    let shown =
        "document.querySelector('#peek-records').textContent.includes('<script>window.hacked')";
    stage.browser.until(shown, SOON).await?;
    stage.fits().await?;
    stage.browser.click("#peek-dialog [data-close]").await?;
    stage.goes_to("#rejected-panel").await?;
    stage.sees("#rejected-body tr").await?;
    stage.browser.screenshot("hostile", WIDE).await?;
    stage.browser.resize(NARROW, 844).await?;
    stage.fits().await?;
    let harmless =
        "return window.hacked === undefined && ![...document.scripts].some(script => !script.src) \
        && !document.querySelector('img[src=\"x\"]');";
    ensure!(stage.browser.script(harmless).await? == true);
    stage.is_quiet().await
}

const HOSTILE: &str =
    "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>\u{202e}gnp.exe";

/// The same text in every text column of the shop, ten thousand characters of it where they fit.
const HOSTILE_SHOP: &str = "
    SET search_path TO source;
    CREATE TEMPORARY TABLE hostile AS SELECT
        '<script>window.hacked=1</script><img src=x onerror=window.hacked=1>' || U&'\\202e' || 'gnp.exe' AS text;
    INSERT INTO users (first_name, last_name, email, phone, registration_date, loyalty_status)
        SELECT text, text, 'a@example.org', left(text, 20), now(), 'Gold' FROM hostile;
    INSERT INTO productcategories (name) SELECT text FROM hostile;
    INSERT INTO products (name, description, category_id, price, stock_quantity)
        SELECT text, text || repeat('x', 10000), 1, 1, 1 FROM hostile;
    INSERT INTO orders (user_id, order_date, total_amount, status) VALUES (1, now(), 1, 'Pending');
    INSERT INTO reviews (user_id, product_id, rating, review_text)
        SELECT 1, 1, 5, text || repeat('x', 10000) FROM hostile;
    INSERT INTO loyaltypoints (user_id, points, reason) SELECT 1, 1, left(text, 100) FROM hostile;";
