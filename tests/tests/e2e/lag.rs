//! Whether the lag that is shown is the truth, told by somebody who knows: the one that writes the rows
//! has noted when each was committed, and MySQL says which have arrived.

use std::time::{Duration, Instant};

use anyhow::{ensure, Context};
use millrace_dashboard::status::Time;
use sqlx::{Connection, MySqlConnection, PgConnection};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::binary::Demo;
use crate::stage::{Stage, SOON, WIDE};

/// So long the projector stands still.
const PAUSE: Duration = Duration::from_secs(30);
/// Distance of two statuses.
const TICK: Duration = Duration::from_secs(1);
/// By so much a tick may be late on a machine that does something else beside the test.
const LATE: Duration = Duration::from_millis(1_500);
/// Postgres' clock is told from its answer: by no more than half the time that takes can it be wrong.
const CLOCK: Duration = Duration::from_millis(250);
/// So many views may say that something did not answer in time.
const UNKNOWN_MAX: usize = 5;
/// Between two transactions of the load: 100 per second.
const BETWEEN: Duration = Duration::from_millis(10);
/// What has piled up in the pause is applied by then.
const CAUGHT_UP: Duration = Duration::from_secs(60);

const PROJECTIONS: usize = 5;
const WHO: [&str; 3] = ["the page", "the JSON", "the metrics"];

/// A row that was committed between two moments.
#[derive(Clone, Copy, Debug)]
struct Row {
    id: i64,
    before: Time,
    after: Time,
}

/// Writes one row after the other, each in a transaction of its own.
struct Load {
    rows: watch::Receiver<Vec<Row>>,
    stop: CancellationToken,
    writer: JoinHandle<anyhow::Result<()>>,
}

impl Load {
    async fn start(postgres: &str) -> anyhow::Result<Load> {
        let mut source = PgConnection::connect(postgres).await?;
        let user = "INSERT INTO source.users (first_name, last_name, email, phone, registration_date, loyalty_status)
            VALUES ('Ada', 'King', 'ada@example.org', '1', now(), 'Gold') RETURNING user_id::bigint";
        let user: i64 = sqlx::query_scalar(user).fetch_one(&mut source).await?;
        let (written, rows) = watch::channel(Vec::new());
        let stop = CancellationToken::new();
        let writer = tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            let mut clock = tokio::time::interval(BETWEEN);
            loop {
                clock.tick().await;
                let row = write(&mut source, user).await?;
                written.send_modify(|rows: &mut Vec<Row>| rows.push(row));
            }
        }));
        let writer = tokio::spawn(async move { writer.await?.unwrap_or(Ok(())) });
        Ok(Load { rows, stop, writer })
    }

    /// Between which moments the oldest transaction was committed that has not arrived: after the last
    /// that has, as others write too, and not after the row that follows it.
    async fn oldest_missing(&mut self, arrived: i64) -> anyhow::Result<(Time, Time)> {
        let there = |rows: &Vec<Row>| rows.last().is_some_and(|row| row.id > arrived);
        let rows = tokio::time::timeout(SOON, self.rows.wait_for(there)).await??;
        let missing = rows.partition_point(|row| row.id <= arrived);
        let last = missing.checked_sub(1).context("no row has arrived")?;
        Ok((rows[last].before, rows[missing].after))
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.writer.await?
    }
}

async fn write(source: &mut PgConnection, user: i64) -> anyhow::Result<Row> {
    let insert = "INSERT INTO source.loyaltypoints (user_id, points, reason, created_at)
        VALUES ($1, 1, 'load', now()) RETURNING loyalty_id::bigint";
    let before = Time::now();
    let id = sqlx::query_scalar(insert)
        .bind(user)
        .fetch_one(source)
        .await?;
    let after = Time::now();
    Ok(Row { id, before, after })
}

/// What somebody shows: which moment it is true for, and the lag of every projection.
#[derive(Debug)]
struct View {
    at: Time,
    /// Empty: not known.
    lags_ms: Vec<u64>,
}

async fn on_the_page(stage: &Stage) -> anyhow::Result<View> {
    let body = "return [
        document.documentElement.dataset.rendered,
        [...document.querySelectorAll('#projections-body [data-projection]')].map(row => Number(row.dataset.lagMs)),
    ];";
    let shown = stage.browser.script(body).await?;
    // What is no number comes as null.
    let (at, lags_ms): (_, Vec<Option<u64>>) =
        serde_json::from_value(shown.clone()).with_context(|| format!("the page shows {shown}"))?;
    let lags_ms = lags_ms.into_iter().flatten().collect();
    Ok(View { at, lags_ms })
}

async fn in_the_json(stage: &Stage) -> anyhow::Result<View> {
    let status = stage.status().await?;
    let lags = status.projections.iter().map(|projection| projection.lag);
    let lags_ms = lags.filter_map(|lag| lag.total_ms).collect();
    let at = status.at;
    Ok(View { at, lags_ms })
}

async fn in_the_metrics(stage: &Stage) -> anyhow::Result<View> {
    let text = stage.metrics().await?;
    let values = |series: &str| {
        let lines = text.lines().filter(|line| line.starts_with(series));
        let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        values.collect::<Vec<_>>()
    };
    let at = values("millrace_status_timestamp_seconds ");
    let at = at.first().context("no time in the metrics")?;
    let at = Time::from_epoch_us((at * 1e6).round() as i64).context("no such time")?;
    let lags = values("millrace_projection_lag_seconds{");
    let lags_ms = lags.iter().map(|seconds| (seconds * 1e3).round() as u64);
    let lags_ms = lags_ms.collect();
    Ok(View { at, lags_ms })
}

impl View {
    /// Each lag is the age of the oldest transaction that has not arrived.
    fn check(&self, who: &str, oldest: (Time, Time)) -> anyhow::Result<()> {
        let clock = CLOCK.as_millis() as u64;
        let least = self.at.ms_since(oldest.1).saturating_sub(clock);
        let most = self.at.ms_since(oldest.0) + clock;
        let true_ones = self
            .lags_ms
            .iter()
            .filter(|lag| (least..=most).contains(*lag));
        ensure!(
            true_ones.count() == PROJECTIONS && self.lags_ms.len() == PROJECTIONS,
            "{who} at {}: {:?}, and it is {least} to {most} ms",
            self.at,
            self.lags_ms
        );
        Ok(())
    }
}

/// Under a load of 100 transactions per second the projector is paused from the page. For half a minute
/// each status that page, JSON and metrics show has the true lag, and the first one after half a minute says
/// half a minute; afterwards the lag falls below a second under the same load, and to zero when it ends.
#[tokio::test(flavor = "multi_thread")]
async fn lag_is_true_while_the_projector_stands_still_and_falls_to_zero_after() -> anyhow::Result<()>
{
    let mut demo = Demo::new("page-lag")?;
    demo.start_empty()?;
    let stage = Stage::set(demo).await?;
    let mut load = Load::start(&stage.endpoints.postgres).await?;
    let first = load.rows.wait_for(|rows| !rows.is_empty()).await?[0];
    let mut target = MySqlConnection::connect(&stage.endpoints.mysql).await?;
    stage.log_in().await?;
    let deadline = Instant::now() + SOON;
    while arrived(&mut target).await? <= first.id {
        ensure!(Instant::now() < deadline, "{}", stage.demo.log());
    }
    stage.browser.click("#pause[data-action=\"pause\"]").await?;
    stage.browser.click("#confirm-yes").await?;
    let said = "document.querySelector('#projections-message').textContent.startsWith('Paused.')";
    stage.browser.until(said, SOON).await?;
    let paused = Time::now();
    let last = arrived(&mut target).await?;
    let oldest = load.oldest_missing(last).await?;
    ensure!(oldest.0 <= paused, "{oldest:?}: it went on after {paused}");

    watch_it_rise(&stage, paused, oldest).await?;
    ensure!(arrived(&mut target).await? == last, "it was paused");
    stage
        .sees("#projections-body [data-verdict=\"stopped\"]")
        .await?;
    stage.browser.screenshot("in-trouble", WIDE).await?;

    stage
        .browser
        .click("#pause[data-action=\"resume\"]")
        .await?;
    let fresh = "[...document.querySelectorAll('#projections-body [data-projection]')].every(row => row.dataset.verdict === 'ok' && Number(row.dataset.lagMs) < 1000)";
    stage.browser.until(fresh, CAUGHT_UP).await?;
    let written = load.rows.borrow().len();
    load.rows.wait_for(|rows| rows.len() > written).await?;
    stage.browser.until(fresh, SOON).await?;
    load.stop().await?;
    let zero = "[...document.querySelectorAll('#projections-body [data-projection]')].every(row => row.dataset.lagMs === '0' && row.dataset.caughtUp === 'true')";
    stage.browser.until(zero, SOON).await?;
    let zeros = [in_the_json(&stage).await?, in_the_metrics(&stage).await?];
    // A heartbeat may be on its way just then.
    let still = |view: &View| view.lags_ms.iter().all(|lag| *lag < 1_000);
    ensure!(zeros.iter().all(still), "{zeros:?}");
    stage.is_quiet().await
}

async fn arrived(target: &mut MySqlConnection) -> anyhow::Result<i64> {
    let last = "SELECT CAST(COALESCE(MAX(loyalty_id), 0) AS SIGNED) FROM loyaltypoints";
    Ok(sqlx::query_scalar(last).fetch_one(target).await?)
}

/// Looks until all three have shown the end of the pause.
async fn watch_it_rise(stage: &Stage, paused: Time, oldest: (Time, Time)) -> anyhow::Result<()> {
    let clock = CLOCK.as_micros() as i64;
    let due = oldest.1.shifted_us(PAUSE.as_micros() as i64 + clock);
    let deadline = Instant::now() + PAUSE + SOON;
    let mut first: [Option<View>; 3] = Default::default();
    let (mut views, mut unknown) = (0, 0);
    while first.iter().any(Option::is_none) {
        ensure!(
            Instant::now() < deadline,
            "nothing from {due} on: {first:?}"
        );
        let shown = [
            on_the_page(stage).await?,
            in_the_json(stage).await?,
            in_the_metrics(stage).await?,
        ];
        let rendered = shown[0].at;
        for ((who, first), view) in WHO.iter().zip(&mut first).zip(shown) {
            if view.lags_ms.is_empty() {
                unknown += 1;
                ensure!(unknown <= UNKNOWN_MAX, "{who}: {view:?}");
                continue;
            }
            if view.at > paused {
                view.check(who, oldest)?;
                views += 1;
            }
            if view.at >= due {
                first.get_or_insert(view);
            }
        }
        // There is something new with the next status only.
        let next = format!(
            "Date.parse(document.documentElement.dataset.rendered) > {}",
            rendered.epoch_ms()
        );
        stage.browser.until(&next, SOON).await?;
    }
    let tick_ms = (TICK + LATE).as_millis() as u64;
    let pause_ms = PAUSE.as_millis() as u64;
    for (who, view) in WHO.iter().zip(first.into_iter().flatten()) {
        ensure!(view.at.ms_since(due) < tick_ms, "{who}: {due}, {view:?}");
        ensure!(
            view.lags_ms.iter().all(|lag| *lag >= pause_ms),
            "{who}: {view:?}"
        );
    }
    println!("{views} views of the lag were true, {unknown} said that it is not known");
    Ok(())
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
    ensure!(status.source.known().is_none(), "{:?}", status.source);
    ensure!(status.projections.iter().all(|p| p.lag.total_ms.is_none()));
    let metrics = stage.metrics().await?;
    ensure!(metrics.contains("\nmillrace_source_up{source=\"postgres\"} 0\n"));
    ensure!(!metrics.contains("millrace_projection_lag_seconds{"));
    stage.browser.screenshot("source-unknown", WIDE).await?;
    drop(frozen);
    stage.sees("#verdict[data-verdict=\"ok\"]").await
}
