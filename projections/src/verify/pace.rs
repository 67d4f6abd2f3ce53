//! How much of both servers a verification takes.

use std::time::Duration;

/// Rests last so many times as long as the work before them: a server that has other work to do takes longer for ours,
/// and is then left alone for longer.
const REST_FACTOR: u32 = 3;
/// No rest lasts longer: a comparison keeps both servers from removing old versions of rows.
const REST_MAX: Duration = Duration::from_secs(2);

/// How a verification goes about its work. It is one statement at a time on each server in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// Without rests: somebody waits for the answer.
    #[default]
    Full,
    /// With a rest after each range of rows, so that at most a quarter of a core is busy with it on each server.
    Quarter,
}

impl Pace {
    /// Rests after work that took so long.
    pub(super) async fn rest(self, worked: Duration) {
        let rest = self.rest_after(worked);
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
    }

    fn rest_after(self, worked: Duration) -> Duration {
        match self {
            Pace::Full => Duration::ZERO,
            Pace::Quarter => (worked * REST_FACTOR).min(REST_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_three_times_the_work_and_has_a_limit() {
        let [short, long] = [20, 5_000].map(Duration::from_millis);
        assert_eq!(Pace::Quarter.rest_after(short), short * 3);
        assert_eq!(Pace::Quarter.rest_after(long), REST_MAX);
        assert_eq!(Pace::Full.rest_after(long), Duration::ZERO);
    }
}
