//! Tokens that are bound to keys (DPoP, RFC 9449), in the model of a provider and its upstream.

use everfresh_domain::Timestamp;
use serde_json::{Value, json};

use super::model::{Access, Form, Model};
use super::reply::Reply;
use super::switches::DpopRule;
use crate::proof::{Objection, Shown};

/// What a request to the protected server shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Presented<'a> {
    /// The scheme of its `Authorization` header.
    pub scheme: &'a str,
    /// The access token in it.
    pub token: Option<&'a str>,
    /// Its proof.
    pub proof: Option<Shown<'a>>,
}

impl Model {
    /// The token endpoint, to a request that may carry a proof.
    pub fn token_proven(
        &mut self,
        now: Timestamp,
        form: &Form,
        basic: Option<(&str, &str)>,
        shown: Option<&Shown<'_>>,
    ) -> Reply {
        let mut reply = match self.proven_at_server(now, shown) {
            Ok(thumbprint) => {
                self.proven = thumbprint;
                let reply = self.token(now, form, basic);
                self.proven = None;
                reply
            }
            Err(objection) => {
                self.counters.token_requests += 1;
                let error = self.count(objection);
                let mut reply = Reply::json(400, &json!({ "error": error }));
                reply.headers.push(self.date(now));
                reply
            }
        };
        if self.switches.dpop.server_nonce {
            reply.headers.push(("dpop-nonce".to_owned(), self.server_proofs.nonce()));
        }
        reply
    }

    pub(super) fn knows_dpop(&self) -> bool {
        self.switches.dpop.rule != DpopRule::Unknown
    }

    /// The thumbprint of the key that a token request proves, if it does.
    fn proven_at_server(&mut self, now: Timestamp, shown: Option<&Shown<'_>>) -> Result<Option<String>, Objection> {
        let dpop = &self.switches.dpop;
        match (dpop.rule, shown) {
            (DpopRule::Unknown, _) | (DpopRule::Offered, None) => Ok(None),
            (DpopRule::Required, None) => Err(Objection::Invalid("there is none")),
            (DpopRule::Offered | DpopRule::Required, Some(shown)) => {
                let rotates = dpop.server_nonce.then_some(dpop.rotate_every);
                let here = self.server_time(now);
                self.server_proofs.check(here, shown, rotates).map(Some)
            }
        }
    }

    /// What the protected server should make of a request. `opening` is one that begins a session.
    pub fn access_proven(&mut self, now: Timestamp, presented: &Presented<'_>, opening: bool) -> Access {
        let bound_to = presented.token.and_then(|token| self.bound_to(token));
        let is_dpop = presented.scheme.eq_ignore_ascii_case("DPoP");
        match (bound_to, presented.proof) {
            (Some(thumbprint), Some(shown)) if is_dpop => {
                let dpop = &self.switches.dpop;
                let rotates = dpop.resource_nonce.then_some(dpop.rotate_every);
                let here = self.server_time(now);
                match self.resource_proofs.check(here, &shown, rotates) {
                    Ok(proven) if proven == thumbprint => self.access(now, presented.token, opening),
                    Ok(_) => self.objected(Objection::Invalid("the token is bound to another key")),
                    Err(objection) => self.objected(objection),
                }
            }
            (Some(_), _) => self.access(now, None, opening),
            (None, _) if is_dpop || self.switches.dpop.rule == DpopRule::Required => self.access(now, None, opening),
            (None, _) => self.access(now, presented.token, opening),
        }
    }

    fn objected(&mut self, objection: Objection) -> Access {
        Access::Objected(self.count(objection))
    }

    /// The error code of an objection, which is counted.
    fn count(&mut self, objection: Objection) -> &'static str {
        match objection {
            Objection::Nonce => {
                self.counters.nonces_demanded += 1;
                "use_dpop_nonce"
            }
            Objection::Invalid(_) => {
                self.counters.proofs_refused += 1;
                "invalid_dpop_proof"
            }
        }
    }

    /// The nonce that the protected server tells with each of its answers, if it wants one.
    pub fn resource_nonce(&self) -> Option<String> {
        self.switches.dpop.resource_nonce.then(|| self.resource_proofs.nonce())
    }

    /// The protected server's challenges to a request without a good token (RFC 9449 section 7.1).
    pub fn challenges(&self, parameters: &str, error: Option<&str>) -> Vec<String> {
        let error = error.map(|error| format!(", error=\"{error}\"")).unwrap_or_default();
        let dpop = format!("DPoP {parameters}{error}, algs=\"ES256\"");
        match self.switches.dpop.rule {
            DpopRule::Unknown => vec![format!("Bearer {parameters}{error}")],
            DpopRule::Offered => vec![format!("Bearer {parameters}"), dpop],
            DpopRule::Required => vec![dpop],
        }
    }

    /// What `document`, the metadata of authorization server or protected server, tells of this.
    pub(crate) fn tell_dpop(&self, document: &mut Value) {
        if self.knows_dpop() {
            document["dpop_signing_alg_values_supported"] = json!(["ES256"]);
        }
    }
}
