//! Parts of `up` that end while the others go on.

use std::time::{Duration, Instant};

use anyhow::ensure;
use millrace_cli::endpoints::Endpoints;
use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection};

use crate::binary::{said, Demo};

const SOON: Duration = Duration::from_secs(60);

/// What the rest loses with it, it gets back.
#[test]
fn a_private_server_that_was_killed_is_started_again_and_nothing_is_lost() -> anyhow::Result<()> {
    let mut demo = Demo::new("supervise")?;
    demo.start()?;
    demo.wait_for()?;
    for name in ["mysql", "postgres"] {
        demo.kill_server(name)?;
        demo.wait_for()?;
        demo.verify()?;
    }
    ensure!(demo.runs()?, "{}", demo.log());
    let (took, well) = demo.interrupt()?;
    ensure!(
        well && took < Duration::from_secs(10),
        "Ctrl-C took {took:?}\n{}",
        demo.log()
    );
    Ok(())
}

/// NaN fits into a numeric column of Postgres and into none of MySQL. The way back is to correct it in the private
/// Postgres, which therefore has to go on, and the page has to say so.
#[tokio::test]
async fn a_value_that_stops_the_projector_is_corrected_and_the_projector_goes_on(
) -> anyhow::Result<()> {
    let mut demo = Demo::new("supervise")?;
    demo.start_empty()?;
    demo.wait_for()?;
    let endpoints = Endpoints::read(&demo.data_dir())?;
    let mut shop = PgConnection::connect(&endpoints.postgres).await?;
    shop.execute(
        "INSERT INTO source.productcategories (name) VALUES ('c');
         INSERT INTO source.products (name, category_id, price)
         VALUES ('p', 1, 'NaN')",
    )
    .await?;
    let status = until(&endpoints, |status| status["state"] == "failed").await?;
    ensure!(status["failure"]["code"] == "MR-P005", "{status}");
    ensure!(status["failure"]["next_try_at"].is_string(), "{status}");
    // The page learns it at its next tick.
    let deadline = Instant::now() + SOON;
    loop {
        let page = demo.run(&["status", "--json"])?;
        if said(&page).contains("MR-P005") {
            break;
        }
        ensure!(Instant::now() < deadline, "{}", said(&page));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    shop.execute("UPDATE source.products SET price = 1").await?;
    until(&endpoints, |status| status["state"] == "live").await?;
    demo.wait_for()?;
    demo.verify()?;
    ensure!(demo.runs()?, "{}", demo.log());
    Ok(())
}

/// The projector's status, once it is as wanted.
async fn until(endpoints: &Endpoints, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let deadline = Instant::now() + SOON;
    let client = reqwest::Client::new();
    loop {
        let request = client.get(format!("{}/status", endpoints.control));
        let answer = request.bearer_auth(&endpoints.control_token).send().await?;
        let status: Value = answer.error_for_status()?.json().await?;
        if wanted(&status) {
            return Ok(status);
        }
        ensure!(Instant::now() < deadline, "the projector stays {status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
