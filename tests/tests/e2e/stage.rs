//! A deployment and a browser that shows its page.

use std::time::Duration;

use anyhow::{ensure, Context};
use millrace_cli::endpoints::Endpoints;
use millrace_dashboard::status::{Status, Time};
use millrace_tests::browser::Browser;
use serde_json::json;

use crate::binary::Demo;

/// A page that works shows what it is asked for by then.
pub(crate) const SOON: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Widths of windows, in CSS pixels.
pub(crate) const WIDE: u32 = 1400;
pub(crate) const NARROW: u32 = 390;

/// A deployment that is caught up, and a browser that shows its page.
pub(crate) struct Stage {
    pub(crate) demo: Demo,
    pub(crate) endpoints: Endpoints,
    pub(crate) browser: Browser,
    pub(crate) http: reqwest::Client,
}

impl Stage {
    pub(crate) async fn set(demo: Demo) -> anyhow::Result<Stage> {
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
    pub(crate) async fn sees(&self, css: &str) -> anyhow::Result<()> {
        let there = format!("document.querySelector({})", json!(css));
        let seen = self.browser.until(&there, SOON).await;
        seen.with_context(|| self.demo.log())
    }

    /// Scrolls there, as lists are loaded only when they can be seen.
    pub(crate) async fn goes_to(&self, css: &str) -> anyhow::Result<()> {
        let scroll = format!("document.querySelector({}).scrollIntoView();", json!(css));
        self.browser.script(&scroll).await.map(drop)
    }

    /// Logs in through the page's own dialog.
    pub(crate) async fn log_in(&self) -> anyhow::Result<()> {
        self.browser.click("#login").await?;
        self.browser.fill("#login-user", "admin").await?;
        self.browser.fill("#login-password", "admin").await?;
        self.browser.click("#login-submit").await?;
        self.browser
            .until("!document.querySelector('#logout').hidden", SOON)
            .await
    }

    /// No script failed, nothing was refused, and nobody else was asked for anything.
    pub(crate) async fn is_quiet(&self) -> anyhow::Result<()> {
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
    pub(crate) async fn fits(&self) -> anyhow::Result<()> {
        let width = "return [document.documentElement.scrollWidth, window.innerWidth];";
        let width = self.browser.script(width).await?;
        ensure!(width[0].as_u64() <= width[1].as_u64(), "{width}");
        Ok(())
    }

    pub(crate) async fn status(&self) -> anyhow::Result<Status> {
        let url = format!("{}/api/status", self.endpoints.dashboard);
        Ok(self.http.get(url).send().await?.json().await?)
    }

    /// The first status that was collected after `moment`: what was asked for before that is in it.
    pub(crate) async fn status_after(&self, moment: Time) -> anyhow::Result<Status> {
        let later = async {
            loop {
                let status = self.status().await?;
                if status.at > moment {
                    return Ok(status);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let later = tokio::time::timeout(SOON, later).await;
        later.context("the page's status does not move")?
    }

    pub(crate) async fn metrics(&self) -> anyhow::Result<String> {
        let url = format!("{}/metrics", self.endpoints.dashboard);
        Ok(self.http.get(url).send().await?.text().await?)
    }

    /// One attribute of every row of the table of projections.
    pub(crate) async fn rows(&self, attribute: &str) -> anyhow::Result<Vec<String>> {
        let body = format!(
            "return [...document.querySelectorAll('#projections-body [data-projection]')].map(row => row.getAttribute({}));",
            json!(attribute)
        );
        Ok(serde_json::from_value(self.browser.script(&body).await?)?)
    }
}
