//! How each part of `up` is doing, for those who watch.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use millrace_control::{Down, Outlook};
use tokio::sync::watch;

use super::failure::{Failure, Secrets};
use super::supervise::{Next, Record, Role};

/// How each part is doing, for those who watch. Cheap to clone.
#[derive(Clone)]
pub(crate) struct States {
    pub(super) parts: Arc<watch::Sender<BTreeMap<&'static str, Part>>>,
    pub(super) secrets: Arc<Secrets>,
}

/// One part.
#[derive(Clone, Debug)]
pub(super) struct Part {
    role: Role,
    /// Why it is down, while it is; also while it is on trial (rule 9).
    pub(super) down: Option<Down>,
    /// The first of the failures in a row, which a start does not end: only a stable run does (rule 2).
    failing_since: Option<DateTime<Utc>>,
    /// `--once` gives up because of it.
    ends_once: bool,
    /// How often it has ended without being asked to.
    pub(super) failures: u64,
}

impl States {
    /// No part yet. `secrets` are hidden in every reason.
    pub(super) fn new(secrets: Secrets) -> States {
        States {
            parts: Arc::new(watch::Sender::new(BTreeMap::new())),
            secrets: Arc::new(secrets),
        }
    }

    /// Why the part is down; `None` while it works.
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
        let is_lost =
            |part: &Part| matches!(&part.down, Some(down) if down.outlook == Outlook::Final);
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

    /// It runs, on trial if it was down (rule 9).
    pub(super) fn started(&self, name: &'static str, role: Role) {
        self.change(name, |part| {
            part.role = role;
            if let Some(down) = &mut part.down {
                down.outlook = Outlook::OnTrial;
            }
        });
    }

    /// It works.
    pub(super) fn proved(&self, name: &'static str) {
        self.change(name, |part| part.down = None);
    }

    /// It has ended without being asked to.
    pub(super) fn ended(&self, name: &'static str, failure: &Failure, record: Record, next: Next) {
        let now = Utc::now();
        let outlook = match next {
            Next::Never => Outlook::Final,
            Next::After(delay) => {
                Outlook::NextTry(now + TimeDelta::from_std(delay).unwrap_or_default())
            }
        };
        let down = Down {
            code: failure.code.map(str::to_owned),
            reason: failure.reason.clone(),
            since: now,
            outlook,
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

    /// It has ended because it was asked to.
    pub(super) fn forgotten(&self, name: &'static str) {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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
}
