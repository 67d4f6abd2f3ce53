//! The services of a deployment as tasks of this process.

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use millrace_postgres_cdc::{self as capture, Capture};
use millrace_projections::engine;
use millrace_shop_generator::trade::{self, Trader};
use millrace_shop_generator::user_events::{self, UserEvents};
use millrace_shop_generator::{create_schema, prepare, Filled, Progress};
use millrace_users_data as ingest;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::endpoints::Endpoints;
use crate::settings::Settings;
use crate::terminal::Terminal;

/// Services may take so long to end by themselves; Ctrl-C promises ten seconds for everything.
const STOP_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(200);

type Ended = (&'static str, anyhow::Result<()>);

/// Running services and what there is to see of them.
pub(crate) struct Services {
    tasks: JoinSet<Ended>,
    shutdown: CancellationToken,
    trading: CancellationToken,
    /// Capture.
    pub capture: Option<capture::Handle>,
    /// The projector.
    pub projector: Option<engine::Handle>,
    /// Ingest.
    pub ingest: Option<ingest::Handle>,
    /// The shop's trade.
    pub trader: Option<trade::Handle>,
    /// The stream of incoming users.
    pub user_events: Option<user_events::Handle>,
}

impl Services {
    /// None runs yet; all end with `shutdown`.
    pub(crate) fn new(shutdown: &CancellationToken) -> Services {
        Services {
            tasks: JoinSet::new(),
            shutdown: shutdown.clone(),
            trading: shutdown.child_token(),
            capture: None,
            projector: None,
            ingest: None,
            trader: None,
            user_events: None,
        }
    }

    fn spawn<E>(
        &mut self,
        name: &'static str,
        run: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        E: Into<anyhow::Error> + Send + 'static,
    {
        self.tasks
            .spawn(async move { (name, run.await.map_err(Into::into)) });
    }

    fn spawn_mirror(&mut self, name: &'static str, run: impl Future<Output = ()> + Send + 'static) {
        self.spawn(name, async {
            run.await;
            anyhow::Ok(())
        });
    }

    /// Starts capture, projector and ingest, each with its control API.
    pub(crate) async fn start_pipeline(
        &mut self,
        settings: &Settings,
        endpoints: &Endpoints,
    ) -> anyhow::Result<()> {
        self.start_capture(settings, endpoints).await?;
        self.start_projector(settings, endpoints).await?;
        self.start_ingest(settings, endpoints).await
    }

    async fn start_capture(
        &mut self,
        settings: &Settings,
        endpoints: &Endpoints,
    ) -> anyhow::Result<()> {
        let capture = Capture::new(crate::services::capture(settings, endpoints)?)?;
        let handle = capture.handle();
        let control = crate::services::capture_control(settings, endpoints).await?;
        let control = control.capture(handle.clone(), self.shutdown.clone());
        self.capture = Some(handle);
        self.spawn("capture", capture.run(self.shutdown.clone()));
        self.spawn("capture's control API", control);
        Ok(())
    }

    async fn start_projector(
        &mut self,
        settings: &Settings,
        endpoints: &Endpoints,
    ) -> anyhow::Result<()> {
        let projector = engine::Service::new(crate::services::projector(settings, endpoints)?);
        let handle = projector.handle();
        let control = crate::services::control(settings, endpoints).await?;
        let control = control.project(handle.clone(), self.shutdown.clone());
        self.spawn_mirror("projector's mirror", {
            let shutdown = self.shutdown.clone();
            crate::services::mirror_projector(settings, endpoints, handle.clone(), shutdown)
        });
        self.projector = Some(handle);
        self.spawn("projector", projector.run(self.shutdown.clone()));
        self.spawn("control API", control);
        Ok(())
    }

    async fn start_ingest(
        &mut self,
        settings: &Settings,
        endpoints: &Endpoints,
    ) -> anyhow::Result<()> {
        let config = crate::services::ingest(settings, endpoints)?;
        let rejected = ingest::Rejected::open(config.clone())?;
        let (ingest, handle) = ingest::Service::new(config)?;
        let control = crate::services::ingest_control(settings, endpoints).await?;
        let control = control.ingest(handle.clone(), rejected, self.shutdown.clone());
        self.spawn_mirror("ingest's mirror", {
            let shutdown = self.shutdown.clone();
            crate::services::mirror_ingest(settings, endpoints, handle.clone(), shutdown)
        });
        self.ingest = Some(handle);
        self.spawn("ingest", ingest.run(self.shutdown.clone()));
        self.spawn("ingest's control API", control);
        Ok(())
    }

    /// Starts the page; its history lies in the data directory.
    pub(crate) async fn start_dashboard(
        &mut self,
        settings: &Settings,
        endpoints: &Endpoints,
        data_dir: &Path,
    ) -> anyhow::Result<()> {
        let bind = crate::services::dashboard_address(settings).await?;
        let state_dir = Some(data_dir.join("dashboard"));
        let config = crate::services::dashboard(settings, endpoints, bind, state_dir)?;
        let page = millrace_dashboard::Service::bind(config).await?;
        self.spawn("the page", page.run(self.shutdown.clone()));
        Ok(())
    }

    /// Starts the shop's trade and the stream of incoming users.
    pub(crate) fn start_trading(
        &mut self,
        settings: &Settings,
        endpoints: &Endpoints,
    ) -> anyhow::Result<()> {
        let trader = Trader::new(crate::services::trade(settings, endpoints)?)?;
        self.trader = Some(trader.handle());
        self.spawn("trade", trader.run(self.trading.clone()));
        let users = UserEvents::new(crate::services::user_events(settings, endpoints)?)?;
        self.user_events = Some(users.handle());
        self.spawn("user events", users.run(self.trading.clone()));
        Ok(())
    }

    /// Ends the trade and the stream of users, and nothing else.
    pub(crate) async fn stop_trading(&mut self) -> anyhow::Result<()> {
        self.trading.cancel();
        for _ in 0..2 {
            match self.tasks.join_next().await {
                Some(Ok((_, Ok(())))) => {}
                other => return Err(failure(other)),
            }
        }
        Ok(())
    }

    /// Returns when Ctrl-C was pressed, or with the reason when a service ended by itself.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Ok(()),
            ended = self.tasks.join_next() => {
                if self.shutdown.is_cancelled() {
                    return Ok(());
                }
                Err(failure(ended))
            }
        }
    }

    /// Waits for `work`, but no longer than the services run: nothing would come of it.
    pub(crate) async fn meanwhile<T>(
        &mut self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        tokio::select! {
            ended = self.ended() => {
                ended?;
                bail!("interrupted before both sides were compared");
            }
            done = work => done,
        }
    }

    /// Ends with all services, on Ctrl-C.
    pub(crate) fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Asks all to end, waits a little, and drops those that have not.
    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_WITHIN, all).await.is_err() {
            // Each may be dropped at any instant: that is what surviving kill -9 means.
            self.tasks.shutdown().await;
        }
    }

    /// Shows the snapshot and the catching up; false if Ctrl-C came first.
    pub(crate) async fn wait_until_live(
        &mut self,
        terminal: &mut Terminal,
    ) -> anyhow::Result<bool> {
        let began = Instant::now();
        loop {
            tokio::select! {
                ended = self.ended() => return ended.map(|()| false),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if self.caught_up() {
                return Ok(true);
            }
            self.show_progress(terminal, began);
        }
    }

    /// Records read are not enough: a projector that waits for a missing record has read them all, but
    /// its position stays below what capture has in the log.
    fn caught_up(&self) -> bool {
        let (Some(capture), Some(projector)) = (&self.capture, &self.projector) else {
            return false;
        };
        let (captured, applied) = (capture.status(), projector.status());
        captured.state == capture::State::Streaming
            && applied.state == engine::State::Live
            && applied.lag_records == Some(0)
            && applied.end_lsn.is_some_and(|end| end >= captured.last_lsn)
    }

    fn show_progress(&self, terminal: &mut Terminal, began: Instant) {
        let captured = self.capture.as_ref().map(|capture| capture.status().state);
        if let Some(capture::State::Snapshot { table, rows, total }) = captured {
            terminal.bar(&format!("snapshot: {table}"), rows, total.max(rows), began);
            return;
        }
        let Some(status) = self.projector.as_ref().map(engine::Handle::status) else {
            return;
        };
        if let (engine::State::Loading, Some(loaded)) = (status.state, status.snapshot) {
            let total = loaded.rows_estimated.max(loaded.rows);
            terminal.bar("loading into MySQL", loaded.rows, total, began);
        } else if let (Some(next), Some(end)) = (status.next_offset, status.high_watermark) {
            terminal.bar("catching up", next.0, end.0, began);
        }
    }
}

fn failure(ended: Option<Result<Ended, tokio::task::JoinError>>) -> anyhow::Error {
    match ended {
        Some(Ok((name, Err(error)))) => error.context(format!("{name} stopped")),
        Some(Ok((name, Ok(())))) => anyhow!("{name} ended without being asked to"),
        Some(Err(error)) => anyhow!(error).context("a service broke down; please report this"),
        None => anyhow!("no service runs"),
    }
}

/// Creates the shop's tables; for the demo it fills them too, once.
pub(super) async fn prepare_shop(
    demo: bool,
    settings: &Settings,
    endpoints: &Endpoints,
    terminal: &mut Terminal,
) -> anyhow::Result<()> {
    let pool = crate::services::shop_pool(endpoints)?;
    let (schema, shop) = crate::services::shop(settings)?;
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
