//! One attempt of a grant that needs no person: what is configured is fetched anew, the authorization
//! server is found where it is not known, a token is asked for, and the answer is stored.
//!
//! Platforms rotate assertions and people mend configurations, so nothing that is sent is kept from
//! one attempt to the next but where to send it.

use std::time::Duration;

use everfresh_domain::engine::{Attempt, AttemptOutcome, Trigger};
use everfresh_domain::grant::{AttemptMark, Binding, GrantType};
use everfresh_domain::unattended::Answerer;
use everfresh_domain::{Failure, FailureClass, Fingerprint, Generation, GrantRecord, Secret, TokenResponse};

use crate::access::{moved, origin_of};
use crate::attempt::{Attempts, Made, NOT_BOUND, not_made};
use crate::login::LoginError;
use crate::login::client::ClientProof;
use crate::login::terms::{as_profiled, binding, wanted_scopes};
use crate::ports::{Discovered, DiscoveryError, IdentityExchange, Secrets};
use crate::settings::{
    DpopSetting, IdentityProviderSettings, OAuthSettings, ResourceSetting, SecretSource, ServerSettings,
};

/// The profile of grants that enterprises manage.
const IDENTITY_ASSERTION: &str = "urn:ietf:params:oauth:grant-profile:id-jag";

/// All that is configured for one attempt, fetched.
struct Means {
    client: ClientProof,
    /// The assertion of a JWT bearer grant.
    assertion: Option<Secret>,
    identity: Option<Identity>,
}

/// What an identity provider is shown.
struct Identity {
    id_token: Secret,
    client_secret: Option<Secret>,
}

/// Why nothing is sent in an attempt.
enum NotSent {
    /// It cannot be.
    Failed(Failure),
    /// It was refused, and is what it was.
    Unchanged,
}

impl From<Failure> for NotSent {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What is sent in one attempt, and by what it is remembered.
struct Prepared {
    binding: Binding,
    assertion: Option<Secret>,
    exchange: Option<IdentityExchange>,
    sent: Fingerprint,
}

impl Means {
    async fn fetch(secrets: &dyn Secrets, oauth: &OAuthSettings) -> Result<Self, String> {
        let client = ClientProof::fetch(secrets, oauth).await?;
        let assertion = match &oauth.assertion {
            Some(source) => Some(fetched(secrets, source, "assertion").await?),
            None => None,
        };
        let identity = match &oauth.identity_provider {
            Some(provider) => Some(Identity::fetch(secrets, provider).await?),
            None => None,
        };
        Ok(Self { client, assertion, identity })
    }

    /// The fingerprint of everything that decides over the answer: what is fetched, and what is asked for.
    fn fingerprint(&self, server: &ServerSettings) -> Fingerprint {
        let secrets = [self.client.secret(), self.assertion.as_ref()].into_iter().flatten();
        let identity = self
            .identity
            .iter()
            .flat_map(|identity| std::iter::once(&identity.id_token).chain(&identity.client_secret));
        let prints: Vec<Fingerprint> = secrets.chain(identity).map(Secret::fingerprint).collect();
        let OAuthSettings { grant, issuer, client_id, scopes, resource, extra_params, .. } = &server.oauth;
        let asked = format!(
            "{prints:?} {grant:?} {} {issuer:?} {client_id:?} {scopes:?} {resource:?} {extra_params:?}",
            server.url
        );
        Fingerprint::of(asked.as_bytes())
    }
}

impl Identity {
    async fn fetch(secrets: &dyn Secrets, provider: &IdentityProviderSettings) -> Result<Self, String> {
        let id_token = fetched(secrets, &provider.id_token, "ID token").await?;
        let client_secret = match &provider.client_secret {
            Some(source) => Some(fetched(secrets, source, "identity provider's client secret").await?),
            None => None,
        };
        Ok(Self { id_token, client_secret })
    }
}

async fn fetched(secrets: &dyn Secrets, source: &SecretSource, what: &str) -> Result<Secret, String> {
    secrets.resolve(source).await.map_err(|cause| format!("the {what} cannot be fetched: {cause}"))
}

fn unusable(cause: impl Into<String>) -> Failure {
    Failure::without_answer(FailureClass::Configuration, cause)
}

fn not_found(error: &DiscoveryError) -> Failure {
    let class = match error {
        DiscoveryError::Unreachable { .. } => FailureClass::Network,
        DiscoveryError::Refused { .. } | DiscoveryError::NotFound { .. } | DiscoveryError::NotProtected { .. } => {
            FailureClass::Configuration
        }
    };
    Failure::without_answer(class, error.to_string())
}

/// Where the limits of a grant are shared before its token endpoint is known.
pub(crate) fn provisional_endpoint(server: &ServerSettings) -> String {
    let place = server.oauth.issuer.as_ref().unwrap_or(&server.url);
    let origin = origin_of(place).unwrap_or_default();
    origin.split_once("://").map_or_else(String::new, |(_, host)| host.to_owned())
}

/// The record as it counts with these settings: tokens of another grant, or for another place, are
/// not this one's.
pub(crate) fn as_configured(record: GrantRecord, server: &ServerSettings) -> GrantRecord {
    let grant = server.oauth.grant;
    let elsewhere = grant.is_unattended() && moved(&record.binding.upstream, &server.url).is_some();
    if record.binding.grant_type == grant && !elsewhere { record } else { record.reconfigured(grant) }
}

/// Whether `binding` is what these settings would lead to, as far as that is known without asking.
pub(crate) fn fits(binding: &Binding, server: &ServerSettings) -> bool {
    let oauth = &server.oauth;
    let client = &binding.client;
    let resource_fits = match &oauth.resource {
        ResourceSetting::Auto => true,
        ResourceSetting::None => binding.resource.is_none(),
        ResourceSetting::Uri(uri) => binding.resource.as_ref() == Some(uri),
    };
    resource_fits
        && binding.grant_type == oauth.grant
        && moved(&binding.upstream, &server.url).is_none()
        && oauth.issuer.as_ref().is_none_or(|issuer| *issuer == client.issuer)
        && oauth.client_id.as_deref().unwrap_or_default() == client.client_id
        && (oauth.scopes.is_empty() || oauth.scopes == binding.requested_scopes)
        && oauth.extra_params == binding.extra_params
        && oauth.client_secret.is_some() == client.client_secret.is_some()
        && oauth.private_key.is_some() == client.private_key.is_some()
        && match oauth.dpop {
            DpopSetting::Auto => true,
            DpopSetting::Required => binding.dpop_key.is_some(),
            DpopSetting::Off => binding.dpop_key.is_none(),
        }
}

impl Attempts {
    /// Makes an attempt of an unattended grant.
    pub(crate) async fn ask(&self, attempt: &Attempt, server: &ServerSettings) -> Made {
        let record = match self.vault.read(&attempt.grant).await {
            Ok(record) => record,
            Err(error) => return Made::without_request(not_made(&error)),
        };
        let newer = |record: &&GrantRecord| record.generation > attempt.generation && fits(&record.binding, server);
        if let Some(newer) = record.as_ref().filter(newer) {
            self.access.publish_tokens(newer);
            return Made::without_request(AttemptOutcome::Adopted(Box::new(newer.facts())));
        }
        let stored = record.as_ref().map(|record| record.generation);
        let record = record.map(|record| as_configured(record, server));
        let limit = self.access.policy().attempt_timeout;
        let late = |_| {
            let message = "the authorization server cannot be found in time";
            Err(NotSent::Failed(Failure::without_answer(FailureClass::Network, message)))
        };
        let prepared = tokio::time::timeout(limit, self.prepare(attempt, server, record.as_ref())).await;
        let marked = match prepared.unwrap_or_else(late) {
            Ok(prepared) => self.mark_asking(attempt, stored, record, &prepared).await.map(|marked| (prepared, marked)),
            Err(NotSent::Failed(failure)) => Err(AttemptOutcome::Failed { failure, facts: None }),
            Err(NotSent::Unchanged) => {
                // Said when it was refused.
                let failure = unusable("what was refused is still configured; it was not sent again");
                let outcome = AttemptOutcome::Failed { failure, facts: None };
                return Made { is_news: false, ..Made::without_request(outcome) };
            }
        };
        match marked {
            // Nothing is sent for a server that was removed while this was prepared.
            Ok(_) if self.settings(attempt).is_none() => Made::without_request(AttemptOutcome::Discarded),
            Ok((prepared, marked)) => self.ask_for(attempt, server, &prepared, &marked).await,
            Err(outcome) => Made::without_request(outcome),
        }
    }

    /// Fetches what is sent, and finds where to.
    async fn prepare(
        &self,
        attempt: &Attempt,
        server: &ServerSettings,
        record: Option<&GrantRecord>,
    ) -> Result<Prepared, NotSent> {
        let means = Means::fetch(&*self.secrets, &server.oauth).await.map_err(unusable)?;
        let sent = means.fingerprint(server);
        let refused = record.is_some_and(|record| record.refused.contains(&sent));
        if refused && attempt.trigger != Trigger::User {
            return Err(NotSent::Unchanged);
        }
        let Means { client, assertion, identity } = means;
        let binding = self.bind(attempt, server, record, client).await?;
        let exchange = match (&server.oauth.identity_provider, identity) {
            (Some(provider), Some(identity)) => Some(self.exchange(server, provider, identity, &binding).await?),
            (_, _) => None,
        };
        Ok(Prepared { binding, assertion, exchange, sent })
    }

    /// The stored binding while it works; else one that is found anew, as far as that can be done.
    async fn bind(
        &self,
        attempt: &Attempt,
        server: &ServerSettings,
        record: Option<&GrantRecord>,
        client: ClientProof,
    ) -> Result<Binding, Failure> {
        let known = record.filter(|record| fits(&record.binding, server));
        let works = |record: &&GrantRecord| {
            record.ended.is_none() && record.tokens.is_some() && record.last_attempt_at <= record.last_success_at
        };
        let stored = known.map(|record| &record.binding);
        if attempt.trigger != Trigger::User
            && let Some(record) = known.filter(works)
        {
            return Ok(with_proof(&record.binding, client));
        }
        let challenge = self.access.route(&attempt.grant.to_string()).and_then(|route| route.seat.challenge());
        match (self.discovery.discover(server, challenge).await, stored) {
            (Ok(discovered), stored) => {
                let discovered = as_profiled(server, discovered);
                check_issuer(server, &discovered, record)?;
                let dpop_key = self.key(server, &discovered, stored)?;
                Ok(Binding { dpop_key, ..bound(server, &discovered, stored, client)? })
            }
            // The metadata may be away while the token endpoint is not.
            (Err(DiscoveryError::Unreachable { .. }), Some(stored)) => Ok(with_proof(stored, client)),
            (Err(error), _) => Err(not_found(&error)),
        }
    }

    /// The key that tokens are bound to, where they are to be: the known one, or a new one.
    fn key(
        &self,
        server: &ServerSettings,
        discovered: &Discovered,
        stored: Option<&Binding>,
    ) -> Result<Option<Secret>, Failure> {
        if !discovered.binds_tokens(server.oauth.dpop) {
            return Ok(None);
        }
        if !discovered.dpop.takes_es256() {
            return Err(unusable(LoginError::NoCommonProof(discovered.issuer.clone()).to_string()));
        }
        let known = stored.and_then(|stored| stored.dpop_key.clone());
        known.map_or_else(|| self.proofs.generate(), Ok).map(Some).map_err(|error| unusable(error.to_string()))
    }

    async fn exchange(
        &self,
        server: &ServerSettings,
        provider: &IdentityProviderSettings,
        identity: Identity,
        binding: &Binding,
    ) -> Result<IdentityExchange, Failure> {
        let token_endpoint = match (&provider.token_endpoint, &provider.issuer) {
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(issuer)) => self.discovery.token_endpoint(server, issuer).await.map_err(|error| {
                let failure = not_found(&error);
                Failure { message: format!("{}; check identity_provider.issuer", failure.message), ..failure }
            })?,
            (None, None) => return Err(unusable("the identity provider has no issuer and no token endpoint")),
        };
        Ok(IdentityExchange {
            token_endpoint,
            client_id: provider.client_id.clone(),
            client_secret: identity.client_secret,
            id_token: identity.id_token,
            audience: binding.client.issuer.clone(),
            resource: binding.resource.clone(),
            scopes: binding.requested_scopes.clone(),
        })
    }

    /// Makes durable that an attempt is made: its spacing holds over a crash.
    async fn mark_asking(
        &self,
        attempt: &Attempt,
        stored: Option<Generation>,
        record: Option<GrantRecord>,
        prepared: &Prepared,
    ) -> Result<GrantRecord, AttemptOutcome> {
        self.admit(attempt, &prepared.binding).await?;
        let binding = prepared.binding.clone();
        let record = match record {
            Some(record) => GrantRecord { binding, ..record },
            None => GrantRecord::awaiting(attempt.grant.clone(), binding),
        };
        let mark = AttemptMark { attempt: attempt.id, refresh_token: prepared.sent, started_at: attempt.started_at };
        let marked = record.attempting(mark, attempt.budget);
        self.store_mark(stored, &marked).await?;
        Ok(marked)
    }

    async fn ask_for(
        &self,
        attempt: &Attempt,
        server: &ServerSettings,
        prepared: &Prepared,
        marked: &GrantRecord,
    ) -> Made {
        let (before, sent_at) = (self.clock.monotonic(), self.clock.now());
        let limit = self.access.policy().attempt_timeout;
        let answer = tokio::time::timeout(limit, self.request(server, prepared)).await.unwrap_or_else(|_| {
            let message = format!("no answer within {} s", limit.as_secs());
            Err((Answerer::AuthorizationServer, Failure::without_answer(FailureClass::AnswerLost, message)))
        });
        let duration: Duration = self.clock.monotonic().saturating_sub(before);
        let outcome = match answer {
            Ok(response) => {
                self.tell_skew(attempt, &response);
                self.keep(server, marked.generation, marked.granted(response, sent_at)).await
            }
            Err((answerer, failure)) => {
                let failed = marked.not_granted(answerer, &failure);
                self.record_failure(attempt, marked.generation, failed, failure).await
            }
        };
        Made { outcome, duration, credential: Some(prepared.sent), is_news: true }
    }

    async fn request(
        &self,
        server: &ServerSettings,
        prepared: &Prepared,
    ) -> Result<TokenResponse, (Answerer, Failure)> {
        let exchanged = match &prepared.exchange {
            Some(exchange) => {
                let assertion = self.oauth.exchange_identity(server, exchange).await;
                Some(assertion.map_err(|failure| (Answerer::IdentityProvider, failure))?)
            }
            None => None,
        };
        let assertion = exchanged.as_ref().or(prepared.assertion.as_ref());
        let answer = self.oauth.request_token(server, &prepared.binding, assertion).await;
        let demanded =
            |response: &TokenResponse| response.is_dpop_bound() || server.oauth.dpop != DpopSetting::Required;
        match answer {
            Ok(response) if demanded(&response) => Ok(response),
            Ok(_) => {
                let failure = Failure::without_answer(FailureClass::Provider, NOT_BOUND);
                Err((Answerer::AuthorizationServer, failure))
            }
            Err(failure) => Err((Answerer::AuthorizationServer, failure)),
        }
    }
}

/// A configured client belongs to the issuer that it was used at, until the configuration says otherwise.
fn check_issuer(server: &ServerSettings, discovered: &Discovered, record: Option<&GrantRecord>) -> Result<(), Failure> {
    let Some(known) = record.map(|record| &record.binding.client) else { return Ok(()) };
    let same_client = server.oauth.client_id.as_deref().unwrap_or_default() == known.client_id;
    if server.oauth.issuer.is_some() || !same_client || known.issuer == discovered.issuer {
        return Ok(());
    }
    let (known, found) = (known.issuer.clone(), discovered.issuer.clone());
    Err(unusable(LoginError::IssuerChanged { known, found }.to_string()))
}

fn with_proof(stored: &Binding, client: ClientProof) -> Binding {
    Binding { client: client.on(stored.client.clone()), ..stored.clone() }
}

/// The binding that a discovery leads to. The shape of requests that `stored` has learned is kept.
fn bound(
    server: &ServerSettings,
    discovered: &Discovered,
    stored: Option<&Binding>,
    client: ClientProof,
) -> Result<Binding, Failure> {
    let profiles = &discovered.grant_profiles;
    let managed = server.oauth.grant == GrantType::EnterpriseManaged;
    if managed && !profiles.is_empty() && !profiles.iter().any(|profile| profile == IDENTITY_ASSERTION) {
        return Err(unusable(format!("{} takes no identity assertions of an enterprise", discovered.issuer)));
    }
    let client = client.of(discovered, server.oauth.client_id.clone().unwrap_or_default());
    let scopes = wanted_scopes(server, discovered, &[], None);
    let found = binding(server, discovered, client, scopes);
    let same = stored
        .is_some_and(|stored| (&stored.token_endpoint, &stored.resource) == (&found.token_endpoint, &found.resource));
    let shape = stored.filter(|_| same).map_or(found.shape, |stored| stored.shape);
    // A profile's parameters are those of a request that a person opens.
    Ok(Binding { shape, extra_params: server.oauth.extra_params.clone(), ..found })
}
