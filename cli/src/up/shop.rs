//! The shop of the demo, before anything follows it.

use std::time::{Duration, Instant};

use anyhow::ensure;
use millrace_control::in_words;
use millrace_events::TableId;
use millrace_sessions::postgres::errors::{outlook, Outlook};
use millrace_shop_generator::{prepare, shop, Error, Filled, Progress};
use sqlx::PgPool;
use tokio::sync::watch;

use crate::endpoints::Endpoints;
use crate::settings::table::{MILLRACE_TABLES, POSTGRES_SCHEMA};
use crate::settings::Settings;
use crate::terminal::Terminal;

const LOOK_EVERY: Duration = Duration::from_millis(200);
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Fails if the settings capture nothing of the shop: it would trade, and nobody would follow it.
pub(super) fn check_selected(settings: &Settings) -> anyhow::Result<()> {
    let (schema, tables) = (settings.get(POSTGRES_SCHEMA), settings.get(MILLRACE_TABLES));
    let is_selected = |name: &&str| tables.matches(&TableId::new(schema.as_str(), *name));
    ensure!(
        shop::TABLES.iter().any(is_selected),
        "MILLRACE_TABLES = {tables} selects no table of the demonstration's shop, which is in schema {0} \
         (POSTGRES_SCHEMA): run --demo where the .env of millrace's repository is, or name that with --env-file, or add \
         --tables '{0}.*'",
        schema.as_str()
    );
    Ok(())
}

/// Creates the shop's tables and fills them, once. A Postgres that goes away meanwhile is waited for:
/// it is started again by itself, and both happen in one transaction, whole or not at all.
pub(super) async fn prepare_shop(
    settings: &Settings,
    endpoints: &Endpoints,
    terminal: &mut Terminal,
) -> anyhow::Result<()> {
    let pool = crate::services::shop_pool(endpoints)?;
    while let Err(error) = attempt(settings, &pool, terminal).await {
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

async fn attempt(settings: &Settings, pool: &PgPool, terminal: &mut Terminal) -> Result<(), Error> {
    let (schema, shop) = crate::services::shop(settings);
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
    fn a_demo_whose_shop_nobody_captures_is_refused_with_the_way_out() {
        let with = |tables: &str| {
            let given = ("MILLRACE_TABLES".to_owned(), tables.to_owned());
            check_selected(&Settings::resolve(None, vec![given]).expect("settings"))
        };
        assert!(with("source.*").is_ok() && with("public.*,source.orders").is_ok());
        let refused = with("public.*").expect_err("nothing selected").to_string();
        assert!(refused.contains("--tables 'source.*'"), "{refused}");
    }

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
