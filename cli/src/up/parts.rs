//! The parts of `up`, each kept running by the rules of [`supervise`](super::supervise).

use std::future::Future;
use std::time::Duration;

use millrace_control::Front;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{sleep, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::failure::Failure;
use super::states::States;
use super::supervise::{Next, Record, Role, PROVED, STABLE};

/// How often a service on trial is asked.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Keeps parts running. Dropping it drops them all, as `kill -9` would; see [`stop`](Supervisor::stop).
pub(super) struct Supervisor {
    tasks: JoinSet<anyhow::Result<()>>,
    states: States,
    stop: CancellationToken,
}

impl Supervisor {
    /// Keeps parts until `stop`.
    pub(super) fn new(states: &States, stop: CancellationToken) -> Supervisor {
        Supervisor {
            tasks: JoinSet::new(),
            states: states.clone(),
            stop,
        }
    }

    /// Starts a part and keeps it running until all are stopped. `start` makes it anew each time; what it returns
    /// ends by itself when the token is cancelled, and may be dropped at any instant.
    pub(super) fn keep<R>(
        &mut self,
        name: &'static str,
        role: Role,
        start: impl FnMut(CancellationToken) -> R + Send + 'static,
    ) where
        R: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.keep_until(self.stop.child_token(), name, role, start);
    }

    /// The same for a service whose control API says whether it works.
    pub(super) fn keep_shown<R>(
        &mut self,
        name: &'static str,
        role: Role,
        front: &Front,
        start: impl FnMut(CancellationToken) -> R + Send + 'static,
    ) where
        R: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let part = Kept {
            name,
            role,
            front: Some(front.clone()),
            stop: self.stop.child_token(),
        };
        self.tasks.spawn(part.keep(self.states.clone(), start));
    }

    /// The same for a part that may be asked to end before the others.
    pub(super) fn keep_until<R>(
        &mut self,
        stop: CancellationToken,
        name: &'static str,
        role: Role,
        start: impl FnMut(CancellationToken) -> R + Send + 'static,
    ) where
        R: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let part = Kept {
            name,
            role,
            front: None,
            stop,
        };
        self.tasks.spawn(part.keep(self.states.clone(), start));
    }

    /// Asks all to end and waits for it; those that take longer than `within` are dropped.
    ///
    /// # Errors
    /// The first that could not end well.
    pub(super) async fn stop(&mut self, within: Duration) -> anyhow::Result<()> {
        self.stop.cancel();
        let deadline = Instant::now() + within;
        let mut outcome = Ok(());
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.tasks.join_next()).await
        {
            let ended = ended.unwrap_or_else(|error| Err(error.into()));
            outcome = outcome.and(ended);
        }
        self.tasks.shutdown().await;
        outcome
    }
}

/// A part that lives inside another one, and is kept running for as long as that lives.
pub(super) fn beside<R>(
    states: &States,
    name: &'static str,
    stop: CancellationToken,
    start: impl FnMut(CancellationToken) -> R + Send + 'static,
) -> Beside
where
    R: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let part = Kept {
        name,
        role: Role::Serves,
        front: None,
        stop,
    };
    Beside {
        task: tokio::spawn(part.keep(states.clone(), start)).abort_handle(),
        states: states.clone(),
        name,
    }
}

/// Dropping it drops the part, which is then neither running nor down.
pub(super) struct Beside {
    task: AbortHandle,
    states: States,
    name: &'static str,
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.task.abort();
        self.states.forgotten(self.name);
    }
}

/// A part that is kept running.
struct Kept {
    name: &'static str,
    role: Role,
    /// Says whether it works, where something does.
    front: Option<Front>,
    stop: CancellationToken,
}

impl Kept {
    /// Ends when the part was asked to end, with what came of that.
    async fn keep<R>(
        self,
        states: States,
        mut start: impl FnMut(CancellationToken) -> R + Send + 'static,
    ) -> anyhow::Result<()>
    where
        R: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (name, stop) = (self.name, self.stop.clone());
        let mut record = Record::default();
        loop {
            let began = Instant::now();
            states.started(name, self.role);
            let ended = self.run(&states, start(stop.clone())).await;
            if stop.is_cancelled() {
                states.forgotten(name);
                return ended.unwrap_or_else(|error| Err(error.into()));
            }
            let failure = Failure::of(ended, &states.secrets);
            let next = record.after(failure.end, began.elapsed(), rand::random());
            states.ended(name, &failure, record, next);
            let waited = match next {
                Next::Never => stop.run_until_cancelled(std::future::pending()).await,
                Next::After(delay) => stop.run_until_cancelled(sleep(delay)).await,
            };
            if waited.is_none() {
                states.forgotten(name);
                return Ok(());
            }
        }
    }

    /// One start, to its end.
    async fn run<R>(&self, states: &States, work: R) -> Result<anyhow::Result<()>, JoinError>
    where
        R: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let mut work = AbortOnDropHandle::new(tokio::spawn(work));
        if let (Some(front), Some(_)) = (&self.front, states.down(self.name)) {
            tokio::select! {
                ended = &mut work => return ended,
                () = trial(front) => {}
            }
        }
        states.proved(self.name);
        work.await
    }
}

/// Rule 9: ends when the service has proved that it works.
async fn trial(front: &Front) {
    let proved = async {
        let mut ready_since = None;
        loop {
            ready_since = match front.is_ready().await {
                true => ready_since.or_else(|| Some(Instant::now())),
                false => None,
            };
            if ready_since.is_some_and(|since| since.elapsed() >= PROVED) {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    };
    // A service that has run for so long need not be ready: it may be loading.
    let _ = tokio::time::timeout(STABLE, proved).await;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::sync::Arc;

    use millrace_control::{NotReady, Outlook};
    use millrace_projections::engine;

    use super::*;
    use crate::up::failure::Secrets;
    use crate::up::states::Part;

    fn supervisor() -> (States, Supervisor, CancellationToken) {
        let (states, stop) = (States::new(Secrets::default()), CancellationToken::new());
        let supervisor = Supervisor::new(&states, stop.clone());
        (states, supervisor, stop)
    }

    /// Fails `failures` times, then runs until it is asked to end.
    fn failing(
        failures: u32,
        error: impl Fn() -> anyhow::Error + Send + Clone + 'static,
    ) -> impl FnMut(
        CancellationToken,
    ) -> std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>> {
        let starts = Arc::new(AtomicU32::new(0));
        move |stop| {
            let (starts, error) = (starts.clone(), error.clone());
            Box::pin(async move {
                if starts.fetch_add(1, Ordering::SeqCst) < failures {
                    return Err(error());
                }
                stop.cancelled().await;
                Ok(())
            })
        }
    }

    #[tokio::test]
    async fn a_part_that_ends_is_started_again_while_the_others_go_on() {
        let (states, mut supervisor, _stop) = supervisor();
        let mut news = states.news();
        supervisor.keep(
            "steady",
            Role::MovesData,
            failing(0, || anyhow::anyhow!("never")),
        );
        supervisor.keep(
            "shaky",
            Role::MovesData,
            failing(1, || anyhow::anyhow!("gone")),
        );
        let mut told = Vec::new();
        while told.len() < 2 {
            told.extend(news.next().await);
        }
        assert!(
            told[0].starts_with("shaky is down: gone; next try at"),
            "{told:?}"
        );
        assert_eq!(told[1], "shaky is started again");
        assert!(states.all_down().is_empty());
        supervisor.stop(Duration::from_secs(1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_part_that_needs_a_person_is_tried_again_slowly_and_ends_once() {
        let (states, mut supervisor, _stop) = supervisor();
        let foreign = || engine::Error::ForeignTables(vec!["t".to_owned()]).into();
        supervisor.keep("projector", Role::MovesData, failing(1, foreign));
        let trouble = states.trouble().await.to_string();
        assert!(
            trouble.starts_with("projector: MR-P003: the MySQL database"),
            "{trouble}"
        );
        let down = states.down("projector").unwrap();
        assert_eq!(down.code.as_deref(), Some("MR-P003"));
        let Outlook::NextTry(at) = down.outlook else {
            panic!("{down}");
        };
        let waits = at - down.since;
        assert!((22..=38).contains(&waits.num_seconds()), "{waits}");
        supervisor.stop(Duration::from_secs(1)).await.unwrap();
        assert!(states.all_down().is_empty());
    }

    #[tokio::test]
    async fn nothing_can_move_once_all_that_moves_data_is_down_for_good() {
        let (states, mut supervisor, _stop) = supervisor();
        for name in ["Postgres", "projector's control API", "page"] {
            supervisor.keep(name, Role::Serves, failing(0, || anyhow::anyhow!("never")));
        }
        let replaced = || engine::Error::Superseded.into();
        supervisor.keep("projector", Role::MovesData, failing(1, replaced));
        let ended = states.nothing_can_move().await.to_string();
        assert!(
            ended.contains("projector: MR-P013") && !ended.contains('\n'),
            "{ended}"
        );
        supervisor.stop(Duration::from_secs(1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_part_that_fails_again_and_again_is_down_since_the_first_failure() {
        let (states, mut supervisor, _stop) = supervisor();
        let mut failures = states.parts.subscribe();
        supervisor.keep(
            "shaky",
            Role::MovesData,
            failing(2, || anyhow::anyhow!("gone")),
        );
        let mut since = Vec::new();
        for count in 1..=2 {
            let failed = |parts: &BTreeMap<&str, Part>| {
                parts
                    .get("shaky")
                    .is_some_and(|part| part.failures == count)
            };
            let parts = failures.wait_for(failed).await.unwrap();
            since.extend(parts["shaky"].down.as_ref().map(|down| down.since));
        }
        assert_eq!(since.len(), 2);
        assert_eq!(since[0], since[1]);
        supervisor.stop(Duration::from_secs(1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_service_that_is_tried_again_counts_as_down_until_it_has_been_ready_for_a_while() {
        let (states, mut supervisor, _stop) = supervisor();
        let (mut news, asked) = (states.news(), states.clone());
        let front = Front::new(&[], move || asked.down("service"));
        let ready = Arc::new(AtomicBool::new(false));
        let is_ready = ready.clone();
        let is_ready = move || match is_ready.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(NotReady::new("loading", None)),
        };
        front.show(millrace_control::api(
            Default::default(),
            "token",
            || Ok(()),
            is_ready,
        ));
        let gone = || anyhow::anyhow!("gone");
        supervisor.keep_shown("service", Role::MovesData, &front, failing(2, gone));
        let mut told = Vec::new();
        while told.len() < 2 {
            told.extend(news.next().await);
        }
        let mut parts = states.parts.subscribe();
        let is_tried = |parts: &BTreeMap<&str, Part>| {
            let down = parts.get("service").and_then(|part| part.down.as_ref());
            down.is_some_and(|down| down.outlook == Outlook::OnTrial)
        };
        let tried = tokio::time::timeout(Duration::from_secs(20), parts.wait_for(is_tried)).await;
        drop(tried.expect("it counts as down while it is tried"));
        let began = Instant::now();
        ready.store(true, Ordering::SeqCst);
        told.extend(news.next().await);
        assert!(began.elapsed() >= PROVED);
        assert!(
            told[..2]
                .iter()
                .all(|line| line.starts_with("service is down: gone")),
            "{told:?}"
        );
        assert_eq!(told[2..], ["service is started again"]);
        assert!(states.all_down().is_empty());
        supervisor.stop(Duration::from_secs(1)).await.unwrap();
    }

    #[tokio::test]
    async fn what_lives_beside_a_part_is_forgotten_with_it() {
        let states = States::new(Secrets::default());
        let stop = CancellationToken::new();
        let mirror = beside(&states, "mirror", stop, |_| async {
            anyhow::bail!("no server")
        });
        let mut parts = states.parts.subscribe();
        let is_down = |parts: &BTreeMap<&str, Part>| parts.values().any(|part| part.down.is_some());
        parts.wait_for(is_down).await.unwrap();
        drop(mirror);
        assert!(states.all_down().is_empty());
    }

    #[tokio::test]
    async fn who_does_not_end_is_dropped() {
        let (_states, mut supervisor, _stop) = supervisor();
        supervisor.keep("deaf", Role::Serves, |_| std::future::pending());
        supervisor.stop(Duration::from_millis(50)).await.unwrap();
    }
}
