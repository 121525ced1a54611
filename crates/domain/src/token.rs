//! Token sets: what a provider answered, what is kept of it, and how an answer is merged.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Generation;
use crate::policy::Policy;
use crate::secret::{Fingerprint, Secret, danger_plaintext};
use crate::time::{Timestamp, part_of};

/// The part of a refresh token's lifetime in which its end is warned of: a provider that renews
/// refresh tokens has done so by then, at four fifths of it.
const MARGIN_OF_RENEWAL: f64 = 0.15;

/// How long a provider lets a login live, where it is known from elsewhere than its answers: the
/// configuration, or what is known of the provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginLimits {
    /// How long a refresh token may lie unused before the provider ends it.
    pub idle: Option<Duration>,
    /// How long a login lasts in all, however often it is refreshed.
    pub absolute: Option<Duration>,
}

impl LoginLimits {
    /// These limits, and `other`'s where there is none here.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { idle: self.idle.or(other.idle), absolute: self.absolute.or(other.absolute) }
    }
}

/// A token endpoint's successful answer (RFC 6749 section 5.1), after tolerant parsing.
#[derive(Clone, Debug)]
pub struct TokenResponse {
    /// The new access token; never empty.
    pub access_token: Secret,
    /// `Bearer`, where the provider does not say otherwise.
    pub token_type: String,
    /// The access token's lifetime; `None` where absent or not a positive number.
    pub expires_in: Option<Duration>,
    /// The new refresh token; `None` where absent, null or empty, which keeps the old one.
    pub refresh_token: Option<Secret>,
    /// The refresh token's lifetime, where the provider tells.
    pub refresh_token_expires_in: Option<Duration>,
    /// When the provider wants the next refresh, counted from this answer.
    pub refresh_in: Option<Duration>,
    /// The granted scopes; `None` where absent or empty, which keeps the old ones.
    pub scopes: Option<Vec<String>>,
    /// The answer's `Date` header, for telling clock skew.
    pub date: Option<Timestamp>,
}

impl TokenResponse {
    /// Whether the access token is bound to a key (RFC 9449 section 5).
    pub fn is_dpop_bound(&self) -> bool {
        is_dpop(&self.token_type)
    }
}

/// Token types are compared without regard to case (RFC 6749 section 5.1).
fn is_dpop(token_type: &str) -> bool {
    token_type.eq_ignore_ascii_case("DPoP")
}

/// What tokens were before their type was told.
fn bearer() -> String {
    "Bearer".to_owned()
}

/// What is kept of a login. Holds secrets: it is stored sealed and never logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSet {
    /// The access token.
    #[serde(with = "danger_plaintext")]
    pub access_token: Secret,
    /// How it is sent, nearly always `Bearer` (RFC 6750).
    pub token_type: String,
    /// The moment the token request was sent; lifetimes count from here.
    pub issued_at: Timestamp,
    /// The access token's lifetime, where known.
    pub lifetime: Option<Duration>,
    /// When the provider wants the next refresh, counted from `issued_at`.
    pub refresh_in: Option<Duration>,
    /// The refresh token.
    #[serde(with = "danger_plaintext::option")]
    pub refresh_token: Option<Secret>,
    /// When that refresh token was received.
    pub refresh_token_issued_at: Option<Timestamp>,
    /// The refresh token's lifetime, where the provider told.
    pub refresh_token_lifetime: Option<Duration>,
    /// The granted scopes.
    pub scopes: Vec<String>,
}

impl TokenSet {
    /// The tokens of a new login, from a request sent at `sent_at` that asked for `requested` scopes.
    ///
    /// An answer without `scope` granted what was asked for (RFC 6749 section 5.1).
    pub fn issued(response: TokenResponse, sent_at: Timestamp, requested: &[String]) -> Self {
        Self {
            access_token: response.access_token,
            token_type: response.token_type,
            issued_at: sent_at,
            lifetime: response.expires_in,
            refresh_in: response.refresh_in,
            refresh_token_issued_at: response.refresh_token.as_ref().map(|_| sent_at),
            refresh_token: response.refresh_token,
            refresh_token_lifetime: response.refresh_token_expires_in,
            scopes: response.scopes.unwrap_or_else(|| requested.to_vec()),
        }
    }

    /// These tokens after a refresh: merged, never replaced. What the answer leaves out is kept.
    #[must_use]
    pub fn renewed(&self, response: TokenResponse, sent_at: Timestamp) -> Self {
        let rotated = response.refresh_token.is_some();
        let told_lifetime = response.refresh_token_expires_in.is_some();
        Self {
            access_token: response.access_token,
            token_type: response.token_type,
            issued_at: sent_at,
            lifetime: response.expires_in,
            refresh_in: response.refresh_in,
            refresh_token: response.refresh_token.or_else(|| self.refresh_token.clone()),
            refresh_token_issued_at: if rotated || told_lifetime {
                Some(sent_at)
            } else {
                self.refresh_token_issued_at
            },
            refresh_token_lifetime: response.refresh_token_expires_in.or(if rotated {
                None
            } else {
                self.refresh_token_lifetime
            }),
            scopes: response.scopes.unwrap_or_else(|| self.scopes.clone()),
        }
    }

    /// These tokens with nothing but the refresh token of an answer whose access token cannot be used.
    #[must_use]
    pub fn rotated(&self, response: TokenResponse, sent_at: Timestamp) -> Self {
        let renewed = self.renewed(response, sent_at);
        Self {
            refresh_token: renewed.refresh_token,
            refresh_token_issued_at: renewed.refresh_token_issued_at,
            refresh_token_lifetime: renewed.refresh_token_lifetime,
            ..self.clone()
        }
    }

    /// Whether the access token is bound to a key, so that each request with it needs a proof
    /// (RFC 9449 section 5).
    pub fn is_dpop_bound(&self) -> bool {
        is_dpop(&self.token_type)
    }

    /// When the access token ends, where known.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.lifetime.map(|lifetime| self.issued_at.after(lifetime))
    }

    /// What may be known of these tokens outside the vault.
    pub fn facts(&self, generation: Generation) -> TokenFacts {
        TokenFacts {
            generation,
            fingerprint: self.access_token.fingerprint(),
            token_type: self.token_type.clone(),
            issued_at: self.issued_at,
            lifetime: self.lifetime,
            refresh_in: self.refresh_in,
            refresh_token: self.refresh_token.as_ref().map(Secret::fingerprint),
            refresh_token_issued_at: self.refresh_token_issued_at,
            refresh_token_lifetime: self.refresh_token_lifetime,
            idle_limit: None,
            login_ends_at: None,
            scopes: self.scopes.clone(),
        }
    }
}

/// A token set without its secrets: what the engine, the status and the logs work with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenFacts {
    /// The generation of the record that holds these tokens.
    pub generation: Generation,
    /// The access token's fingerprint.
    pub fingerprint: Fingerprint,
    /// How the access token is sent: `Bearer` (RFC 6750) or `DPoP` (RFC 9449).
    #[serde(default = "bearer")]
    pub token_type: String,
    /// When the request that brought it was sent.
    pub issued_at: Timestamp,
    /// The access token's lifetime, where known.
    pub lifetime: Option<Duration>,
    /// When the provider wants the next refresh, counted from `issued_at`.
    pub refresh_in: Option<Duration>,
    /// The refresh token's fingerprint, where there is one.
    pub refresh_token: Option<Fingerprint>,
    /// When that refresh token was received.
    pub refresh_token_issued_at: Option<Timestamp>,
    /// The refresh token's lifetime, where the provider told.
    pub refresh_token_lifetime: Option<Duration>,
    /// How long the refresh token may lie unused, where that is known.
    #[serde(default)]
    pub idle_limit: Option<Duration>,
    /// When the login ends however often it is refreshed, and how long it lasts in all, where that
    /// is known.
    #[serde(default)]
    pub login_ends_at: Option<(Timestamp, Duration)>,
    /// The granted scopes.
    pub scopes: Vec<String>,
}

impl TokenFacts {
    /// When the access token ends, where known.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.lifetime.map(|lifetime| self.issued_at.after(lifetime))
    }

    /// When the refresh token ends, where known: by its own lifetime, unused, or with the login.
    pub fn refresh_token_expires_at(&self) -> Option<Timestamp> {
        self.refresh_token_ends().into_iter().flatten().map(|(end, _)| end).min()
    }

    /// Each end of the refresh token that is known, and after how much time it comes about.
    fn refresh_token_ends(&self) -> [Option<(Timestamp, Duration)>; 3] {
        let told = self.refresh_token_issued_at.zip(self.refresh_token_lifetime);
        [
            told.map(|(issued_at, lifetime)| (issued_at.after(lifetime), lifetime)),
            self.idle_limit.map(|limit| (self.issued_at.after(limit), limit)),
            self.login_ends_at,
        ]
    }

    /// From when the end of a login without refresh token is warned of.
    pub fn warned_from(&self, policy: &Policy) -> Option<Timestamp> {
        if self.refresh_token.is_some() {
            return None;
        }
        let margin = part_of(self.lifetime?, 1.0 - policy.threshold).min(policy.warn_before_end);
        Some(self.expires_at()?.before(margin))
    }

    /// The end of the refresh token that is warned of at `now`: the nearest of those.
    pub fn refresh_token_ends_soon(&self, now: Timestamp, policy: &Policy) -> Option<Timestamp> {
        self.warned_ends(policy).filter(|(from, _)| *from <= now).map(|(_, end)| end).min()
    }

    /// Each end that is known, after the moment from which it is warned of: a refresh token that is
    /// renewed has been renewed by then.
    fn warned_ends(&self, policy: &Policy) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let ends = self.refresh_token_ends().into_iter().flatten().filter(|_| self.refresh_token.is_some());
        ends.map(|(end, over)| {
            let margin = part_of(over, MARGIN_OF_RENEWAL).min(policy.warn_before_credential_end);
            (end.before(margin), end)
        })
    }

    /// Each end of the login that is known, and how long before it a warning is right at most: what
    /// is renewed in time has been renewed by then.
    pub fn login_ends(&self, policy: &Policy) -> impl Iterator<Item = (Timestamp, Duration)> {
        let refreshed = self.refresh_token.is_some();
        let alone = self.expires_at().zip(self.lifetime).filter(|_| !refreshed);
        let part = if refreshed { MARGIN_OF_RENEWAL } else { 1.0 - policy.threshold };
        let ends = self.refresh_token_ends().into_iter().flatten().filter(move |_| refreshed).chain(alone);
        ends.map(move |(end, over)| (end, part_of(over, part)))
    }

    /// The next moment at which these tokens' health changes although nothing happens.
    pub fn health_changes_at(&self, now: Timestamp, policy: &Policy) -> Option<Timestamp> {
        let moments = [self.expires_at(), self.warned_from(policy)];
        let warnings = self.warned_ends(policy).map(|(from, _)| from);
        moments.into_iter().flatten().chain(warnings).filter(|at| *at > now).min()
    }

    /// Whether the access token is, as far as is known, still good at `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.expires_at().is_none_or(|end| now < end)
    }

    /// Whether so little is left of the access token at `now` that whoever needs it for as long as
    /// `wanted` should have a new one. Half of a lifetime is always enough: tokens that live shortly are
    /// not asked for anew each time.
    pub fn is_short_of(&self, wanted: Duration, now: Timestamp) -> bool {
        let life = self.expires_at().zip(self.lifetime);
        life.is_some_and(|(end, lifetime)| end.since(now) < wanted.min(lifetime / 2))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn response(refresh_token: Option<&str>) -> TokenResponse {
        TokenResponse {
            access_token: Secret::new("new-access"),
            token_type: "Bearer".into(),
            expires_in: Some(Duration::from_secs(60)),
            refresh_token: refresh_token.map(Secret::new),
            refresh_token_expires_in: None,
            refresh_in: None,
            scopes: None,
            date: None,
        }
    }

    #[test]
    fn an_answer_without_refresh_token_keeps_the_old_one_and_its_end() {
        let mut first = TokenSet::issued(response(Some("r1")), Timestamp::EPOCH, &["read".into()]);
        first.refresh_token_lifetime = Some(Duration::from_secs(900));
        let second = first.renewed(response(None), Timestamp::from_millis(5_000));
        assert_eq!(second.refresh_token, Some(Secret::new("r1")));
        assert_eq!(second.facts(Generation(2)).refresh_token_expires_at(), Some(Timestamp::from_millis(900_000)));
        assert_eq!(second.scopes, ["read"]);
        let third = second.renewed(response(Some("r3")), Timestamp::from_millis(9_000));
        let fourth = third.renewed(response(None), Timestamp::from_millis(12_000));
        assert_eq!(fourth.refresh_token, Some(Secret::new("r3")));
        assert_eq!(fourth.refresh_token_issued_at, Some(Timestamp::from_millis(9_000)));
    }

    proptest! {
        /// Whatever providers leave out, send as null (which is read as left out) or rotate.
        #[test]
        fn no_sequence_of_answers_loses_the_refresh_token(answers in prop::collection::vec(prop::option::of("[a-z]{1,4}"), 0..20)) {
            let mut tokens = TokenSet::issued(response(Some("first")), Timestamp::EPOCH, &["read".into()]);
            let mut newest = "first".to_owned();
            for answer in answers {
                tokens = tokens.renewed(response(answer.as_deref()), Timestamp::from_millis(1));
                newest = answer.unwrap_or(newest);
                prop_assert_eq!(tokens.refresh_token.as_ref(), Some(&Secret::new(newest.as_str())));
                prop_assert_eq!(&tokens.scopes, &["read"]);
            }
        }
    }

    #[test]
    fn of_an_answer_whose_access_token_is_of_no_use_the_refresh_token_is_kept() {
        let first = TokenSet::issued(response(Some("r1")), Timestamp::EPOCH, &["read".into()]);
        let used = TokenSet { access_token: Secret::new("bound"), token_type: "dpop".into(), ..first };
        let sent_at = Timestamp::from_millis(5_000);
        let rotated = used.rotated(response(Some("r2")), sent_at);
        assert_eq!(rotated.refresh_token, Some(Secret::new("r2")));
        assert_eq!(rotated.refresh_token_issued_at, Some(sent_at));
        assert_eq!((rotated.access_token.expose(), rotated.issued_at), ("bound", Timestamp::EPOCH));
        assert!(rotated.is_dpop_bound() && !response(None).is_dpop_bound());
    }

    #[test]
    fn a_token_is_short_of_what_is_wanted_up_to_half_of_its_life() {
        let facts = |lifetime: Option<u64>| {
            let mut set = TokenSet::issued(response(None), Timestamp::EPOCH, &[]);
            set.lifetime = lifetime.map(Duration::from_secs);
            set.facts(Generation(1))
        };
        let cases = [(Some(600), 60, 540, false), (Some(600), 60, 541, true), (Some(600), 3600, 300, false)];
        let more =
            [(Some(600), 3600, 301, true), (Some(600), 0, 600, false), (Some(1), 60, 0, false), (None, 60, 9, false)];
        for (lifetime, wanted, age, short) in cases.into_iter().chain(more) {
            let now = Timestamp::EPOCH.after(Duration::from_secs(age));
            let told = facts(lifetime).is_short_of(Duration::from_secs(wanted), now);
            assert_eq!(told, short, "{lifetime:?} s, {wanted} s wanted after {age} s");
        }
    }

    #[test]
    fn a_token_of_unknown_lifetime_counts_as_valid() {
        let mut set = TokenSet::issued(response(None), Timestamp::EPOCH, &[]);
        set.lifetime = None;
        assert!(set.facts(Generation(1)).is_valid(Timestamp::from_millis(i64::MAX)));
    }
}
