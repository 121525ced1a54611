//! What is published: the status of every grant, its health, events, metrics and log lines.
//!
//! A change is on every surface as soon as the engine has made it; there is no second source.

use std::collections::BTreeMap;
use std::sync::Arc;

use everfresh_domain::engine::AttemptOutcome;
use everfresh_domain::status::RefreshState;
use everfresh_domain::{GrantId, GrantStatus, Health, Policy, Timestamp};

use crate::access::Access;
use crate::attempt::Ended;
use crate::events::{EventHub, PublicEventKind, millis};
use crate::ports::Metrics;

const STATES: [RefreshState; 5] = [
    RefreshState::Idle,
    RefreshState::Scheduled,
    RefreshState::Refreshing,
    RefreshState::Retrying,
    RefreshState::Failed,
];

/// The publisher. Owned by the driver.
pub(crate) struct Board {
    access: Access,
    events: Arc<EventHub>,
    metrics: Arc<dyn Metrics>,
    shown: BTreeMap<GrantId, (RefreshState, Health)>,
    counts: BTreeMap<RefreshState, usize>,
}

impl Board {
    pub(crate) fn new(access: Access, events: Arc<EventHub>, metrics: Arc<dyn Metrics>) -> Self {
        Self {
            access,
            events,
            metrics,
            shown: BTreeMap::new(),
            counts: STATES.iter().map(|state| (*state, 0)).collect(),
        }
    }

    fn policy(&self) -> Arc<Policy> {
        self.access.policy()
    }

    /// Publishes a grant's status; listeners hear of it where anything they see has changed.
    pub(crate) fn publish(&mut self, now: Timestamp, status: GrantStatus) {
        let health = status.health(now, &self.policy());
        self.metrics.published(&status, &health);
        let shown = (status.state, health);
        let before = self.shown.insert(status.id.clone(), shown.clone());
        let changed = before.as_ref() != Some(&shown);
        self.recount(before.map(|(state, _)| state), Some(status.state));
        let grant = status.id.clone();
        self.access.publish_status(status);
        if changed {
            self.events.publish(now, grant, PublicEventKind::ServersChanged);
        }
    }

    /// A grant is no more.
    pub(crate) fn remove(&mut self, now: Timestamp, grant: &GrantId) {
        let before = self.shown.remove(grant);
        self.recount(before.map(|(state, _)| state), None);
        self.metrics.removed(grant);
        self.events.publish(now, grant.clone(), PublicEventKind::ServersChanged);
    }

    fn recount(&mut self, before: Option<RefreshState>, after: Option<RefreshState>) {
        if before == after {
            return;
        }
        if let Some(count) = before.and_then(|state| self.counts.get_mut(&state)) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = after.and_then(|state| self.counts.get_mut(&state)) {
            *count += 1;
        }
        for state in before.into_iter().chain(after) {
            self.metrics.grants(state.as_str(), self.counts.get(&state).copied().unwrap_or_default());
        }
    }

    pub(crate) fn in_flight(&self, attempts: usize) {
        self.metrics.in_flight(attempts);
    }

    /// A login is over: that is worth an event of its own.
    pub(crate) fn login_required(&self, now: Timestamp, grant: &GrantId) {
        let Some(route) = self.access.route(&grant.to_string()) else { return };
        let health = route.seat.status().health(now, &self.policy());
        tracing::warn!(server = %grant, reason = health.reason.as_str(), "{}", health.summary);
        let kind = PublicEventKind::LoginRequired { reason: health.reason, summary: health.summary };
        self.events.publish(now, grant.clone(), kind);
    }

    /// Tells of an attempt's end, after the engine has taken it in. "Refreshed" is said only of
    /// what is stored.
    pub(crate) fn attempt_ended(&self, now: Timestamp, ended: &Ended) {
        let grant = &ended.report.grant;
        let attempt_id = ended.report.attempt;
        let duration_ms = millis(ended.duration);
        match &ended.report.outcome {
            AttemptOutcome::Stored(facts) => {
                self.metrics.attempt_ended(grant, "success", "", ended.duration);
                let expires_at = facts.tokens.as_ref().and_then(|tokens| tokens.expires_at());
                let generation = facts.generation;
                tracing::info!(server = %grant, %attempt_id, %generation, duration_ms, "OAuth token refresh succeeded");
                let kind = PublicEventKind::TokenRefreshed { generation, attempt_id, duration_ms, expires_at };
                self.events.publish(now, grant.clone(), kind);
            }
            AttemptOutcome::Unsaved { cause, .. } => {
                self.metrics.attempt_ended(grant, "failed_other", "store_write_failed", ended.duration);
                let reason = "store_write_failed";
                tracing::error!(server = %grant, %attempt_id, reason, duration_ms, cause, "OAuth token refresh failed");
            }
            AttemptOutcome::Failed { failure, .. } => {
                let health = self.access.route(&grant.to_string()).map(|route| self.access.denial(&route));
                let Some(denial) = health else { return };
                let reason = denial.health.reason;
                self.metrics.attempt_ended(grant, failure.class.result_label(), reason.as_str(), ended.duration);
                let message = failure.message.clone();
                tracing::warn!(
                    server = %grant, %attempt_id, reason = reason.as_str(), duration_ms, http_status = failure.http_status,
                    oauth_error = failure.oauth_error, cause = failure.message, "OAuth token refresh failed"
                );
                let next_attempt_at = denial.retry_after.map(|wait| now.after(wait));
                let kind = PublicEventKind::RefreshFailed { attempt_id, reason, message, next_attempt_at };
                self.events.publish(now, grant.clone(), kind);
            }
            AttemptOutcome::Adopted(_) => {
                tracing::info!(server = %grant, %attempt_id, "newer tokens were already stored");
            }
            AttemptOutcome::Discarded => {
                tracing::info!(server = %grant, %attempt_id, "the login changed meanwhile; the answer was thrown away");
            }
        }
    }
}
