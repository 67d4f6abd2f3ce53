//! A difference that `verify` finds is known everywhere, over restarts, until a later `verify` is equal.

use std::time::Duration;

use anyhow::ensure;
use sqlx::{Connection, Executor, MySqlConnection};

use crate::binary::{said, Demo};
use crate::stage::{Stage, SOON};

/// Nothing of the shop ever changes this column.
const FALSIFY: &str = "UPDATE productcategories SET name = CONCAT(name, '!') WHERE category_id = 1";
const MEND: &str =
    "UPDATE productcategories SET name = TRIM(TRAILING '!' FROM name) WHERE category_id = 1";

/// A status is a second apart from the next.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Found by the command line, known to the page, the metrics and the exit code of `status`.
#[tokio::test(flavor = "multi_thread")]
async fn a_difference_found_elsewhere_is_known_until_a_later_verification_is_equal(
) -> anyhow::Result<()> {
    let mut demo = Demo::new("verified")?;
    demo.start()?;
    let mut stage = Stage::set(demo).await?;
    verify(&stage, 0).await?;
    knows(&stage, "ok", 0).await?;
    stage.sees("#verify-outcome[data-verdict=\"ok\"]").await?;

    change(&stage, FALSIFY).await?;
    verify(&stage, 1).await?;
    knows(&stage, "different", 1).await?;
    let headline = stage.browser.text("#headline").await?;
    ensure!(
        headline.contains("1 difference in source.productcategories"),
        "{headline}"
    );
    let title = stage.browser.script("return document.title;").await?;
    ensure!(title == "Different · millrace", "{title}");
    stage
        .sees("[data-projection=\"replica\"][data-differences=\"1\"]")
        .await?;

    // The process that was told is gone, and a person has mended the row.
    let endpoints = stage.endpoints.clone();
    stage.demo.kill()?;
    stage.demo.start()?;
    let demo = stage.demo;
    let demo = tokio::task::spawn_blocking(move || demo.wait_for().map(|()| demo)).await??;
    stage = Stage {
        demo,
        endpoints,
        ..stage
    };
    change(&stage, MEND).await?;
    knows(&stage, "different", 1).await?;

    verify(&stage, 0).await?;
    knows(&stage, "ok", 0).await
}

async fn change(stage: &Stage, statement: &str) -> anyhow::Result<()> {
    let mut target = MySqlConnection::connect(&stage.endpoints.mysql).await?;
    let done = target.execute(statement).await?;
    ensure!(done.rows_affected() == 1, "{statement}");
    Ok(())
}

async fn verify(stage: &Stage, code: i32) -> anyhow::Result<()> {
    let verified = stage.demo.run(&["verify"])?;
    ensure!(verified.status.code() == Some(code), "{}", said(&verified));
    Ok(())
}

/// Page, JSON, metrics and exit code agree.
async fn knows(stage: &Stage, verdict: &str, code: i32) -> anyhow::Result<()> {
    // The projector was told just now; page and status read it with their next tick.
    stage
        .sees(&format!("#verify-outcome[data-verdict=\"{verdict}\"]"))
        .await?;
    stage
        .sees(&format!("#verdict[data-verdict=\"{verdict}\"]"))
        .await?;
    // A page that was just started again shows its last status until the new one has asked everybody.
    let asked = std::time::Instant::now();
    while stage.status().await.ok().and_then(|s| s.verify?.equal) != Some(code == 0) {
        ensure!(asked.elapsed() < SOON, "{}", stage.demo.log());
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let metric = format!("\nmillrace_verify_equal {}\n", 1 - code);
    ensure!(stage.metrics().await?.contains(&metric), "{metric}");
    // A heartbeat may be late just then, and a tick later it is not.
    let deadline = std::time::Instant::now() + SOON;
    loop {
        let status = stage.demo.run(&["status"])?;
        if status.status.code() == Some(code) {
            return Ok(());
        }
        ensure!(std::time::Instant::now() < deadline, "{}", said(&status));
    }
}
