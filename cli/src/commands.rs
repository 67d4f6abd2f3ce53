//! From the parsed command line to the command.

use std::net::SocketAddr;
use std::process::ExitCode;

use millrace_postgres_cdc::Capture;
use millrace_projections::engine;
use millrace_shop_generator::trade::Trader;
use millrace_shop_generator::user_events::UserEvents;
use millrace_shop_generator::{prepare, Progress};
use millrace_users_data as ingest;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::args::{self, Cli, Command};
use crate::endpoints::Endpoints;
use crate::settings::{Settings, SETTINGS};
use crate::terminal::table;
use crate::{cluster, services, status, up, verify, wait_for};

/// Runs the command; errors are for people.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(cli.env_file.as_deref())?;
    match &cli.command {
        Command::Up(args) => return up::run(args, settings).await,
        Command::Status(args) => return status::run(args, &settings).await,
        Command::WaitFor(args) => return wait_for::run(args, &settings).await,
        Command::Verify(args) => {
            return verify::run(args, &settings, &up::shutdown_on_signal()?).await
        }
        Command::Config => print!("{}", list(&settings)),
        Command::Version => println!("millrace {}", env!("CARGO_PKG_VERSION")),
        Command::Broker(args) => broker(args, &settings).await?,
        Command::Init(args) => init(args, &settings).await?,
        Command::Capture | Command::Ingest | Command::Project | Command::Generate(_) => {
            service(&cli.command, settings).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn service(command: &Command, settings: Settings) -> anyhow::Result<()> {
    let shutdown = up::shutdown_on_signal()?;
    let endpoints = Endpoints::from_settings(&settings)?;
    match command {
        Command::Capture => {
            Capture::new(services::capture(&settings, &endpoints)?)?
                .run(shutdown)
                .await?
        }
        Command::Ingest => {
            ingest::Service::new(services::ingest(&settings, &endpoints)?)?
                .0
                .run(shutdown)
                .await?
        }
        Command::Project => project(&settings, &endpoints, shutdown).await?,
        Command::Generate(args) => generate(args, settings, &endpoints, shutdown).await?,
        _ => unreachable!("not a service"),
    }
    Ok(())
}

async fn project(
    settings: &Settings,
    endpoints: &Endpoints,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let projector = engine::Service::new(services::projector(settings, endpoints)?);
    let control = services::control(settings, endpoints, projector.handle()).await?;
    let control = tokio::spawn(control.run(shutdown.clone()));
    projector.run(shutdown.clone()).await?;
    shutdown.cancel();
    control.await?
}

async fn generate(
    args: &args::Generate,
    mut settings: Settings,
    endpoints: &Endpoints,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    if let Some(seed) = args.seed {
        settings.set("MILLRACE_SEED", seed.to_string());
    }
    let (schema, shop) = services::shop(&settings)?;
    let pool = PgPool::connect(&endpoints.postgres).await?;
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
    let trader = Trader::new(services::trade(&settings, endpoints)?)?;
    let users = UserEvents::new(services::user_events(&settings, endpoints)?)?;
    let (traded, sent) = tokio::join!(trader.run(shutdown.clone()), users.run(shutdown));
    traded?;
    sent?;
    Ok(())
}

async fn broker(args: &args::Broker, settings: &Settings) -> anyhow::Result<()> {
    let shutdown = up::shutdown_on_signal()?;
    std::fs::create_dir_all(&args.log_dir)?;
    let at = |name| anyhow::Ok(SocketAddr::from((args.bind, settings.port(name)?)));
    let broker = up::open_broker(
        args.log_dir.clone(),
        at("FLUVIO_PORT")?,
        at("FLUVIO_SPU_PORT")?,
    )
    .await?;
    let admin = cluster::connect(&broker.sc_addr().to_string()).await?;
    cluster::register_smartmodules(&admin).await?;
    eprintln!("clients connect to {}", broker.sc_addr());
    shutdown.cancelled().await;
    broker.shutdown().await;
    Ok(())
}

async fn init(args: &args::Init, settings: &Settings) -> anyhow::Result<()> {
    let admin = cluster::connect(&Endpoints::from_settings(settings)?.fluvio).await?;
    if let Some(spu) = &args.spu {
        cluster::register_spu(&admin, spu).await?;
    }
    cluster::wait_for_spu(&admin).await?;
    cluster::register_smartmodules(&admin).await
}

fn list(settings: &Settings) -> String {
    let rows: Vec<Vec<String>> = SETTINGS
        .iter()
        .map(|setting| {
            let value = settings.text(setting.name);
            let shown = if setting.secret && !value.is_empty() {
                "***"
            } else {
                value
            };
            [setting.name, shown, setting.help]
                .map(str::to_owned)
                .into()
        })
        .collect();
    table(&["setting", "value", "meaning"], &rows)
}
