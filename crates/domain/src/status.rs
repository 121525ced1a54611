//! What may be said about a grant at any moment: the engine's public side, without secrets.

use serde::Serialize;

use crate::failure::Failure;
use crate::grant::{GrantType, LoginEnd};
use crate::ids::{AttemptId, Generation, GrantId};
use crate::policy::Policy;
use crate::time::Timestamp;
use crate::token::TokenFacts;

/// The states of a grant's refresh, by the names the API uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshState {
    /// No refresh is possible or needed.
    Idle,
    /// A refresh has its time.
    Scheduled,
    /// An attempt is under way.
    Refreshing,
    /// The last attempt failed; the next one has its time.
    Retrying,
    /// No attempt can help: a login is needed.
    Failed,
}

impl RefreshState {
    /// The name in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Scheduled => "scheduled",
            Self::Refreshing => "refreshing",
            Self::Retrying => "retrying",
            Self::Failed => "failed",
        }
    }
}

/// The last attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastFailure {
    /// Which attempt it was.
    pub attempt: AttemptId,
    /// When it ended.
    pub at: Timestamp,
    /// What happened.
    pub failure: Failure,
}

/// What the upstream itself says about the access token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamVerdict {
    /// Nothing against it.
    #[default]
    Accepts,
    /// It refused an unexpired token of this generation; a forced refresh is under way or due.
    Refused(Generation),
    /// It refused one before; a token of this generation has not been tried yet.
    OnProbation(Generation),
    /// It refused a token that was refreshed because it had refused the one before.
    RejectsFresh(Generation),
}

/// Everything that health, the API, metrics and the page say about one grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantStatus {
    /// Which grant.
    pub id: GrantId,
    /// Whether its server is switched on.
    pub enabled: bool,
    /// Why its server's configuration cannot be used, if so.
    pub misconfigured: Option<String>,
    /// Why its stored record cannot be read, if so. Not the same as "not logged in".
    pub unreadable: Option<String>,
    /// By what right its tokens are asked for.
    pub grant_type: GrantType,
    /// Grows with every token set, login and logout.
    pub generation: Generation,
    /// Who issued them, once somebody has logged in.
    pub issuer: Option<String>,
    /// The tokens, while logged in.
    pub tokens: Option<TokenFacts>,
    /// The state of its refresh.
    pub state: RefreshState,
    /// When the login was made, where that was noted: tells one login from the next.
    pub logged_in_at: Option<Timestamp>,
    /// When the next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
    /// Failures in a row.
    pub retry_count: u32,
    /// When the last attempt began.
    pub last_attempt_at: Option<Timestamp>,
    /// When tokens were last stored.
    pub last_success_at: Option<Timestamp>,
    /// The last failure since the last success.
    pub last_failure: Option<LastFailure>,
    /// Whether refusals of an unclear kind suggest that the login is dead.
    pub suspected_dead: bool,
    /// Why the login is over, if it is.
    pub ended: Option<LoginEnd>,
    /// Why the current tokens are not in the store yet, if so.
    pub unsaved: Option<String>,
    /// What the upstream says about the access token.
    pub upstream: UpstreamVerdict,
    /// Scopes that the upstream demanded and this login does not have.
    pub missing_scopes: Vec<String>,
    /// The scopes the next login asks for.
    pub needed_scopes: Vec<String>,
    /// Scopes that were granted once and left out of a later answer.
    pub lost_scopes: Vec<String>,
    /// The scopes that were asked for at login.
    pub requested_scopes: Vec<String>,
    /// Logins in a row that asked for scopes in vain.
    pub step_ups: u32,
    /// When the client secret ends, if ever.
    pub client_secret_expires_at: Option<Timestamp>,
    /// By how many seconds this machine's clock is ahead of the provider's, where noteworthy.
    pub clock_skew_s: Option<i64>,
}

impl GrantStatus {
    /// The status of a grant nothing is known of: never logged in.
    pub fn unknown(id: GrantId) -> Self {
        Self {
            id,
            enabled: true,
            misconfigured: None,
            unreadable: None,
            grant_type: GrantType::default(),
            generation: Generation::default(),
            issuer: None,
            tokens: None,
            state: RefreshState::Idle,
            logged_in_at: None,
            next_attempt_at: None,
            retry_count: 0,
            last_attempt_at: None,
            last_success_at: None,
            last_failure: None,
            suspected_dead: false,
            ended: None,
            unsaved: None,
            upstream: UpstreamVerdict::Accepts,
            missing_scopes: Vec::new(),
            needed_scopes: Vec::new(),
            lost_scopes: Vec::new(),
            requested_scopes: Vec::new(),
            step_ups: 0,
            client_secret_expires_at: None,
            clock_skew_s: None,
        }
    }

    /// When the access token ends, where known.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.tokens.as_ref().and_then(TokenFacts::expires_at)
    }

    /// Whether there is an access token that is, as far as is known, good at `now`.
    pub fn has_valid_token(&self, now: Timestamp) -> bool {
        self.tokens.as_ref().is_some_and(|tokens| tokens.is_valid(now))
    }

    /// From when the end of the client secret is warned of.
    pub fn client_secret_warned_from(&self, policy: &Policy) -> Option<Timestamp> {
        self.client_secret_expires_at.map(|end| end.before(policy.warn_before_credential_end))
    }

    /// Whether there is a refresh token.
    pub fn has_refresh_token(&self) -> bool {
        self.tokens.as_ref().is_some_and(|tokens| tokens.refresh_token.is_some())
    }
}
