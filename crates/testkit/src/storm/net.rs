//! The network in a storm, and the promises that every request to a token endpoint must keep.

use std::time::Duration;

use async_trait::async_trait;
use everfresh_application::ServerSettings;
use everfresh_application::ports::{
    AuthorizationRequest, Challenge, DeviceAuthorization, Discovered, DiscoveryError, OAuthClient, OAuthDiscovery,
    RegistrationError, TokenKind,
};
use everfresh_domain::grant::{Binding, ClientRegistration};
use everfresh_domain::{Failure, FailureClass, Fingerprint, GrantId, Secret, TokenResponse};

use super::world::{Shared, TrueClock, World};
use crate::provider::ModelClient;

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

/// One flight; marked before it is sent; spacing; no request after removal; a refused token is
/// never sent again.
fn invariants_of_a_request(world: &mut World, grant: &GrantId, token: Fingerprint) -> Result<(), String> {
    let record = world.disk.on_disk(grant);
    let now = world.now();
    let clock_is_right = world.clock_is_right();
    let book = world.book(grant);
    if !book.under_way.insert(token) {
        return Err(format!("a second request of {grant} while one is under way"));
    }
    if book.refused.contains(&token) {
        return Err(format!("a refused token of {grant} is sent again"));
    }
    if book.removed_until.is_some_and(|until| now < until) {
        return Err(format!("a request of {grant} after its removal"));
    }
    let Some(record) = record.filter(|record| record.refresh_token(token).is_some()) else { return Ok(()) };
    let Some(mark) = record.attempt.filter(|mark| mark.refresh_token == token) else {
        return Err(format!("a token of {grant} is sent without a mark on the disk"));
    };
    let spacing = Duration::from_secs(10);
    let too_soon = book.last_start.is_some_and(|last| mark.started_at.since(last) < spacing);
    if too_soon && clock_is_right {
        return Err(format!("two attempts of {grant} within {spacing:?}"));
    }
    book.last_start = Some(mark.started_at);
    Ok(())
}

/// What the books have to say about an answer, whether or not it arrives.
fn note_answer(world: &mut World, grant: &GrantId, token: Fingerprint, answer: &Result<TokenResponse, Failure>) {
    let now = world.now();
    match answer {
        Ok(response) => {
            let rotated = response.refresh_token.as_ref().map(Secret::fingerprint);
            world.counts_refresh();
            if let Some(new) = rotated {
                world.book(grant).undelivered = Some((new, now));
            }
            world.tell(format!("{grant} is refreshed with {token}, next {rotated:?}"));
        }
        Err(failure) => {
            world.tell(format!("{grant} is not refreshed with {token}: {:?}", failure.class));
        }
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
        if let Err(broken) = kept {
            self.shared.breaks(broken);
        }
        let _landing = Landing { shared: &self.shared, grant: &grant, token };
        if let Way::Closed = self.reach("a refresh").await {
            return Err(failure(FailureClass::Network));
        }
        let answer = self.client(&binding.token_endpoint).refresh(server, binding, refresh_token, scopes).await;
        self.shared.with(|world| note_answer(world, &grant, token, &answer));
        if self.answered("a refresh").await {
            if answer.as_ref().is_err_and(|failure| failure.class == FailureClass::Refused) {
                self.shared.with(|world| world.book(&grant).refused.insert(token));
            }
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
        let answer = client.exchange_code(server, binding, code, verifier, redirect_uri).await;
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
        self.shared.with(|world| world.book(self.grant).under_way.remove(&self.token));
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
