//! Looking at the catalog while the stream goes on.

use std::time::Duration;

use millrace_control::in_words;
use millrace_events::SourceTable;
use millrace_sessions::postgres::{in_time, PgSession};
use tokio::sync::watch;
use tokio::time::{interval, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use crate::observe::{observe, Observed, Scope};
use crate::source::Source;
use crate::{Config, Error};

/// How long one look may take. It reads a few rows of the catalog.
const LOOK_TIME_MAX: Duration = Duration::from_secs(5);

/// Someone who looks.
pub(crate) struct Watch {
    /// The last look; none at first.
    pub(crate) seen: watch::Receiver<Observed>,
    scope: watch::Sender<Scope>,
    _task: AbortOnDropHandle<()>,
}

impl Watch {
    /// Looks every [`Config::watch_period`], until dropped.
    pub(crate) fn start(source: &Source, config: &Config, tables: &[SourceTable]) -> Watch {
        let (sender, seen) = watch::channel(Observed::default());
        let (scope, wanted) = watch::channel(Scope::of_log(tables));
        let watcher = Watcher {
            source: source.clone(),
            publication: config.publication.clone(),
            scope: wanted,
            session: None,
        };
        let task = tokio::spawn(watcher.run(config.watch_period, sender));
        Watch {
            seen,
            scope,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// From now on these are looked at. What was seen of others before says nothing of them.
    pub(crate) fn look_at(&self, tables: &[SourceTable]) {
        self.scope.send_modify(|scope| {
            let number = scope.number + 1;
            *scope = Scope::of_log(tables);
            scope.number = number;
        });
    }

    /// Whether all of it was seen after the last call of [`Watch::look_at`].
    pub(crate) fn is_current(&self, seen: &Observed) -> bool {
        seen.scope == self.scope.borrow().number
    }
}

struct Watcher {
    source: Source,
    publication: String,
    scope: watch::Receiver<Scope>,
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
                Ok(seen) => _ = sender.send_replace(seen),
                Err(error) => {
                    tracing::debug!(
                        error = in_words(&error),
                        "looking at the catalog failed; it is tried again"
                    );
                    self.session = None;
                }
            }
        }
    }

    async fn look(&mut self) -> Result<Observed, Error> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(self.source.connect().await?),
        };
        let scope = self.scope.borrow().clone();
        let looking = observe(session, &self.publication, &scope);
        Ok(in_time(LOOK_TIME_MAX, looking).await?)
    }
}
