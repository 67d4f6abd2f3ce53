//! The shop of the demo, before anything follows it.

use std::time::{Duration, Instant};

use millrace_control::in_words;
use millrace_sessions::postgres::errors::{outlook, Outlook};
use millrace_shop_generator::{create_schema, prepare, Error, Filled, Progress};
use sqlx::PgPool;
use tokio::sync::watch;

use crate::endpoints::Endpoints;
use crate::settings::Settings;
use crate::terminal::Terminal;

const LOOK_EVERY: Duration = Duration::from_millis(200);
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Creates the shop's tables; for the demo it fills them too, once. A Postgres that goes away meanwhile is waited for:
/// it is started again by itself, and both happen in one transaction, whole or not at all.
pub(super) async fn prepare_shop(
    demo: bool,
    settings: &Settings,
    endpoints: &Endpoints,
    terminal: &mut Terminal,
) -> anyhow::Result<()> {
    let pool = crate::services::shop_pool(endpoints)?;
    while let Err(error) = attempt(demo, settings, &pool, terminal).await {
        if !may_pass(&error) {
            return Err(error.into());
        }
        terminal.step(format!("{}; trying again", in_words(&error)));
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    pool.close().await;
    Ok(())
}

fn may_pass(error: &Error) -> bool {
    matches!(error, Error::Postgres(error) if outlook(error) == Outlook::Passes)
}

async fn attempt(
    demo: bool,
    settings: &Settings,
    pool: &PgPool,
    terminal: &mut Terminal,
) -> Result<(), Error> {
    let (schema, shop) = crate::services::shop(settings);
    if !demo {
        return create_schema(pool, &schema).await.map(drop);
    }
    let (progress, seen) = watch::channel(Progress::default());
    let began = Instant::now();
    let filling = prepare(pool, &schema, &shop, &progress);
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_postgres_that_goes_away_is_waited_for_and_a_wrong_shop_is_told_at_once() {
        let gone = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(may_pass(&Error::Postgres(gone.into())));
        assert!(!may_pass(&Error::Postgres(sqlx::Error::RowNotFound)));
        let wrong = Error::NotEmpty {
            schema: "source".parse().expect("a name"),
            table: "users",
        };
        assert!(!may_pass(&wrong));
    }
}
