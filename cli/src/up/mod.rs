//! `millrace up`: every service in one process, on private servers in a data directory.

mod deployment;
mod once;
mod services;
mod summary;

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, Context};
use tokio_util::sync::CancellationToken;

use crate::args;
use crate::cluster;
use crate::endpoints::Endpoints;
use crate::exposure;
use crate::settings::Settings;
use crate::smartmodules::{self, Lookup};
use crate::terminal::Terminal;

pub(crate) use deployment::{open_broker, Deployment};
pub(crate) use services::Services;

/// Redrawn that often on a terminal, and printed that often into a file.
const SUMMARY_PERIOD: Duration = Duration::from_secs(1);
const SUMMARY_PERIOD_IN_FILE: Duration = Duration::from_secs(10);

/// Runs until Ctrl-C, or with `--once` until the answer is known.
pub(crate) async fn run(args: &args::Up, mut settings: Settings) -> anyhow::Result<ExitCode> {
    let mut terminal = Terminal::new();
    let shutdown = shutdown_on_signal()?;
    std::fs::create_dir_all(&args.data_dir)
        .with_context(|| format!("cannot create {}", args.data_dir.display()))?;
    let _lock = lock(&args.data_dir)?;
    if args.free_ports {
        deployment::choose_ports(&mut settings, &args.data_dir)?;
    }
    if let Some(warning) = exposure::warning(&settings, None) {
        terminal.step(warning);
    }
    let cluster = args.fluvio.as_deref();
    let start = Deployment::start(&settings, &args.data_dir, cluster, &mut terminal);
    let Some(started) = shutdown.run_until_cancelled(start).await else {
        terminal.step("stopped while starting; the next start begins again");
        return interrupted(args);
    };
    let mut deployment = started?;
    let mut services = Services::new(&shutdown);
    let serve = serve(
        args,
        &settings,
        &mut deployment,
        &mut services,
        &mut terminal,
    );
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
    deployment: &mut Deployment,
    services: &mut Services,
    terminal: &mut Terminal,
) -> anyhow::Result<ExitCode> {
    let admin = cluster::connect(&deployment.endpoints.fluvio).await?;
    cluster::wait_for_spu(&admin).await?;
    let lookup = match deployment.broker {
        Some(_) => Lookup::Exact,
        None => Lookup::Loose,
    };
    smartmodules::register(&admin, lookup).await?;
    services::prepare_shop(args.demo, settings, &deployment.endpoints, terminal).await?;
    services
        .start_pipeline(settings, &deployment.endpoints)
        .await?;
    services
        .start_dashboard(settings, &deployment.endpoints, &args.data_dir)
        .await?;
    deployment.endpoints.write(&args.data_dir)?;
    if !services.wait_until_live(terminal).await? {
        return interrupted(args);
    }
    terminal.step("caught up: the marts move with the shop");
    eprint!("\n{}\n", summary::services(settings, deployment));
    if args.demo {
        services.start_trading(settings, &deployment.endpoints)?;
    }
    if args.once {
        return once::run(settings, deployment, services, terminal).await;
    }
    watch(settings, deployment, services, terminal).await?;
    Ok(ExitCode::SUCCESS)
}

/// Shows lag and marts until Ctrl-C, a server's end, or a service's failure.
async fn watch(
    settings: &Settings,
    deployment: &mut Deployment,
    services: &mut Services,
    terminal: &mut Terminal,
) -> anyhow::Result<()> {
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
            ended = services.ended() => return ended,
            _ = tick.tick() => {}
        }
        deployment.check_alive()?;
        let lag = summary.lag(services);
        // A target that does not answer must not hide the end of a service.
        let text = tokio::select! {
            ended = services.ended() => return ended,
            text = summary.draw(lag) => text,
        };
        terminal.block(&text);
    }
}

/// Never two processes on one data directory.
fn lock(data_dir: &Path) -> anyhow::Result<File> {
    let path = data_dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => bail!(
            "another millrace runs on {}; stop it, or choose another --data-dir",
            data_dir.display()
        ),
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Cancelled by Ctrl-C or SIGTERM. A second one ends the process at once.
pub(crate) fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
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
