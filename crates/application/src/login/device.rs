//! Logins by device code (RFC 8628): the person types a code in at the provider, on any machine,
//! and the daemon asks until that is done.

use std::sync::Arc;
use std::time::Duration;

use everfresh_domain::grant::Binding;
use everfresh_domain::login::{FlowId, LoginOutcome};
use everfresh_domain::{Failure, FailureClass, TokenResponse};

use super::answer::{describe, forgotten};
use super::{Flow, LoginDesk, LoginError};
use crate::ports::{DeviceAuthorization, Discovered, DiscoveryError};
use crate::settings::ServerSettings;

/// How much longer is waited after `slow_down` (RFC 8628 section 3.5).
const SLOWER: Duration = Duration::from_secs(5);

/// The longest time between two questions, however often they failed.
const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// What came of one question.
#[derive(Debug, PartialEq)]
enum Told {
    /// Not yet: ask again after this time.
    Wait(Duration),
    /// There are no tokens to be had.
    Over(LoginOutcome),
}

impl LoginDesk {
    /// A device code for the login that `binding` describes.
    pub(super) async fn device_code(
        &self,
        server: &ServerSettings,
        discovered: &Discovered,
        binding: &Binding,
    ) -> Result<DeviceAuthorization, LoginError> {
        let issuer = discovered.issuer.clone();
        let Some(endpoint) = &discovered.device_authorization_endpoint else {
            return Err(LoginError::NoDeviceLogin { issuer });
        };
        let failure = match self.parts.oauth.authorize_device(server, binding, endpoint).await {
            Ok(device) => return Ok(device),
            Err(failure) => failure,
        };
        if failure.class == FailureClass::ClientRejected && self.forget_registration(binding).await {
            return Err(LoginError::DeviceRefused { issuer, cause: forgotten(&failure) });
        }
        Err(if failure.class.shows_a_working_endpoint() {
            LoginError::DeviceRefused { issuer, cause: failure.message }
        } else {
            DiscoveryError::Unreachable { url: endpoint.clone(), cause: failure.message }.into()
        })
    }

    /// Asks until the code is approved, refused or over. A task of the daemon's own: no caller's
    /// end is its end.
    pub(super) async fn poll(self: Arc<Self>, id: FlowId, flow: Flow, device: DeviceAuthorization) {
        let mut interval = device.interval;
        while self.wait_to_ask(id, interval).await {
            let Some(route) = self.parts.access.route(&flow.grant.to_string()) else { return };
            let sent_at = self.parts.clock.now();
            let asked = self.parts.oauth.exchange_device_code(&route.settings, &flow.binding, &device.device_code);
            let answer = match self.in_time(asked).await {
                Ok(response) => {
                    // A login that was taken back meanwhile is settled as one.
                    self.lock().logins.answered(self.parts.clock.now(), &flow.grant, id);
                    Ok((response, sent_at))
                }
                Err(failure) => match told(&failure, interval) {
                    Told::Wait(longer) => {
                        interval = longer;
                        continue;
                    }
                    Told::Over(LoginOutcome::Failed { .. }) => Err(self.refused(&flow, &failure).await),
                    Told::Over(outcome) => Err(outcome),
                },
            };
            self.settle(id, &flow, answer).await;
            return;
        }
    }

    /// The end of a login whose code the token endpoint refused. A client that registered itself and
    /// is not known any more is forgotten.
    pub(super) async fn refused(&self, flow: &Flow, failure: &Failure) -> LoginOutcome {
        let gone = failure.class == FailureClass::ClientRejected && self.forget_registration(&flow.binding).await;
        LoginOutcome::Failed { message: if gone { forgotten(failure) } else { describe(failure) } }
    }

    /// Whether, after `interval`, somebody still waits for the tokens.
    async fn wait_to_ask(&self, id: FlowId, interval: Duration) -> bool {
        tokio::time::sleep(interval).await;
        self.lock().flows.contains_key(&id)
    }

    /// One answer of the token endpoint, within the time that an attempt may take.
    pub(super) async fn in_time(
        &self,
        asked: impl Future<Output = Result<TokenResponse, Failure>>,
    ) -> Result<TokenResponse, Failure> {
        let limit = self.parts.access.policy().attempt_timeout;
        let late = |_| {
            let text = format!("the provider gave no answer within {} s", limit.as_secs());
            Failure::without_answer(FailureClass::AnswerLost, text)
        };
        tokio::time::timeout(limit, asked).await.map_err(late)?
    }
}

/// What a failed question after `interval` means (RFC 8628 section 3.5).
fn told(failure: &Failure, interval: Duration) -> Told {
    match failure.oauth_error.as_deref() {
        Some("authorization_pending") => return Told::Wait(interval),
        Some("slow_down") => return Told::Wait(interval + SLOWER),
        Some("expired_token") => return Told::Over(LoginOutcome::TimedOut),
        Some("access_denied") => return Told::Over(LoginOutcome::Denied { code: "access_denied".to_owned() }),
        Some(_) | None => {}
    }
    match failure.class {
        FailureClass::Network
        | FailureClass::AnswerLost
        | FailureClass::Provider
        | FailureClass::RateLimited
        | FailureClass::HeldBack
        | FailureClass::Store => {
            let doubled = interval.saturating_mul(2).min(INTERVAL_MAX);
            Told::Wait(doubled.max(failure.retry_after.unwrap_or_default()).max(interval))
        }
        FailureClass::Refused
        | FailureClass::ClientRejected
        | FailureClass::Suspect
        | FailureClass::Shape
        | FailureClass::Configuration => Told::Over(LoginOutcome::Failed { message: describe(failure) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: Duration = Duration::from_secs(5);

    fn failure(class: FailureClass, code: Option<&str>) -> Failure {
        Failure { oauth_error: code.map(str::to_owned), ..Failure::without_answer(class, "as told") }
    }

    #[test]
    fn each_code_of_the_rfc_has_its_meaning() {
        let told = |code: &str| told(&failure(FailureClass::Suspect, Some(code)), FIVE);
        assert_eq!(told("authorization_pending"), Told::Wait(FIVE));
        assert_eq!(told("slow_down"), Told::Wait(FIVE * 2));
        assert_eq!(told("expired_token"), Told::Over(LoginOutcome::TimedOut));
        assert_eq!(told("access_denied"), Told::Over(LoginOutcome::Denied { code: "access_denied".into() }));
        assert!(matches!(told("unauthorized_client"), Told::Over(LoginOutcome::Failed { .. })));
    }

    #[test]
    fn a_provider_that_is_away_is_asked_less_and_less_often() {
        let away = failure(FailureClass::Network, None);
        let mut interval = FIVE;
        let mut waits = Vec::new();
        for _ in 0..6 {
            let Told::Wait(longer) = told(&away, interval) else { panic!("it is waited for") };
            interval = longer;
            waits.push(interval.as_secs());
        }
        assert_eq!(waits, [10, 20, 40, 60, 60, 60]);
        let pause = Failure { retry_after: Some(Duration::from_secs(90)), ..failure(FailureClass::RateLimited, None) };
        assert_eq!(told(&pause, FIVE), Told::Wait(Duration::from_secs(90)));
    }
}
