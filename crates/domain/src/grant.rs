//! The record of one login: all that is needed to refresh it, and each step of an attempt on it.
//!
//! Every step is a pure function from record to record. Who stores the result, and when, is the
//! application's business; that nothing is ever dropped but by the rules is decided here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::budget::Budget;
use crate::failure::{Failure, FailureClass};
use crate::ids::{AttemptId, Generation, GrantId};
use crate::import::Imported;
use crate::policy::Policy;
use crate::secret::{Fingerprint, Secret, danger_plaintext};
use crate::strikes::Strikes;
use crate::time::Timestamp;
use crate::timeline::History;
use crate::token::{LoginLimits, TokenFacts, TokenResponse, TokenSet};
use crate::unattended::{self, Credential};

/// Refused refresh tokens that are remembered; a login rarely sees more than two.
pub const REFUSED_KEPT: usize = 16;

/// One refusal of the client may be the provider's mishap; this many in a row are believed.
pub const CLIENT_REFUSALS_CONFIRMED: u32 = 2;

/// How a client authenticates at the token endpoint (RFC 7591 section 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthMethod {
    /// A public client: `client_id` in the body and never a secret.
    #[default]
    None,
    /// HTTP Basic (RFC 6749 section 2.3.1).
    ClientSecretBasic,
    /// `client_id` and `client_secret` in the body.
    ClientSecretPost,
    /// An assertion signed with the client's private key (RFC 7523 section 2.2).
    PrivateKeyJwt,
}

/// By what right tokens are asked for (RFC 6749 section 1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// A person logged in, by an authorization code or a device code; a refresh token renews it.
    #[default]
    AuthorizationCode,
    /// The client's own right (RFC 6749 section 4.4).
    ClientCredentials,
    /// An assertion of who runs this (RFC 7523 section 2.1), as workload identities have it.
    JwtBearer,
    /// An identity assertion that an enterprise's identity provider hands out for this one
    /// authorization server (RFC 8693, then RFC 7523).
    EnterpriseManaged,
}

impl GrantType {
    /// Whether no person is needed: tokens can be asked for at any time, with what is configured.
    pub const fn is_unattended(self) -> bool {
        match self {
            Self::AuthorizationCode => false,
            Self::ClientCredentials | Self::JwtBearer | Self::EnterpriseManaged => true,
        }
    }
}

impl ClientAuthMethod {
    /// Its name in metadata and registrations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }
}

/// A client as one issuer knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRegistration {
    /// The issuer that knows this client; it is used nowhere else.
    pub issuer: String,
    /// The client identifier.
    pub client_id: String,
    /// The client secret of a confidential client.
    #[serde(with = "danger_plaintext::option")]
    pub client_secret: Option<Secret>,
    /// The private key of a client that signs assertions, as PKCS #8 in PEM.
    #[serde(default, with = "danger_plaintext::option")]
    pub private_key: Option<Secret>,
    /// How the client authenticates; chosen once and never probed.
    pub auth_method: ClientAuthMethod,
    /// When the secret ends (RFC 7591 section 3.2.1), if ever.
    pub secret_expires_at: Option<Timestamp>,
    /// The redirect URIs it was registered with.
    pub redirect_uris: Vec<String>,
}

/// Where and how a grant's tokens are refreshed: the exact shape that worked at login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The upstream's URL at login: the access token goes to no other origin.
    pub upstream: String,
    /// The token endpoint that issued the tokens, or that the same issuer named when that was gone; the
    /// refresh token goes nowhere else.
    pub token_endpoint: String,
    /// The revocation endpoint (RFC 7009), where there is one.
    pub revocation_endpoint: Option<String>,
    /// By what right the tokens are asked for.
    #[serde(default)]
    pub grant_type: GrantType,
    /// The client that the tokens were issued to.
    pub client: ClientRegistration,
    /// The resource indicator (RFC 8707), byte for byte; `None` sends none.
    pub resource: Option<String>,
    /// The scopes that were asked for at login.
    pub requested_scopes: Vec<String>,
    /// The private key that the tokens are bound to (RFC 9449), as PKCS #8 in base64; `None` where
    /// they are bearer tokens.
    #[serde(default, with = "danger_plaintext::option")]
    pub dpop_key: Option<Secret>,
    /// Further parameters from the configuration.
    pub extra_params: BTreeMap<String, String>,
    /// What of the above a refresh request carries.
    pub shape: RequestShape,
}

/// The optional parts of a refresh request. Providers disagree on them, so what worked is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestShape {
    /// Whether `resource` is sent.
    pub resource: bool,
    /// Whether `scope` is sent.
    pub scope: bool,
}

impl Default for RequestShape {
    fn default() -> Self {
        Self { resource: true, scope: false }
    }
}

impl Binding {
    /// The host and port that requests to the token endpoint go to: what limits are shared by.
    pub fn endpoint(&self) -> &str {
        let rest = self.token_endpoint.split_once("://").map_or(self.token_endpoint.as_str(), |(_, rest)| rest);
        rest.split(['/', '?', '#']).next().unwrap_or(rest)
    }

    /// Takes one step down the ladder of request shapes after the provider objected to `code`.
    ///
    /// Returns whether there was a step left: first `resource` is dropped, then `scope` is turned.
    fn adapt(&mut self, code: Option<&str>) -> bool {
        let about_scope = code.is_some_and(|code| code == "invalid_scope");
        let turned_scope = self.shape.scope != RequestShape::default().scope;
        if self.shape.resource && self.resource.is_some() && !about_scope {
            self.shape.resource = false;
            true
        } else if !turned_scope {
            self.shape.scope = !self.shape.scope;
            true
        } else {
            false
        }
    }
}

/// Written durably before a refresh token is sent: found at start, it means that the answer to
/// that request is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptMark {
    /// The attempt that was being made.
    pub attempt: AttemptId,
    /// The refresh token that it sends.
    pub refresh_token: Fingerprint,
    /// When it began.
    pub started_at: Timestamp,
}

/// Why a login is over. Only these end it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum LoginEnd {
    /// The provider refused the refresh token.
    Refused {
        /// The provider's word for it.
        code: String,
    },
    /// The provider refused it after the answer to an earlier attempt was lost.
    RotationLost {
        /// The provider's word for it.
        code: String,
    },
    /// The provider does not know the client any more.
    ClientRejected {
        /// The provider's word for it.
        code: String,
    },
    /// The issuer or its endpoints are not those the login was made with.
    IssuerChanged {
        /// What differs.
        detail: String,
    },
    /// The provider refuses what an unattended grant is configured with. It counts again as soon as
    /// that changes.
    CredentialRefused {
        /// What is refused.
        credential: Credential,
        /// The provider's word for it.
        code: String,
    },
    /// The user logged out.
    LoggedOut,
}

/// One login, self-sufficient: with nothing else at hand it can be refreshed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRecord {
    /// Which login this is.
    pub id: GrantId,
    /// Grows with every token set, login and logout; the store compares and swaps on it.
    pub generation: Generation,
    /// Where and how it is refreshed.
    pub binding: Binding,
    /// The tokens; `None` after logout.
    pub tokens: Option<TokenSet>,
    /// When the login was made, where that was noted.
    #[serde(default)]
    pub logged_in_at: Option<Timestamp>,
    /// How long the provider lets it live, where that is known.
    #[serde(default)]
    pub limits: LoginLimits,
    /// The refresh token before the current one, until the current one was accepted once.
    #[serde(with = "danger_plaintext::option")]
    pub previous_refresh_token: Option<Secret>,
    /// The attempt under way.
    pub attempt: Option<AttemptMark>,
    /// The refresh token that was sent without an answer coming back.
    pub answer_lost: Option<Fingerprint>,
    /// When the last attempt began: spacing holds over restarts.
    pub last_attempt_at: Option<Timestamp>,
    /// When tokens were last stored.
    pub last_success_at: Option<Timestamp>,
    /// Refresh tokens that were refused and are never sent again.
    pub refused: Vec<Fingerprint>,
    /// Refusals of the client in a row; the second confirms the first.
    pub client_refusals: u32,
    /// Refusals of an unclear kind in a row.
    #[serde(default)]
    pub strikes: Option<Strikes>,
    /// What is left of the attempts that it may make by itself.
    #[serde(default)]
    pub budget: Budget,
    /// Scopes that were granted once and left out of a later answer.
    #[serde(default)]
    pub lost_scopes: Vec<String>,
    /// Logins in a row that asked for scopes which the one before had asked for already, because the
    /// upstream still demanded them.
    #[serde(default)]
    pub step_ups: u32,
    /// Where the login was made, if not here.
    #[serde(default)]
    pub imported: Option<Imported>,
    /// Which access tokens it had, for its timeline.
    #[serde(default)]
    pub history: History,
    /// Why the login is over, if it is.
    pub ended: Option<LoginEnd>,
}

impl GrantRecord {
    /// The record of a login that just succeeded. `generation` must follow any earlier record's.
    pub fn logged_in(id: GrantId, generation: Generation, binding: Binding, tokens: TokenSet) -> Self {
        let mut history = History::of_none();
        history.log_in(tokens.issued_at, tokens.expires_at());
        Self {
            id,
            generation,
            last_success_at: Some(tokens.issued_at),
            logged_in_at: Some(tokens.issued_at),
            limits: LoginLimits::default(),
            binding,
            tokens: Some(tokens),
            previous_refresh_token: None,
            attempt: None,
            answer_lost: None,
            last_attempt_at: None,
            refused: Vec::new(),
            client_refusals: 0,
            strikes: None,
            budget: Budget::default(),
            lost_scopes: Vec::new(),
            step_ups: 0,
            imported: None,
            history,
            ended: None,
        }
    }

    /// With `limits` where they are known; what they leave out is kept.
    #[must_use]
    pub fn limited_by(self, limits: LoginLimits) -> Self {
        Self { limits: limits.or(self.limits), ..self }
    }

    /// The refresh token whose fingerprint is `wanted`: the current one or the one before.
    pub fn refresh_token(&self, wanted: Fingerprint) -> Option<&Secret> {
        let current = self.tokens.as_ref().and_then(|tokens| tokens.refresh_token.as_ref());
        current.into_iter().chain(&self.previous_refresh_token).find(|secret| secret.fingerprint() == wanted)
    }

    /// With a mark that the attempt is under way, and `budget` left after it. Not a new generation:
    /// no token changed.
    #[must_use]
    pub fn attempting(&self, mark: AttemptMark, budget: Budget) -> Self {
        Self {
            last_attempt_at: Some(mark.started_at),
            answer_lost: self.in_doubt(),
            attempt: Some(mark),
            budget,
            ..self.clone()
        }
    }

    /// With the tokens of `response`, as the next generation.
    #[must_use]
    pub fn renewed(&self, response: TokenResponse, sent_at: Timestamp) -> Self {
        let Some(tokens) = &self.tokens else { return self.clone() };
        let sent = self.attempt.as_ref().map(|mark| mark.refresh_token);
        let renewed = tokens.renewed(response, sent_at);
        let rotated = renewed.refresh_token != tokens.refresh_token;
        let used = sent.and_then(|fingerprint| self.refresh_token(fingerprint)).or(tokens.refresh_token.as_ref());
        Self {
            generation: self.generation.next(),
            lost_scopes: self.lost_scopes_after(&renewed),
            previous_refresh_token: if rotated { used.cloned() } else { None },
            tokens: Some(renewed),
            attempt: None,
            answer_lost: None,
            last_success_at: Some(sent_at),
            client_refusals: 0,
            strikes: None,
            ended: None,
            ..self.clone()
        }
    }

    /// With the refresh token of `response`, as the next generation. Its access token is not of the
    /// kind that may be used, and the one before stays.
    #[must_use]
    pub fn rotated(&self, response: TokenResponse, sent_at: Timestamp) -> Self {
        let tokens = self.tokens.as_ref().map(|tokens| tokens.rotated(response.clone(), sent_at));
        Self {
            tokens,
            lost_scopes: self.lost_scopes.clone(),
            last_success_at: self.last_success_at,
            ..self.renewed(response, sent_at)
        }
    }

    /// The refresh token whose fate nobody knows. Unattended grants have none to lose.
    fn in_doubt(&self) -> Option<Fingerprint> {
        let marked = self.attempt.as_ref().map(|mark| mark.refresh_token);
        self.answer_lost.or(marked).filter(|_| !self.binding.grant_type.is_unattended())
    }

    pub(crate) fn lost_scopes_after(&self, renewed: &TokenSet) -> Vec<String> {
        let before = self.tokens.iter().flat_map(|tokens| &tokens.scopes);
        let mut lost: Vec<String> = Vec::new();
        for scope in self.lost_scopes.iter().chain(before) {
            if !renewed.scopes.contains(scope) && !lost.contains(scope) {
                lost.push(scope.clone());
            }
        }
        lost
    }

    /// After a failed attempt. Tokens are never touched; a refused one is remembered.
    #[must_use]
    pub fn failed(&self, failure: &Failure) -> Self {
        let mut next = self.clone();
        let Some(mark) = next.attempt.take() else { return next };
        next.strikes = Strikes::after(next.strikes, failure.class, mark.started_at);
        match failure.class {
            FailureClass::Refused => next.refuse(mark.refresh_token, failure),
            FailureClass::AnswerLost => next.answer_lost = Some(mark.refresh_token),
            FailureClass::ClientRejected => next.refuse_client(failure),
            FailureClass::Shape => {
                next.binding.adapt(failure.oauth_error.as_deref());
            }
            FailureClass::Network
            | FailureClass::Provider
            | FailureClass::RateLimited
            | FailureClass::Suspect
            | FailureClass::HeldBack
            | FailureClass::Store
            | FailureClass::Configuration => {}
        }
        next
    }

    fn refuse(&mut self, refresh_token: Fingerprint, failure: &Failure) {
        self.remember_refused(refresh_token);
        if self.sendable().is_some() {
            return;
        }
        let code = failure.code();
        self.ended = Some(match self.answer_lost {
            Some(_) => LoginEnd::RotationLost { code },
            None => LoginEnd::Refused { code },
        });
    }

    pub(crate) fn remember_refused(&mut self, sent: Fingerprint) {
        self.refused.retain(|refused| *refused != sent);
        self.refused.push(sent);
        let surplus = self.refused.len().saturating_sub(REFUSED_KEPT);
        self.refused.drain(..surplus);
    }

    fn refuse_client(&mut self, failure: &Failure) {
        self.client_refusals = self.client_refusals.saturating_add(1);
        if self.client_refusals >= CLIENT_REFUSALS_CONFIRMED {
            self.ended = Some(LoginEnd::ClientRejected { code: failure.code() });
        }
    }

    /// After logout: the next generation, without tokens, so that a late answer is discarded.
    #[must_use]
    pub fn logged_out(&self) -> Self {
        Self {
            generation: self.generation.next(),
            tokens: None,
            previous_refresh_token: None,
            attempt: None,
            answer_lost: None,
            step_ups: 0,
            strikes: None,
            ended: Some(LoginEnd::LoggedOut),
            ..self.clone()
        }
    }

    /// As it counts while its server is configured at another place than it was logged in to:
    /// nothing of it may be sent.
    #[must_use]
    pub fn misplaced(&self, detail: String) -> Self {
        Self { ended: Some(LoginEnd::IssuerChanged { detail }), ..self.clone() }
    }

    /// With the token endpoint that its issuer names since the one before is gone.
    #[must_use]
    pub fn relocated(self, token_endpoint: String) -> Self {
        Self { binding: Binding { token_endpoint, ..self.binding }, ..self }
    }

    /// The refresh token that the next attempt sends: the current one, or the one before where the
    /// current one was refused. Of an unattended grant: what stands for all that is configured.
    pub fn sendable(&self) -> Option<Fingerprint> {
        if self.binding.grant_type.is_unattended() {
            return Some(unattended::configured());
        }
        let current = self.tokens.as_ref().and_then(|tokens| tokens.refresh_token.as_ref());
        let candidates = current.into_iter().chain(&self.previous_refresh_token).map(Secret::fingerprint);
        candidates.into_iter().find(|fingerprint| !self.refused.contains(fingerprint))
    }

    /// What may be known of this record outside the vault.
    pub fn facts(&self) -> GrantFacts {
        let waits_for_change = matches!(self.ended, Some(LoginEnd::CredentialRefused { .. }));
        GrantFacts {
            generation: self.generation,
            issuer: self.binding.client.issuer.clone(),
            endpoint: self.binding.endpoint().to_owned(),
            tokens: self.tokens.as_ref().map(|tokens| TokenFacts {
                idle_limit: self.limits.idle,
                login_ends_at: self
                    .logged_in_at
                    .zip(self.limits.absolute)
                    .map(|(since, absolute)| (since.after(absolute), absolute)),
                ..tokens.facts(self.generation)
            }),
            grant_type: self.binding.grant_type,
            sendable: if self.ended.is_none() || waits_for_change { self.sendable() } else { None },
            answer_lost: self.in_doubt(),
            last_attempt_at: self.last_attempt_at,
            last_success_at: self.last_success_at,
            client_secret_expires_at: self.binding.client.secret_expires_at,
            strikes: self.strikes,
            budget: self.budget,
            lost_scopes: self.lost_scopes.clone(),
            requested_scopes: self.binding.requested_scopes.clone(),
            step_ups: self.step_ups,
            logged_in_at: self.logged_in_at,
            ended: self.ended.clone(),
        }
    }
}

impl Failure {
    pub(crate) fn code(&self) -> String {
        match (&self.oauth_error, &self.subcode) {
            (Some(code), Some(subcode)) => format!("{code} ({subcode})"),
            (Some(code), None) => code.clone(),
            (None, _) => self.message.clone(),
        }
    }
}

/// A grant's record without its secrets: what the engine decides on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantFacts {
    /// The record's generation.
    pub generation: Generation,
    /// The issuer that the login was made with.
    pub issuer: String,
    /// The token endpoint's host and port.
    pub endpoint: String,
    /// By what right the tokens are asked for.
    #[serde(default)]
    pub grant_type: GrantType,
    /// The tokens, while logged in.
    pub tokens: Option<TokenFacts>,
    /// The refresh token that the next attempt sends.
    pub sendable: Option<Fingerprint>,
    /// The refresh token whose last answer was lost.
    pub answer_lost: Option<Fingerprint>,
    /// When the last attempt began.
    pub last_attempt_at: Option<Timestamp>,
    /// When tokens were last stored.
    pub last_success_at: Option<Timestamp>,
    /// When the client secret ends, if ever.
    pub client_secret_expires_at: Option<Timestamp>,
    /// Refusals of an unclear kind in a row.
    #[serde(default)]
    pub strikes: Option<Strikes>,
    /// What is left of the attempts that it may make by itself.
    pub budget: Budget,
    /// Scopes that were granted once and left out of a later answer.
    pub lost_scopes: Vec<String>,
    /// The scopes that were asked for at login.
    #[serde(default)]
    pub requested_scopes: Vec<String>,
    /// Logins in a row that asked for scopes in vain.
    #[serde(default)]
    pub step_ups: u32,
    /// When the login was made, where that was noted.
    #[serde(default)]
    pub logged_in_at: Option<Timestamp>,
    /// Why the login is over, if it is.
    pub ended: Option<LoginEnd>,
}

impl GrantFacts {
    /// The next moment at which the health of this login changes although nothing happens.
    pub fn health_changes_at(&self, now: Timestamp, policy: &Policy) -> Option<Timestamp> {
        let secret = self.client_secret_expires_at.map(|end| end.before(policy.warn_before_credential_end));
        let tokens = self.tokens.as_ref()?.health_changes_at(now, policy);
        secret.filter(|at| *at > now).into_iter().chain(tokens).min()
    }

    /// Whether the tokens have `scope`.
    pub fn grants_scope(&self, scope: &str) -> bool {
        self.tokens.as_ref().is_some_and(|tokens| tokens.scopes.iter().any(|granted| granted == scope))
    }
}
