//! The parts of `up`, each kept running by the rules of [`supervise`](super::supervise).

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use millrace_control::Down;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::failure::{Failure, Secrets};
use super::supervise::{Next, Record, Role};

/// How each part is doing, for those who watch. Cheap to clone.
#[derive(Clone)]
pub(crate) struct States {
    parts: Arc<watch::Sender<BTreeMap<&'static str, Part>>>,
    secrets: Arc<Secrets>,
}

/// One part.
#[derive(Clone, Debug)]
struct Part {
    role: Role,
    /// Why it is down, while it is.
    down: Option<Down>,
    /// The first of the failures in a row, which a start does not end: only a stable run does (rule 2).
    failing_since: Option<DateTime<Utc>>,
    /// `--once` gives up because of it.
    ends_once: bool,
    /// How often it has ended without being asked to.
    failures: u64,
}

impl States {
    /// No part yet. `secrets` are hidden in every reason.
    pub(super) fn new(secrets: Secrets) -> States {
        States {
            parts: Arc::new(watch::Sender::new(BTreeMap::new())),
            secrets: Arc::new(secrets),
        }
    }

    /// Why the part is down; `None` while it runs.
    pub(super) fn down(&self, part: &str) -> Option<Down> {
        self.parts.borrow().get(part)?.down.clone()
    }

    /// The parts that are down, in the order of their names.
    pub(super) fn all_down(&self) -> Vec<(&'static str, Down)> {
        let parts = self.parts.borrow();
        let down = parts
            .iter()
            .filter_map(|(name, part)| Some((*name, part.down.clone()?)));
        down.collect()
    }

    /// Tells of changes; see [`News`].
    pub(super) fn news(&self) -> News {
        News {
            parts: self.parts.subscribe(),
            told: BTreeMap::new(),
        }
    }

    /// Waits until no part that moves data runs or will be tried again (rule 7), and says so in one line.
    pub(super) async fn nothing_can_move(&self) -> anyhow::Error {
        let is_lost = |part: &Part| matches!(&part.down, Some(down) if down.next_try_at.is_none());
        let moves = |part: &Part| part.role == Role::MovesData;
        let mut parts = self.parts.subscribe();
        let lost = parts.wait_for(|parts| {
            let mut moving = parts.values().filter(|part| moves(part)).peekable();
            moving.peek().is_some() && moving.all(is_lost)
        });
        let all = lost.await.map(|parts| reasons(&parts, moves));
        anyhow::anyhow!(
            "nothing is left that can move data: {}",
            all.unwrap_or_default()
        )
    }

    /// Waits until a part is down for longer than `--once` waits (rule 8).
    pub(super) async fn trouble(&self) -> anyhow::Error {
        let mut parts = self.parts.subscribe();
        let is_trouble = |part: &Part| part.down.is_some() && part.ends_once;
        let trouble = parts.wait_for(|parts| parts.values().any(is_trouble));
        let named = trouble.await.map(|parts| reasons(&parts, is_trouble));
        anyhow::anyhow!(named.unwrap_or_default())
    }

    /// Waits until these parts have ended because they were asked to.
    pub(super) async fn gone(&self, names: &[&str]) {
        let mut parts = self.parts.subscribe();
        // Fails only without a sender, and this is one.
        let _ = parts
            .wait_for(|parts| names.iter().all(|name| !parts.contains_key(name)))
            .await;
    }

    fn change(&self, name: &'static str, change: impl FnOnce(&mut Part)) {
        self.parts.send_modify(|parts| {
            let part = parts.entry(name).or_insert(Part {
                role: Role::Serves,
                down: None,
                failing_since: None,
                ends_once: false,
                failures: 0,
            });
            change(part);
        });
    }

    fn started(&self, name: &'static str, role: Role) {
        self.change(name, |part| {
            part.role = role;
            part.down = None;
        });
    }

    fn ended(&self, name: &'static str, failure: &Failure, record: Record, next: Next) {
        let now = Utc::now();
        let next_try_at = match next {
            Next::Never => None,
            Next::After(delay) => TimeDelta::from_std(delay).ok().map(|delay| now + delay),
        };
        let down = Down {
            code: failure.code.map(str::to_owned),
            reason: failure.reason.clone(),
            since: now,
            next_try_at,
        };
        tracing::info!(part = name, code = failure.code, tries = record.tries, %down, "a part is down");
        self.change(name, |part| {
            let earlier = part.failing_since.filter(|_| record.tries > 1);
            let since = earlier.unwrap_or(now);
            part.failing_since = Some(since);
            part.ends_once = record.ends_once(failure.end);
            part.failures += 1;
            part.down = Some(Down { since, ..down });
        });
    }

    fn forgotten(&self, name: &'static str) {
        self.parts.send_modify(|parts| drop(parts.remove(name)));
    }
}

fn reasons(parts: &BTreeMap<&'static str, Part>, which: impl Fn(&Part) -> bool) -> String {
    let named = parts.iter().filter(|(_, part)| which(part));
    let named = named.filter_map(|(name, part)| Some(format!("{name}: {}", part.down.as_ref()?)));
    named.collect::<Vec<_>>().join("; ")
}

/// What there is to tell a person: a part that went down, a part that was started again.
pub(super) struct News {
    parts: watch::Receiver<BTreeMap<&'static str, Part>>,
    told: BTreeMap<&'static str, (u64, bool)>,
}

impl News {
    /// Waits for the next changes. May be dropped at any instant.
    pub(super) async fn next(&mut self) -> Vec<String> {
        loop {
            let lines = self.untold();
            if !lines.is_empty() {
                return lines;
            }
            if self.parts.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn untold(&mut self) -> Vec<String> {
        let parts = self.parts.borrow_and_update();
        let mut lines = Vec::new();
        for (name, part) in parts.iter() {
            let now = (part.failures, part.down.is_some());
            let before = self.told.insert(name, now);
            if before == Some(now) {
                continue;
            }
            match &part.down {
                Some(down) => lines.push(format!("{name} is down: {down}")),
                None if part.failures > 0 => lines.push(format!("{name} is started again")),
                None => {}
            }
        }
        lines
    }
}

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
        let part = keep(self.states.clone(), name, role, stop, start);
        self.tasks.spawn(part);
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
    let part = keep(states.clone(), name, Role::Serves, stop, start);
    Beside {
        task: tokio::spawn(part).abort_handle(),
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

/// Ends when the part was asked to end, with what came of that.
async fn keep<R>(
    states: States,
    name: &'static str,
    role: Role,
    stop: CancellationToken,
    mut start: impl FnMut(CancellationToken) -> R + Send + 'static,
) -> anyhow::Result<()>
where
    R: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut record = Record::default();
    loop {
        let began = Instant::now();
        states.started(name, role);
        let ended = AbortOnDropHandle::new(tokio::spawn(start(stop.clone()))).await;
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use millrace_projections::engine;

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
        let waits = down.next_try_at.unwrap() - down.since;
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

    #[test]
    fn a_stable_run_begins_a_new_time_of_failure() {
        let states = States::new(Secrets::default());
        let failure = Failure::of(Ok(Err(anyhow::anyhow!("gone"))), &states.secrets);
        let mut record = Record::default();
        let mut fail = |ran| {
            states.started("shaky", Role::MovesData);
            let next = record.after(failure.end, ran, 0.5);
            states.ended("shaky", &failure, record, next);
            states.down("shaky").unwrap().since
        };
        let (short, long) = (Duration::ZERO, Duration::from_secs(3_600));
        let first = fail(short);
        assert_eq!(fail(short), first);
        assert!(fail(long) > first);
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
