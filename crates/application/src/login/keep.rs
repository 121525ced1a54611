//! The end of a login that brought tokens: they are stored over the old ones, or given back where the
//! login was taken back meanwhile.

use everfresh_domain::login::{FlowId, LoginOutcome};
use everfresh_domain::timeline::History;
use everfresh_domain::{Event, Generation, GrantRecord, LoginLimits, TokenSet};

use super::{Answered, Flow, LoginDesk, LoginFinished};
use crate::attempt::NOT_BOUND;
use crate::ports::{StoreError, TokenKind};
use crate::settings::DpopSetting;

/// How often a login is written anew when the record changes under it.
const WRITE_TRIES: usize = 5;

/// Scopes that providers grant without naming them in their answer.
const SELDOM_TOLD: [&str; 2] = ["offline_access", "openid"];

impl LoginDesk {
    /// Ends a login with what the token endpoint answered.
    pub(super) async fn settle(
        &self,
        id: FlowId,
        flow: &Flow,
        answer: Result<Answered, LoginOutcome>,
    ) -> LoginFinished {
        let finished = match answer {
            Ok((response, sent_at)) => {
                if let Some(date) = response.date {
                    let ahead_s = self.parts.clock.now().as_millis().saturating_sub(date.as_millis()) / 1000;
                    self.parts.access.clock_told(&flow.grant, ahead_s);
                }
                let unbound = self.wants_bound(flow) && !response.is_dpop_bound();
                let tokens = TokenSet::issued(response, sent_at, &flow.binding.requested_scopes);
                let told = finished(flow, &tokens);
                if !unbound && self.keep(id, flow, tokens.clone()).await {
                    told
                } else {
                    self.give_back(flow, &tokens).await;
                    let refused = || LoginOutcome::Failed { message: NOT_BOUND.to_owned() };
                    let outcome = if unbound { refused() } else { LoginOutcome::Cancelled };
                    LoginFinished::without_tokens(&flow.grant, outcome)
                }
            }
            Err(outcome) => LoginFinished::without_tokens(&flow.grant, outcome),
        };
        self.end(id, finished.clone());
        finished
    }

    /// Whether only tokens that are bound to a key are taken (RFC 9449).
    fn wants_bound(&self, flow: &Flow) -> bool {
        let route = self.parts.access.route(&flow.grant.to_string());
        route.is_some_and(|route| route.settings.oauth.dpop == DpopSetting::Required)
    }

    fn limits(&self, flow: &Flow) -> LoginLimits {
        let route = self.parts.access.route(&flow.grant.to_string());
        route.map(|route| route.settings.limits(&flow.binding.client.issuer)).unwrap_or_default()
    }

    /// Stores the new login over the old one: written first, then swapped, never cleared before.
    /// Whether it still was wanted.
    async fn keep(&self, id: FlowId, flow: &Flow, tokens: TokenSet) -> bool {
        let mut unsaved = None;
        let mut record = None;
        for _ in 0..WRITE_TRIES {
            let earlier = self.parts.vault.read(&flow.grant).await;
            let past = match &earlier {
                Ok(Some(record)) => record.past(),
                Ok(None) => History::of_none(),
                Err(_) => History::default(),
            };
            let expected = earlier.ok().flatten().map(|record| record.generation);
            if !self.lock().flows.contains_key(&id) {
                return false;
            }
            let generation = expected.map_or(Generation(1), Generation::next);
            let login = GrantRecord::logged_in(flow.grant.clone(), generation, flow.binding.clone(), tokens.clone());
            let next = GrantRecord { step_ups: flow.step_ups, ..login }.limited_by(self.limits(flow));
            let next = next.continuing(past, self.parts.clock.now());
            let written = self.parts.vault.replace(expected, &next).await;
            let again = matches!(written, Err(StoreError::Conflict { .. }));
            unsaved = written.err().map(|error| (expected, error.to_string()));
            record = Some(next);
            if !again {
                break;
            }
        }
        let Some(record) = record else { return false };
        self.parts.access.publish_tokens(&record);
        let facts = Box::new(record.facts());
        let cause = unsaved.map(|(expected, cause)| {
            tracing::error!(server = %flow.grant, cause, "a new login could not be saved; it is kept in memory");
            self.parts.vault.save_later(expected, record);
            cause
        });
        self.parts.mailbox.tell(Event::LoggedIn { grant: flow.grant.clone(), facts, unsaved: cause }).await;
        true
    }

    /// Revokes tokens that came too late (RFC 7009), where that is offered.
    async fn give_back(&self, flow: &Flow, tokens: &TokenSet) {
        let Some(route) = self.parts.access.route(&flow.grant.to_string()) else { return };
        let (token, kind) = match &tokens.refresh_token {
            Some(token) => (token, TokenKind::RefreshToken),
            None => (&tokens.access_token, TokenKind::AccessToken),
        };
        if let Err(failure) = self.parts.oauth.revoke(&route.settings, &flow.binding, token, kind).await {
            let cause = failure.message;
            tracing::warn!(server = %flow.grant, cause, "a login that was taken back could not be revoked");
        }
    }
}

fn finished(flow: &Flow, tokens: &TokenSet) -> LoginFinished {
    let not_granted = flow
        .binding
        .requested_scopes
        .iter()
        .filter(|scope| !tokens.scopes.contains(scope) && !SELDOM_TOLD.contains(&scope.as_str()));
    LoginFinished {
        grant: flow.grant.clone(),
        outcome: LoginOutcome::Succeeded,
        lasts_until: if tokens.refresh_token.is_none() { tokens.expires_at() } else { None },
        scopes_not_granted: not_granted.cloned().collect(),
    }
}
