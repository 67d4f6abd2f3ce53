//! The services of a deployment as parts that are kept running, each with its control API.

mod pipeline;
mod progress;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::bail;
use millrace_control::{Down, Fault, Front};
use millrace_dashboard as dashboard;
use millrace_dashboard::status::PartDown;
use millrace_postgres_cdc as capture;
use millrace_projections::engine;
use millrace_shop_generator::trade::{self, Trader};
use millrace_shop_generator::user_events::{self, UserEvents};
use tokio_util::sync::CancellationToken;

use super::parts::Supervisor;
use super::states::{News, States};
use super::supervise::Role;
use crate::endpoints::Endpoints;
use crate::services::Control;
use crate::settings::Settings;

/// Services may take so long to end by themselves; Ctrl-C promises ten seconds for everything.
const STOP_WITHIN: Duration = Duration::from_secs(3);

const TRADE: &str = "trade";
const USER_EVENTS: &str = "user events";

/// The handle of a part's newest start.
#[derive(Clone)]
pub(crate) struct Newest<T>(Arc<Mutex<Option<T>>>);

impl<T: Clone> Newest<T> {
    fn none() -> Newest<T> {
        Newest(Arc::new(Mutex::new(None)))
    }

    fn set(&self, handle: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    }

    /// `None` before the first start.
    pub(crate) fn get(&self) -> Option<T> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Running services and what there is to see of them.
pub(crate) struct Services {
    parts: Supervisor,
    states: States,
    news: News,
    wiring: Arc<Wiring>,
    /// Ctrl-C.
    asked_to_end: CancellationToken,
    trading: CancellationToken,
    /// Capture.
    pub capture: Newest<capture::Handle>,
    /// The projector.
    pub projector: Newest<engine::Handle>,
    /// The shop's trade.
    pub trader: Newest<trade::Handle>,
    /// The stream of incoming users.
    pub user_events: Newest<user_events::Handle>,
}

/// What every start of a service is configured from.
struct Wiring {
    settings: Settings,
    endpoints: Endpoints,
}

/// What makes a service: the first one is made beforehand, so that a configuration that cannot work is told at once.
fn remade<T>(
    wiring: &Arc<Wiring>,
    make: impl Fn(&Wiring) -> anyhow::Result<T>,
) -> anyhow::Result<impl FnMut() -> anyhow::Result<T>> {
    let (mut first, wiring) = (Some(make(wiring)?), wiring.clone());
    Ok(move || first.take().map_or_else(|| make(&wiring), Ok))
}

impl Services {
    /// None runs yet.
    pub(super) fn new(
        states: &States,
        asked_to_end: &CancellationToken,
        settings: &Settings,
        endpoints: &Endpoints,
    ) -> Services {
        let stop = CancellationToken::new();
        Services {
            parts: Supervisor::new(states, stop.clone()),
            states: states.clone(),
            news: states.news(),
            wiring: Arc::new(Wiring {
                settings: settings.clone(),
                endpoints: endpoints.clone(),
            }),
            asked_to_end: asked_to_end.clone(),
            trading: stop.child_token(),
            capture: Newest::none(),
            projector: Newest::none(),
            trader: Newest::none(),
            user_events: Newest::none(),
        }
    }

    /// Keeps a control API that listens already; `listen` makes the later ones.
    fn keep_control<R>(
        &mut self,
        name: &'static str,
        front: Front,
        first: Control,
        listen: impl Fn(Arc<Wiring>) -> R + Send + 'static,
    ) where
        R: Future<Output = anyhow::Result<Control>> + Send + 'static,
    {
        let (mut first, wiring) = (Some(first), self.wiring.clone());
        self.parts.keep(name, Role::Serves, move |stop| {
            let (ready, front) = (first.take(), front.clone());
            let listen = ready.is_none().then(|| listen(wiring.clone()));
            async move {
                let control = match (ready, listen) {
                    (Some(control), _) => control,
                    (None, Some(listen)) => listen.await?,
                    (None, None) => bail!("there is nothing to serve"),
                };
                control.front(front, stop).await
            }
        });
    }

    /// Starts the page; its history lies in the data directory.
    pub(crate) async fn start_dashboard(&mut self, data_dir: &Path) -> anyhow::Result<()> {
        let state_dir = data_dir.join("dashboard");
        let (wiring, down) = (self.wiring.clone(), self.parts_down());
        let mut first = Some(page(wiring.clone(), state_dir.clone(), down.clone()).await?);
        self.parts.keep("page", Role::Serves, move |stop| {
            let ready = first.take();
            let make = page(wiring.clone(), state_dir.clone(), down.clone());
            async move {
                let page = match ready {
                    Some(page) => page,
                    None => make.await?,
                };
                Ok(page.run(stop).await?)
            }
        });
        Ok(())
    }

    /// For the page: parts that are down and cannot say so themselves.
    fn parts_down(&self) -> dashboard::PartsFn {
        let states = self.states.clone();
        Arc::new(move || {
            let down = states.all_down().into_iter();
            let down = down.filter(|(name, _)| !pipeline::SPEAK_FOR_THEMSELVES.contains(name));
            down.map(|(name, down)| part_down(name, down)).collect()
        })
    }

    /// Starts the shop's trade and the stream of incoming users.
    pub(crate) fn start_trading(&mut self) -> anyhow::Result<()> {
        self.start_trade()?;
        self.start_user_events()
    }

    fn start_trade(&mut self) -> anyhow::Result<()> {
        let mut make = remade(&self.wiring, |wiring| {
            let config = crate::services::trade(&wiring.settings, &wiring.endpoints)?;
            Ok(Trader::new(config)?)
        })?;
        let newest = self.trader.clone();
        self.parts
            .keep_until(self.trading.clone(), TRADE, Role::Serves, move |stop| {
                let (trader, newest) = (make(), newest.clone());
                async move {
                    let trader = trader?;
                    newest.set(trader.handle());
                    Ok(trader.run(stop).await?)
                }
            });
        Ok(())
    }

    fn start_user_events(&mut self) -> anyhow::Result<()> {
        let mut make = remade(&self.wiring, |wiring| {
            let config = crate::services::user_events(&wiring.settings, &wiring.endpoints)?;
            Ok(UserEvents::new(config)?)
        })?;
        let newest = self.user_events.clone();
        self.parts.keep_until(
            self.trading.clone(),
            USER_EVENTS,
            Role::Serves,
            move |stop| {
                let (users, newest) = (make(), newest.clone());
                async move {
                    let users = users?;
                    newest.set(users.handle());
                    Ok(users.run(stop).await?)
                }
            },
        );
        Ok(())
    }

    /// Ends the trade and the stream of users, and nothing else.
    pub(crate) async fn stop_trading(&mut self) {
        self.trading.cancel();
        self.states.gone(&[TRADE, USER_EVENTS]).await;
    }

    /// Waits for `work`, but no longer than it can come to something: until a part is in trouble that `--once` does
    /// not wait for.
    pub(crate) async fn meanwhile<T>(
        &self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        tokio::select! {
            trouble = self.states.trouble() => Err(trouble),
            done = work => done,
        }
    }

    /// Waits for what a person should know: parts that went down, parts that came back. The reason as an error if
    /// nothing is left that can move data. May be dropped at any instant.
    pub(crate) async fn news(&mut self) -> anyhow::Result<Vec<String>> {
        tokio::select! {
            ended = self.states.nothing_can_move() => Err(ended),
            lines = self.news.next() => Ok(lines),
        }
    }

    /// One line for each part that is down.
    pub(crate) fn down(&self) -> Vec<String> {
        let down = self.states.all_down();
        let lines = down
            .iter()
            .map(|(name, down)| format!("{name} is down: {down}"));
        lines.collect()
    }

    /// Ends with Ctrl-C.
    pub(crate) fn shutdown(&self) -> CancellationToken {
        self.asked_to_end.clone()
    }

    /// Asks all to end, waits a little, and drops those that have not: each may be dropped at any instant, that is
    /// what surviving kill -9 means.
    pub(crate) async fn stop(&mut self) {
        if let Err(error) = self.parts.stop(STOP_WITHIN).await {
            tracing::warn!(error = format!("{error:#}"), "a service did not end well");
        }
    }
}

async fn page(
    wiring: Arc<Wiring>,
    state_dir: PathBuf,
    parts_down: dashboard::PartsFn,
) -> anyhow::Result<dashboard::Service> {
    let Wiring {
        settings,
        endpoints,
    } = &*wiring;
    let bind = crate::services::dashboard_address(settings).await?;
    let config = dashboard::Config {
        parts_down: Some(parts_down),
        ..crate::services::dashboard(settings, endpoints, bind, Some(state_dir))?
    };
    Ok(dashboard::Service::bind(config).await?)
}

fn part_down(name: &str, down: Down) -> PartDown {
    PartDown {
        name: name.to_owned(),
        since: down.since.into(),
        outlook: down.outlook.to_string(),
        fault: Fault {
            code: down.code,
            message: down.reason,
        },
    }
}
