//! How many attempts a grant may make by itself: credit that is earned by waiting.
//!
//! Half of an hour's attempts may be saved up, the other half is earned within the hour, so that no
//! hour sees more than [`Policy::hourly_budget`]. One moment is all that has to be stored.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::policy::Policy;
use crate::time::Timestamp;

const HOUR: Duration = Duration::from_secs(3_600);

/// The credit of one grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Budget {
    /// From when on all credit is there again.
    whole_again_at: Option<Timestamp>,
}

impl Budget {
    /// From when one more attempt is affordable; any time where that is `None`.
    pub fn affordable_at(self, now: Timestamp, policy: &Policy) -> Option<Timestamp> {
        let saved_up = price(policy).saturating_mul(savings(policy).saturating_sub(1));
        let at = self.whole_again_at?.before(saved_up);
        (at > now).then_some(at)
    }

    /// With one more attempt paid for.
    #[must_use]
    pub fn paid(self, now: Timestamp, policy: &Policy) -> Self {
        let from = self.whole_again_at.map_or(now, |debt| debt.max(now));
        Self { whole_again_at: Some(from.after(price(policy))) }
    }

    /// The same credit after the clock was set back by `time`, or by more: no debt is larger than
    /// all that can be saved.
    #[must_use]
    pub fn set_back(self, time: Duration, now: Timestamp, policy: &Policy) -> Self {
        let all = now.after(price(policy).saturating_mul(savings(policy)));
        Self { whole_again_at: self.whole_again_at.map(|debt| debt.before(time).min(all)) }
    }
}

fn savings(policy: &Policy) -> u32 {
    (policy.hourly_budget / 2).max(1)
}

/// The wait that earns one attempt.
fn price(policy: &Policy) -> Duration {
    HOUR / policy.hourly_budget.saturating_sub(savings(policy)).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However an impatient grant spaces its wishes, no hour sees more than the budget.
        #[test]
        fn no_hour_sees_more_than_the_budget(hourly_budget in 2_u32..200, gaps in prop::collection::vec(0_u64..600_000, 1..400)) {
            let policy = Policy { hourly_budget, ..Policy::default() };
            let (mut budget, mut now) = (Budget::default(), Timestamp::from_millis(1_795_000_000_000));
            let mut made: VecDeque<Timestamp> = VecDeque::new();
            for gap in gaps {
                now = now.after(Duration::from_millis(gap));
                now = budget.affordable_at(now, &policy).unwrap_or(now);
                budget = budget.paid(now, &policy);
                made.push_back(now);
                while made.front().is_some_and(|first| now.since(*first) >= HOUR) {
                    made.pop_front();
                }
                prop_assert!(made.len() <= hourly_budget as usize, "{} attempts", made.len());
            }
        }
    }

    #[test]
    fn a_clock_that_was_set_back_by_a_year_costs_at_most_an_hour() {
        let policy = Policy::default();
        let ahead = Timestamp::from_millis(1_795_000_000_000);
        let budget = Budget::default().paid(ahead, &policy);
        let now = ahead.before(HOUR * 24 * 365);
        let at = budget.set_back(Duration::ZERO, now, &policy).affordable_at(now, &policy);
        assert!(at.is_some_and(|at| at.since(now) <= HOUR));
    }
}
