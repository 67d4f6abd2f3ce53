//! `millrace status`: the page's numbers on a terminal, or as JSON.
//!
//! They come from the dashboard, if one runs; otherwise they are collected here, in the same way, for two
//! seconds: nothing then writes heartbeats, and there is no history.

mod reach;
pub(crate) mod tables;
mod text;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use millrace_control::in_words;
use millrace_dashboard::status::{Status, Verdict};
use millrace_dashboard::Collector;
use tokio::time::{interval, Interval, MissedTickBehavior};

use crate::answer::{self, Reader};
use crate::args;
use crate::endpoints::Endpoints;
use crate::output;
use crate::services;
use crate::settings::Settings;

const WATCH_PERIOD: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Prints once, or again and again with `--watch`. Exit 0 fresh and not known to be different, 1 not fresh or
/// different, 2 unknown.
pub(crate) async fn run(args: &args::Status, settings: &Settings) -> anyhow::Result<ExitCode> {
    let endpoints = Endpoints::find(&args.target, settings)?;
    let settings = endpoints.settings(settings)?;
    let mut numbers = Numbers::find(&settings, &endpoints).await?;
    loop {
        let status = numbers.next().await?;
        let shown = match args.json {
            true => serde_json::to_string(&status)? + "\n",
            false => text::render(&status),
        };
        let reader = answer::print(&shown)?;
        if !args.watch || reader == Reader::Gone {
            return Ok(exit_code(&status));
        }
    }
}

/// A status that was put together after this was called: the page's newest may be a tick older.
pub(crate) async fn fresh(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<Status> {
    let mut numbers = Numbers::find(settings, endpoints).await?;
    numbers.next().await?;
    numbers.next().await
}

fn exit_code(status: &Status) -> ExitCode {
    ExitCode::from(match status.verdict {
        Verdict::Ok => 0,
        Verdict::Unknown => 2,
        _ => 1,
    })
}

/// Where the numbers come from.
enum Numbers {
    Dashboard(Dashboard),
    Own(Box<Collector>, Interval),
}

impl Numbers {
    async fn find(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<Numbers> {
        let dashboard = Dashboard::new(endpoints)?;
        match dashboard.status().await {
            Ok(_) => Ok(Numbers::Dashboard(dashboard)),
            Err(error) => {
                output::tell(format!(
                    "no page answers, so this command asks the servers itself: {}",
                    in_words(error.as_ref())
                ));
                let bind = "127.0.0.1:0".parse()?;
                let config = services::dashboard(settings, endpoints, bind, None)?;
                let mut collector = Box::new(Collector::new(&config));
                let mut ticks = every(WATCH_PERIOD);
                // Rates need two samples.
                ticks.tick().await;
                collector.tick().await;
                Ok(Numbers::Own(collector, ticks))
            }
        }
    }

    async fn next(&mut self) -> anyhow::Result<Status> {
        match self {
            Numbers::Dashboard(dashboard) => {
                dashboard.ticks.tick().await;
                dashboard.status().await
            }
            Numbers::Own(collector, ticks) => {
                ticks.tick().await;
                Ok(collector.tick().await)
            }
        }
    }
}

/// A dashboard that runs.
struct Dashboard {
    http: reqwest::Client,
    url: String,
    token: String,
    ticks: Interval,
}

impl Dashboard {
    fn new(endpoints: &Endpoints) -> anyhow::Result<Dashboard> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER_WITHIN)
            .build()?;
        Ok(Dashboard {
            http,
            url: format!("{}/api/status", endpoints.dashboard),
            token: endpoints.control_token.clone(),
            ticks: every(WATCH_PERIOD),
        })
    }

    async fn status(&self) -> anyhow::Result<Status> {
        let answer = self
            .http
            .get(&self.url)
            .bearer_auth(&self.token)
            .send()
            .await
            .with_context(|| format!("no dashboard answers at {}", self.url))?
            .error_for_status()
            .context("the dashboard refuses")?;
        answer
            .json()
            .await
            .context("the dashboard is of another version")
    }
}

fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
