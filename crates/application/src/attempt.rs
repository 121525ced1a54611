//! One refresh attempt, from reading the record to storing the answer.
//!
//! The order is the point: the record is read again; that a refresh token is about to be sent is
//! made durable; it is sent; the answer is made durable; only then is it published. Whatever goes
//! wrong, exactly one report comes back.

use std::sync::Arc;
use std::time::Duration;

use everfresh_domain::engine::{Attempt, AttemptOutcome, AttemptReport, Event, Trigger};
use everfresh_domain::grant::{AttemptMark, Binding};
use everfresh_domain::timeline::Parting;
use everfresh_domain::{Failure, FailureClass, Fingerprint, Generation, GrantRecord, Timestamp, TokenResponse};
use tracing::Instrument;

use crate::access::Access;
use crate::driver::Mailbox;
use crate::gate::Gate;
use crate::ports::{
    Clock, JournalEntry, JournalOutcome, Metrics, OAuthClient, OAuthDiscovery, ProofKeys, Secrets, StoreError,
    TokenKind, TokenStore,
};
use crate::settings::{DpopSetting, ServerSettings};
use crate::spans;
use crate::vault::Vault;

/// What is said of a token that anybody could use, where one bound to a key is demanded.
pub(crate) const NOT_BOUND: &str =
    "the provider issued a bearer token, and oauth.dpop = \"required\" takes none; it was not used";

/// What the driver learns of an attempt.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) report: AttemptReport,
    /// How long the request to the provider took; zero where none was made.
    pub(crate) duration: Duration,
}

/// Makes attempts.
pub(crate) struct Attempts {
    pub(crate) vault: Arc<Vault>,
    pub(crate) store: Arc<dyn TokenStore>,
    pub(crate) oauth: Arc<dyn OAuthClient>,
    pub(crate) discovery: Arc<dyn OAuthDiscovery>,
    pub(crate) secrets: Arc<dyn Secrets>,
    pub(crate) proofs: Arc<dyn ProofKeys>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<dyn Metrics>,
    pub(crate) access: Access,
    pub(crate) mailbox: Mailbox,
    pub(crate) gate: Gate,
}

/// What a request to the provider brought, and how long it took.
struct Answer {
    result: Result<TokenResponse, Failure>,
    duration: Duration,
}

/// What became of an attempt.
pub(crate) struct Made {
    pub(crate) outcome: AttemptOutcome,
    /// How long the request took; zero where none was made.
    pub(crate) duration: Duration,
    /// What an unattended grant sent.
    pub(crate) credential: Option<Fingerprint>,
    /// Whether it is worth a line in the journal.
    pub(crate) is_news: bool,
}

impl Made {
    pub(crate) fn without_request(outcome: AttemptOutcome) -> Self {
        Self { outcome, duration: Duration::ZERO, credential: None, is_news: true }
    }
}

/// The outcome of an attempt that was not made for want of the store.
pub(crate) fn not_made(error: &StoreError) -> AttemptOutcome {
    let failure = Failure::without_answer(FailureClass::Store, error.to_string());
    AttemptOutcome::Failed { failure, facts: None }
}

impl Attempts {
    /// Makes `attempt`. Exactly one report comes back, whatever happens.
    pub(crate) async fn run(&self, attempt: Attempt) -> Ended {
        let span = spans::refresh(&attempt);
        let ended = self.run_through(attempt).instrument(span.clone()).await;
        spans::refreshed(&span, &ended.report.outcome);
        ended
    }

    async fn run_through(&self, attempt: Attempt) -> Ended {
        let server = self.settings(&attempt);
        let unattended = server.as_ref().is_some_and(|server| server.oauth.grant.is_unattended());
        let refresh_token = (!unattended).then_some(attempt.refresh_token);
        tracing::info!(
            server = %attempt.grant, attempt_id = %attempt.id, generation = %attempt.generation,
            trigger = %attempt.trigger, refresh_token = refresh_token.map(tracing::field::display),
            "OAuth token refresh attempt"
        );
        let made = match server {
            Some(server) if unattended => self.ask(&attempt, &server).await,
            Some(_) => self.make(&attempt).await,
            None => Made::without_request(AttemptOutcome::Discarded),
        };
        if made.is_news {
            self.write_journal(&attempt, refresh_token, &made).await;
        }
        let Made { outcome, duration, .. } = made;
        Ended { report: AttemptReport { attempt: attempt.id, grant: attempt.grant, outcome }, duration }
    }

    async fn make(&self, attempt: &Attempt) -> Made {
        let marked = match self.mark(attempt).await {
            Ok(marked) => marked,
            Err(outcome) => return Made::without_request(outcome),
        };
        // Looked at again: marking takes its time, and nothing is sent for a server that was removed meanwhile.
        let Some(server) = self.settings(attempt) else { return Made::without_request(AttemptOutcome::Discarded) };
        let server = &*server;
        let sent_at = self.clock.now();
        let answer = self.send(attempt, server, &marked).await;
        let outcome = match answer.result {
            Ok(response) => {
                self.tell_skew(attempt, &response);
                if server.oauth.dpop == DpopSetting::Required && !response.is_dpop_bound() {
                    self.keep_refresh_token(attempt, &marked, response, sent_at).await
                } else {
                    self.keep(server, marked.generation, marked.renewed(response, sent_at)).await
                }
            }
            Err(failure) => {
                let (failed, failure) = self.find_again(attempt, server, marked.failed(&failure), failure).await;
                self.record_failure(attempt, marked.generation, failed, failure).await
            }
        };
        Made { outcome, duration: answer.duration, credential: None, is_news: true }
    }

    pub(crate) fn settings(&self, attempt: &Attempt) -> Option<Arc<ServerSettings>> {
        Some(Arc::clone(&self.access.route(&attempt.grant.to_string())?.settings))
    }

    /// Reads the record again and makes durable that its refresh token is about to be sent.
    async fn mark(&self, attempt: &Attempt) -> Result<GrantRecord, AttemptOutcome> {
        let record = match self.vault.read(&attempt.grant).await {
            Ok(Some(record)) => record,
            Ok(None) => return Err(AttemptOutcome::Discarded),
            Err(error) => return Err(not_made(&error)),
        };
        if record.generation > attempt.generation {
            self.access.publish_tokens(&record);
            return Err(AttemptOutcome::Adopted(Box::new(record.facts())));
        }
        if record.refresh_token(attempt.refresh_token).is_none() || record.generation < attempt.generation {
            let error = StoreError::Unreadable {
                what: format!("the record of {}", attempt.grant),
                cause: format!("it is older than generation {}, which is in use", attempt.generation),
            };
            return Err(not_made(&error));
        }
        self.admit(attempt, &record.binding).await?;
        let mark =
            AttemptMark { attempt: attempt.id, refresh_token: attempt.refresh_token, started_at: attempt.started_at };
        let issuer = &record.binding.client.issuer;
        let limits = self.settings(attempt).map(|settings| settings.limits(issuer)).unwrap_or_default();
        let marked = record.limited_by(limits).attempting(mark, attempt.budget);
        self.store_mark(Some(attempt.generation), &marked).await?;
        Ok(marked)
    }

    /// The last gate before the token endpoint.
    pub(crate) async fn admit(&self, attempt: &Attempt, binding: &Binding) -> Result<(), AttemptOutcome> {
        let admitted = self.gate.admit(&attempt.grant, binding.endpoint(), &self.access.policy()).await;
        admitted.map_err(|failure| AttemptOutcome::Failed { failure, facts: None })
    }

    /// Stores a record that is marked, where the stored one is of generation `expected`.
    pub(crate) async fn store_mark(
        &self,
        expected: Option<Generation>,
        marked: &GrantRecord,
    ) -> Result<(), AttemptOutcome> {
        match self.timed_replace(expected, marked).await {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict { .. }) => Err(AttemptOutcome::Discarded),
            Err(error) => Err(not_made(&error)),
        }
    }

    async fn timed_replace(&self, expected: Option<Generation>, record: &GrantRecord) -> Result<(), StoreError> {
        let before = self.clock.monotonic();
        self.vault.replace(expected, record).await?;
        self.metrics.store_written(self.clock.monotonic().saturating_sub(before));
        Ok(())
    }

    async fn send(&self, attempt: &Attempt, server: &ServerSettings, marked: &GrantRecord) -> Answer {
        let before = self.clock.monotonic();
        let limit = self.access.policy().attempt_timeout;
        let scopes = marked.tokens.as_ref().map(|tokens| tokens.scopes.as_slice()).unwrap_or_default();
        let result = match marked.refresh_token(attempt.refresh_token) {
            Some(token) => {
                let request = self.oauth.refresh(server, &marked.binding, token, scopes);
                tokio::time::timeout(limit, request).await.unwrap_or_else(|_| {
                    let message = format!("no answer within {} s", limit.as_secs());
                    Err(Failure::without_answer(FailureClass::AnswerLost, message))
                })
            }
            None => Err(Failure::without_answer(FailureClass::Store, "the refresh token is gone")),
        };
        Answer { result, duration: self.clock.monotonic().saturating_sub(before) }
    }

    /// A token endpoint that is not there any more may have moved. Where to, only the issuer of the login
    /// may say, in its own metadata (RFC 8414); else the refresh token stays where it is.
    async fn find_again(
        &self,
        attempt: &Attempt,
        server: &ServerSettings,
        failed: GrantRecord,
        failure: Failure,
    ) -> (GrantRecord, Failure) {
        if !failure.endpoint_gone {
            return (failed, failure);
        }
        let limit = self.access.policy().attempt_timeout;
        let asked = self.discovery.token_endpoint(server, &failed.binding.client.issuer);
        let told = tokio::time::timeout(limit, asked).await;
        let (record, more) = match told.map(|told| told.map_err(|error| error.to_string())) {
            // Where neither is reached, it is the network that is gone.
            Ok(Err(_)) | Err(_) if failure.class == FailureClass::Network => return (failed, failure),
            Ok(Ok(endpoint)) if endpoint == failed.binding.token_endpoint => {
                (failed, "the provider's metadata still names this token endpoint".to_owned())
            }
            Ok(Ok(endpoint)) => {
                tracing::warn!(
                    server = %attempt.grant, attempt_id = %attempt.id, before = failed.binding.token_endpoint,
                    after = endpoint, "the token endpoint has moved, as its issuer says"
                );
                (
                    failed.relocated(endpoint),
                    "the provider's metadata names another token endpoint, which is next".to_owned(),
                )
            }
            Ok(Err(cause)) => {
                let grant = &attempt.grant;
                let moved = format!("the token endpoint may have moved, and where to is not found ({cause})");
                (failed, format!("{moved}; `everfresh login {grant}` looks anew"))
            }
            Err(_) => (failed, format!("the provider's metadata did not come within {} s", limit.as_secs())),
        };
        (record, Failure { message: format!("{}; {more}", failure.message), ..failure })
    }

    /// Stores the new tokens, then publishes them. What cannot be stored is kept and served.
    pub(crate) async fn keep(
        &self,
        server: &ServerSettings,
        stored: Generation,
        renewed: GrantRecord,
    ) -> AttemptOutcome {
        let renewed = renewed.noted(self.clock.now(), Parting::TokenWorks);
        match self.timed_replace(Some(stored), &renewed).await {
            Ok(()) => {
                self.access.publish_tokens(&renewed);
                AttemptOutcome::Stored(Box::new(renewed.facts()))
            }
            Err(StoreError::Conflict { .. }) => {
                self.revoke(server, &renewed).await;
                AttemptOutcome::Discarded
            }
            Err(error) => {
                let facts = Box::new(renewed.facts());
                self.access.publish_tokens(&renewed);
                self.vault.save_later(Some(stored), renewed);
                AttemptOutcome::Unsaved { facts, cause: error.to_string() }
            }
        }
    }

    /// Stores the refresh token of an answer whose access token is not bound to a key, as it should
    /// be: the token may not be used, and the login is not lost over it.
    async fn keep_refresh_token(
        &self,
        attempt: &Attempt,
        marked: &GrantRecord,
        response: TokenResponse,
        sent_at: Timestamp,
    ) -> AttemptOutcome {
        let rotated = marked.rotated(response, sent_at);
        let facts = Some(Box::new(rotated.facts()));
        match self.timed_replace(Some(marked.generation), &rotated).await {
            Ok(()) => self.access.publish_tokens(&rotated),
            Err(StoreError::Conflict { .. }) => return AttemptOutcome::Discarded,
            Err(error) => {
                tracing::error!(server = %attempt.grant, attempt_id = %attempt.id, %error, "a rotated refresh token could not be saved");
                self.access.publish_tokens(&rotated);
                self.vault.save_later(Some(marked.generation), rotated);
            }
        }
        AttemptOutcome::Failed { failure: Failure::without_answer(FailureClass::Provider, NOT_BOUND), facts }
    }

    /// The provider's clock, as told with its answer, against this machine's.
    pub(crate) fn tell_skew(&self, attempt: &Attempt, response: &TokenResponse) {
        let Some(date) = response.date else { return };
        let now = self.clock.now();
        let ahead_s = now.as_millis().saturating_sub(date.as_millis()) / 1000;
        self.access.clock_told(&attempt.grant, ahead_s);
        self.mailbox.try_tell(Event::ClockSkewSeen { grant: attempt.grant.clone(), ahead_s });
    }

    /// Tokens of a login that was replaced meanwhile are nobody's: they are given back.
    async fn revoke(&self, server: &ServerSettings, record: &GrantRecord) {
        let Some(tokens) = &record.tokens else { return };
        let (token, kind) = match &tokens.refresh_token {
            Some(token) => (token, TokenKind::RefreshToken),
            None if record.binding.grant_type.is_unattended() => (&tokens.access_token, TokenKind::AccessToken),
            None => return,
        };
        if let Err(failure) = self.oauth.revoke(server, &record.binding, token, kind).await {
            tracing::info!(server = %record.id, cause = failure.message, "superseded tokens could not be revoked");
        }
    }

    pub(crate) async fn record_failure(
        &self,
        attempt: &Attempt,
        stored: Generation,
        failed: GrantRecord,
        failure: Failure,
    ) -> AttemptOutcome {
        let parting = if attempt.trigger == Trigger::Upstream { Parting::TokenRefused } else { Parting::TokenWorks };
        let failed = failed.noted(self.clock.now(), parting);
        let facts = Some(Box::new(failed.facts()));
        match self.timed_replace(Some(stored), &failed).await {
            Ok(()) => AttemptOutcome::Failed { failure, facts },
            Err(StoreError::Conflict { .. }) => AttemptOutcome::Discarded,
            Err(error) => {
                tracing::error!(server = %attempt.grant, attempt_id = %attempt.id, %error, "a failed attempt could not be recorded");
                self.vault.save_later(Some(stored), failed);
                AttemptOutcome::Failed { failure, facts }
            }
        }
    }

    async fn write_journal(&self, attempt: &Attempt, refresh_token: Option<Fingerprint>, made: &Made) {
        let outcome = match &made.outcome {
            AttemptOutcome::Stored(facts) | AttemptOutcome::Unsaved { facts, .. } => JournalOutcome::Refreshed {
                refresh_token: facts.tokens.as_ref().and_then(|tokens| tokens.refresh_token),
            },
            AttemptOutcome::Adopted(_) => JournalOutcome::Adopted,
            AttemptOutcome::Discarded => JournalOutcome::Discarded,
            AttemptOutcome::Failed { failure, facts } => JournalOutcome::Failed {
                failure: failure.clone(),
                ended: facts.as_ref().and_then(|facts| facts.ended.clone()),
            },
        };
        let entry = JournalEntry {
            attempt: attempt.id,
            started_at: attempt.started_at,
            duration: made.duration,
            trigger: attempt.trigger.to_string(),
            generation: attempt.generation,
            refresh_token,
            credential: made.credential,
            outcome,
        };
        if let Err(error) = self.store.append_journal(&attempt.grant, &entry).await {
            self.metrics.store_failed("append_journal");
            tracing::warn!(server = %attempt.grant, %error, "the journal could not be written");
        }
    }

    /// Waits for writes that are being retried.
    pub(crate) async fn settle(&self) {
        self.vault.settle().await;
    }

    pub(crate) fn forget_idle(&self) {
        self.gate.forget_idle();
    }
}
