//! The dashboard as a service: a collector, heartbeats, history, and the page.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::{watch, Notify, Semaphore};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::collect::{Collector, Services};
use crate::config::Config;
use crate::heartbeat::{self, SharedLedger};
use crate::history::{encode, History, Store};
use crate::http::{router, App, Live, Sessions, REJECTED_LOOKS_MAX};
use crate::marts::Marts;
use crate::records::Records;
use crate::verify::Verifier;

/// The history is written so often.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// Requests under way may take so long after the end was called.
const DRAIN: Duration = Duration::from_secs(1);

/// The dashboard cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("the dashboard's address {address} cannot be used")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Everybody on the network could read, or nobody.
    #[error("the dashboard listens on {0}, beyond this machine: set DASHBOARD_USER and DASHBOARD_PASSWORD, or listen on 127.0.0.1")]
    NoLogin(SocketAddr),
    /// The listener broke.
    #[error("the dashboard's server ended")]
    Serve(#[source] std::io::Error),
}

/// A dashboard that listens and has not been started.
pub struct Service {
    config: Config,
    listener: TcpListener,
    address: SocketAddr,
}

impl Service {
    /// Listens; port 0 takes a free one.
    pub async fn bind(config: Config) -> Result<Service, Error> {
        let wanted = config.bind;
        let can_log_in = sessions(&config).can_log_in();
        if !wanted.ip().is_loopback() && !can_log_in {
            return Err(Error::NoLogin(wanted));
        }
        let failed = |source| Error::Bind {
            address: wanted,
            source,
        };
        let listener = TcpListener::bind(wanted).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Service {
            config,
            listener,
            address,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs until `shutdown`; streams of events end then, and the history is saved.
    pub fn run(self, shutdown: CancellationToken) -> BoxFuture<'static, Result<(), Error>> {
        // Boxed here, so that it is compiled with this crate only (ADR 14).
        Box::pin(self.run_until(shutdown))
    }

    async fn run_until(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Service {
            config,
            listener,
            address,
        } = self;
        let started = Instant::now();
        let ledger = SharedLedger::default();
        let verifier = Verifier::new(config.verify.clone());
        let history = Arc::new(Mutex::new(History::default()));
        let saver = Saver::load(config.state_dir.as_ref(), &history).await;
        let (publish, feed) = watch::channel(None);
        let recount = Arc::new(Notify::new());
        let app = Arc::new(App {
            address,
            names: config.names.clone(),
            control_token: config.control_token.clone(),
            sessions: sessions(&config),
            feed,
            viewers: Arc::new(Semaphore::new(config.viewers_max)),
            rejected_looks: Arc::new(Semaphore::new(REJECTED_LOOKS_MAX)),
            history: history.clone(),
            services: Services::new(&config),
            marts: Marts::new(&config.sources.mysql, &config.marts),
            records: Records::new(&config.sources.fluvio),
            verifier: verifier.clone(),
            recount: recount.clone(),
            shutdown: shutdown.clone(),
        });
        let collector = Collector::with(&config, ledger.clone(), verifier, started);
        let ticking = tick(collector, config.tick, publish, history, recount);
        let beating = beat(config, ledger, started);
        let background = async { tokio::join!(ticking, beating, saver.run()) };
        let serving = serve(listener, app, shutdown.clone());
        let ended = async {
            // Before anybody is waited for: whoever runs this may lose patience.
            shutdown.cancelled().await;
            saver.save().await;
        };
        let serving = async { tokio::join!(serving, ended).0 };
        let served = tokio::select! {
            served = serving => served,
            _ = background => Ok(()),
        };
        saver.save().await;
        served
    }
}

async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let service = router(app).into_make_service_with_connect_info::<SocketAddr>();
    let server =
        axum::serve(listener, service).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = server => served.map_err(Error::Serve),
        () = drained => Ok(()),
    }
}

/// Runs until dropped. A request to count the rejected records again brings the next tick forward.
async fn tick(
    mut collector: Collector,
    period: Duration,
    publish: watch::Sender<Option<Live>>,
    history: Arc<Mutex<History>>,
    recount: Arc<Notify>,
) {
    let mut clock = tokio::time::interval(period.max(Duration::from_millis(10)));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = clock.tick() => {}
            () = recount.notified() => collector.recount(),
        }
        let status = collector.tick().await;
        history
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
            .add(&status);
        publish.send_replace(Some(Live::new(status)));
    }
}

async fn beat(config: Config, ledger: SharedLedger, started: Instant) {
    if config.heartbeat_period.is_zero() {
        return;
    }
    heartbeat::run(config, ledger, started).await;
}

/// Keeps the history on disk, if there is a folder for it.
struct Saver {
    store: Option<Store>,
    history: Arc<Mutex<History>>,
}

impl Saver {
    async fn load(folder: Option<&PathBuf>, history: &Arc<Mutex<History>>) -> Saver {
        let store = folder.map(|folder| Store::new(folder));
        if let Some(store) = store.clone() {
            let loaded = tokio::task::spawn_blocking(move || store.load()).await;
            let saved = loaded.unwrap_or_default();
            *history.lock().unwrap_or_else(|broken| broken.into_inner()) = saved.history;
        }
        Saver {
            store,
            history: history.clone(),
        }
    }

    async fn run(&self) {
        loop {
            tokio::time::sleep(SAVE_EVERY).await;
            self.save().await;
        }
    }

    async fn save(&self) {
        let Some(store) = self.store.clone() else {
            return;
        };
        let history = self.history.clone();
        let saving = tokio::task::spawn_blocking(move || {
            let bytes = {
                let history = history.lock().unwrap_or_else(|broken| broken.into_inner());
                encode(&history)
            };
            store.write(&bytes)
        });
        if let Ok(Err(error)) = saving.await {
            tracing::warn!(%error, "the history was not saved; trying again");
        }
    }
}

fn sessions(config: &Config) -> Sessions {
    Sessions::new(config.user.as_deref(), config.password.as_deref())
}
