//! Token requests that prove possession of a key (RFC 9449 section 5), and what the servers that
//! check them have said: their nonces, and the time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use everfresh_application::ports::{
    DPOP, DPOP_NONCE, ProofError, ProofRequest, USE_DPOP_NONCE, nonce_of, time_at_server,
};
use everfresh_domain::grant::Binding;
use everfresh_domain::{Failure, FailureClass, Timestamp};
use http::Request;
use http::header::DATE;
use url::Url;

use super::classify::date;
use super::parse::{members, text};
use super::wire::{Answer, Body};
use crate::proof::ProofKey;

/// What each server said last, by its origin.
#[derive(Default)]
pub(super) struct Told {
    servers: Mutex<BTreeMap<String, Server>>,
}

/// What one server said last.
#[derive(Clone, Default)]
struct Server {
    nonce: Option<String>,
    /// How far this machine's clock is ahead.
    ahead_s: i64,
}

/// The key of one grant, at one token endpoint.
pub(super) struct Prover<'a> {
    key: ProofKey,
    told: &'a Told,
    origin: String,
    /// The token endpoint without query and fragment.
    url: String,
}

impl Told {
    /// What proves that `binding`'s key is here; `None` where it has none.
    pub(super) fn prover(&self, binding: &Binding) -> Result<Option<Prover<'_>>, Failure> {
        let Some(key) = &binding.dpop_key else { return Ok(None) };
        let key = ProofKey::open(key).map_err(|error| not_proven(&error))?;
        let unusable = |error| Failure::without_answer(FailureClass::Network, format!("the token endpoint: {error}"));
        let mut url = Url::parse(&binding.token_endpoint).map_err(unusable)?;
        url.set_query(None);
        url.set_fragment(None);
        Ok(Some(Prover { key, told: self, origin: url.origin().ascii_serialization(), url: url.into() }))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Server>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Prover<'_> {
    /// `request` with a fresh proof. `now` is by this machine's clock.
    pub(super) fn proven(&self, mut request: Request<Vec<u8>>, now: Timestamp) -> Result<Request<Vec<u8>>, Failure> {
        let Server { nonce, ahead_s } = self.told.lock().get(&self.origin).cloned().unwrap_or_default();
        let proof = self.key.prove(
            &ProofRequest {
                method: request.method().as_str(),
                url: &self.url,
                nonce: nonce.as_deref(),
                issued_at: time_at_server(now, ahead_s),
            },
            None,
        );
        request.headers_mut().insert(DPOP, proof.map_err(|error| not_proven(&error))?);
        Ok(request)
    }

    /// Remembers what `answer` says: the nonce may come with any (RFC 9449 section 8.2).
    pub(super) fn heard(&self, answer: &Answer, now: Timestamp) {
        let mut servers = self.told.lock();
        let server = servers.entry(self.origin.clone()).or_default();
        if let Some(nonce) = answer.headers.get(DPOP_NONCE).and_then(nonce_of) {
            server.nonce = Some(nonce.to_owned());
        }
        if let Some(date) = date(&answer.headers, DATE) {
            server.ahead_s = now.as_millis().saturating_sub(date.as_millis()) / 1_000;
        }
    }
}

/// Whether `answer` says no more than that its nonce has to be in the proof (RFC 9449 section 8):
/// whatever else was in the request has not been looked at.
pub(super) fn wants_nonce(answer: &Answer) -> bool {
    let Body::Whole(body) = &answer.body else { return false };
    let told = answer.status.is_client_error() && answer.headers.get(DPOP_NONCE).and_then(nonce_of).is_some();
    told && members(body).is_some_and(|members| text(&members, "error") == Some(USE_DPOP_NONCE))
}

fn not_proven(error: &ProofError) -> Failure {
    Failure::without_answer(FailureClass::Network, format!("not sent: {error}"))
}
