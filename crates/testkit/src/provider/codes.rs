//! The provider's side of logins by authorization code (RFC 6749 section 4.1, RFC 7636).

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use everfresh_domain::Timestamp;
use sha2::{Digest, Sha256};

use super::model::{Form, Model, OFFLINE_ACCESS};
use super::reply::Reply;
use super::switches::{OfflineRule, ResourceRule};

/// Whether a login asked for a refresh token in the way that the provider wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasting {
    /// It did.
    Yes,
    /// It did not.
    No,
}

/// A code that was handed out.
#[derive(Clone, Debug)]
pub(super) struct Code {
    client_id: String,
    redirect_uri: String,
    challenge: String,
    scope: String,
    /// The key that it is bound to (RFC 9449 section 10).
    dpop_jkt: Option<String>,
    /// Whether the login asked for a refresh token in the way that the provider wants.
    lasting: Lasting,
}

impl Model {
    /// Sends a person who says yes back to the client (RFC 6749 section 4.1.2).
    pub fn authorize(&mut self, query: &Form) -> Reply {
        let given = |name: &str| query.get(name).cloned().unwrap_or_default();
        let (client_id, redirect_uri) = (given("client_id"), given("redirect_uri"));
        let known = self.clients.get(&client_id).is_some_and(|client| client.redirect_uris.contains(&redirect_uri));
        if !known {
            return Reply { status: 400, body: "Unknown client or redirect URI".into(), ..Reply::default() };
        }
        let (challenge, scope) = (given("code_challenge"), given("scope"));
        let offline = scope.split(' ').any(|scope| scope == OFFLINE_ACCESS);
        let refusal = match (self.switches.offline_access, self.switches.resource) {
            (OfflineRule::Rejected, _) if offline => Some("invalid_scope"),
            (_, ResourceRule::Rejected) if query.contains_key("resource") => Some("invalid_target"),
            _ => None,
        };
        self.counters.authorizations += 1;
        let code = format!("code-canary-{}", self.counters.authorizations);
        let separator = if redirect_uri.contains('?') { '&' } else { '?' };
        let answer = url::form_urlencoded::Serializer::new(String::new())
            .append_pair(if refusal.is_some() { "error" } else { "code" }, refusal.unwrap_or(&code))
            .append_pair("state", &given("state"))
            .append_pair("iss", &self.issuer)
            .finish();
        let location = format!("{redirect_uri}{separator}{answer}");
        let dpop_jkt = query.get("dpop_jkt").filter(|_| self.knows_dpop()).cloned();
        let mut params = self.switches.refresh_token_params.iter();
        let asked = params.all(|(name, value)| given(name) == *value)
            && (offline || self.switches.offline_access != OfflineRule::Required);
        let lasting = if asked { Lasting::Yes } else { Lasting::No };
        if refusal.is_none() {
            self.codes.insert(code, Code { client_id, redirect_uri, challenge, scope, lasting, dpop_jkt });
        }
        Reply { status: 302, headers: vec![("location".into(), location)], ..Reply::default() }
    }

    pub(super) fn exchange(&mut self, now: Timestamp, client_id: &str, form: &Form) -> Reply {
        let Some(code) = form.get("code").and_then(|code| self.codes.remove(code)) else {
            return Reply::error(400, "invalid_grant");
        };
        let verifier = form.get("code_verifier").cloned().unwrap_or_default();
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        let same_redirect = form.get("redirect_uri") == Some(&code.redirect_uri);
        let same_key = code.dpop_jkt.is_none() || code.dpop_jkt == self.proven;
        if code.client_id != client_id || code.challenge != challenge || !same_redirect || !same_key {
            return Reply::error(400, "invalid_grant");
        }
        self.counters.exchanges += 1;
        self.first_tokens(now, code.scope, code.lasting)
    }
}
