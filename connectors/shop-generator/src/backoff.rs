//! Waiting between attempts: doubling, capped, jittered.

use std::time::Duration;

use rand::RngExt;
use tokio::time::{sleep_until, Instant};
use tokio_util::sync::CancellationToken;

const FIRST: Duration = Duration::from_millis(200);
const MAX: Duration = Duration::from_secs(5);

/// Delays 0.1–0.2 s, 0.2–0.4 s, … up to 2.5–5 s, until [`Backoff::reset`].
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The next delay, half of it random, so that services restarted together do not retry together.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let full = FIRST.saturating_mul(1 << self.attempts.min(10)).min(MAX);
        self.attempts = self.attempts.saturating_add(1);
        full.mul_f64(rand::rng().random_range(0.5..1.0))
    }
}

/// Returns after `delay`, or at once on `shutdown`.
pub(crate) async fn pause(delay: Duration, shutdown: &CancellationToken) {
    pause_until(Instant::now() + delay, shutdown).await;
}

/// Returns at `due`, or at once on `shutdown`.
pub(crate) async fn pause_until(due: Instant, shutdown: &CancellationToken) {
    tokio::select! {
        () = sleep_until(due) => {}
        () = shutdown.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_a_cap_and_starts_over_after_reset() {
        let mut backoff = Backoff::default();
        assert!(backoff.next_delay() <= FIRST);
        let late = (0..100).map(|_| backoff.next_delay()).last().unwrap();
        assert!(late >= MAX / 2 && late <= MAX, "{late:?}");
        backoff.reset();
        assert!(backoff.next_delay() <= FIRST);
    }
}
