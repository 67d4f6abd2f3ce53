//! Logins: sessions in memory, and failures that are throttled.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// A session ends so long after the login.
const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
/// The oldest session ends when there are more.
const SESSIONS_MAX: usize = 64;
/// So many failures of one address within the window are too many.
const FAILURES_MAX: u32 = 5;
/// And so many of all addresses together.
const FAILURES_MAX_ALL: u32 = 50;
const FAILURE_WINDOW: Duration = Duration::from_secs(60);

type Hash = [u8; 32];

/// Who is logged in. Ids are kept as digests only.
#[derive(Debug)]
pub(crate) struct Sessions {
    /// Of user and password; `None`: nobody can log in.
    expected: Option<(String, Hash)>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<Hash, Session>,
    failures: HashMap<IpAddr, u32>,
    failures_since: Option<Instant>,
}

/// A session as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) user: String,
    /// To be sent as a header with everything that changes something.
    pub(crate) csrf: String,
    expires: Instant,
}

/// No session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Wrong,
    TooMany,
}

impl Sessions {
    pub(crate) fn new(user: Option<&str>, password: Option<&str>) -> Sessions {
        let both = user.zip(password);
        let both = both.filter(|(user, password)| !user.is_empty() && !password.is_empty());
        Sessions {
            expected: both.map(|(user, password)| (user.to_owned(), login_hash(user, password))),
            state: Mutex::default(),
        }
    }

    /// True if there is a login at all.
    pub(crate) fn can_log_in(&self) -> bool {
        self.expected.is_some()
    }

    /// The new session and the id for the cookie.
    pub(crate) fn log_in(
        &self,
        from: IpAddr,
        user: &str,
        password: &str,
        now: Instant,
    ) -> Result<(String, Session), Refused> {
        let mut state = self.lock();
        if state.throttled(from, now) {
            return Err(Refused::TooMany);
        }
        let given = login_hash(user, password);
        // Digests are compared: the time it takes says nothing about the password.
        let Some((user, _)) = self.expected.as_ref().filter(|(_, known)| *known == given) else {
            state.failed(from, now);
            return Err(Refused::Wrong);
        };
        state.failures.remove(&from);
        let id = secret();
        let session = Session {
            user: user.clone(),
            csrf: secret(),
            expires: now + LIFETIME,
        };
        state.admit(hash(&id), session.clone(), now);
        Ok((id, session))
    }

    /// The session of a cookie.
    pub(crate) fn find(&self, id: &str, now: Instant) -> Option<Session> {
        let state = self.lock();
        let session = state.sessions.get(&hash(id))?;
        (session.expires > now).then(|| session.clone())
    }

    pub(crate) fn log_out(&self, id: &str) {
        self.lock().sessions.remove(&hash(id));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole.
        self.state
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }
}

impl State {
    fn admit(&mut self, id: Hash, session: Session, now: Instant) {
        self.sessions.retain(|_, session| session.expires > now);
        if self.sessions.len() >= SESSIONS_MAX {
            let oldest = self
                .sessions
                .iter()
                .min_by_key(|(_, session)| session.expires);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.sessions.remove(&oldest);
            }
        }
        self.sessions.insert(id, session);
    }

    fn throttled(&mut self, from: IpAddr, now: Instant) -> bool {
        let over = |since| now.duration_since(since) >= FAILURE_WINDOW;
        if self.failures_since.is_some_and(over) {
            self.failures.clear();
            self.failures_since = None;
        }
        let own = self.failures.get(&from).copied().unwrap_or(0);
        let all: u32 = self.failures.values().sum();
        own >= FAILURES_MAX || all >= FAILURES_MAX_ALL
    }

    /// Bounded: beyond the limit of all addresses nobody gets here.
    fn failed(&mut self, from: IpAddr, now: Instant) {
        self.failures_since.get_or_insert(now);
        *self.failures.entry(from).or_default() += 1;
    }
}

/// Equal without telling by time where the difference is.
pub(crate) fn equal(a: &str, b: &str) -> bool {
    hash(a) == hash(b)
}

fn hash(text: &str) -> Hash {
    Sha256::digest(text).into()
}

/// The lengths keep user and password apart.
fn login_hash(user: &str, password: &str) -> Hash {
    hash(&format!("{}:{user}{password}", user.len()))
}

/// 256 random bits, in hex.
fn secret() -> String {
    let bytes: [u8; 32] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn sessions() -> Sessions {
        Sessions::new(Some("ann"), Some("right"))
    }

    #[test]
    fn a_session_ends_by_itself_and_by_logging_out() {
        let (sessions, now) = (sessions(), Instant::now());
        let (id, session) = sessions.log_in(HERE, "ann", "right", now).unwrap();
        assert_eq!(sessions.find(&id, now), Some(session));
        assert_eq!(sessions.find(&id, now + LIFETIME), None);
        sessions.log_out(&id);
        assert_eq!(sessions.find(&id, now), None);
    }

    #[test]
    fn after_some_failures_even_the_right_password_has_to_wait() {
        let (sessions, now) = (sessions(), Instant::now());
        for _ in 0..FAILURES_MAX {
            let refused = sessions.log_in(HERE, "ann", "wrong", now);
            assert_eq!(refused, Err(Refused::Wrong));
        }
        let refused = sessions.log_in(HERE, "ann", "right", now);
        assert_eq!(refused, Err(Refused::TooMany));
        let elsewhere = "127.0.0.2".parse().unwrap();
        assert!(sessions.log_in(elsewhere, "ann", "right", now).is_ok());
        assert!(sessions
            .log_in(HERE, "ann", "right", now + FAILURE_WINDOW)
            .is_ok());
    }

    #[test]
    fn many_addresses_together_are_throttled_too() {
        let (sessions, now) = (sessions(), Instant::now());
        for number in 0..FAILURES_MAX_ALL {
            let from = IpAddr::V4((number + 1).into());
            assert_eq!(sessions.log_in(from, "x", "y", now), Err(Refused::Wrong));
        }
        assert_eq!(
            sessions.log_in(HERE, "ann", "right", now),
            Err(Refused::TooMany)
        );
    }

    #[test]
    fn the_oldest_of_too_many_sessions_ends() {
        let (sessions, start) = (sessions(), Instant::now());
        let log_in = |number: u64| {
            let now = start + Duration::from_secs(number);
            sessions.log_in(HERE, "ann", "right", now).unwrap().0
        };
        let ids: Vec<String> = (0..=SESSIONS_MAX as u64).map(log_in).collect();
        assert_eq!(sessions.find(&ids[0], start), None);
        assert!(ids[1..].iter().all(|id| sessions.find(id, start).is_some()));
    }

    #[test]
    fn without_a_password_nobody_can_log_in() {
        let sessions = Sessions::new(Some("ann"), Some(""));
        assert!(!sessions.can_log_in());
        let refused = sessions.log_in(HERE, "ann", "", Instant::now());
        assert_eq!(refused, Err(Refused::Wrong));
    }
}
