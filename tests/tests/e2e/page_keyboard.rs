//! The page without a mouse, and its charts in every window.

use anyhow::ensure;
use millrace_dashboard::status::Time;
use serde_json::json;

use crate::binary::Demo;
use crate::stage::{Stage, NARROW, SOON};

const ENTER: &str = "\u{e007}";
const TAB: &str = "\u{e004}";

/// Pausing everything asks first, with the focus on "Cancel"; what was pressed keeps the focus.
#[tokio::test(flavor = "multi_thread")]
async fn pausing_by_keyboard_asks_first_and_keeps_the_focus() -> anyhow::Result<()> {
    let mut demo = Demo::new("page-keyboard")?;
    demo.start_empty()?;
    let stage = Stage::set(demo).await?;
    let browser = &stage.browser;
    stage.log_in().await?;
    browser
        .script("document.querySelector('#pause').focus();")
        .await?;
    browser.press(ENTER).await?;
    browser
        .until("document.querySelector('#confirm-dialog').open", SOON)
        .await?;
    has_focus(&stage, "#confirm-no").await?;
    browser.press(ENTER).await?;
    browser
        .until("!document.querySelector('#confirm-dialog').open", SOON)
        .await?;
    let status = stage.status_after(Time::now()).await?;
    ensure!(status.projections[0].paused_since.is_none());
    has_focus(&stage, "#pause").await?;

    browser.press(ENTER).await?;
    browser.press(TAB).await?;
    has_focus(&stage, "#confirm-yes").await?;
    browser.press(ENTER).await?;
    stage.sees("#pause[data-action=\"resume\"]").await?;
    has_focus(&stage, "#pause").await?;
    browser.press(ENTER).await?;
    stage.sees("#pause[data-action=\"pause\"]").await?;
    has_focus(&stage, "#pause").await?;
    stage.is_quiet().await
}

async fn has_focus(stage: &Stage, css: &str) -> anyhow::Result<()> {
    let there = format!(
        "document.activeElement === document.querySelector({})",
        json!(css)
    );
    stage.browser.until(&there, SOON).await
}

/// What is written on canvases, in place of the pixels: of each text the lowest, with the middle of it and the width
/// that it takes, lying or upright.
const SPY: &str = "window.written = new Map(); const write = CanvasRenderingContext2D.prototype.fillText; \
    CanvasRenderingContext2D.prototype.fillText = function (text, x, y, ...rest) { \
        const at = this.getTransform(), length = Math.hypot(at.a, at.b) || 1; \
        const wide = (Math.abs(at.a) * this.measureText(text).width + Math.abs(at.b) * 10) / length; \
        const here = { x: at.a * x + at.c * y + at.e, y: at.b * x + at.d * y + at.f, wide }; \
        if (!(window.written.get(text)?.y > here.y)) window.written.set(text, here); \
        return write.call(this, text, x, y, ...rest); };";
/// Every category is written, and none over its neighbour.
const NAMED: &str = "(() => { \
    const all = [...document.querySelectorAll('#chart-body th')].map(th => window.written.get(th.textContent)); \
    if (all.length < 2 || all.includes(undefined)) return false; \
    all.sort((one, other) => one.x - other.x); \
    return all.every((one, i) => i === 0 || one.x - all[i - 1].x >= (one.wide + all[i - 1].wide) / 2 - 1); })()";

/// What the canvas is given to write below the bars is every category, and it has the room.
#[tokio::test(flavor = "multi_thread")]
async fn every_bar_has_its_name_in_every_window() -> anyhow::Result<()> {
    let mut demo = Demo::new("page-bars")?;
    demo.start()?;
    let stage = Stage::set(demo).await?;
    let browser = &stage.browser;
    browser.script(SPY).await?;
    stage.goes_to("#marts-panel").await?;
    stage.sees("#marts-body tr").await?;
    for width in [1280, 1024, NARROW] {
        browser.resize(width, 1000).await?;
        for mart in [
            "mart_product_rating",
            "mart_user_activity",
            "mart_average_check",
        ] {
            let tab = format!("[data-mart=\"{mart}\"]");
            browser.script("window.written.clear();").await?;
            stage.goes_to("#marts-panel").await?;
            browser.click(&tab).await?;
            stage.sees(&format!("{tab}[aria-pressed=\"true\"]")).await?;
            browser.until(NAMED, SOON).await?;
        }
        stage.fits().await?;
    }
    Ok(())
}
