//! What a login is made of on its way: what it waits for, and how it ended.

use std::collections::BTreeMap;

use everfresh_domain::grant::Binding;
use everfresh_domain::login::{FlowId, LoginOutcome, Logins, PendingLogin};
use everfresh_domain::{GrantId, Secret, Timestamp};
use tokio::sync::watch;

use super::pasted::PasteError;
use crate::ports::{DeviceAuthorization, DiscoveryError, ProofError, RegistrationError, StoreError};
use crate::settings::LoginWay;

/// Which client a login is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientChoice {
    /// The one that is registered, if there is one.
    Known,
    /// One that is registered anew, where clients register by themselves.
    New,
}

/// A login that has begun.
#[derive(Clone, Debug)]
pub struct LoginStarted {
    /// Which login; in every log line about it.
    pub flow: FlowId,
    /// What a person opens: the provider's page, with the device code in it where there is one.
    pub authorization_url: String,
    /// Where the answer comes back to; `None` for a login by device code, which needs no answer.
    pub redirect_uri: Option<String>,
    /// What a person types in where the login is by device code.
    pub device: Option<DevicePrompt>,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// What a person needs for a login by device code (RFC 8628 section 3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePrompt {
    /// What is typed in.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
}

/// What came back to the redirect URI (RFC 6749 section 4.1.2, RFC 9207).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallbackQuery {
    /// The authorization code.
    pub code: Option<Secret>,
    /// The state.
    pub state: Option<Secret>,
    /// Who answers.
    pub iss: Option<String>,
    /// The error code, where it went wrong.
    pub error: Option<String>,
    /// More about it; shown to nobody before the sender is known.
    pub error_description: Option<String>,
}

/// A login that is over.
#[derive(Clone, Debug)]
pub struct LoginFinished {
    /// Of which grant.
    pub grant: GrantId,
    /// How it ended.
    pub outcome: LoginOutcome,
    /// Where no refresh token was issued: when the login ends.
    pub lasts_until: Option<Timestamp>,
    /// The scopes that were asked for and that the provider says it did not grant.
    pub scopes_not_granted: Vec<String>,
}

impl LoginFinished {
    /// An end without tokens.
    pub(super) fn without_tokens(grant: &GrantId, outcome: LoginOutcome) -> Self {
        Self { grant: grant.clone(), outcome, lasts_until: None, scopes_not_granted: Vec::new() }
    }
}

/// Why a login could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Late or forged.
    #[error("no login is waiting for this answer; it may have taken too long, or belong to a daemon that has ended")]
    UnknownState,
    /// The answer came a second time: a page opened twice, a link clicked twice.
    #[error("this answer was used before")]
    AnsweredBefore(Box<LoginFinished>),
    /// What was pasted is not this login's answer.
    #[error(transparent)]
    Pasted(#[from] PasteError),
    /// The issuer offers no logins by device code.
    #[error("{issuer} offers no login by device code; log in with a browser, or with --paste")]
    NoDeviceLogin {
        /// The issuer.
        issuer: String,
    },
    /// The issuer gave no device code.
    #[error("{issuer} gave no device code: {cause}")]
    DeviceRefused {
        /// The issuer.
        issuer: String,
        /// Why.
        cause: String,
    },
    /// The upstream names another authorization server than the one its configured client is known to.
    #[error(
        "this server's logins were made at {known}, and it names {found} now. A client_id belongs to the authorization \
         server that gave it, so yours is not sent there. If the change is right, set oauth.issuer to {found:?} and \
         oauth.client_id to a client of that server"
    )]
    IssuerChanged {
        /// Where the client has logged in before.
        known: String,
        /// What the upstream names.
        found: String,
    },
    /// The authorization server could not be found or used.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// No client could be had there.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// Tokens cannot be bound to a key.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// Tokens are to be bound to a key, and the other sides take no proof that can be made here.
    #[error("oauth.dpop = \"required\", and {0} takes no proofs that are signed with ES256")]
    NoCommonProof(String),
    /// A configured secret could not be fetched.
    #[error("{0}")]
    Secret(String),
    /// There is nobody to log in: tokens are asked for with what is configured.
    #[error("{0} needs no login: its tokens are asked for with what is configured")]
    Unattended(GrantId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A pending login's own data.
#[derive(Clone)]
pub(super) struct Flow {
    pub(super) grant: GrantId,
    pub(super) binding: Binding,
    /// Logins in a row that ask for scopes that the one before had asked for, with this one.
    pub(super) step_ups: u32,
    pub(super) way: Way,
}

/// What a login waits for.
#[derive(Clone)]
pub(super) enum Way {
    /// An answer at the redirect URI.
    Browser(Browser),
    /// That a device code is approved.
    Device(DeviceAuthorization),
}

/// An authorization request that somebody may answer.
#[derive(Clone)]
pub(super) struct Browser {
    pub(super) state: Secret,
    pub(super) verifier: Secret,
    pub(super) redirect_uri: String,
    pub(super) answers_carry_iss: bool,
    pub(super) authorization_url: String,
}

impl Flow {
    pub(super) fn is_by(&self, way: LoginWay) -> bool {
        matches!((&self.way, way), (Way::Browser(_), LoginWay::Browser) | (Way::Device(_), LoginWay::Device))
    }

    /// What its person is told.
    pub(super) fn started(&self, login: &PendingLogin) -> LoginStarted {
        let PendingLogin { flow, began_at, expires_at, .. } = *login;
        match &self.way {
            Way::Browser(browser) => LoginStarted {
                flow,
                authorization_url: browser.authorization_url.clone(),
                redirect_uri: Some(browser.redirect_uri.clone()),
                device: None,
                began_at,
                expires_at,
            },
            Way::Device(device) => {
                let uri = &device.verification_uri;
                LoginStarted {
                    flow,
                    authorization_url: device.verification_uri_complete.as_ref().unwrap_or(uri).clone(),
                    redirect_uri: None,
                    device: Some(DevicePrompt { user_code: device.user_code.clone(), verification_uri: uri.clone() }),
                    began_at,
                    expires_at,
                }
            }
        }
    }
}

/// Where the end of a login is told, and by what its answer is known, also when it comes late.
pub(super) struct Told {
    pub(super) state: Option<Secret>,
    pub(super) end: watch::Sender<Option<LoginFinished>>,
}

/// The logins that wait for somebody, and the ends of those that did.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) logins: Logins,
    pub(super) flows: BTreeMap<FlowId, Flow>,
    pub(super) ends: BTreeMap<FlowId, Told>,
}
