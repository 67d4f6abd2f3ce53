//! Percentiles by the nearest rank: each is one of the samples.

use crate::status::{Latency, Time};

/// Order statistics of the samples of a window.
pub(crate) fn summary(mut took_ms: Vec<u64>, window_s: u64, last: Option<(u64, Time)>) -> Latency {
    took_ms.sort_unstable();
    Latency {
        window_s,
        samples: took_ms.len() as u64,
        p50_ms: percentile(&took_ms, 50),
        p95_ms: percentile(&took_ms, 95),
        p99_ms: percentile(&took_ms, 99),
        last_ms: last.map(|(ms, _)| ms),
        last_at: last.map(|(_, at)| at),
    }
}

/// The smallest sample that at least `percent` of 100 samples do not exceed.
fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_are_samples_and_nothing_is_interpolated() {
        let samples: Vec<u64> = (1..=100).collect();
        for percent in [1, 50, 95, 99, 100] {
            assert_eq!(percentile(&samples, percent), Some(percent as u64));
        }
        assert_eq!(percentile(&[7], 50), Some(7));
        assert_eq!(percentile(&[3, 9], 50), Some(3));
        assert_eq!(percentile(&[], 50), None);
    }

    proptest! {
        #[test]
        fn enough_samples_do_not_exceed_a_percentile_and_fewer_do_not_reach_it(
            mut samples in proptest::collection::vec(0_u64..1_000, 1..300),
            percent in 1_usize..=100,
        ) {
            samples.sort_unstable();
            let found = percentile(&samples, percent).unwrap();
            let not_above = samples.iter().filter(|sample| **sample <= found).count();
            let below = samples.iter().filter(|sample| **sample < found).count();
            prop_assert!(not_above * 100 >= percent * samples.len());
            prop_assert!(below * 100 < percent * samples.len());
        }
    }
}
