//! Why an attempt failed, and what that says about the login.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a failed attempt says about the refresh token that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// No answer, and nothing was sent: name resolution, connecting, TLS, a time limit before that.
    Network,
    /// The request was sent and no whole answer came: the refresh token may be spent.
    AnswerLost,
    /// An answer that says nothing about the token: 5xx, HTML, a redirect, broken JSON.
    Provider,
    /// The provider asks for a pause: 429, or 503 with `Retry-After`.
    RateLimited,
    /// `invalid_grant` or a provider's word for it: this refresh token is dead.
    Refused,
    /// `invalid_client`: the client registration is not known any more.
    ClientRejected,
    /// A refusal that may mean a dead token, in words that may also mean something else.
    Suspect,
    /// The provider objects to the request's form: `invalid_target`, `invalid_scope`.
    Shape,
    /// everfresh's own limits held the request back: nothing was sent.
    HeldBack,
    /// The attempt could not be recorded before it was made, so it was not made.
    Store,
    /// What is configured cannot be used: a secret that is not there, a key that is none, an issuer
    /// that is not to be found. Nothing was sent.
    Configuration,
}

impl FailureClass {
    /// Whether the provider did answer, so that its endpoint counts as reachable and working.
    pub fn shows_a_working_endpoint(self) -> bool {
        match self {
            Self::Refused | Self::ClientRejected | Self::Suspect | Self::Shape => true,
            Self::Network
            | Self::AnswerLost
            | Self::Provider
            | Self::RateLimited
            | Self::HeldBack
            | Self::Store
            | Self::Configuration => false,
        }
    }

    /// Whether the failure is the endpoint's, and counts towards opening its circuit breaker.
    pub fn counts_against_the_endpoint(self) -> bool {
        match self {
            Self::Network | Self::AnswerLost | Self::Provider | Self::RateLimited => true,
            Self::Refused
            | Self::ClientRejected
            | Self::Suspect
            | Self::Shape
            | Self::HeldBack
            | Self::Store
            | Self::Configuration => false,
        }
    }

    /// The metric label `result` of such an attempt.
    pub fn result_label(self) -> &'static str {
        match self {
            Self::Network | Self::AnswerLost => "failed_network",
            Self::Refused => "failed_invalid_grant",
            Self::Provider
            | Self::RateLimited
            | Self::ClientRejected
            | Self::Suspect
            | Self::Shape
            | Self::HeldBack
            | Self::Store
            | Self::Configuration => "failed_other",
        }
    }
}

/// One failed attempt, in words that may be shown: no token, code or body is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What it says about the login.
    pub class: FailureClass,
    /// The provider's `error` code as sent (RFC 6749 section 5.2), cut to a sane length.
    pub oauth_error: Option<String>,
    /// What the provider says more narrowly than by that code, with its meaning where it is known.
    #[serde(default)]
    pub subcode: Option<String>,
    /// The answer's HTTP status, where there was an answer.
    pub http_status: Option<u16>,
    /// The pause that the provider asked for.
    pub retry_after: Option<Duration>,
    /// Whether it looks as if the endpoint is not there any more: its name leads nowhere, or it is
    /// answered there as for an unknown path. It may have moved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub endpoint_gone: bool,
    /// What happened, as a fragment that fits after "failed: ".
    pub message: String,
}

impl Failure {
    /// A failure without an answer.
    pub fn without_answer(class: FailureClass, message: impl Into<String>) -> Self {
        Self {
            class,
            oauth_error: None,
            subcode: None,
            http_status: None,
            retry_after: None,
            endpoint_gone: false,
            message: message.into(),
        }
    }
}
