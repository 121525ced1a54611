//! The network in a storm, and the promises that every request to a token endpoint must keep.

use std::time::Duration;

use async_trait::async_trait;
use everfresh_application::ServerSettings;
use everfresh_application::ports::{
    AuthorizationRequest, Challenge, DeviceAuthorization, Discovered, DiscoveryError, IdentityExchange, OAuthClient,
    OAuthDiscovery, RegistrationError, TokenKind,
};
use everfresh_domain::grant::{Binding, ClientRegistration};
use everfresh_domain::{Failure, FailureClass, Fingerprint, GrantId, Secret, TokenResponse};

use super::clocks::TrueClock;
use super::world::{Missing, Shared, World};
use crate::provider::{ModelClient, RefreshTokenShape};
use crate::sim::Invariant;
use crate::sim::judge::{Fate, Scope};

pub(super) struct StormNet {
    shared: Shared,
    clients: Vec<ModelClient>,
}

/// What the next requests of a connection meet.
enum Way {
    Open,
    Closed,
}

impl StormNet {
    pub(super) fn new(shared: &Shared) -> Self {
        let models = shared.with(|world| world.models.clone());
        let client = |model| ModelClient::new(model, std::sync::Arc::new(TrueClock(shared.clone())));
        Self { shared: shared.clone(), clients: models.into_iter().map(client).collect() }
    }

    fn client(&self, url: &str) -> &ModelClient {
        let number = (0..self.clients.len()).find(|number| url.starts_with(&format!("https://as{number}.")));
        &self.clients[number.expect("every URL is of a provider")]
    }

    async fn reach(&self, what: &str) -> Way {
        self.shared.boundary(&format!("before {what}")).await;
        tokio::time::sleep(self.shared.with(|world| world.milliseconds(5, 400))).await;
        if self.shared.with(|world| world.now() < world.network_down_until) { Way::Closed } else { Way::Open }
    }

    /// The answer is on its way back; whether it arrives.
    async fn answered(&self, what: &str) -> bool {
        self.shared.boundary(&format!("after {what}")).await;
        tokio::time::sleep(self.shared.with(|world| world.milliseconds(5, 1_500))).await;
        self.shared.with(|world| world.now() >= world.network_down_until && !world.loses_answer())
    }
}

fn failure(class: FailureClass) -> Failure {
    Failure::without_answer(class, "as the weather has it")
}

type Checked = Result<(), (Invariant, String)>;

/// What every request to a token endpoint must keep.
fn invariants_of_a_request(world: &mut World, grant: &GrantId, token: Fingerprint) -> Checked {
    let record = world.disk.on_disk(grant);
    let now = world.now();
    let book = world.book(grant);
    if book.under_way.replace(token).is_some() {
        return Err((Invariant::OneFlight, format!("a second request of {grant}")));
    }
    if book.refused.contains(&token) {
        return Err((Invariant::RefusedNeverSent, format!("a token of {grant} is sent again")));
    }
    if book.removed_until.is_some_and(|until| now < until) {
        return Err((Invariant::NoAttemptAfterRemoval, format!("a request of {grant}")));
    }
    let Some(record) = record.filter(|record| record.refresh_token(token).is_some()) else {
        return Err((Invariant::StoredBeforeUsed, format!("a token of {grant} that is not on the disk is sent")));
    };
    let Some(mark) = record.attempt.filter(|mark| mark.refresh_token == token) else {
        return Err((Invariant::MarkedBeforeSent, format!("a token of {grant} is sent")));
    };
    world.spacing_is_kept(grant, mark.started_at).map_err(|what| (Invariant::SpacingKept, what))
}

/// What the books have to say about an answer, whether or not it arrives.
fn note_answer(world: &mut World, grant: &GrantId, token: Fingerprint, answer: &Result<TokenResponse, Failure>) {
    let now = world.now();
    match answer {
        Ok(response) => {
            let rotated = response.refresh_token.as_ref().map(Secret::fingerprint);
            world.counts_refresh();
            if let Some(new) = rotated {
                world.book(grant).missing = Some(Missing { token: new, issued_at: now, fate: Fate::NeverArrived });
            }
            world.tell(format!("{grant} is refreshed with {token}, next {rotated:?}"));
        }
        Err(failure) => {
            if let Some(pause) = failure.retry_after {
                let provider = world.book(grant).provider;
                world.trouble(now.after(pause.min(Duration::from_secs(3_600))), Scope::Provider(provider));
            }
            world.tell(format!("{grant} is not refreshed with {token}: {:?}", failure.class));
        }
    }
}

/// It has arrived: whatever becomes of it is the process's doing.
fn note_arrival(world: &mut World, grant: &GrantId, token: Fingerprint, answer: &Result<TokenResponse, Failure>) {
    let since = world.now();
    let book = world.book(grant);
    if answer.as_ref().is_err_and(|failure| failure.class == FailureClass::Refused) {
        book.refused.insert(token);
    } else if let (Ok(_), Some(missing)) = (answer, &mut book.missing) {
        missing.fate = Fate::InHand { since };
    }
}

#[async_trait]
impl OAuthClient for StormNet {
    async fn refresh(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        refresh_token: &Secret,
        scopes: &[String],
    ) -> Result<TokenResponse, Failure> {
        let grant: GrantId = server.name.to_string().parse().expect("a name is a grant's");
        let token = refresh_token.fingerprint();
        let kept = self.shared.with(|world| {
            world.counts_attempt();
            invariants_of_a_request(world, &grant, token)
        });
        if let Err((invariant, what)) = kept {
            self.shared.breaks(invariant, what);
        }
        let _landing = Landing { shared: &self.shared, grant: &grant, token };
        if let Way::Closed = self.reach("a refresh").await {
            return Err(failure(FailureClass::Network));
        }
        let answer = self.client(&binding.token_endpoint).refresh(server, binding, refresh_token, scopes).await;
        self.shared.with(|world| note_answer(world, &grant, token, &answer));
        if self.answered("a refresh").await {
            self.shared.with(|world| note_arrival(world, &grant, token, &answer));
            return answer;
        }
        self.shared.with(|world| {
            world.counts_lost_answer();
            world.tell(format!("the answer to {grant} is lost"));
        });
        Err(failure(FailureClass::AnswerLost))
    }

    async fn exchange_code(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        code: &Secret,
        verifier: &Secret,
        redirect_uri: &str,
    ) -> Result<TokenResponse, Failure> {
        if let Way::Closed = self.reach("an exchange").await {
            return Err(failure(FailureClass::Network));
        }
        let client = self.client(&binding.token_endpoint);
        // Whatever a provider leaves out of its answers to refreshes, a login brings all.
        let shape = |shape| self.shared.with(|world| world.shape_of_answers(&server.name, shape));
        let refreshing = shape(RefreshTokenShape::Present);
        let answer = client.exchange_code(server, binding, code, verifier, redirect_uri).await;
        shape(refreshing);
        if self.answered("an exchange").await { answer } else { Err(failure(FailureClass::AnswerLost)) }
    }

    async fn authorize_device(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        endpoint: &str,
    ) -> Result<DeviceAuthorization, Failure> {
        if let Way::Closed = self.reach("a device authorization").await {
            return Err(failure(FailureClass::Network));
        }
        self.client(endpoint).authorize_device(server, binding, endpoint).await
    }

    async fn exchange_device_code(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        device_code: &Secret,
    ) -> Result<TokenResponse, Failure> {
        if let Way::Closed = self.reach("a question for tokens").await {
            return Err(failure(FailureClass::Network));
        }
        let answer = self.client(&binding.token_endpoint).exchange_device_code(server, binding, device_code).await;
        if self.answered("a question for tokens").await { answer } else { Err(failure(FailureClass::AnswerLost)) }
    }

    async fn request_token<'a>(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        assertion: Option<&'a Secret>,
    ) -> Result<TokenResponse, Failure> {
        if let Way::Closed = self.reach("a token request").await {
            return Err(failure(FailureClass::Network));
        }
        let answer = self.client(&binding.token_endpoint).request_token(server, binding, assertion).await;
        if self.answered("a token request").await { answer } else { Err(failure(FailureClass::AnswerLost)) }
    }

    async fn exchange_identity(&self, server: &ServerSettings, exchange: &IdentityExchange) -> Result<Secret, Failure> {
        if let Way::Closed = self.reach("an exchange of identity").await {
            return Err(failure(FailureClass::Network));
        }
        let answer = self.client(&exchange.token_endpoint).exchange_identity(server, exchange).await;
        if self.answered("an exchange of identity").await { answer } else { Err(failure(FailureClass::AnswerLost)) }
    }

    async fn revoke(
        &self,
        server: &ServerSettings,
        binding: &Binding,
        token: &Secret,
        kind: TokenKind,
    ) -> Result<(), Failure> {
        if let Way::Closed = self.reach("a revocation").await {
            return Err(failure(FailureClass::Network));
        }
        self.client(&binding.token_endpoint).revoke(server, binding, token, kind).await
    }
}

/// A request that ends, however it ends, is no longer under way.
struct Landing<'a> {
    shared: &'a Shared,
    grant: &'a GrantId,
    token: Fingerprint,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.shared.with(|world| world.book(self.grant).under_way.take_if(|token| *token == self.token));
    }
}

#[async_trait]
impl OAuthDiscovery for StormNet {
    async fn discover(
        &self,
        server: &ServerSettings,
        challenge: Option<Challenge>,
    ) -> Result<Discovered, DiscoveryError> {
        let url = server.url.replace("https://mcp", "https://as");
        if let Way::Closed = self.reach("discovery").await {
            return Err(DiscoveryError::Unreachable { url, cause: "the network is away".into() });
        }
        self.client(&url).discover(server, challenge).await
    }

    async fn token_endpoint(&self, server: &ServerSettings, issuer: &str) -> Result<String, DiscoveryError> {
        self.client(issuer).token_endpoint(server, issuer).await
    }

    async fn register(
        &self,
        server: &ServerSettings,
        discovered: &Discovered,
        redirect_uris: &[String],
    ) -> Result<ClientRegistration, RegistrationError> {
        if let Way::Closed = self.reach("registration").await {
            let (issuer, cause) = (discovered.issuer.clone(), "the network is away".into());
            return Err(RegistrationError::Unreachable { issuer, cause });
        }
        self.client(&discovered.issuer).register(server, discovered, redirect_uris).await
    }

    fn authorization_url(&self, request: &AuthorizationRequest) -> Result<String, DiscoveryError> {
        self.client(&request.authorization_endpoint).authorization_url(request)
    }
}
