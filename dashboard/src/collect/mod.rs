//! Asks everybody once a tick.

mod cluster;
mod limit;
mod mysql;
mod oldest;
mod postgres;
mod reading;
mod services;

use std::time::Duration;

use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::config::{Config, PartsFn};
use crate::heartbeat::SharedLedger;
use crate::judge::{Constants, KnownMart, Memory};
use crate::status::{Answer, Rejected, Status, Time};
use crate::verify::Verifier;

use self::cluster::{Cluster, ClusterReading};
use limit::answer;
use postgres::Postgres;

pub(crate) use mysql::{applied, MySql};
pub(crate) use postgres::connect as connect_postgres;
pub(crate) use reading::{
    Answered, Button, CaptureReading, CapturedReading, Compared, FindingsReading, FoundReading,
    IngestReading, LoadedReading, Moment, Named, ProjectedReading, ProjectorReading, Readings,
    SourceReading,
};
#[cfg(test)]
pub(crate) use reading::{MartReading, ProblemReading, Size, Sizes};
pub(crate) use services::{Services, Which};

/// Counts of rejected records are read from storage: only so often, and after an action.
const REJECTED_EVERY: Duration = Duration::from_secs(5);

/// Asks the sources and makes a [`Status`] of their answers. Two ticks are needed for rates.
pub struct Collector {
    parts: Parts,
    constants: Constants,
    memory: Memory,
    heartbeat_ms: u64,
    ledger: SharedLedger,
    verifier: Verifier,
    parts_down: Option<PartsFn>,
    started: Instant,
}

/// The sources, apart from the rest so that all can be asked at once.
struct Parts {
    postgres: Postgres,
    mysql: MySql,
    cluster: Cluster,
    services: Services,
    rejected: Option<(Instant, Answer<Rejected>)>,
}

impl Collector {
    /// Nothing is connected before the first tick. It writes no heartbeats.
    pub fn new(config: &Config) -> Collector {
        let config = Config {
            heartbeat_period: Duration::ZERO,
            ..config.clone()
        };
        Collector::with(
            &config,
            SharedLedger::default(),
            Verifier::new(config.verify.clone()),
            Instant::now(),
        )
    }

    pub(crate) fn with(
        config: &Config,
        ledger: SharedLedger,
        verifier: Verifier,
        started: Instant,
    ) -> Collector {
        let sources = &config.sources;
        Collector {
            parts: Parts {
                postgres: Postgres::new(&sources.postgres, &sources.slot),
                mysql: MySql::new(&sources.mysql),
                cluster: Cluster::new(&sources.fluvio, &sources.topics),
                services: Services::new(config),
                rejected: None,
            },
            constants: constants(config),
            memory: Memory::default(),
            heartbeat_ms: u64::try_from(config.heartbeat_period.as_millis()).unwrap_or(u64::MAX),
            ledger,
            verifier,
            parts_down: config.parts_down.clone(),
            started,
        }
    }

    /// Asks all sources at once; takes no longer than the slowest is allowed to.
    pub fn tick(&mut self) -> BoxFuture<'_, Status> {
        // Boxed here, so that it is compiled with this crate only (ADR 14).
        Box::pin(self.ask_all())
    }

    async fn ask_all(&mut self) -> Status {
        let Parts {
            postgres,
            mysql,
            cluster,
            services,
            rejected,
        } = &mut self.parts;
        // Before the answers: ages would grow by as long as the slowest source takes.
        let moment = moment(self.started);
        let counts = counts(services, rejected);
        let (source, target, cluster, projector, capture, ingest, rejected) = tokio::join!(
            answer(postgres.read()),
            answer(mysql.read()),
            answer(cluster.read()),
            answer(services.projector()),
            answer(services.capture()),
            ingest(services),
            counts,
        );
        if let Some(applied) = target.known().and_then(|target| target.applied_lsn) {
            self.ledger.seen_late(applied, moment);
        }
        let readings = Readings {
            moment,
            source,
            sizes: target.known().map(|_| mysql.sizes()).unwrap_or_default(),
            target,
            topics: cluster.map(|reading: &ClusterReading| reading.topics.clone()),
            smartmodules: cluster.map(|reading: &ClusterReading| reading.smartmodules.clone()),
            projector,
            capture,
            ingest,
            rejected,
            beats: self.ledger.show(self.heartbeat_ms, moment.mono_ms),
            button: self.verifier.button(),
            parts_down: self.parts_down.as_ref().map_or_else(Vec::new, |ask| ask()),
        };
        self.memory.status(&self.constants, &readings)
    }

    /// Lets the next tick count the rejected records again.
    pub(crate) fn recount(&mut self) {
        self.parts.rejected = None;
    }
}

/// Both clocks now.
pub(crate) fn moment(started: Instant) -> Moment {
    Moment {
        wall: Time::now(),
        mono_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

async fn ingest(services: &Services) -> Option<Answer<IngestReading>> {
    match services.has_ingest() {
        true => Some(answer(services.ingest()).await),
        false => None,
    }
}

async fn counts(
    services: &Services,
    kept: &mut Option<(Instant, Answer<Rejected>)>,
) -> Option<Answer<Rejected>> {
    if let Some((at, counts @ Answer::Known(_))) = kept {
        if at.elapsed() < REJECTED_EVERY {
            return Some(counts.clone());
        }
    }
    if !services.has_ingest() {
        return None;
    }
    let counts = answer(services.rejected()).await;
    *kept = Some((Instant::now(), counts.clone()));
    Some(counts)
}

fn constants(config: &Config) -> Constants {
    let marts = config.marts.iter();
    Constants {
        tick_ms: u64::try_from(config.tick.as_millis()).unwrap_or(u64::MAX),
        millrace: config.millrace.clone(),
        marts: marts
            .map(|mart| KnownMart {
                name: mart.name.clone(),
                version: version(&mart.sql),
                reads: mart.reads.clone(),
            })
            .collect(),
    }
}

/// The first 12 hex digits of the statement's SHA-256.
fn version(sql: &str) -> String {
    let digest = Sha256::digest(sql);
    digest[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[tokio::test]
    async fn a_source_that_does_not_answer_makes_no_status_late() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sources = Sources {
            // Nobody listens on port 1.
            postgres: "postgres://u@127.0.0.1:1/x".into(),
            mysql: "mysql://u@127.0.0.1:1/x".into(),
            fluvio: "127.0.0.1:1".into(),
            projector: format!("http://{}", silent.local_addr().unwrap()),
            ..Sources::default()
        };
        let config = Config::new("127.0.0.1:0".parse().unwrap(), sources);
        let mut collector = Collector::new(&config);
        let status = collector.tick().await;
        let age_ms = Time::now().ms_since(status.at);
        let limit_ms = limit::ANSWER_WITHIN.as_millis() as u64;
        assert!(age_ms >= limit_ms, "asked {age_ms} ms ago");
    }
}
