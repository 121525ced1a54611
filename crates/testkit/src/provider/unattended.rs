//! Grants that need no person, as the authorization server and the identity provider see them.
//! Assertions are verified for real: signature, issuer, audience, end, and that none comes twice.

use everfresh_domain::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde_json::{Value, json};

use super::model::{Client, Form, Model};
use super::reply::Reply;

pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
pub(super) const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const CLIENT_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const IDENTITY_ASSERTION: &str = "urn:ietf:params:oauth:token-type:id-jag";
const IDENTITY_ASSERTION_TYP: &str = "oauth-id-jag+jwt";

/// How long the identity provider's assertions live, in seconds.
const VOUCHED_S: i64 = 300;

/// How a client that was registered by hand shows who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enrolled {
    /// Not at all.
    Public,
    /// By a secret.
    Secret(String),
    /// By what it signs with ES256; its public key in PEM.
    PublicKey(String),
}

/// A platform or identity provider that signs assertions with a key it shares with who trusts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signer {
    /// Its issuer.
    pub issuer: String,
    /// Its key.
    pub key: String,
}

impl Signer {
    /// An assertion that `subject` shows to `audience` until `end`.
    pub fn assertion(&self, subject: &str, audience: &str, end: Timestamp) -> String {
        self.sign("JWT", &json!({ "iss": self.issuer, "sub": subject, "aud": audience, "exp": seconds(end) }))
    }

    fn sign(&self, typ: &str, claims: &Value) -> String {
        let header = Header { typ: Some(typ.to_owned()), ..Header::new(Algorithm::HS256) };
        encode(&header, claims, &EncodingKey::from_secret(self.key.as_bytes())).expect("claims are JSON")
    }

    /// The claims of `token`, if this signed it for `audience` and its time is not over.
    fn verified(&self, now: Timestamp, token: &str, audience: &str) -> Option<Value> {
        let claims = verified(token, &DecodingKey::from_secret(self.key.as_bytes()), Algorithm::HS256)?;
        holds(&claims, now, &self.issuer, audience).then_some(claims)
    }
}

fn seconds(at: Timestamp) -> i64 {
    at.as_millis() / 1_000
}

/// The claims of a token with a good signature. Time is the model's: none is looked at here.
fn verified(token: &str, key: &DecodingKey, algorithm: Algorithm) -> Option<Value> {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_aud) = (false, false);
    decode::<Value>(token, key, &validation).ok().map(|token| token.claims)
}

fn holds(claims: &Value, now: Timestamp, issuer: &str, audience: &str) -> bool {
    let in_time = claims["exp"].as_i64().is_some_and(|end| seconds(now) < end);
    claims["iss"] == issuer && claims["aud"] == audience && in_time
}

impl Model {
    /// Registers a client by hand, or gives the one of that name another way to show who it is.
    pub fn enroll(&mut self, client_id: &str, enrolled: Enrolled) {
        let (secret, public_key) = match enrolled {
            Enrolled::Public => (None, None),
            Enrolled::Secret(secret) => (Some(secret), None),
            Enrolled::PublicKey(pem) => (None, Some(pem)),
        };
        let client = Client { redirect_uris: Vec::new(), secret, public_key, dpop_bound: false };
        self.clients.insert(client_id.to_owned(), client);
    }

    /// Whether `client_id` has signed this request (RFC 7523 sections 2.2 and 3).
    pub(super) fn has_signed(&mut self, now: Timestamp, client_id: &str, public_key: &str, form: &Form) -> bool {
        let Ok(key) = DecodingKey::from_ec_pem(public_key.as_bytes()) else { return false };
        let typed = form.get("client_assertion_type").is_some_and(|typ| typ == CLIENT_ASSERTION);
        let assertion = form.get("client_assertion").cloned().unwrap_or_default();
        let Some(claims) = verified(&assertion, &key, Algorithm::ES256) else { return false };
        let jti = claims["jti"].as_str().unwrap_or_default().to_owned();
        let good = typed && holds(&claims, now, client_id, &self.issuer) && claims["sub"] == client_id;
        good && !jti.is_empty() && self.assertions_seen.insert(jti)
    }

    /// Tokens by a client's own right (RFC 6749 section 4.4.3): without a refresh token, unless it
    /// is switched to give one against the rule.
    pub(super) fn client_credentials(&mut self, now: Timestamp, form: &Form) -> Reply {
        let surplus = self.switches.gives_refresh_token_unasked;
        self.grant_unattended(now, form, surplus)
    }

    /// Tokens by an assertion of somebody who is trusted (RFC 7523 section 3.1).
    pub(super) fn jwt_bearer(&mut self, now: Timestamp, client_id: &str, form: &Form) -> Reply {
        let assertion = form.get("assertion").cloned().unwrap_or_default();
        let claims = self.trusted.iter().find_map(|signer| signer.verified(now, &assertion, &self.issuer));
        let vouched = decode_header(&assertion).is_ok_and(|head| head.typ.as_deref() == Some(IDENTITY_ASSERTION_TYP));
        let for_this = |claims: &Value| {
            let resource = form.get("resource").map(String::as_str);
            !vouched || (claims["client_id"] == client_id && claims["resource"].as_str() == resource)
        };
        if claims.is_some_and(|claims| for_this(&claims)) {
            return self.grant_unattended(now, form, false);
        }
        self.counters.refusals += 1;
        Reply::error(400, "invalid_grant")
    }

    fn grant_unattended(&mut self, now: Timestamp, form: &Form, surplus: bool) -> Reply {
        self.counters.unattended += 1;
        let family = self.tokens.new_family();
        self.scopes.insert(family, form.get("scope").cloned().unwrap_or_default());
        let refresh_token = surplus.then(|| self.tokens.issue_refresh(now, family, None));
        self.issued(now, family, refresh_token)
    }

    /// An assertion for another authorization server, for an ID token of this provider's (RFC 8693).
    pub(super) fn token_exchange(&mut self, now: Timestamp, client_id: &str, form: &Form) -> Reply {
        let given = |name: &str| form.get(name).cloned().unwrap_or_default();
        let Some(signer) = self.signer.clone() else { return Reply::error(400, "unsupported_grant_type") };
        let typed = given("subject_token_type") == ID_TOKEN && given("requested_token_type") == IDENTITY_ASSERTION;
        let subject = signer.verified(now, &given("subject_token"), client_id);
        let (Some(subject), true, Some(vouched)) = (subject, typed, self.vouches_for.get(&given("audience"))) else {
            self.counters.refusals += 1;
            return Reply::error(400, "invalid_request");
        };
        self.counters.exchanges += 1;
        let claims = json!({
            "iss": signer.issuer, "sub": subject["sub"], "aud": given("audience"), "client_id": vouched,
            "resource": given("resource"), "exp": seconds(now) + VOUCHED_S,
        });
        let assertion = signer.sign(IDENTITY_ASSERTION_TYP, &claims);
        let answer = json!({ "access_token": assertion, "issued_token_type": IDENTITY_ASSERTION, "token_type": "N_A" });
        Reply::json(200, &answer)
    }
}
