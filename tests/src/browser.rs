//! Chromium, headless, driven through chromedriver.
//!
//! Everything that the page requests and says on its console is recorded from the start.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context};
use base64::prelude::{Engine as _, BASE64_STANDARD};
use serde_json::{json, Value};

use crate::webdriver::Session;

/// A page that is being waited for is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Chromium draws no larger picture.
const SCREENSHOT_HEIGHT_MAX: u32 = 12_000;
/// An empty page is smaller.
const SCREENSHOT_BYTES_MIN: usize = 10_000;

/// Flags of a browser that talks to nobody but the page.
const FLAGS: [&str; 12] = [
    "--headless=new",
    // The tests run as root in containers, where Chromium's own sandbox does not start.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--hide-scrollbars",
    "--lang=en-US",
];

/// A browser with one tab. Ends with its driver when dropped.
pub struct Browser {
    session: Session,
}

impl Browser {
    /// Starts a browser with a profile of its own.
    pub async fn start() -> anyhow::Result<Browser> {
        let session = Session::start(json!({
            "goog:chromeOptions": { "args": FLAGS },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        }));
        Ok(Browser {
            session: session.await?,
        })
    }

    /// Shows a page in a window of this size, in CSS pixels.
    pub async fn open(&self, url: &str, width: u32, height: u32) -> anyhow::Result<()> {
        self.resize(width, height).await?;
        let opened = self.session.tell("url", json!({ "url": url })).await;
        opened.map(drop).context("opening the page")
    }

    /// Narrower than a window can be, too.
    pub async fn resize(&self, width: u32, height: u32) -> anyhow::Result<()> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", size)
            .await?;
        Ok(())
    }

    /// `light` or `dark`, as the system's setting.
    pub async fn prefer(&self, scheme: &str) -> anyhow::Result<()> {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", features)
            .await?;
        Ok(())
    }

    /// Requests for these fail at once, until it is called again; `*` stands for anything.
    pub async fn block(&self, urls: &[&str]) -> anyhow::Result<()> {
        self.devtools("Network.enable", json!({})).await?;
        self.devtools("Network.setBlockedURLs", json!({ "urls": urls }))
            .await?;
        Ok(())
    }

    /// Runs a function body in the page.
    pub async fn script(&self, body: &str) -> anyhow::Result<Value> {
        let script = json!({ "script": body, "args": [] });
        let result = self.session.tell("execute/sync", script).await;
        result.with_context(|| format!("running {body:?} in the page"))
    }

    /// Waits until a JavaScript expression is true.
    pub async fn until(&self, expression: &str, within: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        let body = format!("return Boolean({expression});");
        while self.script(&body).await? != true {
            if Instant::now() > deadline {
                let text = self.script("return document.body.innerText;").await?;
                let text = text.as_str().unwrap_or_default();
                bail!("not within {within:?}: {expression}\nthe page says:\n{text}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Text of the first element, as it is shown.
    pub async fn text(&self, css: &str) -> anyhow::Result<String> {
        let element = self.session.find(css).await?;
        let text = self.session.ask(&format!("{element}/text")).await?;
        Ok(text.as_str().context("an element without text")?.to_owned())
    }

    /// Clicks as a person does: not on what is hidden or covered.
    pub async fn click(&self, css: &str) -> anyhow::Result<()> {
        let element = self.session.find(css).await?;
        let clicked = self
            .session
            .tell(&format!("{element}/click"), json!({}))
            .await;
        clicked
            .map(drop)
            .with_context(|| format!("clicking on {css}"))
    }

    /// Types into a field, in place of what stands there.
    pub async fn fill(&self, css: &str, text: &str) -> anyhow::Result<()> {
        let element = self.session.find(css).await?;
        self.session
            .tell(&format!("{element}/clear"), json!({}))
            .await?;
        let typed = json!({ "text": text });
        let typed = self.session.tell(&format!("{element}/value"), typed).await;
        typed.map(drop)
    }

    /// Presses keys where the focus is.
    pub async fn press(&self, keys: &str) -> anyhow::Result<()> {
        let focused = self.session.focused().await?;
        let typed = json!({ "text": keys });
        let typed = self.session.tell(&format!("{focused}/value"), typed).await;
        typed.map(drop)
    }

    /// What went wrong on the console since the last call, refused content included.
    pub async fn complaints(&self) -> anyhow::Result<Vec<String>> {
        let entries = self.log("browser").await?;
        let wrong = |entry: &&Value| entry["level"] == "SEVERE" || entry["level"] == "WARNING";
        let text = |entry: &Value| entry["message"].as_str().unwrap_or_default().to_owned();
        Ok(entries.iter().filter(wrong).map(text).collect())
    }

    /// Every URL that was requested since the last call.
    pub async fn requested(&self) -> anyhow::Result<Vec<String>> {
        let entries = self.log("performance").await?;
        let mut urls = Vec::new();
        for entry in entries {
            let event: Value = serde_json::from_str(entry["message"].as_str().unwrap_or("{}"))?;
            let event = &event["message"];
            if event["method"] == "Network.requestWillBeSent" {
                let url = event["params"]["request"]["url"].as_str();
                urls.push(url.context("a request without URL")?.to_owned());
            }
        }
        Ok(urls)
    }

    /// Takes a picture of the whole page in this width; with `MILLRACE_TEST_SCREENSHOTS` it is kept in that
    /// folder. Fails if there is nothing to see.
    pub async fn screenshot(&self, name: &str, width: u32) -> anyhow::Result<()> {
        let height = self
            .script("return document.documentElement.scrollHeight;")
            .await?;
        let height = height.as_u64().context("a page without height")?;
        self.resize(width, u32::try_from(height)?.min(SCREENSHOT_HEIGHT_MAX))
            .await?;
        let png = self.session.ask("screenshot").await?;
        let png = BASE64_STANDARD.decode(png.as_str().context("no picture")?)?;
        ensure!(
            png.len() > SCREENSHOT_BYTES_MIN,
            "the picture {name} is nearly empty"
        );
        if let Some(folder) = std::env::var_os("MILLRACE_TEST_SCREENSHOTS") {
            std::fs::create_dir_all(&folder)?;
            std::fs::write(PathBuf::from(folder).join(format!("{name}.png")), png)?;
        }
        Ok(())
    }

    async fn log(&self, kind: &str) -> anyhow::Result<Vec<Value>> {
        let answer = self.session.tell("se/log", json!({ "type": kind })).await?;
        let Value::Array(entries) = answer else {
            bail!("chromedriver's log {kind} is no list");
        };
        Ok(entries)
    }

    async fn devtools(&self, command: &str, params: Value) -> anyhow::Result<Value> {
        let body = json!({ "cmd": command, "params": params });
        self.session.tell("goog/cdp/execute", body).await
    }
}
