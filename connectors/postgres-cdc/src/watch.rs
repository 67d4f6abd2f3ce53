//! Looking at the catalog while the stream goes on.

use std::time::Duration;

use millrace_sessions::postgres::{in_time, PgSession};
use tokio::sync::watch;
use tokio::time::{interval, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use crate::observe::{observe, Observed, Wanted};
use crate::source::Source;
use crate::{Config, Error};

/// How long one look may take. It reads a few rows of the catalog.
const LOOK_TIME_MAX: Duration = Duration::from_secs(5);

/// The last look; none at first.
pub(crate) struct Watch {
    pub(crate) seen: watch::Receiver<Observed>,
    _task: AbortOnDropHandle<()>,
}

impl Watch {
    /// Looks every [`Config::watch_period`], until dropped.
    pub(crate) fn start(source: &Source, config: &Config, wanted: Wanted) -> Watch {
        let (sender, seen) = watch::channel(Observed::default());
        let watcher = Watcher {
            source: source.clone(),
            publication: config.publication.clone(),
            wanted,
            session: None,
        };
        let task = tokio::spawn(watcher.run(config.watch_period, sender));
        Watch {
            seen,
            _task: AbortOnDropHandle::new(task),
        }
    }
}

struct Watcher {
    source: Source,
    publication: String,
    wanted: Wanted,
    session: Option<PgSession>,
}

impl Watcher {
    /// What fails is tried again with the next tick: the stream itself says if Postgres is away.
    async fn run(mut self, period: Duration, sender: watch::Sender<Observed>) {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.look().await {
                Ok(seen) => sender.send_replace(seen),
                Err(error) => {
                    tracing::debug!(%error, "looking at the catalog failed; it is tried again");
                    self.session = None;
                    continue;
                }
            };
        }
    }

    async fn look(&mut self) -> Result<Observed, Error> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(self.source.connect().await?),
        };
        let looking = observe(session, &self.publication, &self.wanted);
        Ok(in_time(LOOK_TIME_MAX, looking).await?)
    }
}
