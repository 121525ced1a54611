//! Health: one pure function from a grant's status and the time to what people are told.
//!
//! Every class of failure has its own words; no two share a text.

use serde::{Deserialize, Serialize};

use crate::failure::FailureClass;
use crate::grant::{GrantType, LoginEnd};
use crate::ids::GrantId;
use crate::policy::Policy;
use crate::status::{GrantStatus, LastFailure, RefreshState, UpstreamVerdict};
use crate::time::Timestamp;

/// How bad it is. `degraded` while the access token still works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// All is well.
    Healthy,
    /// Requests work, but something needs watching.
    Degraded,
    /// Requests fail, or would.
    Unhealthy,
}

impl Level {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// Whether the user wants this server to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminState {
    /// It is switched on.
    Enabled,
    /// It is switched off.
    Disabled,
}

/// What a person can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthAction {
    /// Log in again.
    Login,
    /// Nothing but wait; an attempt can be made at once.
    Retry,
    /// Read the journal and the log.
    ViewLogs,
    /// Switch the server on.
    Enable,
    /// Mend the configuration, or this machine.
    Configure,
    /// Nothing.
    #[serde(rename = "")]
    None,
}

impl HealthAction {
    /// The name in the API; empty for nothing.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Retry => "retry",
            Self::ViewLogs => "view_logs",
            Self::Enable => "enable",
            Self::Configure => "configure",
            Self::None => "",
        }
    }

    /// The command that does it for `grant`, or that says what there is to mend.
    pub fn command(self, grant: &GrantId) -> Option<String> {
        match self {
            Self::Login => Some(format!("everfresh login {grant}")),
            Self::Retry => Some(format!("everfresh refresh {grant}")),
            Self::ViewLogs => Some(format!("everfresh journal {grant}")),
            // Accounts are not switched one by one.
            Self::Enable => Some(format!("everfresh enable {}", grant.server)),
            Self::Configure => Some(format!("everfresh doctor {grant}")),
            Self::None => None,
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why the health is what it is, for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in the API, in metrics and in logs.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// All is well.
    Ok = "ok",
    /// An attempt is under way, or the first one is pending past its time.
    Refreshing = "refreshing",
    /// The token endpoint cannot be reached.
    RetryingNetwork = "retrying_network",
    /// The token endpoint answers with errors.
    RetryingProvider = "retrying_provider",
    /// The provider asked for a pause.
    RateLimited = "rate_limited",
    /// everfresh's own last limit before the token endpoint held the request back.
    HeldBack = "held_back",
    /// The provider's refusals suggest that the login is dead.
    SuspectedRejected = "suspected_rejected",
    /// The refresh token was refused.
    RefreshTokenRejected = "refresh_token_rejected",
    /// It was refused after an answer had been lost.
    RotationLost = "rotation_lost",
    /// The provider does not know this client any more.
    ClientRejected = "client_rejected",
    /// The provider refuses what an unattended grant is configured with.
    CredentialRefused = "credential_refused",
    /// Nobody has logged in yet.
    LoginRequired = "login_required",
    /// The user logged out.
    LoggedOut = "logged_out",
    /// The login lasts as long as its access token.
    NoRefreshToken = "no_refresh_token",
    /// That access token has ended.
    ExpiredNoRefreshToken = "expired_no_refresh_token",
    /// The upstream refuses a token that was just issued.
    RejectedAfterRefresh = "rejected_after_refresh",
    /// The upstream demands scopes that this login does not have.
    InsufficientScope = "insufficient_scope",
    /// The provider does not grant the scopes that the upstream demands, however often it is asked.
    ScopeNotGranted = "scope_not_granted",
    /// A later answer left out scopes that were granted before.
    ScopeReduced = "scope_reduced",
    /// The refresh token ends soon, and the provider does not renew it.
    RefreshTokenExpiring = "refresh_token_expiring",
    /// The client secret ends soon.
    ClientSecretExpiring = "client_secret_expiring",
    /// The newest token is only in memory.
    StoreWriteFailed = "store_write_failed",
    /// The record of this login cannot be read.
    StoreUnreadable = "store_unreadable",
    /// The issuer or its endpoints are not those the login was made with.
    IssuerChanged = "issuer_changed",
    /// This machine's clock is off.
    ClockSkew = "clock_skew",
    /// The configuration of this server cannot be used.
    Misconfigured = "misconfigured",
    /// The server is switched off.
    Disabled = "disabled",
}

/// What people are told about one grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// How bad it is.
    pub level: Level,
    /// Whether the server is switched on.
    pub admin_state: AdminState,
    /// One line.
    pub summary: String,
    /// One more line, or empty.
    pub detail: String,
    /// What a person can do.
    pub action: HealthAction,
    /// Why, for programs.
    pub reason: Reason,
}

impl Health {
    fn new(level: Level, reason: Reason, action: HealthAction, summary: impl Into<String>) -> Self {
        Self { level, admin_state: AdminState::Enabled, summary: summary.into(), detail: String::new(), action, reason }
    }

    fn with_detail(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }
}

impl GrantStatus {
    /// The health of this grant at `now`.
    pub fn health(&self, now: Timestamp, policy: &Policy) -> Health {
        let health = self.observed(now, policy);
        // No login helps a grant that needs no person, unless a person had ended it.
        let vain = health.action == HealthAction::Login && health.reason != Reason::LoggedOut;
        let action = if vain && self.grant_type.is_unattended() { HealthAction::Configure } else { health.action };
        Health { action, ..health }
    }

    fn observed(&self, now: Timestamp, policy: &Policy) -> Health {
        if !self.enabled {
            let health = Health::new(Level::Healthy, Reason::Disabled, HealthAction::Enable, "Disabled");
            return Health { admin_state: AdminState::Disabled, ..health };
        }
        if let Some(problem) = &self.misconfigured {
            let summary = "Configuration error";
            return Health::new(Level::Unhealthy, Reason::Misconfigured, HealthAction::Configure, summary)
                .with_detail(problem);
        }
        if let Some(cause) = &self.unreadable {
            let summary = "Stored login cannot be read";
            return Health::new(Level::Unhealthy, Reason::StoreUnreadable, HealthAction::ViewLogs, summary)
                .with_detail(cause);
        }
        if let Some(end) = &self.ended {
            return ended(end, self.has_valid_token(now));
        }
        let Some(tokens) = &self.tokens else { return self.without_tokens() };
        let working = tokens.is_valid(now);
        if let UpstreamVerdict::RejectsFresh(_) = self.upstream {
            let summary = "The server rejects a freshly issued token";
            return Health::new(Level::Unhealthy, Reason::RejectedAfterRefresh, HealthAction::Login, summary);
        }
        if let (true, Some(last)) = (self.state == RefreshState::Retrying || self.retry_count > 0, &self.last_failure) {
            return self.retrying(last, working);
        }
        if self.suspected_dead {
            let detail = "The provider refused before the last restart, in words that may mean a dead login.";
            return suspected(level_while(working), self.grant_type).with_detail(detail);
        }
        if let Some(cause) = &self.unsaved {
            let summary = format!("New token could not be saved: {cause}");
            return Health::new(Level::Degraded, Reason::StoreWriteFailed, HealthAction::ViewLogs, summary)
                .with_detail(
                    "It is kept in memory and used; saving it is retried. Do not stop the daemon before that.",
                );
        }
        if tokens.refresh_token.is_none() && !self.grant_type.is_unattended() {
            return self.without_refresh_token(now, policy);
        }
        if self.state == RefreshState::Refreshing || self.next_attempt_at.is_some_and(|at| at <= now) || !working {
            let summary = "Token refresh in progress";
            return Health::new(Level::Healthy, Reason::Refreshing, HealthAction::None, summary);
        }
        self.well(now, policy)
    }

    fn without_tokens(&self) -> Health {
        if !self.grant_type.is_unattended() {
            return Health::new(Level::Unhealthy, Reason::LoginRequired, HealthAction::Login, "Login required");
        }
        match &self.last_failure {
            Some(last) => self.retrying(last, false),
            None => {
                Health::new(Level::Healthy, Reason::Refreshing, HealthAction::None, "First token is being asked for")
            }
        }
    }

    /// What a request lacks while no attempt succeeds.
    fn lack(&self) -> &'static str {
        if self.tokens.is_some() { "Token expired" } else { "No token yet" }
    }

    fn retrying(&self, last: &LastFailure, working: bool) -> Health {
        let level = level_while(working);
        let next = self.next_attempt_at.map_or_else(|| "soon".to_owned(), |at| format!("at {at}"));
        let detail = format!("Refresh retry {} {next}: {}", self.retry_count, last.failure.message);
        let health = if self.suspected_dead {
            suspected(level, self.grant_type)
        } else {
            match last.failure.class {
                FailureClass::Network | FailureClass::AnswerLost => {
                    let summary = if working {
                        "Refresh failed - network error".to_owned()
                    } else {
                        format!("{}, provider unreachable", self.lack())
                    };
                    Health::new(level, Reason::RetryingNetwork, HealthAction::Retry, summary)
                }
                FailureClass::RateLimited => {
                    let summary = format!("Refresh delayed by the provider until {}", self.until());
                    Health::new(level, Reason::RateLimited, HealthAction::ViewLogs, summary)
                }
                FailureClass::HeldBack => {
                    let summary = format!("Refresh held back by everfresh's own limit until {}", self.until());
                    Health::new(level, Reason::HeldBack, HealthAction::ViewLogs, summary)
                }
                FailureClass::Configuration => {
                    let summary = "Token cannot be asked for as configured";
                    Health::new(level, Reason::Misconfigured, HealthAction::Configure, summary)
                }
                FailureClass::Store => {
                    let summary = "Refresh waits for the store - attempts cannot be recorded";
                    Health::new(level, Reason::StoreWriteFailed, HealthAction::ViewLogs, summary)
                }
                FailureClass::Provider
                | FailureClass::Refused
                | FailureClass::ClientRejected
                | FailureClass::Suspect
                | FailureClass::Shape => {
                    let summary = if working {
                        "Refresh failed - provider error".to_owned()
                    } else {
                        format!("{}, provider answers with errors", self.lack())
                    };
                    Health::new(level, Reason::RetryingProvider, HealthAction::ViewLogs, summary)
                }
            }
        };
        health.with_detail(detail)
    }

    fn until(&self) -> String {
        self.next_attempt_at.map_or_else(|| "further notice".to_owned(), |at| at.to_string())
    }

    fn without_refresh_token(&self, now: Timestamp, policy: &Policy) -> Health {
        let refused = matches!(self.upstream, UpstreamVerdict::Refused(_));
        if refused || self.expires_at().is_some_and(|end| now >= end) {
            let summary = "Login expired; the provider gave no refresh token";
            return Health::new(Level::Unhealthy, Reason::ExpiredNoRefreshToken, HealthAction::Login, summary);
        }
        let Some(end) = self.expires_at() else {
            return self.well(now, policy);
        };
        let warned = self.tokens.as_ref().and_then(|tokens| tokens.warned_from(policy)).is_some_and(|from| now >= from);
        let level = if warned { Level::Degraded } else { Level::Healthy };
        let summary = format!("This login lasts until {end}");
        Health::new(level, Reason::NoRefreshToken, HealthAction::Login, summary)
            .with_detail("The provider gave no refresh token.")
    }

    fn well(&self, now: Timestamp, policy: &Policy) -> Health {
        if !self.missing_scopes.is_empty() {
            if self.asked_in_vain(policy) {
                let summary = format!("The provider does not grant: {}", self.missing_scopes.join(" "));
                let detail = format!(
                    "{} logins asked for it. Whoever administers the server must allow it; after that, log in again.",
                    self.step_ups
                );
                let health = Health::new(Level::Degraded, Reason::ScopeNotGranted, HealthAction::None, summary);
                return health.with_detail(detail);
            }
            let summary = format!("Missing permission: {}", self.missing_scopes.join(" "));
            return Health::new(Level::Degraded, Reason::InsufficientScope, HealthAction::Login, summary);
        }
        if let Some(health) = self.ends_soon(now, policy) {
            return health;
        }
        if !self.lost_scopes.is_empty() {
            let summary = format!("The provider took back permissions: {}", self.lost_scopes.join(" "));
            return Health::new(Level::Degraded, Reason::ScopeReduced, HealthAction::Login, summary);
        }
        if let Some(seconds) = self.clock_skew_s {
            let summary = format!("This machine's clock is off by {seconds} s");
            return Health::new(Level::Degraded, Reason::ClockSkew, HealthAction::Configure, summary);
        }
        let summary = match self.next_attempt_at {
            Some(at) => format!("Token refresh scheduled for {at}"),
            None => "Connected".to_owned(),
        };
        Health::new(Level::Healthy, Reason::Ok, HealthAction::None, summary)
    }

    /// Whether so many logins asked for the missing scopes that a further one will not help.
    fn asked_in_vain(&self, policy: &Policy) -> bool {
        let asked = self.missing_scopes.iter().all(|scope| self.requested_scopes.contains(scope));
        asked && self.step_ups >= policy.step_up_tries
    }

    /// All works, and something that the login stands on has an end.
    fn ends_soon(&self, now: Timestamp, policy: &Policy) -> Option<Health> {
        let tokens = self.tokens.as_ref()?;
        if let Some(end) = tokens.refresh_token_ends_soon(now, policy) {
            let summary = format!("This login ends at {end}");
            let health = Health::new(Level::Degraded, Reason::RefreshTokenExpiring, HealthAction::Login, summary);
            let with_the_login = tokens.login_ends_at.is_some_and(|(login, _)| login == end);
            return Some(health.with_detail(if with_the_login {
                "The provider ends every login after a fixed time; log in again before that."
            } else {
                "The provider does not renew its refresh token; log in again before that."
            }));
        }
        if self.client_secret_warned_from(policy).is_some_and(|from| now >= from) {
            let summary = format!("The client secret ends at {}", self.client_secret_expires_at?);
            let health = Health::new(Level::Degraded, Reason::ClientSecretExpiring, HealthAction::Login, summary);
            return Some(health.with_detail("A new login registers a new client, where the provider offers that."));
        }
        None
    }
}

impl FailureClass {
    /// Why an attempt that failed so did.
    pub fn reason(self) -> Reason {
        match self {
            Self::Network | Self::AnswerLost => Reason::RetryingNetwork,
            Self::Provider | Self::Shape => Reason::RetryingProvider,
            Self::RateLimited => Reason::RateLimited,
            Self::Refused => Reason::RefreshTokenRejected,
            Self::ClientRejected => Reason::ClientRejected,
            Self::Suspect => Reason::SuspectedRejected,
            Self::HeldBack => Reason::HeldBack,
            Self::Store => Reason::StoreWriteFailed,
            Self::Configuration => Reason::Misconfigured,
        }
    }
}

impl LoginEnd {
    /// Why a login that ended so did.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused { .. } => Reason::RefreshTokenRejected,
            Self::RotationLost { .. } => Reason::RotationLost,
            Self::ClientRejected { .. } => Reason::ClientRejected,
            Self::IssuerChanged { .. } => Reason::IssuerChanged,
            Self::CredentialRefused { .. } => Reason::CredentialRefused,
            Self::LoggedOut => Reason::LoggedOut,
        }
    }
}

/// How bad it is that no refresh succeeds: bad once the access token has ended.
fn level_while(working: bool) -> Level {
    if working { Level::Degraded } else { Level::Unhealthy }
}

fn suspected(level: Level, grant_type: GrantType) -> Health {
    let summary = if grant_type.is_unattended() {
        "Token requests refused - check what is configured"
    } else {
        "Refresh refused - a new login is probably needed"
    };
    Health::new(level, Reason::SuspectedRejected, HealthAction::Login, summary)
}

fn ended(end: &LoginEnd, working: bool) -> Health {
    let (summary, detail) = match end {
        LoginEnd::Refused { code } => (
            "Refresh token expired - re-authentication required",
            format!("The provider refused the refresh token: {code}"),
        ),
        LoginEnd::RotationLost { code } => (
            "The provider's answer was lost - re-authentication required",
            format!("An answer with new tokens never arrived, and the old refresh token is refused: {code}"),
        ),
        LoginEnd::ClientRejected { code } => (
            "Client registration no longer known - re-authentication required",
            format!("The provider refused the client: {code}"),
        ),
        LoginEnd::IssuerChanged { detail } => {
            ("The provider's identity changed - check and log in again", detail.clone())
        }
        LoginEnd::CredentialRefused { credential, code } => {
            let level = level_while(working);
            let summary = format!("The provider refuses {credential}: {code}");
            let detail = "It is not sent again as it is. A change of what is configured is noticed within minutes; \
                          `everfresh login` asks at once.";
            return Health::new(level, end.reason(), HealthAction::Configure, summary).with_detail(detail);
        }
        LoginEnd::LoggedOut => ("Logged out", String::new()),
    };
    Health::new(Level::Unhealthy, end.reason(), HealthAction::Login, summary).with_detail(detail)
}
