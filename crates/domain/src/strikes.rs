//! Refusals of an unclear kind in a row: kept with the login, so that a restart forgives none.

use serde::{Deserialize, Serialize};

use crate::failure::FailureClass;
use crate::policy::Policy;
use crate::time::Timestamp;

/// How often in a row a provider refused in words that may mean a dead token, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strikes {
    /// How often.
    pub count: u32,
    /// When the first of them was asked for.
    pub since: Timestamp,
}

impl Strikes {
    /// What an attempt that began at `started_at` and failed as `class` makes of the strikes so far.
    /// Where the provider was not asked, nothing is known and nothing changes.
    pub fn after(earlier: Option<Self>, class: FailureClass, started_at: Timestamp) -> Option<Self> {
        match (class, earlier) {
            (FailureClass::Suspect, None) => Some(Self { count: 1, since: started_at }),
            // A clock that was set back meanwhile lets the span begin anew.
            (FailureClass::Suspect, Some(earlier)) => {
                Some(Self { count: earlier.count.saturating_add(1), since: earlier.since.min(started_at) })
            }
            (
                FailureClass::Network | FailureClass::HeldBack | FailureClass::Store | FailureClass::Configuration,
                earlier,
            ) => earlier,
            (
                FailureClass::AnswerLost
                | FailureClass::Provider
                | FailureClass::RateLimited
                | FailureClass::Refused
                | FailureClass::ClientRejected
                | FailureClass::Shape,
                _,
            ) => None,
        }
    }

    /// Whether they are enough to believe at `now` that the login is dead.
    pub fn suffice(self, now: Timestamp, policy: &Policy) -> bool {
        self.count >= policy.suspect_strikes && now.since(self.since) >= policy.suspect_span
    }
}
