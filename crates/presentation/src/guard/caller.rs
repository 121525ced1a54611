//! What a caller may do, by what it is known.

use std::borrow::Cow;
use std::sync::Arc;

use everfresh_application::keys::Held;
use everfresh_domain::{GrantId, KeyRight, LimitedKey};
use http::StatusCode;

use crate::problem::Problem;

/// How a request is known.
#[derive(Clone, Debug)]
pub enum Caller {
    /// By the full local key, or none is required.
    Key,
    /// By a key that opens less.
    Limited(Arc<Held>),
    /// By the page's cookie, from the page itself.
    Page,
}

/// What a request to the API is for, as far as limited keys are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To learn what the key that it shows opens.
    OwnKey,
    /// To see which logins there are.
    Logins,
    /// To see this login, to be handed its token, or to have that renewed.
    Token(GrantId),
    /// Everything else: that is for whoever owns the logins.
    Owner,
}

impl Caller {
    /// Refuses what the caller's key is not for.
    pub fn may(&self, purpose: &Purpose) -> Result<(), Problem> {
        let Self::Limited(held) = self else { return Ok(()) };
        let hands_out = held.key.scope.right() == KeyRight::Tokens;
        let may = match purpose {
            Purpose::OwnKey => true,
            Purpose::Logins => hands_out,
            Purpose::Token(grant) => hands_out && held.key.scope.grant(grant).is_some(),
            Purpose::Owner => false,
        };
        if may { Ok(()) } else { Err(beyond(&held.key, "this")) }
    }

    /// The login that serves this caller's requests for `asked`.
    pub fn grant(&self, asked: GrantId) -> Result<GrantId, Problem> {
        match self {
            Self::Key | Self::Page => Ok(asked),
            Self::Limited(held) => held.key.scope.grant(&asked).ok_or_else(|| beyond(&held.key, &asked.to_string())),
        }
    }

    /// The same by the name in a path of the data plane.
    pub fn server<'a>(&self, name: &'a str) -> Result<Cow<'a, str>, Problem> {
        let plain = if name.contains('%') { Cow::Owned(name.replace("%40", "@")) } else { Cow::Borrowed(name) };
        let Self::Limited(held) = self else { return Ok(plain) };
        // What is no name is no server either, and this key is not told which there are.
        let asked: GrantId = plain.parse().map_err(|_| beyond(&held.key, "this"))?;
        self.grant(asked).map(|grant| Cow::Owned(grant.to_string()))
    }

    /// Whether this caller is told of `grant`.
    pub fn sees(&self, grant: &GrantId) -> bool {
        match self {
            Self::Key | Self::Page => true,
            Self::Limited(held) => held.key.scope.opens(grant),
        }
    }
}

/// What is said where a key opens less than is asked for.
fn beyond(key: &LimitedKey, asked: &str) -> Problem {
    tracing::debug!(key = %key.name, asked, "refused: the key is not for that");
    let detail = format!(
        "refused by policy: the key {} may only {}, not {asked}; whoever runs everfresh can make another: everfresh key add",
        key.name, key.scope
    );
    Problem {
        reason: Some("beyond_key"),
        ..Problem::new(StatusCode::FORBIDDEN, "beyond-key", "Beyond this key", detail)
    }
}

/// What is said to a key whose time is over.
pub(super) fn over(key: &LimitedKey) -> Problem {
    tracing::debug!(key = %key.name, "refused: the key is over");
    let end = key.expires_at.map_or_else(|| "before".to_owned(), |end| end.to_string());
    let detail = format!(
        "the key {name} ended at {end}; whoever runs everfresh can renew it: everfresh key rotate {name}",
        name = key.name
    );
    Problem { reason: Some("key_over"), ..Problem::new(StatusCode::FORBIDDEN, "key-over", "This key is over", detail) }
}
