//! One refresh attempt, from reading the record to storing the answer.
//!
//! The order is the point: the record is read again; that a refresh token is about to be sent is
//! made durable; it is sent; the answer is made durable; only then is it published. Whatever goes
//! wrong, exactly one report comes back.

use std::sync::Arc;
use std::time::Duration;

use everfresh_domain::engine::{Attempt, AttemptOutcome, AttemptReport, Event};
use everfresh_domain::grant::AttemptMark;
use everfresh_domain::{Failure, FailureClass, GrantRecord, Timestamp, TokenResponse};

use crate::access::Access;
use crate::driver::Mailbox;
use crate::gate::Gate;
use crate::ports::{Clock, JournalEntry, JournalOutcome, Metrics, OAuthClient, StoreError, TokenKind, TokenStore};
use crate::settings::{DpopSetting, ServerSettings};
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

impl Attempts {
    /// Makes `attempt`. Exactly one report comes back, whatever happens.
    pub(crate) async fn run(&self, attempt: Attempt) -> Ended {
        tracing::info!(
            server = %attempt.grant, attempt_id = %attempt.id, generation = %attempt.generation,
            trigger = %attempt.trigger, refresh_token = %attempt.refresh_token, "OAuth token refresh attempt"
        );
        let (outcome, duration) = self.make(&attempt).await;
        self.write_journal(&attempt, &outcome, duration).await;
        Ended { report: AttemptReport { attempt: attempt.id, grant: attempt.grant, outcome }, duration }
    }

    async fn make(&self, attempt: &Attempt) -> (AttemptOutcome, Duration) {
        let marked = match self.mark(attempt).await {
            Ok(marked) => marked,
            Err(outcome) => return (outcome, Duration::ZERO),
        };
        let Some(server) = self.settings(attempt) else { return (AttemptOutcome::Discarded, Duration::ZERO) };
        let sent_at = self.clock.now();
        let answer = self.send(attempt, &server, &marked).await;
        let outcome = match answer.result {
            Ok(response) => self.keep(attempt, &server, &marked, response, sent_at).await,
            Err(failure) => self.record_failure(attempt, &marked, failure).await,
        };
        (outcome, answer.duration)
    }

    fn settings(&self, attempt: &Attempt) -> Option<Arc<ServerSettings>> {
        Some(Arc::clone(&self.access.route(&attempt.grant.to_string())?.settings))
    }

    /// Reads the record again and makes durable that its refresh token is about to be sent.
    async fn mark(&self, attempt: &Attempt) -> Result<GrantRecord, AttemptOutcome> {
        let not_made = |error: &StoreError| AttemptOutcome::Failed {
            failure: Failure::without_answer(FailureClass::Store, error.to_string()),
            facts: None,
        };
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
        let admitted = self.gate.admit(&attempt.grant, record.binding.endpoint(), &self.access.policy()).await;
        admitted.map_err(|failure| AttemptOutcome::Failed { failure, facts: None })?;
        let mark =
            AttemptMark { attempt: attempt.id, refresh_token: attempt.refresh_token, started_at: attempt.started_at };
        let limits = self.settings(attempt).map(|settings| settings.oauth.limits).unwrap_or_default();
        let marked = record.limited_by(limits).attempting(mark, attempt.budget);
        match self.timed_replace(&marked, attempt).await {
            Ok(()) => Ok(marked),
            Err(StoreError::Conflict { .. }) => Err(AttemptOutcome::Discarded),
            Err(error) => Err(not_made(&error)),
        }
    }

    async fn timed_replace(&self, record: &GrantRecord, attempt: &Attempt) -> Result<(), StoreError> {
        let before = self.clock.monotonic();
        self.vault.replace(Some(attempt.generation), record).await?;
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

    /// Stores the new tokens, then publishes them. What cannot be stored is kept and served.
    async fn keep(
        &self,
        attempt: &Attempt,
        server: &ServerSettings,
        marked: &GrantRecord,
        response: TokenResponse,
        sent_at: Timestamp,
    ) -> AttemptOutcome {
        self.tell_skew(attempt, &response);
        if server.oauth.dpop == DpopSetting::Required && !response.is_dpop_bound() {
            return self.keep_refresh_token(attempt, marked, response, sent_at).await;
        }
        let renewed = marked.renewed(response, sent_at);
        match self.timed_replace(&renewed, attempt).await {
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
                self.vault.save_later(Some(attempt.generation), renewed);
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
        match self.timed_replace(&rotated, attempt).await {
            Ok(()) => self.access.publish_tokens(&rotated),
            Err(StoreError::Conflict { .. }) => return AttemptOutcome::Discarded,
            Err(error) => {
                tracing::error!(server = %attempt.grant, attempt_id = %attempt.id, %error, "a rotated refresh token could not be saved");
                self.access.publish_tokens(&rotated);
                self.vault.save_later(Some(attempt.generation), rotated);
            }
        }
        AttemptOutcome::Failed { failure: Failure::without_answer(FailureClass::Provider, NOT_BOUND), facts }
    }

    /// The provider's clock, as told with its answer, against this machine's.
    fn tell_skew(&self, attempt: &Attempt, response: &TokenResponse) {
        let Some(date) = response.date else { return };
        let now = self.clock.now();
        let ahead_s = now.as_millis().saturating_sub(date.as_millis()) / 1000;
        self.access.clock_told(&attempt.grant, ahead_s);
        self.mailbox.try_tell(Event::ClockSkewSeen { grant: attempt.grant.clone(), ahead_s });
    }

    /// Tokens of a login that was replaced meanwhile are nobody's: they are given back.
    async fn revoke(&self, server: &ServerSettings, record: &GrantRecord) {
        let Some(token) = record.tokens.as_ref().and_then(|tokens| tokens.refresh_token.as_ref()) else { return };
        if let Err(failure) = self.oauth.revoke(server, &record.binding, token, TokenKind::RefreshToken).await {
            tracing::info!(server = %record.id, cause = failure.message, "superseded tokens could not be revoked");
        }
    }

    async fn record_failure(&self, attempt: &Attempt, marked: &GrantRecord, failure: Failure) -> AttemptOutcome {
        let failed = marked.failed(&failure);
        let facts = Some(Box::new(failed.facts()));
        match self.timed_replace(&failed, attempt).await {
            Ok(()) => AttemptOutcome::Failed { failure, facts },
            Err(StoreError::Conflict { .. }) => AttemptOutcome::Discarded,
            Err(error) => {
                tracing::error!(server = %attempt.grant, attempt_id = %attempt.id, %error, "a failed attempt could not be recorded");
                self.vault.save_later(Some(attempt.generation), failed);
                AttemptOutcome::Failed { failure, facts }
            }
        }
    }

    async fn write_journal(&self, attempt: &Attempt, outcome: &AttemptOutcome, duration: Duration) {
        let outcome = match outcome {
            AttemptOutcome::Stored(facts) | AttemptOutcome::Unsaved { facts, .. } => JournalOutcome::Refreshed {
                refresh_token: facts.tokens.as_ref().and_then(|tokens| tokens.refresh_token),
            },
            AttemptOutcome::Adopted(_) => JournalOutcome::Adopted,
            AttemptOutcome::Discarded => JournalOutcome::Discarded,
            AttemptOutcome::Failed { failure, .. } => JournalOutcome::Failed { failure: failure.clone() },
        };
        let entry = JournalEntry {
            attempt: attempt.id,
            started_at: attempt.started_at,
            duration,
            trigger: attempt.trigger.to_string(),
            generation: attempt.generation,
            refresh_token: attempt.refresh_token,
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
