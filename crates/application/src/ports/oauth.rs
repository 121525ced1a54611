//! OAuth on the wire: token endpoint, metadata and registration.

use std::time::Duration;

use async_trait::async_trait;
use everfresh_domain::grant::{Binding, ClientRegistration};
use everfresh_domain::{Failure, Secret, TokenResponse};

use crate::settings::{DpopSetting, ServerSettings};

/// What kind of token is revoked (RFC 7009 section 2.1, `token_type_hint`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// An access token.
    AccessToken,
    /// A refresh token.
    RefreshToken,
}

/// Talks to token and revocation endpoints. Every call is exactly one HTTP request: no retries, no
/// redirects, a bounded answer. `server` says how to connect (authorities, proxies).
///
/// Where the binding has a key, token requests carry a proof of it (RFC 9449 section 5), and one that
/// lacks the server's nonce is sent a second time with it: the server has not looked at the rest.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait OAuthClient: Send + Sync {
    /// Refreshes (RFC 6749 section 6) in the shape that `binding` prescribes; `scopes` are sent
    /// where that shape has them.
    ///
    /// `Ok` means a 2xx answer with an access token. A failure's class says whether the refresh
    /// token may be spent ([`everfresh_domain::FailureClass::AnswerLost`]).
    async fn refresh(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        refresh_token: &Secret,
        scopes: &[String],
    ) -> Result<TokenResponse, Failure>;

    /// Exchanges an authorization code (RFC 6749 section 4.1.3) with its PKCE verifier (RFC 7636).
    async fn exchange_code(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        code: &Secret,
        verifier: &Secret,
        redirect_uri: &str,
    ) -> Result<TokenResponse, Failure>;

    /// Asks `endpoint` for a device code (RFC 8628 section 3.1) with `binding`'s client, scopes,
    /// resource and further parameters.
    async fn authorize_device(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        endpoint: &str,
    ) -> Result<DeviceAuthorization, Failure>;

    /// Asks once whether a device code is approved (RFC 8628 section 3.4). Until it is, the
    /// failure's code is `authorization_pending` or `slow_down`.
    async fn exchange_device_code(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        device_code: &Secret,
    ) -> Result<TokenResponse, Failure>;

    /// Asks for a token by the client's own right (RFC 6749 section 4.4), or by `assertion` (RFC 7523
    /// section 2.1), for the scopes and the resource of `binding`.
    async fn request_token<'a>(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        assertion: Option<&'a Secret>,
    ) -> Result<TokenResponse, Failure>;

    /// Has an identity provider exchange an ID token for an assertion that one authorization server
    /// takes (RFC 8693 section 2, token type `id-jag`).
    async fn exchange_identity(&self, server: &ServerSettings, exchange: &IdentityExchange) -> Result<Secret, Failure>;

    /// Revokes a token (RFC 7009). `Ok` also where the provider did not know it.
    async fn revoke(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        token: &Secret,
        kind: TokenKind,
    ) -> Result<(), Failure>;
}

/// What a device authorization endpoint answers (RFC 8628 section 3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceAuthorization {
    /// By which the daemon asks for the tokens.
    pub device_code: Secret,
    /// What a person types in at the provider.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same with the code in it, where the provider offers that.
    pub verification_uri_complete: Option<String>,
    /// How long both codes are good.
    pub expires_in: Duration,
    /// The least time between two questions.
    pub interval: Duration,
}

/// One exchange of an ID token at an identity provider.
#[derive(Clone, Debug)]
pub struct IdentityExchange {
    /// The provider's token endpoint.
    pub token_endpoint: String,
    /// The client that everfresh is there.
    pub client_id: Option<String>,
    /// That client's secret.
    pub client_secret: Option<Secret>,
    /// The ID token.
    pub id_token: Secret,
    /// The issuer of the authorization server that the assertion is for.
    pub audience: String,
    /// The resource that tokens are wanted for, byte for byte.
    pub resource: Option<String>,
    /// The scopes that are wanted there.
    pub scopes: Vec<String>,
}

/// What an upstream said in `WWW-Authenticate` (RFC 6750 section 3, RFC 9728 section 5.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Where the protected resource metadata is.
    pub resource_metadata: Option<String>,
    /// The scopes that are needed.
    pub scopes: Vec<String>,
    /// The `error` code.
    pub error: Option<String>,
    /// Whether tokens that are bound to a key are taken: there was a `DPoP` challenge (RFC 9449
    /// section 7.1).
    pub dpop: bool,
}

/// What is known about binding tokens to keys before a login (RFC 9449 section 5.1, RFC 9728 section 2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DpopOffer {
    /// The algorithms of proofs that the authorization server takes; empty where not told.
    pub server_algorithms: Vec<String>,
    /// Those that the upstream takes; empty where not told.
    pub resource_algorithms: Vec<String>,
    /// Whether the upstream takes no other tokens.
    pub resource_requires: bool,
}

impl DpopOffer {
    /// Whether proofs that are signed with ES256 are of use to both sides, as far as they tell.
    pub fn takes_es256(&self) -> bool {
        let takes = |told: &[String]| told.is_empty() || told.iter().any(|algorithm| algorithm == "ES256");
        takes(&self.server_algorithms) && takes(&self.resource_algorithms)
    }
}

/// What discovery found: where to log in and for what. URLs and the issuer are raw strings,
/// compared and sent byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// The authorization server (RFC 8414 `issuer`).
    pub issuer: String,
    /// Where people log in.
    pub authorization_endpoint: String,
    /// Where tokens are issued.
    pub token_endpoint: String,
    /// Where clients register (RFC 7591).
    pub registration_endpoint: Option<String>,
    /// Where device codes are to be had (RFC 8628).
    pub device_authorization_endpoint: Option<String>,
    /// Where tokens are revoked (RFC 7009).
    pub revocation_endpoint: Option<String>,
    /// Which profiles of grants it takes (`authorization_grant_profiles_supported`); empty where not told.
    pub grant_profiles: Vec<String>,
    /// How clients may authenticate; empty where not told.
    pub token_endpoint_auth_methods: Vec<String>,
    /// The scopes that the authorization server knows.
    pub scopes_supported: Vec<String>,
    /// Whether a client may be named by a metadata document's URL.
    pub client_id_metadata_documents: bool,
    /// Whether answers carry `iss` (RFC 9207).
    pub iss_in_responses: bool,
    /// The protected resource's identifier as published (RFC 9728), where it was.
    pub resource: Option<String>,
    /// The scopes that the protected resource lists.
    pub resource_scopes: Vec<String>,
    /// What is said about binding tokens to a key.
    pub dpop: DpopOffer,
    /// What the upstream's own challenge said.
    pub challenge: Challenge,
}

impl Discovered {
    /// Whether a login asks for tokens that are bound to a key.
    ///
    /// Left to itself, that is decided by the upstream: what its authorization server could do is
    /// of no use to an upstream that reads `Bearer` only.
    pub fn binds_tokens(&self, setting: DpopSetting) -> bool {
        let upstream_takes =
            self.dpop.resource_requires || !self.dpop.resource_algorithms.is_empty() || self.challenge.dpop;
        match setting {
            DpopSetting::Auto => upstream_takes && self.dpop.takes_es256(),
            DpopSetting::Required => true,
            DpopSetting::Off => false,
        }
    }
}

/// Why an upstream's authorization server could not be found or used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// A document or the upstream could not be reached.
    #[error("{url} cannot be reached: {cause}")]
    Unreachable {
        /// Which URL.
        url: String,
        /// Why.
        cause: String,
    },
    /// What was found breaks a rule that protects the user.
    #[error("{url} is refused: {cause}")]
    Refused {
        /// Which document or URL.
        url: String,
        /// Which rule.
        cause: String,
    },
    /// There is no authorization server to be found.
    #[error("{url} names no authorization server; set oauth.issuer in its configuration")]
    NotFound {
        /// The upstream.
        url: String,
    },
    /// The upstream answers without a token: no login is needed.
    #[error("{url} asks for no login")]
    NotProtected {
        /// The upstream.
        url: String,
    },
}

/// Why a client could not be registered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The issuer offers no registration: a client id must be configured.
    #[error("{issuer} does not register clients by itself; set oauth.client_id")]
    Unsupported {
        /// The issuer.
        issuer: String,
    },
    /// It could not be reached.
    #[error("the registration endpoint of {issuer} cannot be reached: {cause}")]
    Unreachable {
        /// The issuer.
        issuer: String,
        /// Why.
        cause: String,
    },
    /// It said no.
    #[error("{issuer} refused to register this client: {cause}")]
    Refused {
        /// The issuer.
        issuer: String,
        /// Its words, cut to a sane length.
        cause: String,
    },
}

/// The parts of an authorization request (RFC 6749 section 4.1.1).
#[derive(Clone, Debug)]
pub struct AuthorizationRequest {
    /// Where people log in.
    pub authorization_endpoint: String,
    /// The client.
    pub client_id: String,
    /// Where the answer goes.
    pub redirect_uri: String,
    /// The scopes asked for; empty sends none.
    pub scopes: Vec<String>,
    /// The resource indicator (RFC 8707), byte for byte.
    pub resource: Option<String>,
    /// Binds the answer to this request.
    pub state: Secret,
    /// The PKCE verifier, of which the S256 challenge is sent.
    pub verifier: Secret,
    /// The thumbprint of the key that the code is to be bound to (RFC 9449 section 10).
    pub dpop_jkt: Option<String>,
    /// Further parameters from the configuration.
    pub extra_params: std::collections::BTreeMap<String, String>,
}

/// Finds authorization servers and registers clients.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait OAuthDiscovery: Send + Sync {
    /// Finds where to log in for `server`: protected resource metadata (RFC 9728), then
    /// authorization server metadata (RFC 8414, OpenID Connect discovery).
    ///
    /// `challenge` is the one the upstream gave last; without it the upstream is asked.
    async fn discover(
        &self,
        server: &ServerSettings,
        challenge: Option<Challenge>,
    ) -> Result<Discovered, DiscoveryError>;

    /// Finds the token endpoint that `issuer` names in its own metadata (RFC 8414), on behalf of
    /// `server`. A document that speaks for another issuer names none.
    async fn token_endpoint(&self, server: &ServerSettings, issuer: &str) -> Result<String, DiscoveryError>;

    /// Registers a client dynamically (RFC 7591). Nothing is stored here.
    async fn register(
        &self,
        server: &ServerSettings,
        discovered: &Discovered,
        redirect_uris: &[String],
    ) -> Result<ClientRegistration, RegistrationError>;

    /// The URL that a person opens.
    fn authorization_url(&self, request: &AuthorizationRequest) -> Result<String, DiscoveryError>;
}
