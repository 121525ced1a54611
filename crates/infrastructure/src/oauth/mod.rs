//! OAuth on the wire: token requests, revocation, discovery and registration.
//!
//! Requests are built from the `oauth2` crate's types. Its answer parser is strict where providers
//! are not, so answers are read here: `parse` takes what they send, `classify` says what it means.
//! When to send anything is decided elsewhere.

mod assertion;
mod classify;
mod device;
mod discovery;
mod dpop;
mod metadata;
mod parse;
mod probe;
mod register;
mod request;
mod unattended;
mod wire;

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    //! The parsers of this folder, as fuzzing reaches them.

    use bytes::Bytes;
    use everfresh_domain::{Failure, Timestamp, TokenResponse};
    use http::{HeaderMap, StatusCode};

    use super::wire::{Answer, Body};
    use super::{classify, metadata, register};

    pub(crate) fn classify(
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
        now: Timestamp,
    ) -> Result<TokenResponse, Failure> {
        classify::classify(&Answer { status, headers, body: Body::Whole(body) }, now, None)
    }

    pub(crate) fn documents(body: &[u8]) {
        metadata::read_all(body);
        let body = Body::Whole(Bytes::copy_from_slice(body));
        register::read(&Answer { status: StatusCode::OK, headers: HeaderMap::new(), body });
    }
}

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use everfresh_application::ServerSettings;
use everfresh_application::ports::{
    AuthorizationRequest, Challenge, Clock, DeviceAuthorization, Discovered, DiscoveryError, Entropy, IdentityExchange,
    OAuthClient, OAuthDiscovery, RegistrationError, TokenKind,
};
use everfresh_domain::grant::{Binding, ClientRegistration};
use everfresh_domain::{Failure, FailureClass, Secret, TokenResponse};

use crate::http::{HttpFactory, Reach, check_url};
pub(crate) use classify::retry_after;
pub use probe::Seen;
use wire::Answer;
pub(crate) use wire::root_cause;

/// How long a call that no refresh token hangs on may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// OAuth over HTTP.
pub struct HttpOAuth {
    factory: Arc<HttpFactory>,
    clock: Arc<dyn Clock>,
    told: dpop::Told,
    entropy: Arc<dyn Entropy>,
}

impl HttpOAuth {
    /// An OAuth client whose connections come from `factory`.
    pub fn new(factory: Arc<HttpFactory>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { factory, clock, told: dpop::Told::default(), entropy }
    }

    /// Sends one request on behalf of `server`, if it may go where it is addressed to.
    async fn send(&self, server: &ServerSettings, request: http::Request<Vec<u8>>) -> Result<Answer, Failure> {
        let client = self.client(server, request.uri()).await?;
        wire::send(&client, request).await
    }

    /// The same within [`PATIENCE`].
    async fn send_in_time(&self, server: &ServerSettings, request: http::Request<Vec<u8>>) -> Result<Answer, Failure> {
        let late = |_| {
            let text = format!("no answer within {} s", PATIENCE.as_secs());
            Failure::without_answer(FailureClass::AnswerLost, text)
        };
        tokio::time::timeout(PATIENCE, self.send(server, request)).await.map_err(late)?
    }

    /// The client for a request to `uri`, if requests on behalf of `server` may go there.
    async fn client(&self, server: &ServerSettings, uri: &http::Uri) -> Result<reqwest::Client, Failure> {
        let url = uri.to_string();
        let reach = self.reach(server).await;
        let refused = |cause: String| Failure::without_answer(FailureClass::Network, format!("not sent: {cause}"));
        check_url(&url, &reach).map_err(refused)?;
        self.factory.client(uri, server, &reach).map_err(|error| refused(error.to_string()))
    }

    /// Where calls on behalf of `server` may go. What the user wrote down is trusted.
    async fn reach(&self, server: &ServerSettings) -> Reach {
        let provider = server.oauth.identity_provider.as_ref();
        let provider = provider.and_then(|provider| provider.issuer.as_ref().or(provider.token_endpoint.as_ref()));
        let mut reach = Reach::of(&server.url).await;
        for place in [server.oauth.issuer.as_ref(), provider].into_iter().flatten() {
            reach = reach.max(Reach::of(place).await);
        }
        reach
    }

    /// What a client with a private key shows of itself in this one request.
    fn assertion(&self, server: &ServerSettings, client: &ClientRegistration) -> Result<Option<Secret>, Failure> {
        let jti = hex::encode(self.entropy.bytes());
        assertion::of_client(client, server.oauth.signing_alg, self.clock.now(), &jti)
    }

    /// Sends a token request, proven where `binding` has a key, and reads what comes back in the
    /// words of its issuer's profile.
    async fn tokens(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        request: http::Request<Vec<u8>>,
    ) -> Result<TokenResponse, Failure> {
        let answer = match self.told.prover(binding)? {
            Some(prover) => self.send_proven(server, &prover, request).await?,
            None => self.send(server, request).await?,
        };
        classify::classify(&answer, self.clock.now(), server.profile(&binding.client.issuer))
    }

    /// Sends `request` with a proof. Where that lacks the server's nonce, it goes out once more.
    async fn send_proven(
        &self,
        server: &ServerSettings,
        prover: &dpop::Prover<'_>,
        request: http::Request<Vec<u8>>,
    ) -> Result<Answer, Failure> {
        let answer = self.send(server, prover.proven(request.clone(), self.clock.now())?).await?;
        prover.heard(&answer, self.clock.now());
        if !dpop::wants_nonce(&answer) {
            return Ok(answer);
        }
        let answer = self.send(server, prover.proven(request, self.clock.now())?).await?;
        prover.heard(&answer, self.clock.now());
        Ok(answer)
    }
}

#[async_trait]
impl OAuthClient for HttpOAuth {
    async fn refresh(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        refresh_token: &Secret,
        scopes: &[String],
    ) -> Result<TokenResponse, Failure> {
        let assertion = self.assertion(server, &binding.client)?;
        let request = request::refresh(binding, assertion.as_ref(), refresh_token, scopes)?;
        self.tokens(server, binding, request).await
    }

    async fn exchange_code(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        code: &Secret,
        verifier: &Secret,
        redirect_uri: &str,
    ) -> Result<TokenResponse, Failure> {
        let assertion = self.assertion(server, &binding.client)?;
        let request = request::exchange(binding, assertion.as_ref(), code, verifier, redirect_uri)?;
        self.tokens(server, binding, request).await
    }

    async fn request_token<'a>(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        assertion: Option<&'a Secret>,
    ) -> Result<TokenResponse, Failure> {
        let proof = self.assertion(server, &binding.client)?;
        self.tokens(server, binding, unattended::request(binding, proof.as_ref(), assertion)?).await
    }

    async fn exchange_identity(&self, server: &ServerSettings, exchange: &IdentityExchange) -> Result<Secret, Failure> {
        let answer = self.send(server, unattended::exchange(exchange)?).await?;
        unattended::identity_assertion(classify::classify(&answer, self.clock.now(), None)?, &answer)
    }

    async fn authorize_device(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        endpoint: &str,
    ) -> Result<DeviceAuthorization, Failure> {
        let assertion = self.assertion(server, &binding.client)?;
        let answer =
            self.send_in_time(server, request::device_authorization(binding, assertion.as_ref(), endpoint)?).await?;
        device::authorization(&answer, self.clock.now())
    }

    async fn exchange_device_code(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        device_code: &Secret,
    ) -> Result<TokenResponse, Failure> {
        let assertion = self.assertion(server, &binding.client)?;
        self.tokens(server, binding, request::device_token(binding, assertion.as_ref(), device_code)?).await
    }

    async fn revoke(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        token: &Secret,
        kind: TokenKind,
    ) -> Result<(), Failure> {
        let assertion = self.assertion(server, &binding.client)?;
        let Some(request) = request::revocation(binding, assertion.as_ref(), token, kind)? else { return Ok(()) };
        let answer = self.send_in_time(server, request).await?;
        if answer.status.is_success() { Ok(()) } else { Err(classify::refusal(&answer, self.clock.now())) }
    }
}

#[async_trait]
impl OAuthDiscovery for HttpOAuth {
    async fn discover(
        &self,
        server: &ServerSettings,
        challenge: Option<Challenge>,
    ) -> Result<Discovered, DiscoveryError> {
        discovery::Discovery::new(self, server).await.run(challenge).await
    }

    async fn token_endpoint(&self, server: &ServerSettings, issuer: &str) -> Result<String, DiscoveryError> {
        discovery::Discovery::new(self, server).await.token_endpoint(issuer).await
    }

    async fn register(
        &self,
        server: &ServerSettings,
        discovered: &Discovered,
        redirect_uris: &[String],
    ) -> Result<ClientRegistration, RegistrationError> {
        register::register(self, server, discovered, redirect_uris).await
    }

    fn authorization_url(&self, request: &AuthorizationRequest) -> Result<String, DiscoveryError> {
        request::authorization_url(request)
    }
}
