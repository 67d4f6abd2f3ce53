//! Parts of `up` that end while the others go on.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context};
use millrace_cli::endpoints::Endpoints;
use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection};

use crate::binary::{said, signal, Demo};
use crate::stage::Stage;

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

/// Once while it starts itself, once while the shop is made in it.
#[test]
fn a_private_server_that_dies_while_up_starts_is_started_again() -> anyhow::Result<()> {
    let mut demo = Demo::new("supervise")?;
    demo.start()?;
    for name in ["postgres", "mysql", "postgres"] {
        demo.kill_server_at_once(name)?;
    }
    demo.wait_for()?;
    demo.verify()?;
    ensure!(demo.runs()?, "{}", demo.log());
    Ok(())
}

/// Somebody else has its port.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_come_back_is_named_by_page_and_status() -> anyhow::Result<()> {
    let mut demo = Demo::new("supervise")?;
    demo.start_empty()?;
    let stage = Stage::set(demo).await?;
    let killed = stage.demo.server("mysql").context("no pid")?;
    signal("KILL", killed)?;
    let squatter = squat(&stage.endpoints.mysql)?;
    let named = "#down-list [data-part^=\"M\"]";
    stage.sees(named).await?;
    stage.sees("#verdict[data-verdict=\"stopped\"]").await?;
    let deadline = Instant::now() + SOON;
    loop {
        let status = stage.demo.run(&["status"])?;
        ensure!(status.status.code() == Some(1), "{}", said(&status));
        // It had ended first, and is tried again soon.
        if said(&status).contains("is taken by another program") {
            break;
        }
        ensure!(Instant::now() < deadline, "{}", said(&status));
    }

    drop(squatter);
    let gone = format!("!document.querySelector({named:?})");
    stage.browser.until(&gone, SOON).await?;
    stage.sees("#verdict[data-verdict=\"ok\"]").await
}

/// Takes the port of a URL as soon as its owner has left it.
fn squat(url: &str) -> anyhow::Result<TcpListener> {
    let place = url.rsplit_once('@').context("no login")?.1;
    let address = place.split('/').next().context("no address")?;
    let deadline = Instant::now() + SOON;
    loop {
        match TcpListener::bind(address) {
            Ok(squatter) => return Ok(squatter),
            Err(error) => ensure!(Instant::now() < deadline, "{address}: {error}"),
        }
    }
}

/// NaN fits into a numeric column of Postgres and into none of MySQL. Its table and the mart that reads it stand still,
/// with the reason on page and status; all others go on, and so does everything that the person needs who corrects it.
#[tokio::test]
async fn a_value_that_mysql_cannot_hold_sets_one_table_aside_until_it_is_corrected_and_copied_again(
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
    let status = until(&endpoints, |status| {
        state_of(status, "products") == "set_aside"
    })
    .await?;
    ensure!(status["state"] == "live", "{status}");
    for table in ["productcategories", "orders"] {
        ensure!(state_of(&status, table) == "live", "{status}");
    }
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
    let copied = demo.run(&["tables", "resnapshot", "source.products"])?;
    ensure!(copied.status.success(), "{}", said(&copied));
    until(&endpoints, |status| {
        all_live(&status["tables"]) && all_live(&status["marts"])
    })
    .await?;
    demo.wait_for()?;
    demo.verify()?;
    ensure!(demo.runs()?, "{}", demo.log());
    Ok(())
}

fn state_of<'a>(status: &'a Value, table: &str) -> &'a str {
    let tables = status["tables"].as_array().into_iter().flatten();
    let mut named = tables.filter(|known| known["name"] == table);
    named
        .next()
        .and_then(|known| known["state"].as_str())
        .unwrap_or_default()
}

fn all_live(parts: &Value) -> bool {
    let parts = parts.as_array();
    parts.is_some_and(|parts| !parts.is_empty() && parts.iter().all(|part| part["state"] == "live"))
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
