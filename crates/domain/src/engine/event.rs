//! What the engine is told, and what it answers. Ids, generations and fingerprints; no secrets.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::budget::Budget;
use crate::failure::Failure;
use crate::grant::{GrantFacts, LoginEnd};
use crate::ids::{AttemptId, Generation, GrantId};
use crate::policy::Policy;
use crate::secret::Fingerprint;
use crate::time::Timestamp;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Time went by. Doing this too often changes nothing.
    Woke,
    /// The wall clock jumped against the monotonic one: the machine slept, or the clock was set.
    ClockJumped,
    /// A grant is known from here on: found at start, or new. `facts` is `None` before any login.
    Loaded {
        /// Which grant.
        grant: GrantId,
        /// Whether its server is switched on.
        enabled: bool,
        /// What its record says.
        facts: Option<Box<GrantFacts>>,
    },
    /// A grant's record is there but cannot be read.
    Unreadable {
        /// Which grant.
        grant: GrantId,
        /// Why.
        cause: String,
    },
    /// A login succeeded.
    LoggedIn {
        /// Which grant.
        grant: GrantId,
        /// What its record says.
        facts: Box<GrantFacts>,
        /// Why it could not be stored yet, if so.
        unsaved: Option<String>,
    },
    /// A logout was stored.
    LoggedOut {
        /// Which grant.
        grant: GrantId,
        /// What its record says.
        facts: Box<GrantFacts>,
    },
    /// The server was switched on or off.
    Switched {
        /// Which grant.
        grant: GrantId,
        /// Whether it is on.
        enabled: bool,
    },
    /// The server's configuration cannot be used, or can again.
    Misconfigured {
        /// Which grant.
        grant: GrantId,
        /// Why not.
        problem: Option<String>,
    },
    /// The grant is no more.
    Removed {
        /// Which grant.
        grant: GrantId,
    },
    /// An attempt ended.
    AttemptEnded(AttemptReport),
    /// Tokens that could not be saved are saved.
    Saved {
        /// Which grant.
        grant: GrantId,
        /// The generation that is stored.
        generation: Generation,
    },
    /// Somebody wants a refresh before its time.
    RefreshWanted {
        /// Which grant.
        grant: GrantId,
        /// Who.
        trigger: Trigger,
    },
    /// The upstream answered 401 to a token of `generation`.
    UpstreamRefused {
        /// Which grant.
        grant: GrantId,
        /// Of the token that was sent.
        generation: Generation,
    },
    /// The upstream accepted a token of `generation`.
    UpstreamAccepted {
        /// Which grant.
        grant: GrantId,
        /// Of the token that was sent.
        generation: Generation,
    },
    /// The upstream demands `scopes` that a token of `generation` does not have.
    ScopesDemanded {
        /// Which grant.
        grant: GrantId,
        /// Of the token that was sent.
        generation: Generation,
        /// All that it named.
        scopes: Vec<String>,
    },
    /// The provider's clock and this machine's differ by `ahead_s` seconds.
    ClockSkewSeen {
        /// Which grant's provider.
        grant: GrantId,
        /// How far this machine is ahead.
        ahead_s: i64,
    },
    /// The numbers of the rules changed.
    PolicyChanged(Box<Policy>),
}

/// What causes an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The refresh point is reached.
    Schedule,
    /// An earlier attempt failed.
    Retry,
    /// The answer to an earlier attempt was lost.
    LostAnswer,
    /// A request waits for a valid token.
    Request,
    /// The upstream refused an unexpired token.
    Upstream,
    /// A person asked.
    User,
}

impl Trigger {
    /// Whether such an attempt is paid from the grant's hourly budget. An attempt on schedule follows
    /// a success and is bounded by the token's lifetime, and people are by their patience.
    pub(super) fn is_budgeted(self) -> bool {
        match self {
            Self::Retry | Self::LostAnswer | Self::Request | Self::Upstream => true,
            Self::Schedule | Self::User => false,
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Schedule => "schedule",
            Self::Retry => "retry",
            Self::LostAnswer => "lost_answer",
            Self::Request => "request",
            Self::Upstream => "upstream",
            Self::User => "user",
        })
    }
}

/// What became of an [`Attempt`]. Exactly one is due for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptReport {
    /// Which attempt.
    pub attempt: AttemptId,
    /// Of which grant.
    pub grant: GrantId,
    /// How it ended.
    pub outcome: AttemptOutcome,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// New tokens are stored.
    Stored(Box<GrantFacts>),
    /// New tokens were issued but are only in memory; storing them is being retried.
    Unsaved {
        /// What the record will say.
        facts: Box<GrantFacts>,
        /// Why it could not be stored.
        cause: String,
    },
    /// The store held newer tokens already; nothing was sent.
    Adopted(Box<GrantFacts>),
    /// It failed.
    Failed {
        /// How.
        failure: Failure,
        /// What the record says after it; `None` where it could not be read.
        facts: Option<Box<GrantFacts>>,
    },
    /// The login was changed meanwhile: whatever came back was thrown away.
    Discarded,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send one refresh request and report how it ended.
    Attempt(Attempt),
    /// The grant's status changed: publish it.
    Publish(GrantId),
    /// Something worth a log line and an event.
    Note(Note),
}

/// One refresh request to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its id, in every log line about it.
    pub id: AttemptId,
    /// Of which grant.
    pub grant: GrantId,
    /// The generation that it starts from.
    pub generation: Generation,
    /// The refresh token to be sent.
    pub refresh_token: Fingerprint,
    /// What causes it.
    pub trigger: Trigger,
    /// When it began.
    pub started_at: Timestamp,
    /// What is left of the grant's budget with this attempt paid for.
    pub budget: Budget,
}

/// Something that people may want to hear of.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// The next refresh has its time.
    Scheduled {
        /// Of which grant.
        grant: GrantId,
        /// When.
        at: Timestamp,
    },
    /// The next attempt after a failure has its time.
    RetryScheduled {
        /// Of which grant.
        grant: GrantId,
        /// When.
        at: Timestamp,
        /// Failures in a row.
        failures: u32,
    },
    /// A login is over.
    LoginEnded {
        /// Which.
        grant: GrantId,
        /// Why.
        end: LoginEnd,
    },
}

/// The next moment at which [`Event::Woke`] would do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wake {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: WakeReason,
}

/// Why the engine wants to be woken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WakeReason {
    /// An attempt of this grant is due.
    AttemptDue(GrantId),
    /// This grant's health changes by time alone.
    HealthChanges(GrantId),
    /// The circuit breaker of this endpoint lets one attempt through.
    Probe(String),
}
