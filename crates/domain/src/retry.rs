//! How long to wait after a failure. The arithmetic saturates, whatever the count.

use std::time::Duration;

use crate::ids::Spread;
use crate::policy::Policy;
use crate::time::part_of;

/// The wait after the `failures`-th failure in a row: base, twice, four times ... up to the cap,
/// and up to [`Policy::backoff_spread`] more. `retry_after` can only lengthen it.
pub fn wait_after(failures: u32, retry_after: Option<Duration>, spread: Spread, policy: &Policy) -> Duration {
    let doublings = failures.saturating_sub(1).min(u32::BITS - 1);
    let ladder = policy.backoff_base.saturating_mul(1 << doublings).min(policy.backoff_cap);
    let wait = part_of(ladder, 1.0 + policy.backoff_spread * spread.fraction());
    match retry_after {
        Some(demanded) => wait.max(demanded.min(policy.retry_after_cap)),
        None => wait,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ladder_is_10_20_40_80_160_then_300_seconds() {
        let waits: Vec<u64> = (1..=8).map(|n| wait_after(n, None, Spread(0), &Policy::default()).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
    }

    proptest! {
        #[test]
        fn no_count_leaves_the_ladder(failures: u32, spread: u64) {
            let wait = wait_after(failures, None, Spread(spread), &Policy::default());
            prop_assert!((Duration::from_secs(10)..=Duration::from_secs(330)).contains(&wait), "{wait:?}");
        }

        #[test]
        fn retry_after_only_lengthens_and_at_most_to_an_hour(failures: u32, spread: u64, secs in prop_oneof![0_u64..600, 0_u64..]) {
            let plain = wait_after(failures, None, Spread(spread), &Policy::default());
            let wait = wait_after(failures, Some(Duration::from_secs(secs)), Spread(spread), &Policy::default());
            prop_assert!(wait >= plain && wait <= plain.max(Duration::from_secs(3_600)));
        }
    }
}
