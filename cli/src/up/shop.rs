//! The shop of the demo, before anything follows it.

use std::time::{Duration, Instant};

use millrace_shop_generator::{create_schema, prepare, Filled, Progress};
use tokio::sync::watch;

use crate::endpoints::Endpoints;
use crate::settings::Settings;
use crate::terminal::Terminal;

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Creates the shop's tables; for the demo it fills them too, once.
pub(super) async fn prepare_shop(
    demo: bool,
    settings: &Settings,
    endpoints: &Endpoints,
    terminal: &mut Terminal,
) -> anyhow::Result<()> {
    let pool = crate::services::shop_pool(endpoints)?;
    let (schema, shop) = crate::services::shop(settings);
    if !demo {
        create_schema(&pool, &schema).await?;
        return Ok(());
    }
    let (progress, seen) = watch::channel(Progress::default());
    let began = Instant::now();
    let filling = prepare(&pool, &schema, &shop, &progress);
    tokio::pin!(filling);
    let filled = loop {
        tokio::select! {
            filled = &mut filling => break filled?,
            () = tokio::time::sleep(LOOK_EVERY) => {
                let Progress { phase, done, total } = *seen.borrow();
                terminal.bar(&format!("filling: {phase}"), done, total, began);
            }
        }
    };
    terminal.step(match filled {
        Filled::Now { rows } => format!("the shop is filled: {rows} rows"),
        Filled::Before => "the shop was filled before and goes on from there".to_owned(),
    });
    pool.close().await;
    Ok(())
}
