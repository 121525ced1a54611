//! Notices: what is told, unasked, to a person who does not look.
//!
//! A [`Situation`] is what one grant is in at one moment: a pure function of its status and the
//! time. [`ledger::Ledger`] remembers what was told of it, so that an event is told once, whatever
//! flaps and restarts. Told is only what a person can do something about; what heals by itself is
//! not, and neither is what the person did: logging out, disabling, or never logging in.

pub mod ledger;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::health::{AdminState, Health, HealthAction, Level, Reason};
use crate::ids::GrantId;
use crate::policy::Policy;
use crate::status::GrantStatus;
use crate::time::Timestamp;

/// How many grants the text of a notice names.
const NAMED_MAX: usize = 5;

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// The login is dead: a person must log in again.
    LoginNeeded,
    /// The login ends soon: a person should log in before that.
    LoginEnding,
    /// The provider refuses what a grant without a person is configured with.
    CredentialRefused,
    /// For a while no token could be had, and requests fail.
    Outage,
    /// A login cannot be saved, or not be read.
    StoreFailed,
    /// What was told of is well again.
    Restored,
    /// Somebody tries whether notices arrive.
    Test,
}

impl NoticeKind {
    /// Every kind that can be asked for.
    pub const ALL: [Self; 6] = [
        Self::LoginNeeded,
        Self::LoginEnding,
        Self::CredentialRefused,
        Self::Outage,
        Self::StoreFailed,
        Self::Restored,
    ];

    /// The name in the configuration, in payloads, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoginNeeded => "login_needed",
            Self::LoginEnding => "login_ending",
            Self::CredentialRefused => "credential_refused",
            Self::Outage => "outage",
            Self::StoreFailed => "store_failed",
            Self::Restored => "restored",
            Self::Test => "test",
        }
    }

    /// Whether its end is worth a notice of its own.
    fn can_be_restored(self) -> bool {
        match self {
            Self::LoginNeeded | Self::CredentialRefused | Self::Outage | Self::StoreFailed => true,
            Self::LoginEnding | Self::Restored | Self::Test => false,
        }
    }
}

/// The numbers of notices. Its defaults are what the product promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticePolicy {
    /// How long before its end a login is warned of, the longest first; a short-lived one later, see
    /// [`crate::TokenFacts::login_ends`].
    pub warn_before: Vec<Duration>,
    /// Warnings closer to the end than this are left out: nobody could act on them.
    pub warn_least: Duration,
    /// How long requests must have failed for want of a provider.
    pub outage_after: Duration,
    /// How long a token must have been unsaved.
    pub store_after: Duration,
    /// After how long the same may be told again of the same login, where it had ended meanwhile.
    pub repeat_after: Duration,
}

impl Default for NoticePolicy {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3_600);
        Self {
            warn_before: vec![3 * DAY, DAY],
            warn_least: Duration::from_secs(60),
            outage_after: Duration::from_secs(600),
            store_after: Duration::from_secs(60),
            repeat_after: DAY,
        }
    }
}

impl NoticePolicy {
    /// How long a concern must stand before it is told: what may heal by itself is given the time.
    fn patience(&self, kind: NoticeKind) -> Duration {
        match kind {
            NoticeKind::Outage => self.outage_after,
            NoticeKind::StoreFailed => self.store_after,
            NoticeKind::LoginNeeded
            | NoticeKind::LoginEnding
            | NoticeKind::CredentialRefused
            | NoticeKind::Restored
            | NoticeKind::Test => Duration::ZERO,
        }
    }
}

/// What there is to be told of one grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concern {
    /// What it is about.
    pub kind: NoticeKind,
    /// Why, as in health.
    pub reason: Reason,
    /// Why, in one line.
    pub summary: String,
    /// One more line, or empty.
    pub detail: String,
    /// What a person can do.
    pub action: HealthAction,
    /// When the login ends, where it is about that.
    pub ends_at: Option<Timestamp>,
    /// Which warning of that end it is, counted from 1; else 0.
    pub warning: u8,
    /// When the login was made: tells it from the next one.
    pub login: Option<Timestamp>,
}

impl Concern {
    /// What `health` says, told as `kind`.
    pub fn of(kind: NoticeKind, health: Health, login: Option<Timestamp>) -> Self {
        let Health { reason, summary, detail, action, level: _, admin_state: _ } = health;
        Self { kind, reason, summary, detail, action, ends_at: None, warning: 0, login }
    }
}

/// What a grant is in, as far as notices go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Situation {
    /// There is something to be told.
    Concern(Box<Concern>),
    /// It works.
    Well(Box<Health>),
    /// It does not work because somebody wants it so.
    Dismissed,
    /// It is not known yet: its first attempt is under way, or nobody has used it.
    Open,
}

impl GrantStatus {
    /// What this grant is in at `now`. `called` says whether a client has called its server in vain
    /// since nobody has logged in: before that, no login is missing.
    pub fn situation(&self, now: Timestamp, policy: &Policy, rules: &NoticePolicy, called: bool) -> Situation {
        let health = self.health(now, policy);
        let failing = health.level == Level::Unhealthy;
        let kind = match health.reason {
            Reason::RefreshTokenRejected
            | Reason::RotationLost
            | Reason::ClientRejected
            | Reason::CredentialRefused
            | Reason::IssuerChanged
            | Reason::ExpiredNoRefreshToken
            | Reason::RejectedAfterRefresh
            | Reason::SuspectedRejected => match health.action {
                HealthAction::Login => NoticeKind::LoginNeeded,
                HealthAction::Retry
                | HealthAction::ViewLogs
                | HealthAction::Enable
                | HealthAction::Configure
                | HealthAction::None => NoticeKind::CredentialRefused,
            },
            Reason::LoginRequired if called => NoticeKind::LoginNeeded,
            Reason::LoginRequired => return Situation::Open,
            Reason::StoreWriteFailed | Reason::StoreUnreadable => NoticeKind::StoreFailed,
            Reason::RetryingNetwork | Reason::RetryingProvider | Reason::RateLimited | Reason::HeldBack if failing => {
                NoticeKind::Outage
            }
            Reason::Disabled | Reason::LoggedOut | Reason::Misconfigured => return Situation::Dismissed,
            Reason::Ok
            | Reason::Refreshing
            | Reason::RetryingNetwork
            | Reason::RetryingProvider
            | Reason::RateLimited
            | Reason::HeldBack
            | Reason::NoRefreshToken
            | Reason::InsufficientScope
            | Reason::ScopeNotGranted
            | Reason::ScopeReduced
            | Reason::RefreshTokenExpiring
            | Reason::ClientSecretExpiring
            | Reason::ClockSkew => return self.working(now, policy, rules, health),
        };
        Situation::Concern(Box::new(Concern::of(kind, health, self.logged_in_at)))
    }

    /// The situation of a grant whose tokens are good, or are being asked for.
    fn working(&self, now: Timestamp, policy: &Policy, rules: &NoticePolicy, health: Health) -> Situation {
        if !self.has_valid_token(now) || health.admin_state == AdminState::Disabled {
            return Situation::Open;
        }
        match self.ending(now, policy, rules) {
            Some(concern) => Situation::Concern(Box::new(concern)),
            None => Situation::Well(Box::new(health)),
        }
    }

    /// The nearest end of the login that is to be warned of at `now`.
    fn ending(&self, now: Timestamp, policy: &Policy, rules: &NoticePolicy) -> Option<Concern> {
        let tokens = self.tokens.as_ref().filter(|_| !self.grant_type.is_unattended())?;
        let reason = if tokens.refresh_token.is_some() { Reason::RefreshTokenExpiring } else { Reason::NoRefreshToken };
        let ends = tokens.login_ends(policy).map(|(end, most)| (end, most, reason));
        let secret = self.client_secret_expires_at.map(|end| (end, Duration::MAX, Reason::ClientSecretExpiring));
        let warned = ends.chain(secret).filter(|(end, ..)| now < *end).filter_map(|(end, most, reason)| {
            let warning = rules.warnings(most).filter(|before| now >= end.before(*before)).count();
            (warning > 0).then_some((end, u8::try_from(warning).unwrap_or(u8::MAX), reason))
        });
        let (end, warning, reason) = warned.min_by_key(|(end, ..)| *end)?;
        let (summary, detail) = if reason == Reason::ClientSecretExpiring {
            ("The client secret ends", "A new login registers a new client.")
        } else if reason == Reason::NoRefreshToken {
            ("This login ends", "The provider gave no refresh token.")
        } else {
            ("This login ends", "The provider does not renew it.")
        };
        Some(Concern {
            kind: NoticeKind::LoginEnding,
            reason,
            summary: format!("{summary} at {end}"),
            detail: format!("{detail} Log in again before that."),
            action: HealthAction::Login,
            ends_at: Some(end),
            warning,
            login: self.logged_in_at,
        })
    }
}

impl NoticePolicy {
    /// How long before an end it is warned of, where nothing earlier than `most` before is right.
    fn warnings(&self, most: Duration) -> impl Iterator<Item = Duration> {
        let mut last = None;
        let limited = self.warn_before.iter().map(move |before| (*before).min(most));
        limited.filter(move |before| *before >= self.warn_least && last.replace(*before) != Some(*before))
    }
}

/// Tells one notice from all others, the same over retries and restarts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NoticeId(pub u128);

impl fmt::Display for NoticeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "msg_{:032x}", self.0)
    }
}

impl fmt::Debug for NoticeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for NoticeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NoticeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let digits = text.strip_prefix("msg_").ok_or_else(|| serde::de::Error::custom("not a notice id"))?;
        u128::from_str_radix(digits, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

/// One notice: all grants of which the same kind of thing is to be told at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Which notice.
    pub id: NoticeId,
    /// What it is about.
    pub kind: NoticeKind,
    /// When it was told first.
    pub at: Timestamp,
    /// Of which grants, and what; none in a test.
    pub concerns: Vec<(GrantId, Concern)>,
}

impl Notice {
    /// A notice that says no more than that notices arrive.
    pub fn test(id: NoticeId, at: Timestamp) -> Self {
        Self { id, kind: NoticeKind::Test, at, concerns: Vec::new() }
    }

    /// One line for people.
    pub fn title(&self) -> String {
        let (one, many) = match self.kind {
            NoticeKind::LoginNeeded => ("login needed", "logins needed"),
            NoticeKind::LoginEnding => ("login ends soon", "logins end soon"),
            NoticeKind::CredentialRefused => ("credential refused", "credentials refused"),
            NoticeKind::Outage => ("no token to be had", "servers without a token"),
            NoticeKind::StoreFailed => ("login cannot be saved or read", "logins cannot be saved or read"),
            NoticeKind::Restored => ("works again", "servers work again"),
            NoticeKind::Test => return "everfresh: notices arrive here".to_owned(),
        };
        match self.concerns.as_slice() {
            [(grant, _)] => format!("{grant}: {one}"),
            concerns => format!("{} {many}", concerns.len()),
        }
    }

    /// A few lines for people: why, and what to do.
    pub fn text(&self) -> String {
        match self.concerns.as_slice() {
            [] => "This is a test; nothing is wrong.".to_owned(),
            [(grant, concern)] => {
                let lines = [concern.summary.clone(), command(grant, concern).unwrap_or_default()];
                lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
            }
            concerns => {
                let named = concerns.iter().take(NAMED_MAX);
                let mut lines: Vec<String> =
                    named.map(|(grant, concern)| format!("{grant}: {}", concern.summary)).collect();
                if let Some(more @ 1..) = concerns.len().checked_sub(NAMED_MAX) {
                    lines.push(format!("and {more} more: everfresh list"));
                }
                lines.join("\n")
            }
        }
    }
}

/// What a person types to act on a concern, where a command does it.
pub fn command(grant: &GrantId, concern: &Concern) -> Option<String> {
    match concern.action {
        HealthAction::Login => Some(format!("everfresh login {grant}")),
        HealthAction::ViewLogs | HealthAction::Configure => Some(format!("everfresh doctor {grant}")),
        HealthAction::Retry => Some(format!("everfresh refresh {grant}")),
        HealthAction::Enable => Some(format!("everfresh enable {grant}")),
        HealthAction::None => None,
    }
}
