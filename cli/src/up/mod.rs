//! `millrace up`: every service in one process, on private servers in a data directory or on servers of one's own.
//!
//! Each server and each service is a part that is kept running (`parts`) by the rules in `supervise`; where a
//! configuration cannot work, `up` fails before it keeps anything.

mod databases;
mod deployment;
mod failure;
mod once;
mod parts;
mod servers;
mod services;
mod shop;
mod states;
mod summary;
mod supervise;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use millrace_topic::Lookup;
use tokio_util::sync::CancellationToken;

use crate::args;
use crate::cluster;
use crate::data_dir::DataDir;
use crate::endpoints::Endpoints;
use crate::exposure;
use crate::settings::Settings;
use crate::smartmodules;
use crate::terminal::Terminal;

pub(crate) use deployment::{open_broker, Deployment};
pub(crate) use services::Services;

/// Redrawn that often on a terminal, and printed that often into a file.
const SUMMARY_PERIOD: Duration = Duration::from_secs(1);
const SUMMARY_PERIOD_IN_FILE: Duration = Duration::from_secs(10);

/// Runs until Ctrl-C, until nothing can move data any more, or with `--once` until the answer is known.
pub(crate) async fn run(args: &args::Up, mut settings: Settings) -> anyhow::Result<ExitCode> {
    let mut terminal = Terminal::new();
    let shutdown = shutdown_on_signal()?;
    let _data_dir = DataDir::claim(&args.data_dir)?;
    if args.free_ports {
        deployment::choose_ports(&mut settings, &args.data_dir)?;
    }
    if let Some(warning) = exposure::warning(&settings, None) {
        terminal.step(warning);
    }
    if args.demo {
        shop::check_selected(&settings)?;
    }
    let start = Deployment::start(args, &settings, &mut terminal);
    let Some(started) = shutdown.run_until_cancelled(start).await else {
        terminal.step("stopped while starting; the next start begins again");
        return interrupted(args);
    };
    let deployment = started?;
    let mut services = Services::new(
        &deployment.states,
        &shutdown,
        &settings,
        &deployment.endpoints,
    );
    let serve = serve(args, &settings, &deployment, &mut services, &mut terminal);
    let outcome = shutdown.run_until_cancelled(serve).await;
    // What is said of a service that failed matters more than how the rest stopped.
    Endpoints::remove(&args.data_dir);
    terminal.step("stopping");
    services.stop().await;
    let stopped = deployment.stop().await;
    let code = outcome.unwrap_or_else(|| interrupted(args))?;
    stopped?;
    terminal.step("stopped; the next start resumes here");
    Ok(code)
}

/// Ctrl-C is how `up` ends, but `--once` owes an answer.
fn interrupted(args: &args::Up) -> anyhow::Result<ExitCode> {
    if args.once {
        bail!("interrupted before both sides were compared");
    }
    Ok(ExitCode::SUCCESS)
}

/// Dropped on Ctrl-C, at whatever it waits for.
async fn serve(
    args: &args::Up,
    settings: &Settings,
    deployment: &Deployment,
    services: &mut Services,
    terminal: &mut Terminal,
) -> anyhow::Result<ExitCode> {
    let endpoints = &deployment.endpoints;
    let cluster = cluster::connect(&endpoints.fluvio).await?;
    cluster::wait_for_spu(&cluster).await?;
    // The embedded broker finds a module by its whole name only; a cluster may find a stranger's.
    let lookup = match args.fluvio {
        None => Lookup::Exact,
        Some(_) => Lookup::Loose,
    };
    cluster.register(smartmodules::MODULES, lookup).await?;
    if args.demo {
        let shop = shop::prepare_shop(settings, endpoints, terminal);
        match args.once {
            true => services.meanwhile(shop).await?,
            false => shop.await?,
        }
    }
    services.start_pipeline().await?;
    services.start_dashboard(&args.data_dir).await?;
    endpoints.write(&args.data_dir)?;
    if services.wait_until_live(terminal, args.once).await? {
        terminal.step(match args.demo {
            true => "caught up: the marts move with the shop",
            false => "caught up: MySQL moves with Postgres",
        });
    }
    let table = summary::services(args, settings, deployment);
    terminal.text(&format!("\n{table}\n"));
    if args.demo {
        services.start_trading()?;
    }
    if args.once {
        return once::run(settings, deployment, services, terminal).await;
    }
    watch(settings, deployment, services, terminal).await
}

/// Shows lag and marts, and what becomes of the parts. Ends with the reason if nothing can move data any more.
async fn watch(
    settings: &Settings,
    deployment: &Deployment,
    services: &mut Services,
    terminal: &mut Terminal,
) -> anyhow::Result<ExitCode> {
    let period = if terminal.is_live() {
        SUMMARY_PERIOD
    } else {
        SUMMARY_PERIOD_IN_FILE
    };
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut summary = summary::Live::new(settings, &deployment.endpoints)?;
    loop {
        tokio::select! {
            news = services.news() => news?.iter().for_each(|line| terminal.step(line)),
            _ = tick.tick() => {}
        }
        let lag = summary.lag(services);
        // A target that does not answer must not hide what becomes of the parts.
        tokio::select! {
            news = services.news() => news?.iter().for_each(|line| terminal.step(line)),
            text = summary.draw(lag) => terminal.block(&text),
        }
    }
}

/// Cancelled by Ctrl-C or SIGTERM. A second one ends the process at once.
///
/// # Errors
/// If the system does not let signals be received.
pub fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{signal, SignalKind};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        for attempt in 1.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if attempt > 1 {
                std::process::exit(130);
            }
            cancel.cancel();
        }
    });
    Ok(token)
}
