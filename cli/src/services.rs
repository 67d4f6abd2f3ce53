//! From settings to the configuration of each service.

mod control;
mod mirrors;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use millrace_control::in_words;
use millrace_dashboard as dashboard;
use millrace_postgres_cdc as capture;
use millrace_projections::engine;
use millrace_projections::marts::{Mart, Marts};
use millrace_projections::verify;
use millrace_sessions::postgres;
use millrace_shop_generator::{plan, trade, user_events, SchemaName};
use millrace_topic::{Retention, SmartModule};
use millrace_users_data as ingest;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::endpoints::Endpoints;
use crate::settings::table::{
    DASHBOARD_HOST, DASHBOARD_NAMES, DASHBOARD_PASSWORD, DASHBOARD_PORT, DASHBOARD_USER,
    MILLRACE_CATEGORIES, MILLRACE_COLUMNS, MILLRACE_HEARTBEAT_PERIOD_MS, MILLRACE_LOYALTY_ROWS,
    MILLRACE_MARTS, MILLRACE_ORDERS, MILLRACE_ORDER_DETAILS_MAX, MILLRACE_ORDER_DETAILS_MIN,
    MILLRACE_PRODUCTS, MILLRACE_RETENTION_DAYS, MILLRACE_RETENTION_HARD_SIZE,
    MILLRACE_RETENTION_SIZE, MILLRACE_REVIEWS, MILLRACE_SEED, MILLRACE_SNAPSHOT_READERS,
    MILLRACE_TABLES, MILLRACE_TOPIC_REJECTED, MILLRACE_TOPIC_USERS, MILLRACE_TRADES_PER_SECOND,
    MILLRACE_USERS, MILLRACE_USER_EVENT_BYTES_MAX, MILLRACE_USER_EVENT_PERIOD_MS, MILLRACE_VALUES,
    MILLRACE_VERIFY_PERIOD, POSTGRES_SCHEMA,
};
use crate::settings::{Names, Settings};
use crate::smartmodules;

pub use control::{capture_control, control, generate_control, ingest_control, Control};
pub use mirrors::{mirror_capture, mirror_ingest, mirror_projector};

/// Filling the shop uses one connection after the other.
const SHOP_CONNECTIONS: u32 = 4;

/// How long topics keep their records.
fn retention(settings: &Settings) -> Retention {
    Retention {
        age: settings.get(MILLRACE_RETENTION_DAYS).get(),
        bytes: settings.get(MILLRACE_RETENTION_SIZE).bytes(),
    }
}

/// The same of a snapshot, of which all is needed until it is loaded: nothing less than a service may be behind.
fn retention_of_snapshots(settings: &Settings) -> Retention {
    let log = retention(settings);
    let hard = settings.get(MILLRACE_RETENTION_HARD_SIZE).bytes();
    Retention {
        bytes: hard.max(log.bytes),
        ..log
    }
}

/// Capture of the selected tables.
pub fn capture(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<capture::Config> {
    let names = Names::of(settings);
    Ok(capture::Config {
        publication: names.publication,
        slot: names.slot,
        topic_changes: names.changes,
        topic_snapshot_prefix: names.snapshot_prefix,
        retention: retention(settings),
        retention_of_snapshots: retention_of_snapshots(settings),
        snapshot_readers: settings.get(MILLRACE_SNAPSHOT_READERS).get(),
        ..capture::Config::new(
            &endpoints.postgres,
            &endpoints.fluvio,
            settings.get(MILLRACE_TABLES),
        )
    })
}

/// The projector: replica and marts.
pub fn projector(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<engine::Config> {
    Ok(engine::Config {
        mysql_url: endpoints.mysql.clone(),
        fluvio: endpoints.fluvio.clone(),
        changes_topic: Names::of(settings).changes,
        smartmodule: columns_module(settings)?,
        main_schema: settings
            .get(MILLRACE_TABLES)
            .main_schema()
            .map(str::to_owned),
        values: settings.get(MILLRACE_VALUES),
        marts: marts(settings)?,
        limits: engine::Limits::default(),
        hooks: engine::Hooks::default(),
    })
}

/// The marts of the folder in the settings, read now.
pub fn marts(settings: &Settings) -> anyhow::Result<Marts> {
    match settings.get(MILLRACE_MARTS) {
        Some(folder) => Ok(Marts::read(&folder)?),
        None => Ok(Marts::none()),
    }
}

/// `columns` with the plan in the settings; without a plan, nothing is to be dropped and no module is needed.
fn columns_module(settings: &Settings) -> anyhow::Result<Option<SmartModule>> {
    let Some(plan) = settings.get(MILLRACE_COLUMNS) else {
        return Ok(None);
    };
    Ok(Some(SmartModule {
        name: smartmodules::full_name("columns")?,
        params: [("plan".to_owned(), serde_json::to_string(&plan.0)?)].into(),
    }))
}

/// The verifications that the projector runs by itself.
pub async fn verify_by_itself(
    settings: &Settings,
    endpoints: &Endpoints,
    handle: engine::Handle,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let period = settings.get(MILLRACE_VERIFY_PERIOD).get();
    match period.is_zero() {
        true => shutdown.cancelled().await,
        false => verify::period::run(verify(settings, endpoints)?, period, handle, shutdown).await,
    }
    Ok(())
}

/// Ingest of incoming users.
pub fn ingest(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<ingest::Config> {
    let bytes_max = settings.get(MILLRACE_USER_EVENT_BYTES_MAX);
    Ok(ingest::Config {
        endpoint: endpoints.fluvio.clone(),
        postgres_url: endpoints.postgres.clone(),
        schema: settings.get(POSTGRES_SCHEMA).as_str().to_owned(),
        topic: settings.get(MILLRACE_TOPIC_USERS).into(),
        rejected_topic: settings.get(MILLRACE_TOPIC_REJECTED).into(),
        retention: retention(settings),
        smartmodule: smartmodules::full_name("user-event")?,
        smartmodule_params: [("max_bytes".to_owned(), bytes_max.to_string())].into(),
        ..ingest::Config::default()
    })
}

/// The connections over which the shop is made and filled, which takes long statements.
pub fn shop_pool(endpoints: &Endpoints) -> anyhow::Result<PgPool> {
    let server = postgres::Server::parse(&endpoints.postgres)?;
    Ok(server.pool("millrace generate", postgres::Work::Copy, SHOP_CONNECTIONS))
}

/// The shop at its start.
#[must_use]
pub fn shop(settings: &Settings) -> (SchemaName, plan::Config) {
    let counts = plan::Counts {
        users: settings.get(MILLRACE_USERS),
        categories: settings.get(MILLRACE_CATEGORIES),
        products: settings.get(MILLRACE_PRODUCTS),
        orders: settings.get(MILLRACE_ORDERS),
        details: details(settings),
        reviews: settings.get(MILLRACE_REVIEWS),
        loyalty_points: settings.get(MILLRACE_LOYALTY_ROWS),
    };
    let config = plan::Config {
        seed: settings.get(MILLRACE_SEED),
        counts,
        ..plan::Config::default()
    };
    (settings.get(POSTGRES_SCHEMA), config)
}

fn details(settings: &Settings) -> plan::Details {
    plan::Details {
        min: settings.get(MILLRACE_ORDER_DETAILS_MIN).get(),
        max: settings.get(MILLRACE_ORDER_DETAILS_MAX).get(),
    }
}

/// The shop's live trade.
pub fn trade(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<trade::Config> {
    Ok(trade::Config {
        database_url: endpoints.postgres.clone(),
        schema: settings.get(POSTGRES_SCHEMA),
        seed: settings.get(MILLRACE_SEED),
        transactions_per_second: settings.get(MILLRACE_TRADES_PER_SECOND).0,
        details: details(settings),
        ..trade::Config::default()
    })
}

/// The stream of incoming users.
pub fn user_events(
    settings: &Settings,
    endpoints: &Endpoints,
) -> anyhow::Result<user_events::Config> {
    Ok(user_events::Config {
        endpoint: endpoints.fluvio.clone(),
        topic: settings.get(MILLRACE_TOPIC_USERS).into(),
        retention: retention(settings),
        period: settings.get(MILLRACE_USER_EVENT_PERIOD_MS).get(),
        seed: settings.get(MILLRACE_SEED),
    })
}

/// The page, on this address.
pub fn dashboard(
    settings: &Settings,
    endpoints: &Endpoints,
    bind: SocketAddr,
    state_dir: Option<PathBuf>,
) -> anyhow::Result<dashboard::Config> {
    let names = settings.get(DASHBOARD_NAMES).0;
    let marts = marts(settings)?;
    Ok(dashboard::Config {
        names: names.iter().map(ToString::to_string).collect(),
        user: settings.get(DASHBOARD_USER).map(String::from),
        password: settings.get(DASHBOARD_PASSWORD).map(String::from),
        control_token: endpoints.control_token.clone(),
        marts: marts.iter().map(shown).collect(),
        state_dir,
        heartbeat_period: settings.get(MILLRACE_HEARTBEAT_PERIOD_MS).get(),
        millrace: env!("CARGO_PKG_VERSION").to_owned(),
        verify: Some(verify_button(verify(settings, endpoints)?)),
        ..dashboard::Config::new(bind, dashboard_sources(settings, endpoints))
    })
}

fn shown(mart: &Mart) -> dashboard::Mart {
    dashboard::Mart {
        name: mart.name().to_owned(),
        sql: mart.definition().to_owned(),
        reads: mart.reads(),
        chart: mart.chart().map(|chart| dashboard::Chart {
            title: chart.title.clone(),
            unit: chart.unit.clone(),
            sql: chart.sql.clone(),
        }),
    }
}

fn dashboard_sources(settings: &Settings, endpoints: &Endpoints) -> dashboard::Sources {
    let names = Names::of(settings);
    dashboard::Sources {
        postgres: endpoints.postgres.clone(),
        slot: names.slot,
        mysql: endpoints.mysql.clone(),
        fluvio: endpoints.fluvio.clone(),
        topics: dashboard::Topics {
            changes: names.changes,
            snapshot_prefix: names.snapshot_prefix,
            users: settings.get(MILLRACE_TOPIC_USERS).into(),
            rejected: settings.get(MILLRACE_TOPIC_REJECTED).into(),
        },
        projector: endpoints.control.clone(),
        capture: endpoints.capture_control.clone(),
        ingest: endpoints.ingest_control.clone(),
    }
}

/// A verification that nobody interrupts: it has time limits of its own.
fn verify_button(config: verify::Config) -> dashboard::VerifyFn {
    let config = Arc::new(config);
    Arc::new(move || {
        let config = config.clone();
        Box::pin(async move {
            let report = verify::verify(&config, &CancellationToken::new()).await;
            let report = report.map_err(|error| in_words(&error))?;
            serde_json::to_value(report).map_err(|error| in_words(&error))
        })
    })
}

/// The address of the page.
pub async fn dashboard_address(settings: &Settings) -> anyhow::Result<SocketAddr> {
    let host = settings.get(DASHBOARD_HOST);
    host.listen_address(settings.get(DASHBOARD_PORT))
        .await
        .context("DASHBOARD_HOST")
}

/// The comparison of both sides.
pub fn verify(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<verify::Config> {
    Ok(verify::Config {
        postgres_url: endpoints.postgres.clone(),
        mysql_url: endpoints.mysql.clone(),
        tables: Vec::new(),
        columns: settings
            .get(MILLRACE_COLUMNS)
            .map(|plan| plan.0)
            .unwrap_or_default(),
        marts: marts(settings)?,
        control_url: endpoints.control.clone(),
        capture_url: Some(endpoints.capture_control.clone()),
        control_token: endpoints.control_token.clone(),
        hold_timeout: Duration::from_secs(30),
        slot_timeout: Duration::from_secs(30),
        catch_up_timeout: Duration::from_secs(60),
        by: verify::By::Person,
        method: verify::Method::Sums,
        pace: verify::Pace::Full,
        differences_max: 20,
    })
}
