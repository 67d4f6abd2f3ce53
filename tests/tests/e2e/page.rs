//! The page, in a real browser, on a real deployment.

use std::time::{Duration, Instant};

use anyhow::ensure;
use fluvio::{Fluvio, RecordKey};
use serde_json::json;
use sqlx::{Connection, Executor, MySqlConnection, PgConnection};

use crate::binary::Demo;
use crate::stage::{Stage, NARROW, SOON, WIDE};

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

/// Marts that cannot be read are asked for again with the next status, and no sooner.
#[tokio::test(flavor = "multi_thread")]
async fn marts_that_cannot_be_read_are_asked_for_once_a_tick_until_they_can() -> anyhow::Result<()>
{
    const WATCHED: Duration = Duration::from_secs(5);
    /// Statuses are a second apart; the list is asked for first, and fails.
    const REQUESTS_MAX: usize = 10;
    let mut demo = Demo::new("page-marts")?;
    demo.start_empty()?;
    let stage = Stage::set(demo).await?;
    let browser = &stage.browser;
    stage.goes_to("#marts-panel").await?;
    let tab = "[data-mart=\"mart_product_rating\"]";
    stage.sees(tab).await?;
    // As if so much time had passed: the list is read again.
    let later = "const now = Date.now; Date.now = () => now.call(Date) + 60000;";
    browser.script(later).await?;
    browser.block(&["*/api/marts*"]).await?;
    browser.requested().await?;
    browser.click(tab).await?;
    stage.sees("#marts-error:not([hidden])").await?;
    let since = "return Date.parse(document.documentElement.dataset.rendered);";
    let since = browser.script(since).await?;
    let watched = format!(
        "Date.parse(document.documentElement.dataset.rendered) >= {since} + {}",
        WATCHED.as_millis()
    );
    browser.until(&watched, SOON).await?;
    let requested = browser.requested().await?;
    let asked = requested.iter().filter(|url| url.contains("/api/marts"));
    let asked = asked.count();
    ensure!(
        (2..=REQUESTS_MAX).contains(&asked),
        "{asked} requests in {WATCHED:?}"
    );
    browser.block(&[]).await?;
    stage.sees("#marts-error[hidden]").await?;
    stage
        .sees("[data-mart=\"mart_product_rating\"][aria-pressed=\"true\"]")
        .await
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
