//! A value that MySQL cannot hold, while the shop trades: by default its table stops alone, and with another policy it
//! stands in quarantine and nothing stops.

use std::time::{Duration, Instant};

use anyhow::{ensure, Context};
use millrace_cli::endpoints::Endpoints;
use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection, Row};

use crate::binary::{said, Demo};

const SOON: Duration = Duration::from_secs(90);

/// NaN is at least 0, so that no CHECK refuses it.
const NAN: &str = "UPDATE source.orders SET total_amount = 'NaN' WHERE order_id = (SELECT min(order_id) FROM source.orders)";
const AFTER: &str = "UPDATE source.users SET phone = 'after NaN' WHERE user_id = (SELECT min(user_id) FROM source.users)";
const MENDED: &str = "UPDATE source.orders SET total_amount = 1 WHERE total_amount = 'NaN'";

fn answer(demo: &Demo, command: &[&str]) -> anyhow::Result<Value> {
    let said_all = demo.run(command)?;
    serde_json::from_slice(&said_all.stdout).with_context(|| said(&said_all))
}

/// The tables, as soon as they are as wanted.
fn tables(demo: &Demo, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let deadline = Instant::now() + SOON;
    loop {
        let listed = answer(demo, &["tables", "list", "--json"])?;
        if wanted(&listed["tables"]) {
            return Ok(listed["tables"].clone());
        }
        ensure!(Instant::now() < deadline, "{listed:#}\n{}", demo.log());
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let mut all = list.as_array().into_iter().flatten();
    all.find(|one| one["name"] == name).unwrap_or(&Value::Null)
}

fn orders(tables: &Value) -> &Value {
    named(tables, "source.orders")
}

fn all_live(tables: &Value) -> bool {
    let mut all = tables.as_array().into_iter().flatten();
    all.all(|table| table["state"] == "live" && table["copy"].is_null())
}

/// What `verify` says of the orders; all must be equal.
fn verified(demo: &Demo) -> anyhow::Result<Value> {
    let verified = demo.run(&["verify", "--json"])?;
    let report: Value = serde_json::from_slice(&verified.stdout)
        .with_context(|| format!("{}\n{}", said(&verified), demo.log()))?;
    ensure!(verified.status.code() == Some(0), "{report:#}");
    Ok(orders(&report["tables"]).clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_mysql_cannot_hold_stops_its_table_or_stands_in_quarantine(
) -> anyhow::Result<()> {
    let mut demo = Demo::new("values")?;
    demo.start()?;
    demo.wait_for()?;
    let mut shop = shop(&demo).await?;
    shop.execute(NAN).await?;
    shop.execute(AFTER).await?;
    let stopped = tables(&demo, |tables| orders(tables)["state"] == "set_aside")?;
    let reason = orders(&stopped)["reason"].as_str().unwrap_or_default();
    ensure!(
        reason.contains("MR-P005") && reason.contains("MILLRACE_VALUES"),
        "{reason}"
    );
    ensure!(
        named(&stopped, "source.users")["state"] == "live",
        "{stopped:#}"
    );
    demo.wait_for()?;
    ensure!(
        cell(
            &demo,
            "SELECT CAST(COUNT(*) AS CHAR) FROM users WHERE phone = 'after NaN'"
        )
        .await?
            == "1"
    );

    let (_, well) = demo.interrupt()?;
    ensure!(well, "{}", demo.log());
    demo.set("MILLRACE_VALUES", "null,source.orders.total_amount=text");
    demo.start()?;
    demo.wait_for()?;
    let copied = demo.run(&["tables", "resnapshot", "source.orders"])?;
    ensure!(copied.status.success(), "{}\n{}", said(&copied), demo.log());
    let live = tables(&demo, all_live)?;
    demo.wait_for()?;
    in_quarantine(&demo, 1).await?;
    ensure!(orders(&live)["quarantined"] == 1, "{live:#}");
    let nan = "SELECT total_amount__text FROM orders WHERE total_amount IS NULL";
    ensure!(cell(&demo, nan).await? == "NaN");
    let said_of_it = demo.run(&["verify"])?;
    ensure!(
        said(&said_of_it).contains("equal, 1 value in quarantine"),
        "{}",
        said(&said_of_it)
    );

    // While everything goes on: a second one, and both mended at the source.
    let mut shop = self::shop(&demo).await?;
    shop.execute("UPDATE source.orders SET total_amount = 'NaN' WHERE order_id = (SELECT max(order_id) FROM source.orders)")
        .await?;
    in_quarantine(&demo, 2).await?;
    shop.execute(MENDED).await?;
    in_quarantine(&demo, 0).await?;
    tables(&demo, all_live)?;
    let (_, well) = demo.interrupt()?;
    ensure!(well, "{}", demo.log());
    Ok(())
}

/// `verify`, the list and the metrics know of so many values, all of them NaN.
async fn in_quarantine(demo: &Demo, values: u64) -> anyhow::Result<()> {
    demo.wait_for()?;
    let orders = verified(demo)?;
    ensure!(
        orders["quarantined"] == values && orders["equal"] == true,
        "{orders:#}"
    );
    let listed = answer(demo, &["quarantine", "list", "source.orders", "--json"])?;
    ensure!(listed["total"] == values, "{listed:#}");
    for value in listed["values"].as_array().into_iter().flatten() {
        ensure!(
            value["value"] == "NaN" && value["column"] == "total_amount",
            "{value:#}"
        );
    }
    let endpoints = Endpoints::read(&demo.data_dir())?;
    let line = format!("\nmillrace_quarantined_values{{table=\"source.orders\"}} {values}\n");
    let deadline = Instant::now() + SOON;
    loop {
        let metrics = reqwest::get(format!("{}/metrics", endpoints.dashboard)).await?;
        if metrics.text().await?.contains(&line) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{line}\n{}", demo.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn shop(demo: &Demo) -> anyhow::Result<PgConnection> {
    let endpoints = Endpoints::read(&demo.data_dir())?;
    Ok(PgConnection::connect(&endpoints.postgres).await?)
}

/// The first cell of an answer of MySQL.
async fn cell(demo: &Demo, sql: &str) -> anyhow::Result<String> {
    let endpoints = Endpoints::read(&demo.data_dir())?;
    let mut target = sqlx::MySqlConnection::connect(&endpoints.mysql).await?;
    let row = target.fetch_one(sql).await?;
    Ok(row.try_get_unchecked(0)?)
}
