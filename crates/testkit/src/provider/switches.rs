//! Everything that providers do wrong, as switches that can be set over HTTP.

use serde::{Deserialize, Serialize};

/// How a new refresh token appears in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshTokenShape {
    /// As it should.
    #[default]
    Present,
    /// Not at all; the old one stays good.
    Omitted,
    /// As `null`; the old one stays good.
    Null,
    /// As an empty text; the old one stays good.
    Empty,
}

/// How the lifetime appears in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiresIn {
    /// As a number.
    #[default]
    Number,
    /// Not at all.
    Absent,
    /// As 0.
    Zero,
    /// As a text.
    Text,
    /// As a float.
    Float,
    /// As -1.
    Negative,
    /// As 1e12.
    Huge,
    /// In milliseconds.
    Milliseconds,
}

/// What the token endpoint does instead of its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Fault {
    /// An error of RFC 6749 section 5.2 with this status.
    Error {
        /// The status.
        status: u16,
        /// The code.
        error: String,
    },
    /// A status with a body and perhaps `Retry-After`.
    Status {
        /// The status.
        status: u16,
        /// The body.
        body: String,
        /// The header.
        retry_after: Option<String>,
    },
    /// A redirect to a captive portal.
    Portal,
    /// 200 and HTML.
    Html,
    /// 200 and members of wrong types.
    WrongTypes,
    /// 200 and 10 MiB.
    Huge,
    /// 200 and a body that never ends.
    Endless,
    /// No answer, ever; nothing is processed.
    Hang,
    /// The connection is closed; nothing is processed.
    CloseBefore,
    /// The request is processed, and the connection is closed without an answer.
    CloseAfter,
    /// The request is processed, half of the answer is sent, and no more.
    HalfAnswer,
    /// The request is processed, half of the answer is sent, and the connection is closed.
    HalfClosed,
    /// The request is processed, and no answer comes, ever.
    HangAfter,
    /// The connection is reset once the request has come; nothing is processed.
    Reset,
}

/// What the provider thinks of `resource` in a token request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceRule {
    /// It does not care.
    #[default]
    Ignored,
    /// Without it: `invalid_target`.
    Required,
    /// With it: `invalid_target`.
    Rejected,
}

/// What the provider thinks of the scope `offline_access`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfflineRule {
    /// It lists it, and does not care.
    #[default]
    Ignored,
    /// It does not list it, and issues no refresh token without it.
    Required,
    /// It lists it, and refuses logins that ask for it: `invalid_scope`.
    Rejected,
}

/// How the token endpoint answers a refresh token that is dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadToken {
    /// The status.
    pub status: u16,
    /// The body, as JSON.
    pub body: String,
}

/// How clients must authenticate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthRule {
    /// As public clients.
    #[default]
    None,
    /// By Basic.
    Basic,
    /// By `client_secret` in the body.
    Post,
    /// By what they sign (RFC 7523 section 2.2).
    PrivateKeyJwt,
}

/// What the protected server does to requests with a good token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum UpstreamFault {
    /// It serves them.
    #[default]
    None,
    /// 401 to every token.
    RefusesAll,
    /// 403 `insufficient_scope` to every call of a tool, for want of this scope.
    WantsScope {
        /// The scope.
        scope: String,
    },
    /// 500 where it should say 401.
    ServerErrorOnBadToken,
    /// `initialize` needs no token.
    AnonymousInitialize,
    /// Streams end after their first event.
    ClosesStreams,
}

/// What provider and protected server know of tokens that are bound to a key (RFC 9449).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DpopRule {
    /// Nothing.
    #[default]
    Unknown,
    /// A token request with a proof gets bound tokens; both kinds are served.
    Offered,
    /// There are no others.
    Required,
}

/// How proofs of possession are asked for and checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DpopSwitches {
    /// What is known of it.
    pub rule: DpopRule,
    /// Whether the token endpoint wants its nonce in proofs.
    pub server_nonce: bool,
    /// Whether the protected server does.
    pub resource_nonce: bool,
    /// After how many accepted proofs there is another nonce; 0 is never.
    pub rotate_every: u32,
    /// Whether the token endpoint issues bearer tokens all the same.
    pub answers_bearer: bool,
}

/// All switches. The default is a well-behaved provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Switches {
    /// How a new refresh token appears.
    pub refresh_token: RefreshTokenShape,
    /// How the lifetime appears.
    pub expires_in: ExpiresIn,
    /// The refresh token's lifetime in seconds, where the provider tells.
    pub refresh_token_expires_in: Option<u64>,
    /// Under which name it tells that: Keycloak says `refresh_expires_in`.
    pub refresh_expiry_member: String,
    /// Whether answers are form-encoded.
    pub form_encoded: bool,
    /// The scopes that answers name, where they are not those that were asked for.
    pub scope_told: Option<String>,
    /// The status of a good answer.
    pub success_status: u16,
    /// What the token endpoint does instead.
    pub fault: Option<Fault>,
    /// How often it still does that; `None` until it is switched off.
    pub fault_count: Option<u32>,
    /// How long every token request takes, in milliseconds.
    pub delay_ms: u64,
    /// Whether metadata cannot be had.
    pub metadata_down: bool,
    /// Another issuer than its own, where its metadata names one.
    pub issuer_told: Option<String>,
    /// Where its metadata says that tokens are issued, if that has moved. `/oauth/token` works as well
    /// as `/token` does.
    pub token_endpoint_told: Option<String>,
    /// Whether `/token` is gone, since the endpoint has moved.
    pub old_token_endpoint_gone: bool,
    /// Whether a client with other redirect URIs than the first one's may not register.
    pub refuses_new_redirects: bool,
    /// How long the secrets of new clients live, in seconds, if not for ever.
    pub client_secret_lifetime_s: Option<u64>,
    /// What it thinks of `resource`.
    pub resource: ResourceRule,
    /// Whether a refresh must name its scopes.
    pub require_scope: bool,
    /// What it thinks of `offline_access`.
    pub offline_access: OfflineRule,
    /// Parameters without which a login gets no refresh token.
    pub refresh_token_params: Vec<(String, String)>,
    /// How it answers a dead refresh token, if not with `invalid_grant`.
    pub dead_token: Option<DeadToken>,
    /// Whether its metadata keeps silent about how clients must authenticate.
    pub hides_auth: bool,
    /// How clients must authenticate.
    pub auth: AuthRule,
    /// Whether a client's own right brings a refresh token, against the rule.
    pub gives_refresh_token_unasked: bool,
    /// Which profiles of grants its metadata names, if any.
    pub grant_profiles: Vec<String>,
    /// How far its clock is ahead, in seconds.
    pub clock_ahead_s: i64,
    /// What the protected server does.
    pub upstream: UpstreamFault,
    /// How proofs of possession are asked for.
    pub dpop: DpopSwitches,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            refresh_token: RefreshTokenShape::default(),
            expires_in: ExpiresIn::default(),
            refresh_token_expires_in: None,
            refresh_expiry_member: "refresh_token_expires_in".to_owned(),
            form_encoded: false,
            scope_told: None,
            success_status: 200,
            fault: None,
            fault_count: None,
            delay_ms: 0,
            metadata_down: false,
            issuer_told: None,
            token_endpoint_told: None,
            old_token_endpoint_gone: false,
            refuses_new_redirects: false,
            client_secret_lifetime_s: None,
            resource: ResourceRule::default(),
            require_scope: false,
            offline_access: OfflineRule::default(),
            refresh_token_params: Vec::new(),
            dead_token: None,
            hides_auth: false,
            auth: AuthRule::default(),
            gives_refresh_token_unasked: false,
            grant_profiles: Vec::new(),
            clock_ahead_s: 0,
            upstream: UpstreamFault::default(),
            dpop: DpopSwitches::default(),
        }
    }
}
