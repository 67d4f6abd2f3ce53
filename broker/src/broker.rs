//! Opening, running and stopping a broker.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fluvio_controlplane_metadata::spu::{
    EncryptionEnum, Endpoint, IngressAddr, IngressPort, SpuType,
};
use fluvio_sc_schema::objects::Metadata;
use fluvio_sc_schema::smartmodule::SmartModuleSpec;
use fluvio_sc_schema::spu::SpuSpec;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::{Catalog, SPU_ID};
use crate::config::{Config, Limits, Storage};
use crate::controller::{Controller, Watching};
use crate::data::DataPlane;
use crate::disk::{DataDir, DataDirError, Sync};
use crate::files;
use crate::net::Socket;
use crate::positions::Positions;
use crate::retention::Sweep;
use crate::smart::Engine;
use crate::tls::{self, TlsError};

/// Appends that wait when the broker stops may take so long.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Why a broker could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// What is stored cannot be read.
    #[error("cannot open what is stored")]
    Stored(#[source] io::Error),
    /// TLS was asked for and cannot be had.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The WebAssembly runtime does not start on this machine.
    #[error("cannot start the SmartModule engine: {0}")]
    Engine(String),
}

/// A single-node broker for Fluvio clients.
#[derive(Debug)]
pub struct Broker;

/// A running broker. Dropping it stops accepting and serving; [`Handle::shutdown`] also waits.
pub struct Handle {
    sc_addr: SocketAddr,
    spu_addr: SocketAddr,
    data_dir: PathBuf,
    temporary: bool,
    stop: CancellationToken,
    ended: CancellationToken,
    tasks: TaskTracker,
    appends: TaskTracker,
    catalog: Option<Arc<Catalog>>,
}

impl Broker {
    /// Opens the data, recovers what a crash left behind, and serves on both addresses.
    ///
    /// # Errors
    /// If the data directory is in use, of another format or damaged, or an address is taken.
    pub async fn open(config: Config) -> Result<Handle, OpenError> {
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let (data_dir, sync) = place(&config.storage);
        let controller = listen(config.sc_bind)?;
        let data_plane = listen(config.spu_bind)?;
        let (sc_addr, spu_addr) = (
            local(&controller, config.sc_bind)?,
            local(&data_plane, config.spu_bind)?,
        );
        let spu = spu_spec(&config, spu_addr);
        let limits = config.limits.clone().within(files::raise_limit());
        let (appends, dir) = (TaskTracker::new(), data_dir.clone());
        let tracker = appends.clone();
        let opened =
            tokio::task::spawn_blocking(move || open_data(&dir, sync, spu, &limits, &tracker))
                .await;
        let parts = opened.map_err(|error| OpenError::Stored(io::Error::other(error)))??;
        let handle = Handle {
            sc_addr,
            spu_addr,
            data_dir,
            temporary: sync == Sync::Never,
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
            tasks: TaskTracker::new(),
            appends,
            catalog: Some(parts.catalog.clone()),
        };
        handle.start(parts, config, tls, [controller, data_plane]);
        Ok(handle)
    }
}

/// What the two listeners serve.
pub(crate) struct Parts {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) positions: Arc<Positions>,
    engine: Arc<Engine>,
    pub(crate) data: Arc<DataDir>,
}

impl Parts {
    /// What answers at each of the two listeners; `tasks` are what they leave running.
    pub(crate) fn services(
        &self,
        limits: &Limits,
        tasks: &TaskTracker,
    ) -> (Arc<Controller>, Arc<DataPlane>) {
        let controller = Controller {
            catalog: self.catalog.clone(),
            positions: self.positions.clone(),
            watching: Watching::default(),
            frame_bytes_max: limits.frame_bytes_max,
            tasks: tasks.clone(),
        };
        let data_plane = DataPlane {
            catalog: self.catalog.clone(),
            positions: self.positions.clone(),
            engine: self.engine.clone(),
            inflight: Arc::new(Semaphore::new(limits.inflight_bytes_max)),
            inflight_share: Arc::new(Semaphore::new(limits.inflight_share())),
            limits: limits.clone(),
            tasks: tasks.clone(),
        };
        (Arc::new(controller), Arc::new(data_plane))
    }
}

impl Handle {
    /// Where clients connect to.
    #[must_use]
    pub fn sc_addr(&self) -> SocketAddr {
        self.sc_addr
    }

    /// Where records are produced and consumed; clients learn it from the controller.
    #[must_use]
    pub fn spu_addr(&self) -> SocketAddr {
        self.spu_addr
    }

    /// The SmartModules that are registered, WebAssembly included.
    #[must_use]
    pub fn smart_modules(&self) -> Vec<Metadata<SmartModuleSpec>> {
        let list = |catalog: &Arc<Catalog>| catalog.list::<SmartModuleSpec>().1;
        let modules = self.catalog.as_ref().map(list).unwrap_or_default();
        modules.into_iter().map(|(_, module)| module).collect()
    }

    /// Registers a SmartModule as an administrator's client would: a package under its own name; what has
    /// the same name is replaced.
    ///
    /// # Errors
    /// If the name is not one for a SmartModule, or it cannot be stored.
    pub async fn put_smart_module(&self, name: &str, spec: SmartModuleSpec) -> io::Result<()> {
        let catalog = self.catalog.clone();
        let name = name.to_owned();
        let put = move || match catalog {
            Some(catalog) => catalog.put_smart_module(&name, spec).map(drop),
            None => Ok(()),
        };
        let put = tokio::task::spawn_blocking(put).await?;
        put.map_err(|refusal| io::Error::other(refusal.to_string()))
    }

    /// Waits until it no longer serves, although nobody has stopped it: a part of it broke down.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Stops serving, finishes what is being written, and releases the data directory.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.appends.close();
        if tokio::time::timeout(STOP_WITHIN, self.appends.wait())
            .await
            .is_err()
        {
            // Nothing of it was acknowledged; the next start reads the last segments as a whole.
            tracing::warn!("appends that a SmartModule holds up are given up");
            return;
        }
        let (catalog, data_dir, temporary) =
            (self.catalog.take(), self.data_dir.clone(), self.temporary);
        let finish = move || {
            for partition in catalog.iter().flat_map(|catalog| catalog.partitions()) {
                if let Err(error) = partition.log.close() {
                    tracing::warn!(%error, "the next start will read the last segment as a whole");
                }
            }
            drop(catalog);
            if temporary {
                let _ = std::fs::remove_dir_all(data_dir);
            }
        };
        let _ = tokio::task::spawn_blocking(finish).await;
    }

    fn start(
        &self,
        parts: Parts,
        Config { hold, limits, .. }: Config,
        tls: Option<TlsAcceptor>,
        [controller, data_plane]: [TcpListener; 2],
    ) {
        let (sc, spu) = parts.services(&limits, &self.tasks);
        let listen = Listen {
            connections_max: limits.connections_max,
            tls,
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
        };
        self.spawn(listen.clone().accept(controller, move |socket, stop| {
            sc.clone().serve(socket, stop)
        }));
        self.spawn(listen.accept(data_plane, move |socket, stop| {
            spu.clone().serve(socket, stop)
        }));
        let sweep = Sweep::new(parts.catalog, parts.positions, parts.data, hold);
        self.spawn(sweep.run(limits.retention_interval, self.stop.clone()));
    }

    /// A listener, or what runs as long as they do.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone().drop_guard();
        self.tasks.spawn(async move {
            let _ended = ended;
            task.await;
        });
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("sc_addr", &self.sc_addr)
            .field("spu_addr", &self.spu_addr)
            .finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn place(storage: &Storage) -> (PathBuf, Sync) {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    match storage {
        Storage::Directory(path) => (path.clone(), Sync::Always),
        Storage::Temporary => {
            let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let now = std::time::UNIX_EPOCH
                .elapsed()
                .unwrap_or_default()
                .as_nanos();
            let name = format!("millrace-broker-{}-{now}-{count}", std::process::id());
            (std::env::temp_dir().join(name), Sync::Never)
        }
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, OpenError> {
    let listen = || {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        socket.set_reuseaddr(true)?;
        // Accepted connections inherit it: a client whose machine vanished does not keep its place.
        socket.set_keepalive(true)?;
        socket.bind(address)?;
        socket.listen(1024)
    };
    listen().map_err(|source| OpenError::Bind { address, source })
}

fn local(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, OpenError> {
    listener
        .local_addr()
        .map_err(|source| OpenError::Bind { address, source })
}

pub(crate) fn spu_spec(config: &Config, spu_addr: SocketAddr) -> SpuSpec {
    // Clients join host and port with a colon, so that an IPv6 address needs its brackets.
    let own = match spu_addr.ip() {
        address if address.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let own = (own, spu_addr.port());
    let (host, port) = match config.advertised.clone() {
        Some((host, 0)) => (host, own.1),
        Some(advertised) => advertised,
        None => own.clone(),
    };
    let encryption = match config.tls {
        Some(_) => EncryptionEnum::SSL,
        None => EncryptionEnum::PLAINTEXT,
    };
    let ingress = vec![IngressAddr {
        hostname: Some(host.clone()),
        ip: None,
    }];
    SpuSpec {
        id: SPU_ID,
        spu_type: SpuType::Custom,
        public_endpoint: IngressPort {
            port,
            ingress,
            encryption,
        },
        private_endpoint: Endpoint {
            port: 0,
            host,
            ..Endpoint::default()
        },
        rack: None,
        public_endpoint_local: Some(Endpoint {
            port: own.1,
            host: own.0,
            ..Endpoint::default()
        }),
    }
}

pub(crate) fn open_data(
    dir: &std::path::Path,
    sync: Sync,
    spu: SpuSpec,
    limits: &Limits,
    appends: &TaskTracker,
) -> Result<Parts, OpenError> {
    let data = Arc::new(DataDir::open(dir, sync)?);
    let engine = Engine::new(limits).map_err(|error| OpenError::Engine(format!("{error:#}")))?;
    let catalog =
        Arc::new(Catalog::open(&data, spu, &engine, limits, appends).map_err(OpenError::Stored)?);
    let positions =
        Arc::new(Positions::open(data.clone(), appends.clone()).map_err(OpenError::Stored)?);
    Ok(Parts {
        catalog,
        positions,
        engine,
        data,
    })
}

/// How both listeners take connections.
#[derive(Clone)]
struct Listen {
    connections_max: usize,
    tls: Option<TlsAcceptor>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Listen {
    /// Serves connections until stopped; errors end one connection, never the broker.
    async fn accept<F>(
        self,
        listener: TcpListener,
        serve: impl Fn(Socket, CancellationToken) -> F + Clone + Send + std::marker::Sync + 'static,
    ) where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let (max, stop) = (self.connections_max, self.stop);
        let places = Arc::new(Semaphore::new(max));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => match places.clone().try_acquire_owned() {
                    Ok(place) => {
                        let (serve, tls, stop) = (serve.clone(), self.tls.clone(), stop.clone());
                        // In the client's own task: a slow handshake keeps nobody waiting.
                        let served = async move {
                            let served = async {
                                serve(tls::socket(stream, tls).await?, stop.clone()).await
                            };
                            if let Some(Err(error)) = stop.run_until_cancelled(served).await {
                                tracing::debug!(%peer, %error, "connection ends");
                            }
                            drop(place);
                        };
                        self.tasks.spawn(served);
                    }
                    Err(_) => {
                        let connections_max = max;
                        tracing::warn!(%peer, connections_max, "too many connections; closed one");
                    }
                },
                Err(error) => {
                    // Out of file descriptors, most likely; the connections that hold them will end.
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}
