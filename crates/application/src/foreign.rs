//! Logins that other programs made, as they are handed over to be moved here.

use std::time::Duration;

use everfresh_domain::grant::ClientAuthMethod;
use everfresh_domain::secret::danger_plaintext;
use everfresh_domain::{GrantId, NotUndoable, Secret, Timestamp, TokenSet};
use serde::{Deserialize, Serialize};

use crate::settings::ResourceSetting;

/// The longest token, id or secret that is taken; the longest seen in the field have some 5,000 bytes.
const SECRET_LENGTH_MAX: usize = 16 * 1024;

/// A login as another program kept it. Its JSON form is documented in `docs/MOVING_IN.md`, and holds
/// secrets in clear: it is for files that the user made, and for the way to the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForeignLogin {
    /// What it is to be called here: NAME or NAME@ACCOUNT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The upstream that its tokens are for.
    pub url: String,
    /// The authorization server that made it. Where given, no other is sent anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// That server's token endpoint. Where given, no other is sent anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<String>,
    /// The client that the tokens were issued to; without it nothing can be refreshed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// That client's secret.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "danger_plaintext::option")]
    pub client_secret: Option<Secret>,
    /// How that client authenticates, where known; else as the authorization server takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint_auth_method: Option<ClientAuthMethod>,
    /// When the secret ends, if ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_expires_at: Option<Timestamp>,
    /// The redirect URIs that the client was registered with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirect_uris: Vec<String>,
    /// The refresh token.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "danger_plaintext::option")]
    pub refresh_token: Option<Secret>,
    /// The access token.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "danger_plaintext::option")]
    pub access_token: Option<Secret>,
    /// How the access token is sent; `Bearer` where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type: Option<String>,
    /// When the tokens were issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Timestamp>,
    /// When the access token ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The granted scopes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// The resource indicator (RFC 8707): `auto`, `none`, or a URI sent byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

/// How a login is moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MoveTerms {
    /// Whether it may take the place of a login that lives.
    pub replace: bool,
    /// Whether it is left as it came, so that the move can still be taken back.
    pub leave: bool,
}

/// Why a login cannot be moved here, or the move not be taken back. In every case nothing was sent
/// that the login could be lost by, and what was stored before is still there.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Something in it cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// Its refresh token has come here before.
    #[error(
        "this login is here already, as {0}: everfresh owns it, and the copy of its refresh token is dead or dies with \
         the next refresh; there is nothing more to move"
    )]
    AlreadyHere(GrantId),
    /// Another login lives under that name.
    #[error("{0} is logged in already; give --replace to put the imported login in its place, or another name")]
    LoggedIn(GrantId),
    /// The name is another server's.
    #[error("there is a server {name} already, with the URL {url}; give the imported login another name")]
    OtherServer {
        /// The name.
        name: String,
        /// Its URL.
        url: String,
    },
    /// The tokens are from an authorization server that the upstream does not name.
    #[error(
        "the login was made at {made}, and its server names {found} now; a refresh token goes only to who issued it, \
         so nothing was sent: log in instead (everfresh add)"
    )]
    OtherIssuer {
        /// Where it was made.
        made: String,
        /// What the upstream names.
        found: String,
    },
    /// The move cannot be taken back.
    #[error("the import of {grant} cannot be undone: {}", because(*.why))]
    NotUndoable {
        /// Which login.
        grant: GrantId,
        /// Why.
        why: NotUndoable,
    },
}

fn because(why: NotUndoable) -> &'static str {
    match why {
        NotUndoable::NotImported => "it was not imported",
        NotUndoable::Changed => "it was refreshed, replaced or logged out since, so the copy that it came from is dead",
        NotUndoable::InDoubt => {
            "a refresh has begun whose answer did not arrive, so the copy that it came from may be dead; everfresh goes \
             on with it"
        }
        NotUndoable::Refused => {
            "the provider refused its refresh token, and would refuse the copy; `everfresh remove` removes it"
        }
    }
}

impl ForeignLogin {
    /// A login of which nothing is known but the upstream.
    pub fn of(url: impl Into<String>) -> Self {
        Self {
            name: None,
            url: url.into(),
            issuer: None,
            token_endpoint: None,
            client_id: None,
            client_secret: None,
            token_endpoint_auth_method: None,
            client_secret_expires_at: None,
            redirect_uris: Vec::new(),
            refresh_token: None,
            access_token: None,
            token_type: None,
            issued_at: None,
            expires_at: None,
            scopes: Vec::new(),
            resource: None,
        }
    }

    /// Which grant it is to be.
    pub fn grant(&self) -> Result<GrantId, ImportError> {
        let name = self.name.as_deref().ok_or_else(|| unusable("the login has no name"))?;
        name.parse().map_err(|error: everfresh_domain::ids::InvalidName| ImportError::Unusable(error.to_string()))
    }

    /// Everything that can be seen to be wrong without asking anybody.
    pub fn check(&self) -> Result<(), ImportError> {
        let sent = [
            ("access_token", self.access_token.as_ref().map(Secret::expose), '!'),
            ("refresh_token", self.refresh_token.as_ref().map(Secret::expose), ' '),
            ("client_secret", self.client_secret.as_ref().map(Secret::expose), ' '),
            ("client_id", self.client_id.as_deref(), ' '),
        ];
        for (what, text, from) in sent {
            let Some(text) = text else { continue };
            // RFC 6749 appendix A: visible ASCII, and spaces but in access tokens.
            if text.is_empty() || text.len() > SECRET_LENGTH_MAX || !text.chars().all(|c| (from..='~').contains(&c)) {
                return Err(unusable(&format!("the {what} is not one: it is empty, too long, or has odd characters")));
            }
        }
        match (&self.refresh_token, &self.access_token) {
            (None, None) => Err(unusable("the login has no tokens: there is nothing to move")),
            (Some(_), _) if self.client_id.is_none() => {
                Err(unusable("the client_id is missing: a refresh token is of no use without the client it belongs to"))
            }
            _ if self.token_endpoint_auth_method == Some(ClientAuthMethod::PrivateKeyJwt) => {
                Err(unusable("its client signs with a private key, which is not moved: add the server with that key"))
            }
            _ if self.token_type.as_deref().is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) => {
                Err(unusable("its tokens are bound to a key that stays with the other program (DPoP): log in instead"))
            }
            _ => Ok(()),
        }
    }

    /// Its tokens as they are kept here.
    ///
    /// Without an access token there is one that has ended, so that the first request waits for the
    /// refresh. An issue time in the future, or missing, is `now`.
    pub(crate) fn tokens(&self, now: Timestamp) -> TokenSet {
        let issued_at = self.issued_at.map_or(now, |at| at.min(now));
        let ended = self.access_token.is_none();
        let issued_at = self.expires_at.map_or(issued_at, |end| issued_at.min(end));
        TokenSet {
            access_token: self.access_token.clone().unwrap_or_else(|| Secret::new("")),
            token_type: "Bearer".to_owned(),
            issued_at,
            lifetime: if ended { Some(Duration::ZERO) } else { self.expires_at.map(|end| end.since(issued_at)) },
            refresh_in: None,
            refresh_token: self.refresh_token.clone(),
            refresh_token_issued_at: self.refresh_token.as_ref().map(|_| issued_at),
            refresh_token_lifetime: None,
            scopes: self.scopes.clone(),
        }
    }

    pub(crate) fn resource(&self) -> Option<ResourceSetting> {
        self.resource.as_deref().map(|resource| match resource {
            "auto" => ResourceSetting::Auto,
            "none" => ResourceSetting::None,
            uri => ResourceSetting::Uri(uri.to_owned()),
        })
    }
}

fn unusable(why: &str) -> ImportError {
    ImportError::Unusable(why.to_owned())
}
