//! The servers of a deployment as parts that are kept running: one that has ended is started again on its port and
//! its data, so that the services find it where it was.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{sleep, Instant};

use super::deployment::open_broker;
use super::parts::Supervisor;
use super::supervise::{End, Next, Record, Role, STARTS};
use crate::servers::{Error, Kind, Private};
use crate::settings::table::{
    FLUVIO_HOST, FLUVIO_PORT, FLUVIO_SPU_PORT, MILLRACE_RETENTION_HARD_SIZE,
};
use crate::settings::{Setting, Settings};

/// About what stopping a database takes at worst, so that nothing waits for the broker alone.
const BROKER_STOPS_WITHIN: Duration = Duration::from_secs(6);

/// What both private databases can do.
pub(super) trait Database: Sized + Send + 'static {
    type Options: Clone + Send + 'static;

    fn start(options: Self::Options) -> impl Future<Output = Result<Self, Error>> + Send;

    fn ended(&mut self) -> impl Future<Output = Error> + Send;

    fn stop(self) -> impl Future<Output = Result<(), Error>> + Send;
}

impl<K: Kind> Database for Private<K> {
    type Options = K::Options;

    async fn start(options: K::Options) -> Result<Self, Error> {
        Private::start(options).await
    }

    async fn ended(&mut self) -> Error {
        Private::ended(self).await
    }

    async fn stop(self) -> Result<(), Error> {
        Private::stop(self).await
    }
}

/// Starts a database, again if it ends while it starts (rule 10 of [`supervise`](super::supervise)).
pub(super) async fn start_server<D: Database>(options: D::Options) -> Result<D, Error> {
    let mut record = Record::default();
    loop {
        let began = Instant::now();
        let error = match D::start(options.clone()).await {
            Err(error @ Error::Ended { .. }) => error,
            other => return other,
        };
        match record.after(End::Passing, began.elapsed(), rand::random()) {
            Next::After(delay) if record.tries < STARTS => {
                tracing::warn!("{error}; it is started again");
                sleep(delay).await;
            }
            _ => return Err(error),
        }
    }
}

/// Keeps a database that runs already.
pub(super) fn keep_server<D: Database>(
    servers: &mut Supervisor,
    name: &'static str,
    running: D,
    options: D::Options,
) {
    let mut running = Some(running);
    servers.keep(name, Role::Serves, move |stop| {
        let (running, options) = (running.take(), options.clone());
        async move {
            let start = async {
                match running {
                    Some(server) => Ok(server),
                    None => D::start(options).await,
                }
            };
            let Some(started) = stop.run_until_cancelled(start).await else {
                return Ok(());
            };
            let mut server = started?;
            match stop.run_until_cancelled(server.ended()).await {
                Some(ended) => Err(ended.into()),
                None => Ok(server.stop().await?),
            }
        }
    });
}

/// Where the embedded broker keeps its topics, how much of them for a service that is away, and where it listens.
#[derive(Clone)]
pub(super) struct BrokerOptions {
    log_dir: PathBuf,
    held_bytes_max: u64,
    sc: SocketAddr,
    spu: SocketAddr,
}

impl BrokerOptions {
    pub(super) fn of(settings: &Settings, data_dir: &Path) -> BrokerOptions {
        let address: IpAddr = match settings.get(FLUVIO_HOST).is_ipv6() {
            true => Ipv6Addr::LOCALHOST.into(),
            false => Ipv4Addr::LOCALHOST.into(),
        };
        let at = |port: Setting<u16>| SocketAddr::from((address, settings.get(port)));
        BrokerOptions {
            log_dir: data_dir.join("broker"),
            held_bytes_max: settings.get(MILLRACE_RETENTION_HARD_SIZE).bytes(),
            sc: at(FLUVIO_PORT),
            spu: at(FLUVIO_SPU_PORT),
        }
    }

    pub(super) async fn open(self) -> anyhow::Result<millrace_broker::Handle> {
        open_broker(
            self.log_dir,
            self.held_bytes_max,
            self.sc,
            self.spu,
            None,
            None,
        )
        .await
    }
}

/// Keeps a broker that runs already.
pub(super) fn keep_broker(
    servers: &mut Supervisor,
    running: millrace_broker::Handle,
    options: BrokerOptions,
) {
    let mut running = Some(running);
    servers.keep("broker", Role::Serves, move |stop| {
        let (running, options) = (running.take(), options.clone());
        async move {
            let broker = match running {
                Some(broker) => broker,
                None => options.open().await?,
            };
            let ended = stop.run_until_cancelled(broker.ended()).await;
            // Acknowledged records are on disk: a broker that hangs may be left.
            let _ = tokio::time::timeout(BROKER_STOPS_WITHIN, broker.shutdown()).await;
            match ended {
                Some(()) => anyhow::bail!("one of its listeners broke down"),
                None => Ok(()),
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::Arc;

    use super::*;

    /// Ends at its first starts.
    #[derive(Clone)]
    struct Shaky {
        ends: u32,
        starts: Arc<AtomicU32>,
    }

    impl Database for Shaky {
        type Options = Shaky;

        async fn start(options: Shaky) -> Result<Shaky, Error> {
            match options.starts.fetch_add(1, Ordering::SeqCst) < options.ends {
                true => Err(Error::Ended {
                    server: "Shaky",
                    status: "signal: 9".to_owned(),
                    log: PathBuf::new(),
                    tail: String::new(),
                }),
                false => Ok(options),
            }
        }

        async fn ended(&mut self) -> Error {
            std::future::pending().await
        }

        async fn stop(self) -> Result<(), Error> {
            Ok(())
        }
    }

    async fn starts(ends: u32) -> (bool, u32) {
        let starts = Arc::new(AtomicU32::new(0));
        let shaky = Shaky {
            ends,
            starts: starts.clone(),
        };
        let started = start_server::<Shaky>(shaky).await;
        (started.is_ok(), starts.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn a_database_that_ends_while_it_starts_is_started_again_but_not_for_ever() {
        let (passing, lasting) = tokio::join!(starts(STARTS - 1), starts(u32::MAX));
        assert_eq!(passing, (true, STARTS));
        assert_eq!(lasting, (false, STARTS));
    }
}
