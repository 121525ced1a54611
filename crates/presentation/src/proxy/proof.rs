//! Requests with tokens that are bound to a key (DPoP, RFC 9449): the nonce that an upstream wants in
//! the proof, and what is said where it does not accept one.

use std::time::Duration;

use everfresh_application::challenge::Scheme;
use everfresh_application::ports::{DPOP_NONCE, INVALID_DPOP_PROOF, ProofError, USE_DPOP_NONCE, nonce_of};
use everfresh_application::{Bearer, Route};
use http::{HeaderMap, Response, StatusCode};

use super::body::{Copy, RequestBody};
use super::denial::Refusal;
use super::pool::ResponseBody;
use super::{Clocked, Outgoing, Proxy, ProxyBody, REPLAY_MAX, challenge_in, not_replayed, plain};
use crate::problem::Problem;

/// What an upstream has against a proof. The token is not at fault, and a refresh would not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Objection {
    /// It lacks the upstream's newest nonce (section 9).
    Nonce,
    /// It is not accepted at all (section 7.1).
    Proof,
}

impl Objection {
    fn to(response: &Response<ResponseBody>, bearer: Option<&Bearer>) -> Option<Self> {
        let refused = matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST);
        if !refused || !bearer.is_some_and(Bearer::is_bound) {
            return None;
        }
        match challenge_in(response.headers(), Scheme::Dpop)?.error?.as_str() {
            USE_DPOP_NONCE => Some(Self::Nonce),
            INVALID_DPOP_PROOF => Some(Self::Proof),
            _ => None,
        }
    }

    fn refusal(self, route: &Route) -> Refusal {
        let grant = &route.grant;
        Refusal::of(match self {
            Self::Nonce => {
                let detail = format!(
                    "{grant}: the server asked for another nonce in the proof of possession twice in a row; repeat the request"
                );
                let problem =
                    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "nonce-refused", "Repeat the request", detail);
                Problem { retry_after: Some(Duration::from_secs(1)), ..problem }
            }
            Self::Proof => {
                let detail = format!(
                    "{grant}: the server does not accept the proof of possession; is this machine's clock right? Run: everfresh doctor {grant}"
                );
                Problem::new(StatusCode::BAD_GATEWAY, "proof-refused", "Proof of possession refused", detail)
            }
        })
    }
}

impl Proxy {
    /// Sends the request. One whose proof lacks the upstream's nonce goes out once more with it: it
    /// has not been executed. `Err` is what the client is told.
    pub(super) async fn send_proven(
        &self,
        outgoing: &Outgoing<'_>,
        bearer: Option<&Bearer>,
        body: RequestBody,
        copy: &Copy,
        clocked: &mut Clocked,
    ) -> Result<Response<ResponseBody>, Response<ProxyBody>> {
        let route = &outgoing.prepared.route;
        let said = |refusal: Refusal| plain(&refusal, None);
        let response = self.send(outgoing, bearer, body, copy, clocked).await.map_err(said)?;
        let Some(objection) = Objection::to(&response, bearer) else { return Ok(response) };
        drop(response);
        let whole = copy.complete(REPLAY_MAX).await;
        if objection == Objection::Proof {
            return Err(plain(&objection.refusal(route), whole.as_ref()));
        }
        let Some(whole) = whole else {
            return Err(said(not_replayed(route, "the server asked for a nonce in the proof of possession")));
        };
        outgoing.prepared.counters.replayed();
        let again = RequestBody::known(whole.clone());
        let response = self.send(outgoing, bearer, again, copy, clocked).await.map_err(said)?;
        match Objection::to(&response, bearer) {
            None => Ok(response),
            Some(objection) => Err(plain(&objection.refusal(route), Some(&whole))),
        }
    }

    /// Remembers the nonce in an answer: it may come with any (section 8.2).
    pub(super) fn note_nonce(&self, route: &Route, bearer: Option<&Bearer>, headers: &HeaderMap) {
        if bearer.is_some_and(Bearer::is_bound)
            && let Some(nonce) = headers.get(DPOP_NONCE).and_then(nonce_of)
        {
            self.shared.access.nonce_told(route, nonce);
        }
    }
}

/// What is said where there is no proof to be had.
pub(super) fn not_proven(route: &Route, error: &ProofError) -> Refusal {
    let detail = format!("{}: {error}", route.grant);
    Refusal::of(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "no-proof", "No proof of possession", detail))
}
