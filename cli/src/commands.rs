//! From the parsed command line to the command.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use millrace_postgres_cdc::Capture;
use millrace_projections::engine;
use millrace_shop_generator::trade::Trader;
use millrace_shop_generator::user_events::UserEvents;
use millrace_shop_generator::{prepare, Progress};
use millrace_topic::Lookup;
use millrace_users_data::{self as ingest, Rejected};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::args::{self, Cli, Command};
use crate::data_dir::{self, Cleaned};
use crate::endpoints::Endpoints;
use crate::settings::table::{
    FLUVIO_PORT, FLUVIO_SPU_PORT, MILLRACE_RETENTION_HARD_SIZE, MILLRACE_SEED,
};
use crate::settings::{Setting, Settings};
use crate::smartmodules;
use crate::{
    answer, cluster, config, consumers, exposure, health, marts, output, projection, quarantine,
    rejected, services, source, status, tables, up, verify, wait_for,
};

const VERSION: &str = concat!("millrace ", env!("CARGO_PKG_VERSION"), "\n");
/// A service that was asked to end may take so long.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// Runs the command; errors are for people.
pub fn run(cli: Cli) -> LocalBoxFuture<'static, anyhow::Result<ExitCode>> {
    // Boxed here, so that it is not compiled again with the binary (ADR 14).
    Box::pin(dispatch(cli))
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let settings = Settings::of(&cli)?;
    match &cli.command {
        // Boxed, because futures nested so deep are too much for the compiler.
        Command::Up(args) => return Box::pin(up::run(args, settings)).await,
        Command::Status(args) => return status::run(args, &settings).await,
        Command::Health(args) => return health::run(args, &settings).await,
        Command::WaitFor(args) => return wait_for::run(args, &settings).await,
        Command::Verify(args) => {
            return verify::run(args, &settings, &up::shutdown_on_signal()?).await
        }
        Command::Projection(args) => return projection::run(args, &settings).await,
        Command::Tables(args) => return tables::run(args, &settings).await,
        Command::Marts(args) => return marts::run(args, &settings).await,
        Command::Quarantine(args) => return quarantine::run(args, &settings).await,
        Command::Consumers(args) => return consumers::run(args, &settings).await,
        Command::Rejected(args) => return rejected::run(args, &settings).await,
        Command::Clean(args) => clean(args).await?,
        Command::Config => drop(answer::print(&config::list(&settings))?),
        Command::Version => drop(answer::print(VERSION)?),
        Command::Broker(args) => broker(args, &settings).await?,
        Command::Dashboard(args) => dashboard(args, &settings).await?,
        Command::Init(args) => init(args, &settings).await?,
        Command::Capture(_) | Command::Ingest | Command::Project(_) | Command::Generate(_) => {
            Box::pin(service(&cli.command, settings)).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn service(command: &Command, settings: Settings) -> anyhow::Result<()> {
    let shutdown = up::shutdown_on_signal()?;
    let endpoints = match command {
        Command::Generate(args) => Endpoints::find(&args.target, &settings)?,
        _ => Endpoints::from_settings(&settings)?,
    };
    let settings = endpoints.settings(&settings)?;
    warn_if_exposed(&settings, None);
    match command {
        Command::Capture(_) => Box::pin(capture(&settings, &endpoints, shutdown)).await?,
        Command::Ingest => Box::pin(ingest(&settings, &endpoints, shutdown)).await?,
        Command::Project(_) => Box::pin(project(&settings, &endpoints, shutdown)).await?,
        Command::Generate(args) => generate(args, settings, &endpoints, shutdown).await?,
        _ => unreachable!("not a service"),
    }
    Ok(())
}

fn warn_if_exposed(settings: &Settings, bind: Option<IpAddr>) {
    if let Some(warning) = exposure::warning(settings, bind) {
        output::tell(warning);
    }
}

async fn capture(
    settings: &Settings,
    endpoints: &Endpoints,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let capture = Capture::new(services::capture(settings, endpoints)?)?;
    let control = services::capture_control(settings, endpoints).await?;
    let control = control.capture(capture.handle(), shutdown.clone());
    let mirror = services::mirror_capture(settings, endpoints, &capture.handle(), shutdown.clone());
    let _mirror = AbortOnDropHandle::new(tokio::spawn(mirror));
    let capture = async { Ok(capture.run(shutdown.clone()).await?) };
    with_control(&shutdown, capture, control).await
}

async fn ingest(
    settings: &Settings,
    endpoints: &Endpoints,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let config = services::ingest(settings, endpoints)?;
    let rejected = Rejected::open(config.clone())?;
    let (ingest, handle) = ingest::Service::new(config)?;
    let control = services::ingest_control(settings, endpoints).await?;
    let control = control.ingest(handle.clone(), rejected, shutdown.clone());
    let mirror = services::mirror_ingest(settings, endpoints, handle, shutdown.clone());
    let _mirror = AbortOnDropHandle::new(tokio::spawn(mirror));
    let ingest = async { Ok(ingest.run(shutdown.clone()).await?) };
    with_control(&shutdown, ingest, control).await
}

async fn project(
    settings: &Settings,
    endpoints: &Endpoints,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let projector = engine::Service::new(services::projector(settings, endpoints)?);
    let control = services::control(settings, endpoints).await?;
    let control = control.project(projector.handle(), shutdown.clone());
    let mirror =
        services::mirror_projector(settings, endpoints, projector.handle(), shutdown.clone());
    let _mirror = AbortOnDropHandle::new(tokio::spawn(mirror));
    let handle = projector.handle();
    let verified = services::verify_by_itself(settings, endpoints, handle, shutdown.clone());
    let projector = async { Ok(projector.run(shutdown.clone()).await?) };
    let projector = together(&shutdown, projector, verified);
    with_control(&shutdown, projector, control).await
}

/// Runs a service beside its control API, which is a task of its own, so that it answers while the service is
/// busy.
async fn with_control(
    shutdown: &CancellationToken,
    service: impl Future<Output = anyhow::Result<()>>,
    control: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> anyhow::Result<()> {
    let control = tokio::spawn(control);
    together(shutdown, service, async { control.await? }).await
}

/// Runs two services until one ends, which ends the other. The error of the first to end comes first.
async fn together(
    shutdown: &CancellationToken,
    one: impl Future<Output = anyhow::Result<()>>,
    two: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    tokio::pin!(one, two);
    tokio::select! {
        ended = &mut one => ended.and(end(shutdown, two).await),
        ended = &mut two => ended.and(end(shutdown, one).await),
    }
}

/// Asks a service to end. One that does not is dropped: it may be, at any instant.
async fn end(
    shutdown: &CancellationToken,
    service: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    shutdown.cancel();
    let ended = tokio::time::timeout(STOP_WITHIN, service).await;
    ended.unwrap_or(Ok(()))
}

async fn generate(
    args: &args::Generate,
    mut settings: Settings,
    endpoints: &Endpoints,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    if let Some(seed) = args.seed {
        settings.set(MILLRACE_SEED, seed);
    }
    let (schema, shop) = services::shop(&settings);
    source::wait_for(endpoints, &shutdown).await?;
    let pool = services::shop_pool(endpoints)?;
    let filled = prepare(
        &pool,
        &schema,
        &shop,
        &watch::channel(Progress::default()).0,
    )
    .await?;
    tracing::info!(?filled, "the shop is there");
    if args.fill_only {
        return Ok(());
    }
    keep_trading(&settings, endpoints, shutdown).await
}

async fn keep_trading(
    settings: &Settings,
    endpoints: &Endpoints,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let trader = Trader::new(services::trade(settings, endpoints)?)?;
    let users = UserEvents::new(services::user_events(settings, endpoints)?)?;
    let (trade, events) = (trader.handle(), users.handle());
    let control = services::generate_control(settings, endpoints).await?;
    // Whichever ends ends the other: half a shop would not be noticed.
    let trading = async { Ok(trader.run(shutdown.clone()).await?) };
    let sending = async { Ok(users.run(shutdown.clone()).await?) };
    let shop = together(&shutdown, trading, sending);
    match control {
        Some(control) => {
            let control = control.generate(trade, events, shutdown.clone());
            with_control(&shutdown, shop, control).await
        }
        None => shop.await,
    }
}

async fn clean(args: &args::Clean) -> anyhow::Result<()> {
    let dir = args.data_dir.display();
    match data_dir::clean(&args.data_dir).await? {
        Cleaned::Absent => output::tell(format!("nothing to remove: {dir} is not there")),
        Cleaned::Removed => output::tell(format!("removed {dir}")),
        Cleaned::Kept(names) => output::tell(format!(
            "removed what millrace made in {dir}; what it did not make stays: {}",
            names.join(", ")
        )),
    }
    Ok(())
}

async fn broker(args: &args::Broker, settings: &Settings) -> anyhow::Result<()> {
    let shutdown = up::shutdown_on_signal()?;
    warn_if_exposed(settings, Some(args.bind));
    std::fs::create_dir_all(&args.log_dir)?;
    let at = |port: Setting<u16>| SocketAddr::from((args.bind, settings.get(port)));
    let broker = up::open_broker(
        args.log_dir.clone(),
        settings.get(MILLRACE_RETENTION_HARD_SIZE).bytes(),
        at(FLUVIO_PORT),
        at(FLUVIO_SPU_PORT),
        args.advertise.as_ref(),
        args.tls(),
    )
    .await?;
    smartmodules::register_in(&broker).await?;
    output::tell(format!("clients connect to {}", broker.sc_addr()));
    shutdown.cancelled().await;
    broker.shutdown().await;
    Ok(())
}

async fn dashboard(args: &args::Dashboard, settings: &Settings) -> anyhow::Result<()> {
    let shutdown = up::shutdown_on_signal()?;
    warn_if_exposed(settings, None);
    let endpoints = Endpoints::from_settings(settings)?;
    let bind = services::dashboard_address(settings).await?;
    let config = services::dashboard(settings, &endpoints, bind, args.state_dir.clone())?;
    let page = millrace_dashboard::Service::bind(config).await?;
    output::tell(format!("the page is at http://{}", page.address()));
    Ok(page.run(shutdown).await?)
}

async fn init(args: &args::Init, settings: &Settings) -> anyhow::Result<()> {
    let endpoints = Endpoints::find(&args.target, settings)?;
    let cluster = cluster::connect(&endpoints.fluvio).await?;
    if let Some(unit) = &args.spu {
        cluster.register_unit(unit).await?;
    }
    cluster::wait_for_spu(&cluster).await?;
    Ok(cluster
        .register(smartmodules::MODULES, Lookup::Loose)
        .await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn either_of_two_services_ends_the_other() {
        for first_fails in [true, false] {
            let shutdown = CancellationToken::new();
            let fails = std::future::ready(Err(anyhow::anyhow!("broken")));
            let asked = shutdown.clone();
            let follows = async move {
                asked.cancelled().await;
                anyhow::Ok(())
            };
            let outcome = if first_fails {
                together(&shutdown, fails, follows).await
            } else {
                together(&shutdown, follows, fails).await
            };
            assert_eq!(outcome.unwrap_err().to_string(), "broken");
            assert!(shutdown.is_cancelled());
        }
    }
}
