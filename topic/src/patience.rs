//! How long a stream is waited for.
//!
//! The first answer of a stream includes the compilation of its SmartModule, which a broker may do for each stream. Who
//! gives up too early makes it compile again. So the first answer is waited for twice as long at each attempt, and one that
//! came late may do so again.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::TopicError;

/// The first answer is waited for at most this many times as long as a later one.
const FIRST_ANSWER_TIMES_MAX: u32 = 16;

/// How long the streams of one service are waited for: they all come through the same module. Outlives each of them.
#[derive(Debug)]
pub struct Patience {
    silence: Duration,
    /// How often in a row a stream did not begin in time.
    missed: AtomicU32,
    /// How long the last one took to begin.
    took_ms: AtomicU64,
}

impl Patience {
    /// A stream that has begun, and has something to bring, may be silent for so long.
    #[must_use]
    pub fn new(silence: Duration) -> Patience {
        Patience {
            silence,
            missed: AtomicU32::new(0),
            took_ms: AtomicU64::new(0),
        }
    }

    /// How long the next record of a stream is waited for, while the topic has more. `begun`: the stream has brought
    /// something before.
    pub fn limit(&self, begun: bool) -> Duration {
        if begun {
            return self.silence;
        }
        // Twice what the last one took, and twice that for every one that did not begin.
        let took = Duration::from_millis(self.took_ms.load(Ordering::Relaxed));
        let times = 2_u32.saturating_pow(self.missed.load(Ordering::Relaxed));
        let grown = self.silence.max(2 * took).saturating_mul(times);
        grown.min(self.silence * FIRST_ANSWER_TIMES_MAX)
    }

    /// A stream brought its first record after this time.
    pub fn has_begun(&self, took: Duration) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.took_ms.store(took_ms, Ordering::Relaxed);
        self.missed.store(0, Ordering::Relaxed);
    }

    /// A stream of this topic was waited for as long as it may take. The next one is given longer if this one never began.
    pub fn gives_up(&self, topic: &str, begun: bool, waited: Duration) -> TopicError {
        let topic = topic.to_owned();
        if begun {
            return TopicError::Silent { topic };
        }
        self.missed.fetch_add(1, Ordering::Relaxed);
        TopicError::NotBegun {
            topic,
            waited,
            next: self.limit(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_does_not_begin_gets_longer_and_one_that_began_late_may_do_so_again() {
        let seconds = Duration::from_secs;
        let patience = Patience::new(seconds(15));
        for expected in [15, 30, 60, 120, 240, 240] {
            assert_eq!(patience.limit(false), seconds(expected));
            let error = patience.gives_up("t", false, seconds(expected)).to_string();
            assert!(error.contains(&format!("within {expected} s")), "{error}");
        }
        patience.has_begun(seconds(40));
        assert_eq!(patience.limit(true), seconds(15));
        assert_eq!(patience.limit(false), seconds(80));
        let error = patience.gives_up("t", true, seconds(15));
        assert!(matches!(error, TopicError::Silent { .. }), "{error}");
        assert_eq!(patience.limit(false), seconds(80), "it had begun");
        patience.has_begun(seconds(1));
        assert_eq!(patience.limit(false), seconds(15));
    }
}
