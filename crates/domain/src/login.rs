//! The life of one interactive login, as a state machine without I/O.
//!
//! It knows no secret: `state`, verifier and code are kept by whoever talks to the provider.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::GrantId;
use crate::policy::Policy;
use crate::time::Timestamp;

/// One login, in every log line about it. Drawn at random by the caller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FlowId(pub u64);

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a login ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum LoginOutcome {
    /// The new tokens are stored.
    Succeeded,
    /// The person or the provider said no.
    Denied {
        /// The provider's `error` code.
        code: String,
    },
    /// Nobody came back in time.
    TimedOut,
    /// It was taken back, or another took its place.
    Cancelled,
    /// It could not be done.
    Failed {
        /// Why, for people.
        message: String,
    },
}

/// Where a pending login stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginPhase {
    /// The person is at the provider's page.
    AwaitingUser,
    /// The code came back and is being exchanged.
    Exchanging,
}

/// One pending login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingLogin {
    /// Which login.
    pub flow: FlowId,
    /// For which grant.
    pub grant: GrantId,
    /// Where it stands.
    pub phase: LoginPhase,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// The pending logins: at most one for each grant, each bounded in time.
#[derive(Debug, Default)]
pub struct Logins {
    pending: BTreeMap<GrantId, PendingLogin>,
}

impl Logins {
    /// Begins a login for `grant`, or returns the one that is pending already.
    ///
    /// The caller tells them apart by the flow id. A login ends by itself when its `lifetime` is
    /// over, and after the policy's at the latest.
    pub fn begin(
        &mut self,
        now: Timestamp,
        grant: &GrantId,
        flow: FlowId,
        lifetime: Duration,
        policy: &Policy,
    ) -> PendingLogin {
        if let Some(pending) = self.pending(now, grant) {
            return pending.clone();
        }
        let pending = PendingLogin {
            flow,
            grant: grant.clone(),
            phase: LoginPhase::AwaitingUser,
            began_at: now,
            expires_at: now.after(lifetime.min(policy.login_timeout)),
        };
        self.pending.insert(grant.clone(), pending.clone());
        pending
    }

    /// The code of `flow` came back. `false` where that login is over or was answered before:
    /// a code is used once.
    pub fn answered(&mut self, now: Timestamp, grant: &GrantId, flow: FlowId) -> bool {
        match self.pending.get_mut(grant) {
            Some(login) if login.flow == flow && login.phase == LoginPhase::AwaitingUser && now < login.expires_at => {
                login.phase = LoginPhase::Exchanging;
                true
            }
            _ => false,
        }
    }

    /// Whether `flow` still waits for its answer, in time or not.
    pub fn is_awaited(&self, grant: &GrantId, flow: FlowId) -> bool {
        self.pending.get(grant).is_some_and(|login| login.flow == flow && login.phase == LoginPhase::AwaitingUser)
    }

    /// `flow` is over. A doubled or late call changes nothing.
    pub fn ended(&mut self, grant: &GrantId, flow: FlowId) {
        if self.pending.get(grant).is_some_and(|login| login.flow == flow) {
            self.pending.remove(grant);
        }
    }

    /// Removes the logins whose time is over, and returns them.
    pub fn expire(&mut self, now: Timestamp) -> Vec<PendingLogin> {
        let over: Vec<GrantId> =
            self.pending.iter().filter(|(_, login)| login.expires_at <= now).map(|(id, _)| id.clone()).collect();
        over.iter().filter_map(|id| self.pending.remove(id)).collect()
    }

    /// The login of `grant` that is pending at `now`.
    pub fn pending(&self, now: Timestamp, grant: &GrantId) -> Option<&PendingLogin> {
        self.pending.get(grant).filter(|login| now < login.expires_at)
    }

    /// When the next login expires.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.pending.values().map(|login| login.expires_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn grant() -> GrantId {
        "linear".parse().unwrap()
    }

    #[test]
    fn a_second_login_of_a_grant_is_the_first() {
        let mut logins = Logins::default();
        let first = logins.begin(NOW, &grant(), FlowId(1), Duration::MAX, &Policy::default());
        assert_eq!(logins.begin(NOW, &grant(), FlowId(2), Duration::MAX, &Policy::default()), first);
    }

    #[test]
    fn a_code_is_used_once_and_only_in_time() {
        let mut logins = Logins::default();
        logins.begin(NOW, &grant(), FlowId(1), Duration::MAX, &Policy::default());
        assert!(!logins.answered(NOW, &grant(), FlowId(7)));
        assert!(logins.is_awaited(&grant(), FlowId(1)) && !logins.is_awaited(&grant(), FlowId(7)));
        assert!(logins.answered(NOW, &grant(), FlowId(1)));
        assert!(!logins.answered(NOW, &grant(), FlowId(1)) && !logins.is_awaited(&grant(), FlowId(1)));
        logins.ended(&grant(), FlowId(1));
        logins.begin(NOW, &grant(), FlowId(3), Duration::MAX, &Policy::default());
        assert!(!logins.answered(NOW.after(Duration::from_secs(600)), &grant(), FlowId(3)));
    }

    #[test]
    fn a_login_lasts_no_longer_than_what_it_waits_for() {
        let mut logins = Logins::default();
        let short = logins.begin(NOW, &grant(), FlowId(1), Duration::from_secs(90), &Policy::default());
        assert_eq!(short.expires_at, NOW.after(Duration::from_secs(90)));
    }

    #[test]
    fn an_unanswered_login_expires_and_makes_room() {
        let mut logins = Logins::default();
        logins.begin(NOW, &grant(), FlowId(1), Duration::MAX, &Policy::default());
        let later = logins.next_expiry().unwrap();
        assert_eq!(logins.expire(later).len(), 1);
        assert_eq!(logins.begin(later, &grant(), FlowId(2), Duration::MAX, &Policy::default()).flow, FlowId(2));
    }
}
