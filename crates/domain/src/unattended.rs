//! Grants that need no person: tokens are asked for with what is configured, as often as they end.
//!
//! There is no refresh token. The engine schedules by [`configured`], which stands for whatever is
//! configured; what is really sent is known to an attempt only, and remembered by its fingerprint.
//! An answer that is lost costs nothing here: the same can be sent again.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureClass};
use crate::grant::{
    Binding, CLIENT_REFUSALS_CONFIRMED, ClientAuthMethod, GrantFacts, GrantRecord, GrantType, LoginEnd,
};
use crate::ids::{Generation, GrantId};
use crate::secret::Fingerprint;
use crate::strikes::Strikes;
use crate::time::Timestamp;
use crate::timeline::History;
use crate::token::{LoginLimits, TokenResponse, TokenSet};

/// Codes by which a provider refuses not a credential, but what is asked for with it (RFC 6749
/// section 5.2, RFC 8707 section 2): asking again changes nothing.
const FINAL: [&str; 4] = ["unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_target"];

/// What the engine schedules an unattended grant by. Nothing of that fingerprint is ever sent.
pub fn configured() -> Fingerprint {
    Fingerprint::of(b"everfresh: what is configured")
}

/// What a provider can refuse of that which is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// The client that has neither secret nor key.
    ClientId,
    /// The client's secret.
    ClientSecret,
    /// The client's private key.
    PrivateKey,
    /// The assertion of who runs this.
    Assertion,
    /// The ID token, by the identity provider.
    IdToken,
    /// The client at the identity provider, by that.
    IdentityProviderClient,
    /// The identity provider's assertion, by the authorization server.
    IdentityAssertion,
    /// The client may not ask for tokens in this way.
    GrantType,
    /// The scopes.
    Scopes,
    /// The resource indicator, or the audience.
    Resource,
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientId => "the client id",
            Self::ClientSecret => "the client secret",
            Self::PrivateKey => "the client's private key",
            Self::Assertion => "the assertion",
            Self::IdToken => "the ID token",
            Self::IdentityProviderClient => "the client at the identity provider",
            Self::IdentityAssertion => "the identity provider's assertion",
            Self::GrantType => "this client for this grant",
            Self::Scopes => "the scopes",
            Self::Resource => "the resource",
        })
    }
}

/// Who answered an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answerer {
    /// The authorization server of the upstream.
    AuthorizationServer,
    /// The identity provider, before that.
    IdentityProvider,
}

impl Credential {
    /// What `failure` refuses, if it does; all other failures pass.
    fn refused_by(answerer: Answerer, binding: &Binding, failure: &Failure) -> Option<Self> {
        let code = failure.oauth_error.as_deref().unwrap_or_default();
        let final_code = match code {
            "invalid_scope" => Self::Scopes,
            "invalid_target" => Self::Resource,
            _ => Self::GrantType,
        };
        match (failure.class, answerer) {
            (FailureClass::ClientRejected, Answerer::IdentityProvider) => Some(Self::IdentityProviderClient),
            (FailureClass::ClientRejected, Answerer::AuthorizationServer) => Some(Self::of_client(binding)),
            // An invalid subject token is an invalid request (RFC 8693 section 2.2.2).
            (FailureClass::Suspect, Answerer::IdentityProvider) if code == "invalid_request" => Some(Self::IdToken),
            (FailureClass::Refused, Answerer::IdentityProvider) => Some(Self::IdToken),
            (FailureClass::Refused, Answerer::AuthorizationServer) => Some(match binding.grant_type {
                GrantType::JwtBearer => Self::Assertion,
                GrantType::EnterpriseManaged => Self::IdentityAssertion,
                GrantType::ClientCredentials | GrantType::AuthorizationCode => Self::of_client(binding),
            }),
            (FailureClass::Suspect | FailureClass::Shape, _) => FINAL.contains(&code).then_some(final_code),
            (
                FailureClass::Network
                | FailureClass::AnswerLost
                | FailureClass::Provider
                | FailureClass::RateLimited
                | FailureClass::HeldBack
                | FailureClass::Store
                | FailureClass::Configuration,
                _,
            ) => None,
        }
    }

    fn of_client(binding: &Binding) -> Self {
        match binding.client.auth_method {
            ClientAuthMethod::None => Self::ClientId,
            ClientAuthMethod::ClientSecretBasic | ClientAuthMethod::ClientSecretPost => Self::ClientSecret,
            ClientAuthMethod::PrivateKeyJwt => Self::PrivateKey,
        }
    }
}

impl GrantRecord {
    /// The record of a grant whose first token is about to be asked for.
    pub fn awaiting(id: GrantId, binding: Binding) -> Self {
        Self {
            id,
            generation: Generation::default(),
            binding,
            tokens: None,
            logged_in_at: None,
            limits: LoginLimits::default(),
            previous_refresh_token: None,
            attempt: None,
            answer_lost: None,
            last_attempt_at: None,
            last_success_at: None,
            refused: Vec::new(),
            client_refusals: 0,
            strikes: None,
            budget: crate::Budget::default(),
            lost_scopes: Vec::new(),
            step_ups: 0,
            imported: None,
            history: History::default(),
            ended: None,
        }
    }

    /// As it counts where its server is configured for another grant, or at another place, than it
    /// was made for: nothing of its tokens is used, and unattended grants ask for their own.
    #[must_use]
    pub fn reconfigured(&self, grant_type: GrantType) -> Self {
        Self {
            binding: Binding { grant_type, ..self.binding.clone() },
            tokens: None,
            previous_refresh_token: None,
            attempt: None,
            answer_lost: None,
            client_refusals: 0,
            strikes: None,
            lost_scopes: Vec::new(),
            ended: None,
            ..self.clone()
        }
    }

    /// After somebody wants a grant that was logged out: the next generation, still without tokens.
    #[must_use]
    pub fn revived(&self) -> Self {
        Self { generation: self.generation.next(), ended: None, ..self.clone() }
    }

    /// With the tokens of `response` to an unattended grant, as the next generation.
    ///
    /// A refresh token in it is not taken (RFC 6749 section 4.4.3): there is a better way to a new
    /// token than one that rotates.
    #[must_use]
    pub fn granted(&self, response: TokenResponse, sent_at: Timestamp) -> Self {
        let response = TokenResponse { refresh_token: None, refresh_token_expires_in: None, ..response };
        let tokens = TokenSet::issued(response, sent_at, &self.binding.requested_scopes);
        let sent = self.attempt.as_ref().map(|mark| mark.refresh_token);
        Self {
            generation: self.generation.next(),
            lost_scopes: self.lost_scopes_after(&tokens),
            tokens: Some(tokens),
            attempt: None,
            last_success_at: Some(sent_at),
            refused: self.refused.iter().filter(|refused| Some(**refused) != sent).copied().collect(),
            client_refusals: 0,
            strikes: None,
            ended: None,
            ..self.clone()
        }
    }

    /// After a failed attempt of an unattended grant. Tokens are never touched; what was refused is
    /// remembered, and not sent again before it changes or a person asks for it.
    #[must_use]
    pub fn not_granted(&self, answerer: Answerer, failure: &Failure) -> Self {
        let mut next = self.clone();
        let Some(mark) = next.attempt.take() else { return next };
        next.strikes = Strikes::after(next.strikes, failure.class, mark.started_at);
        if failure.class == FailureClass::ClientRejected {
            // One refusal of the client may be the provider's mishap.
            next.client_refusals = next.client_refusals.saturating_add(1);
            if next.client_refusals < CLIENT_REFUSALS_CONFIRMED {
                return next;
            }
        }
        let asks_for_resource = next.binding.shape.resource && next.binding.resource.is_some();
        if failure.oauth_error.as_deref() == Some("invalid_target") && asks_for_resource {
            next.binding.shape.resource = false;
            return next;
        }
        if let Some(credential) = Credential::refused_by(answerer, &next.binding, failure) {
            next.remember_refused(mark.refresh_token);
            next.ended = Some(LoginEnd::CredentialRefused { credential, code: failure.code() });
        }
        next
    }
}

impl GrantFacts {
    /// The facts of an unattended grant that nothing is stored of: its first token is due at once.
    /// Until its token endpoint is known, it shares its limits by `endpoint`.
    pub fn awaiting(grant_type: GrantType, endpoint: String) -> Self {
        Self {
            generation: Generation::default(),
            issuer: String::new(),
            endpoint,
            grant_type,
            tokens: None,
            sendable: grant_type.is_unattended().then(configured),
            answer_lost: None,
            last_attempt_at: None,
            last_success_at: None,
            client_secret_expires_at: None,
            strikes: None,
            budget: crate::Budget::default(),
            lost_scopes: Vec::new(),
            requested_scopes: Vec::new(),
            step_ups: 0,
            logged_in_at: None,
            ended: None,
        }
    }
}
