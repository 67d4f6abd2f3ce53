//! From settings to the configuration of each service.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, Context};
use millrace_control::Server;
use millrace_dashboard as dashboard;
use millrace_postgres_cdc as capture;
use millrace_projections::engine;
use millrace_projections::marts::Marts;
use millrace_projections::verify;
use millrace_sessions::postgres;
use millrace_shop_generator::{plan, shop, trade, user_events, SchemaName};
use millrace_users_data as ingest;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::endpoints::{
    ControlAddress, Endpoints, CAPTURE_CONTROL, INGEST_CONTROL, PROJECTOR_CONTROL,
};
use crate::mirror::{self, Mirror};
use crate::settings::Settings;
use crate::smartmodules;

const DAY: u64 = 24 * 60 * 60;
/// Filling the shop uses one connection after the other.
const SHOP_CONNECTIONS: u32 = 4;

fn retention(settings: &Settings) -> anyhow::Result<Duration> {
    Ok(Duration::from_secs(
        settings.number("MILLRACE_RETENTION_DAYS")? * DAY,
    ))
}

fn schema(settings: &Settings) -> anyhow::Result<SchemaName> {
    let name = settings.text("POSTGRES_SCHEMA");
    name.parse()
        .with_context(|| format!("POSTGRES_SCHEMA = {name:?}"))
}

/// Capture of the shop's tables.
pub fn capture(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<capture::Config> {
    Ok(capture::Config {
        publication: settings.text("MILLRACE_PUBLICATION").to_owned(),
        slot: settings.text("MILLRACE_SLOT").to_owned(),
        topic_changes: settings.text("MILLRACE_TOPIC_CHANGES").to_owned(),
        topic_snapshot_prefix: settings.text("MILLRACE_TOPIC_SNAPSHOT").to_owned(),
        retention: retention(settings)?,
        ..capture::Config::new(
            &endpoints.postgres,
            &endpoints.fluvio,
            settings.text("POSTGRES_SCHEMA"),
            shop::TABLES,
        )
    })
}

/// The projector: replica and shop marts.
pub fn projector(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<engine::Config> {
    Ok(engine::Config {
        mysql_url: endpoints.mysql.clone(),
        fluvio: endpoints.fluvio.clone(),
        changes_topic: settings.text("MILLRACE_TOPIC_CHANGES").to_owned(),
        smartmodule: Some(engine::SmartModule {
            name: smartmodules::full_name("columns")?,
            params: [(
                "plan".to_owned(),
                serde_json::to_string(&columns_plan(settings)?)?,
            )]
            .into(),
        }),
        marts: Marts::shop(),
        limits: engine::Limits::default(),
        hooks: engine::Hooks::default(),
    })
}

/// The projector's position as a consumer offset.
pub fn mirror_projector(
    settings: &Settings,
    endpoints: &Endpoints,
    handle: engine::Handle,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let mirror = Mirror {
        endpoint: endpoints.fluvio.clone(),
        topic: settings.text("MILLRACE_TOPIC_CHANGES").to_owned(),
        consumer: mirror::PROJECTOR,
    };
    let position = move || i64::try_from(handle.status().offset?.0).ok();
    mirror.run(position, shutdown)
}

/// Ingest's position as a consumer offset.
pub fn mirror_ingest(
    settings: &Settings,
    endpoints: &Endpoints,
    handle: ingest::Handle,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let mirror = Mirror {
        endpoint: endpoints.fluvio.clone(),
        topic: settings.text("MILLRACE_TOPIC_USERS").to_owned(),
        consumer: mirror::INGEST,
    };
    let position = move || Some(handle.status().next_offset? - 1);
    mirror.run(position, shutdown)
}

/// The plan in the settings, or every column of the shop's tables and nothing else.
fn columns_plan(settings: &Settings) -> anyhow::Result<serde_json::Map<String, serde_json::Value>> {
    let given = settings.text("MILLRACE_COLUMNS");
    if given.is_empty() {
        let all = shop::TABLES.map(|table| (table.to_owned(), "*".into()));
        return Ok(all.into_iter().collect());
    }
    serde_json::from_str(given).context("MILLRACE_COLUMNS is not a JSON object of tables")
}

/// Ingest of incoming users.
pub fn ingest(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<ingest::Config> {
    let bytes_max = settings.number("MILLRACE_USER_EVENT_BYTES_MAX")?;
    Ok(ingest::Config {
        endpoint: endpoints.fluvio.clone(),
        postgres_url: endpoints.postgres.clone(),
        schema: settings.text("POSTGRES_SCHEMA").to_owned(),
        topic: settings.text("MILLRACE_TOPIC_USERS").to_owned(),
        rejected_topic: settings.text("MILLRACE_TOPIC_REJECTED").to_owned(),
        retention: retention(settings)?,
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
pub fn shop(settings: &Settings) -> anyhow::Result<(SchemaName, plan::Config)> {
    let count = |name| -> anyhow::Result<usize> { Ok(usize::try_from(settings.number(name)?)?) };
    let counts = plan::Counts {
        users: count("MILLRACE_USERS")?,
        categories: count("MILLRACE_CATEGORIES")?,
        products: count("MILLRACE_PRODUCTS")?,
        orders: count("MILLRACE_ORDERS")?,
        details: details(settings)?,
        reviews: count("MILLRACE_REVIEWS")?,
        loyalty_points: count("MILLRACE_LOYALTY_ROWS")?,
    };
    let config = plan::Config {
        seed: settings.number("MILLRACE_SEED")?,
        counts,
        ..plan::Config::default()
    };
    Ok((schema(settings)?, config))
}

fn details(settings: &Settings) -> anyhow::Result<plan::Details> {
    Ok(plan::Details {
        min: usize::try_from(settings.number("MILLRACE_ORDER_DETAILS_MIN")?)?,
        max: usize::try_from(settings.number("MILLRACE_ORDER_DETAILS_MAX")?)?,
    })
}

/// The shop's live trade.
pub fn trade(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<trade::Config> {
    Ok(trade::Config {
        database_url: endpoints.postgres.clone(),
        schema: schema(settings)?,
        seed: settings.number("MILLRACE_SEED")?,
        transactions_per_second: settings.parse("MILLRACE_TRADES_PER_SECOND", "a number")?,
        details: details(settings)?,
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
        topic: settings.text("MILLRACE_TOPIC_USERS").to_owned(),
        retention: retention(settings)?,
        period: Duration::from_millis(settings.number("MILLRACE_USER_EVENT_PERIOD_MS")?),
        seed: settings.number("MILLRACE_SEED")?,
    })
}

/// A control API that listens and has not been started.
pub struct Control {
    server: Server,
    token: String,
}

impl Control {
    async fn listen(
        address: ControlAddress,
        settings: &Settings,
        endpoints: &Endpoints,
    ) -> anyhow::Result<Control> {
        let (host, port) = address.of(settings)?;
        let address = tokio::net::lookup_host((host, port))
            .await
            .with_context(|| format!("the control API's host {host:?}"))?
            .next()
            .with_context(|| format!("the control API's host {host:?} has no address"))?;
        if endpoints.control_token.is_empty() {
            bail!("MILLRACE_CONTROL_TOKEN is empty; set one, so that only its owners can steer the services");
        }
        Ok(Control {
            server: Server::bind(address).await?,
            token: endpoints.control_token.clone(),
        })
    }

    /// Serves the projector's API until `shutdown`.
    pub async fn project(
        self,
        handle: engine::Handle,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let api = millrace_projections::control::api(handle, &self.token);
        Ok(self.server.run(api, shutdown).await?)
    }

    /// Serves capture's API until `shutdown`.
    pub async fn capture(
        self,
        handle: capture::Handle,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let api = capture::control::api(handle, &self.token);
        Ok(self.server.run(api, shutdown).await?)
    }

    /// Serves ingest's API until `shutdown`.
    pub async fn ingest(
        self,
        handle: ingest::Handle,
        rejected: ingest::Rejected,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let api = ingest::control::api(handle, rejected, &self.token);
        Ok(self.server.run(api, shutdown).await?)
    }
}

/// The projector's control API, listening.
pub async fn control(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<Control> {
    Control::listen(PROJECTOR_CONTROL, settings, endpoints).await
}

/// Capture's control API, listening.
pub async fn capture_control(
    settings: &Settings,
    endpoints: &Endpoints,
) -> anyhow::Result<Control> {
    Control::listen(CAPTURE_CONTROL, settings, endpoints).await
}

/// Ingest's control API, listening.
pub async fn ingest_control(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<Control> {
    Control::listen(INGEST_CONTROL, settings, endpoints).await
}

/// The page, on this address.
pub fn dashboard(
    settings: &Settings,
    endpoints: &Endpoints,
    bind: SocketAddr,
    state_dir: Option<PathBuf>,
) -> anyhow::Result<dashboard::Config> {
    let text = |name| settings.text(name).to_owned();
    let given = |name| Some(text(name)).filter(|value| !value.is_empty());
    let marts = Marts::shop();
    let marts = marts.definitions().map(|(name, sql)| dashboard::Mart {
        name: name.to_owned(),
        sql: sql.to_owned(),
    });
    let period = settings.number("MILLRACE_HEARTBEAT_PERIOD_MS")?;
    Ok(dashboard::Config {
        names: text("DASHBOARD_NAMES")
            .split(',')
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect(),
        user: given("DASHBOARD_USER"),
        password: given("DASHBOARD_PASSWORD"),
        control_token: endpoints.control_token.clone(),
        marts: marts.collect(),
        state_dir,
        heartbeat_period: Duration::from_millis(period),
        millrace: env!("CARGO_PKG_VERSION").to_owned(),
        verify: Some(verify_button(verify(settings, endpoints)?)),
        ..dashboard::Config::new(bind, dashboard_sources(settings, endpoints))
    })
}

fn dashboard_sources(settings: &Settings, endpoints: &Endpoints) -> dashboard::Sources {
    let text = |name| settings.text(name).to_owned();
    dashboard::Sources {
        postgres: endpoints.postgres.clone(),
        slot: text("MILLRACE_SLOT"),
        mysql: endpoints.mysql.clone(),
        fluvio: endpoints.fluvio.clone(),
        topics: dashboard::Topics {
            changes: text("MILLRACE_TOPIC_CHANGES"),
            snapshot_prefix: text("MILLRACE_TOPIC_SNAPSHOT"),
            users: text("MILLRACE_TOPIC_USERS"),
            rejected: text("MILLRACE_TOPIC_REJECTED"),
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
            let report = report.map_err(|error| error.to_string())?;
            serde_json::to_value(report).map_err(|error| error.to_string())
        })
    })
}

/// The address of the page.
pub async fn dashboard_address(settings: &Settings) -> anyhow::Result<SocketAddr> {
    let host = settings.text("DASHBOARD_HOST");
    let port = settings.port("DASHBOARD_PORT")?;
    let named = || format!("DASHBOARD_HOST = {host:?}");
    let mut addresses = tokio::net::lookup_host((host, port))
        .await
        .with_context(named)?;
    addresses
        .next()
        .with_context(|| format!("{} has no address", named()))
}

/// The comparison of both sides.
pub fn verify(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<verify::Config> {
    Ok(verify::Config {
        postgres_url: endpoints.postgres.clone(),
        mysql_url: endpoints.mysql.clone(),
        schema: settings.text("POSTGRES_SCHEMA").to_owned(),
        tables: Vec::new(),
        columns: columns_plan(settings)?,
        marts: Marts::shop(),
        control_url: endpoints.control.clone(),
        control_token: endpoints.control_token.clone(),
        hold_timeout: Duration::from_secs(30),
        slot_timeout: Duration::from_secs(30),
        catch_up_timeout: Duration::from_secs(60),
        differences_max: 20,
    })
}
