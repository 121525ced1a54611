//! One grant within the engine: what is known of it and when its next attempt is due.

use std::sync::Arc;

use super::event::Trigger;
use crate::failure::{Failure, FailureClass};
use crate::grant::{GrantFacts, GrantType, LoginEnd};
use crate::ids::{AttemptId, Generation, GrantId, Spread};
use crate::policy::Policy;
use crate::retry::wait_after;
use crate::schedule::refresh_at;
use crate::secret::Fingerprint;
use crate::status::{GrantStatus, LastFailure, RefreshState, UpstreamVerdict};
use crate::time::Timestamp;

/// An attempt under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) attempt: AttemptId,
    pub(super) trigger: Trigger,
    /// The login was replaced meanwhile: the result is not this login's.
    pub(super) superseded: bool,
}

#[derive(Debug)]
pub(super) struct Grant {
    pub(super) spread: Spread,
    pub(super) enabled: bool,
    pub(super) misconfigured: Option<String>,
    pub(super) unreadable: Option<String>,
    pub(super) facts: Option<GrantFacts>,
    pub(super) endpoint: Arc<str>,
    pub(super) flight: Option<Flight>,
    /// Due, and waiting for a place at its endpoint.
    pub(super) queued: Option<Trigger>,
    /// Held back by its endpoint's circuit breaker until then.
    pub(super) held_until: Option<Timestamp>,
    /// After a failure: not before then.
    pub(super) retry_at: Option<Timestamp>,
    /// After a resume: a scheduled attempt not before then.
    pub(super) spread_until: Option<Timestamp>,
    /// An attempt is wanted as soon as spacing allows.
    pub(super) wanted: Option<Trigger>,
    pub(super) failures: u32,
    rung: u32,
    lost_answer_retried: Option<Fingerprint>,
    pub(super) last_failure: Option<LastFailure>,
    pub(super) unsaved: Option<String>,
    pub(super) upstream: UpstreamVerdict,
    pub(super) missing_scopes: Vec<String>,
    pub(super) needed_scopes: Vec<String>,
    pub(super) clock_skew_s: Option<i64>,
    /// Its places in the engine's two timer queues.
    pub(super) due_timer: Option<Timestamp>,
    pub(super) health_timer: Option<Timestamp>,
}

impl Grant {
    pub(super) fn new(id: &GrantId, enabled: bool, facts: Option<GrantFacts>) -> Self {
        Self {
            spread: id.spread(),
            enabled,
            misconfigured: None,
            unreadable: None,
            endpoint: facts.as_ref().map_or_else(|| "".into(), |facts| facts.endpoint.as_str().into()),
            facts,
            flight: None,
            queued: None,
            held_until: None,
            retry_at: None,
            spread_until: None,
            wanted: None,
            failures: 0,
            rung: 0,
            lost_answer_retried: None,
            last_failure: None,
            unsaved: None,
            upstream: UpstreamVerdict::Accepts,
            missing_scopes: Vec::new(),
            needed_scopes: Vec::new(),
            clock_skew_s: None,
            due_timer: None,
            health_timer: None,
        }
    }

    /// Another login takes the place of this one.
    pub(super) fn replace_login(&mut self, facts: GrantFacts) {
        if let Some(flight) = &mut self.flight {
            flight.superseded = true;
        }
        self.adopt(facts);
        self.unreadable = None;
        self.queued = None;
        self.unsaved = None;
        self.upstream = UpstreamVerdict::Accepts;
        self.missing_scopes.clear();
        self.needed_scopes.clear();
        self.wanted = None;
        self.spread_until = None;
        self.forget_failures();
    }

    /// New tokens are at hand.
    pub(super) fn succeeded(&mut self, facts: GrantFacts, trigger: Trigger) {
        let generation = facts.generation;
        let forced = trigger == Trigger::Upstream;
        self.upstream = match self.upstream {
            UpstreamVerdict::Accepts if !forced => UpstreamVerdict::Accepts,
            UpstreamVerdict::Accepts
            | UpstreamVerdict::Refused(_)
            | UpstreamVerdict::OnProbation(_)
            | UpstreamVerdict::RejectsFresh(_) => UpstreamVerdict::OnProbation(generation),
        };
        let before = self.facts.as_ref();
        let is_new =
            |scope: &String| facts.grants_scope(scope) && !before.is_some_and(|before| before.grants_scope(scope));
        self.missing_scopes.retain(|scope| !is_new(scope));
        self.adopt(facts);
        self.unsaved = None;
        self.spread_until = None;
        self.forget_failures();
    }

    fn adopt(&mut self, facts: GrantFacts) {
        if &*self.endpoint != facts.endpoint.as_str() {
            self.endpoint = facts.endpoint.as_str().into();
        }
        self.facts = Some(facts);
    }

    fn forget_failures(&mut self) {
        self.failures = 0;
        self.rung = 0;
        self.retry_at = None;
        self.held_until = None;
        self.lost_answer_retried = None;
        self.last_failure = None;
    }

    /// An attempt failed at `now`. In `grace`, network failures do not lengthen the wait.
    pub(super) fn failed(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        failure: Failure,
        facts: Option<GrantFacts>,
        grace: bool,
        policy: &Policy,
    ) {
        if let Some(facts) = facts {
            self.adopt(facts);
        }
        self.failures = self.failures.saturating_add(1);
        self.rung = match failure.class {
            // Nobody was asked, so nobody failed.
            FailureClass::HeldBack => self.rung,
            FailureClass::Network if grace => self.rung.max(1),
            FailureClass::Network
            | FailureClass::AnswerLost
            | FailureClass::Provider
            | FailureClass::RateLimited
            | FailureClass::Refused
            | FailureClass::ClientRejected
            | FailureClass::Suspect
            | FailureClass::Shape
            | FailureClass::Store
            | FailureClass::Configuration => self.rung.saturating_add(1),
        };
        self.retry_at = Some(self.retry_after(now, &failure, policy));
        self.last_failure = Some(LastFailure { attempt, at: now, failure });
    }

    fn retry_after(&mut self, now: Timestamp, failure: &Failure, policy: &Policy) -> Timestamp {
        let lost = self.facts.as_ref().and_then(|facts| facts.answer_lost);
        let at_once = match failure.class {
            FailureClass::AnswerLost => lost.is_some() && self.lost_answer_retried != lost,
            // The refresh token before the refused one may be good.
            FailureClass::Refused => !self.is_unattended(),
            FailureClass::Network
            | FailureClass::Provider
            | FailureClass::RateLimited
            | FailureClass::ClientRejected
            | FailureClass::Suspect
            | FailureClass::Shape
            | FailureClass::HeldBack
            | FailureClass::Store
            | FailureClass::Configuration => false,
        };
        if failure.class == FailureClass::AnswerLost {
            self.lost_answer_retried = lost;
        }
        if at_once {
            return now;
        }
        now.after(wait_after(self.rung, failure.retry_after, self.spread, policy))
    }

    fn is_suspected_dead(&self, now: Timestamp, policy: &Policy) -> bool {
        let strikes = self.facts.as_ref().and_then(|facts| facts.strikes);
        strikes.is_some_and(|strikes| strikes.suffice(now, policy))
    }

    /// The refresh token that an attempt may send now, spacing aside.
    pub(super) fn sendable(&self) -> Option<Fingerprint> {
        let usable =
            self.enabled && self.misconfigured.is_none() && self.unreadable.is_none() && self.unsaved.is_none();
        if usable { self.facts.as_ref()?.sendable } else { None }
    }

    /// When the next attempt is due, and what causes it. None is while one is under way.
    pub(super) fn next_due(&self, now: Timestamp, policy: &Policy) -> Option<(Timestamp, Trigger)> {
        if self.flight.is_some() || self.queued.is_some() { None } else { self.planned(now, policy) }
    }

    fn planned(&self, now: Timestamp, policy: &Policy) -> Option<(Timestamp, Trigger)> {
        self.sendable()?;
        let facts = self.facts.as_ref()?;
        let (at, trigger) = match (self.wanted, self.retry_at, facts.answer_lost) {
            (Some(trigger), _, _) => (Timestamp::EPOCH, trigger),
            (None, Some(at), Some(_)) => (at, Trigger::LostAnswer),
            (None, Some(at), None) => (at, Trigger::Retry),
            (None, None, Some(_)) => (Timestamp::EPOCH, Trigger::LostAnswer),
            (None, None, None) => {
                let at = match &facts.tokens {
                    Some(tokens) => refresh_at(tokens, self.spread, policy),
                    None if self.is_unattended() => Timestamp::EPOCH,
                    None => return None,
                };
                // In an earlier life of this process.
                let failed = facts.last_attempt_at > facts.last_success_at;
                let trigger = if failed { Trigger::Retry } else { Trigger::Schedule };
                (self.spread_until.map_or(at, |until| at.max(until)), trigger)
            }
        };
        let doomed = trigger != Trigger::User && self.is_suspected_dead(now, policy);
        let spacing = if doomed { policy.min_spacing.max(policy.suspect_interval) } else { policy.min_spacing };
        let spaced = facts.last_attempt_at.map(|last| last.after(spacing));
        let affordable = if trigger.is_budgeted() { facts.budget.affordable_at(now, policy) } else { None };
        Some((spaced.into_iter().chain(affordable).fold(at, Timestamp::max), trigger))
    }

    /// What lies in the future means that the clock was set back: the last attempt counts as made
    /// now, once, and is waited for no longer than the rules want.
    pub(super) fn forget_the_future(&mut self, now: Timestamp, policy: &Policy) {
        let Some(facts) = &mut self.facts else { return };
        let set_back = facts.last_attempt_at.map(|last| last.since(now)).unwrap_or_default();
        facts.last_attempt_at = facts.last_attempt_at.map(|last| last.min(now));
        facts.budget = facts.budget.set_back(set_back, now, policy);
    }

    /// Whether the tokens carry an issue time that has not come yet: the clock was set back, and
    /// their schedule means nothing.
    pub(super) fn is_issued_in_the_future(&self, now: Timestamp) -> bool {
        let tokens = self.facts.as_ref().and_then(|facts| facts.tokens.as_ref());
        tokens.is_some_and(|tokens| tokens.issued_at > now)
    }

    pub(super) fn generation(&self) -> Generation {
        self.facts.as_ref().map(|facts| facts.generation).unwrap_or_default()
    }

    fn grant_type(&self) -> GrantType {
        self.facts.as_ref().map(|facts| facts.grant_type).unwrap_or_default()
    }

    fn is_unattended(&self) -> bool {
        self.grant_type().is_unattended()
    }

    fn state(&self) -> RefreshState {
        let logged_in = self.facts.as_ref().is_some_and(|facts| facts.tokens.is_some());
        let end = self.facts.as_ref().and_then(|facts| facts.ended.as_ref());
        let failed = match end {
            Some(LoginEnd::CredentialRefused { .. }) => true,
            Some(_) => logged_in,
            None => false,
        };
        if self.flight.as_ref().is_some_and(|flight| !flight.superseded) {
            RefreshState::Refreshing
        } else if failed {
            RefreshState::Failed
        } else if self.sendable().is_none() {
            RefreshState::Idle
        } else if self.retry_at.is_some() || self.held_until.is_some() {
            RefreshState::Retrying
        } else {
            RefreshState::Scheduled
        }
    }

    fn next_attempt_at(&self, now: Timestamp, policy: &Policy) -> Option<Timestamp> {
        if self.flight.as_ref().is_some_and(|flight| !flight.superseded) {
            return None;
        }
        match self.queued {
            Some(_) => Some(self.held_until.unwrap_or(now)),
            None => self.planned(now, policy).map(|(at, _)| at),
        }
    }

    pub(super) fn status(&self, id: &GrantId, now: Timestamp, policy: &Policy) -> GrantStatus {
        let facts = self.facts.as_ref();
        GrantStatus {
            id: id.clone(),
            enabled: self.enabled,
            misconfigured: self.misconfigured.clone(),
            unreadable: self.unreadable.clone(),
            grant_type: self.grant_type(),
            generation: self.generation(),
            issuer: facts.map(|facts| facts.issuer.clone()),
            tokens: facts.and_then(|facts| facts.tokens.clone()),
            state: self.state(),
            logged_in_at: facts.and_then(|facts| facts.logged_in_at),
            next_attempt_at: self.next_attempt_at(now, policy),
            retry_count: self.failures,
            last_attempt_at: facts.and_then(|facts| facts.last_attempt_at),
            last_success_at: facts.and_then(|facts| facts.last_success_at),
            last_failure: self.last_failure.clone(),
            suspected_dead: self.is_suspected_dead(now, policy),
            ended: facts.and_then(|facts| facts.ended.clone()),
            unsaved: self.unsaved.clone(),
            upstream: self.upstream,
            missing_scopes: self.missing_scopes.clone(),
            needed_scopes: self.needed_scopes.clone(),
            lost_scopes: facts.map(|facts| facts.lost_scopes.clone()).unwrap_or_default(),
            requested_scopes: facts.map(|facts| facts.requested_scopes.clone()).unwrap_or_default(),
            step_ups: facts.map_or(0, |facts| facts.step_ups),
            client_secret_expires_at: facts.and_then(|facts| facts.client_secret_expires_at),
            clock_skew_s: self.clock_skew_s,
        }
    }
}
