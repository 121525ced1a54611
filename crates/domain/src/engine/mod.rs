//! The refresh engine: told what happened, it answers what is to be done.
//!
//! It owns every decision about when a refresh token is sent, and none about how. It has no clock,
//! no sockets and no secrets; scheduling costs O(log n) for each event.
//!
//! A schedule exists if and only if a grant has tokens that can be refreshed. Late or doubled
//! answers change nothing: an attempt is answered once, by its id, and what it says counts only for
//! the login that it began with.

mod attempts;
mod endpoint;
mod event;
mod grant;
pub mod trace;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub use event::{Action, Attempt, AttemptOutcome, AttemptReport, Event, Note, Trigger, Wake, WakeReason};

use crate::grant::GrantFacts;
use crate::ids::{AttemptId, Generation, GrantId};
use crate::policy::Policy;
use crate::status::{GrantStatus, UpstreamVerdict};
use crate::time::{Timestamp, part_of};
use endpoint::Endpoint;
use grant::Grant;

/// All grants and when each is refreshed.
#[derive(Debug)]
pub struct Engine {
    policy: Policy,
    run: u32,
    attempts: u64,
    grace_until: Timestamp,
    grants: BTreeMap<GrantId, Grant>,
    due: BTreeSet<(Timestamp, GrantId)>,
    health_changes: BTreeSet<(Timestamp, GrantId)>,
    endpoints: BTreeMap<Arc<str>, Endpoint>,
    /// Endpoints with grants that wait for a place, each taken in turn.
    queue: VecDeque<Arc<str>>,
    in_flight: BTreeMap<AttemptId, Arc<str>>,
}

impl Engine {
    /// An engine that starts at `now`. `run` is drawn at random once for each process, so that
    /// attempt ids of different runs differ.
    pub fn new(now: Timestamp, run: u32, policy: Policy) -> Self {
        Self {
            grace_until: now.after(policy.grace),
            policy,
            run,
            attempts: 0,
            grants: BTreeMap::new(),
            due: BTreeSet::new(),
            health_changes: BTreeSet::new(),
            endpoints: BTreeMap::new(),
            queue: VecDeque::new(),
            in_flight: BTreeMap::new(),
        }
    }

    /// Advances by one event; returns what is to be done, in order.
    ///
    /// Late or doubled answers change nothing, and neither does waking too often.
    pub fn handle(&mut self, now: Timestamp, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.apply(now, event, &mut out);
        self.enqueue_due(now, &mut out);
        self.begin_attempts(now, &mut out);
        out
    }

    fn apply(&mut self, now: Timestamp, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Woke => {}
            Event::ClockJumped => self.clock_jumped(now, out),
            Event::Loaded { grant, enabled, facts } => self.loaded(now, grant, enabled, facts.map(|facts| *facts), out),
            Event::Unreadable { grant, cause } => self.change(now, &grant, out, |grant| grant.unreadable = Some(cause)),
            Event::LoggedIn { grant, facts, unsaved } => self.login_replaced(now, &grant, *facts, unsaved, out),
            Event::LoggedOut { grant, facts } => self.login_replaced(now, &grant, *facts, None, out),
            Event::Switched { grant, enabled } => self.change(now, &grant, out, |grant| grant.switch(enabled)),
            Event::Misconfigured { grant, problem } => {
                self.change(now, &grant, out, |grant| grant.misconfigured = problem);
            }
            Event::Removed { grant } => self.removed(&grant, out),
            Event::AttemptEnded(report) => self.attempt_ended(now, report, out),
            Event::Saved { grant, generation } => self.change(now, &grant, out, |grant| grant.saved(generation)),
            Event::RefreshWanted { grant, trigger } => self.change(now, &grant, out, |grant| grant.want(trigger)),
            Event::UpstreamRefused { grant, generation } => {
                self.change(now, &grant, out, |grant| grant.upstream_refused(generation));
            }
            Event::UpstreamAccepted { grant, generation } => {
                self.change(now, &grant, out, |grant| grant.upstream_accepted(generation));
            }
            Event::ScopesDemanded { grant, generation, scopes } => {
                self.change(now, &grant, out, |grant| grant.scopes_demanded(generation, scopes));
            }
            Event::ClockSkewSeen { grant, ahead_s } => {
                let noted = self.policy.clock_skew_noted.as_secs();
                let skew = (ahead_s.unsigned_abs() > noted).then_some(ahead_s);
                self.change(now, &grant, out, |grant| grant.clock_skew_s = skew);
            }
            Event::PolicyChanged(policy) => self.policy_changed(now, *policy, out),
        }
    }

    fn loaded(&mut self, now: Timestamp, id: GrantId, enabled: bool, facts: Option<GrantFacts>, out: &mut Vec<Action>) {
        self.forget_timers(&id);
        let flight = self.grants.remove(&id).and_then(|grant| grant.flight);
        let mut grant = Grant::new(&id, enabled, facts);
        grant.forget_the_future(now, &self.policy);
        grant.flight = flight.map(|flight| grant::Flight { superseded: true, ..flight });
        self.grants.insert(id.clone(), grant);
        self.settle(now, &id, out);
    }

    fn login_replaced(
        &mut self,
        now: Timestamp,
        id: &GrantId,
        facts: GrantFacts,
        unsaved: Option<String>,
        out: &mut Vec<Action>,
    ) {
        self.release_from_endpoint(id);
        self.change(now, id, out, |grant| {
            grant.replace_login(facts);
            grant.unsaved = unsaved;
        });
    }

    fn removed(&mut self, id: &GrantId, out: &mut Vec<Action>) {
        self.forget_timers(id);
        self.release_from_endpoint(id);
        if self.grants.remove(id).is_some() {
            out.push(Action::Publish(id.clone()));
        }
    }

    fn clock_jumped(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        self.grace_until = now.after(self.policy.grace);
        self.endpoints.values_mut().for_each(|endpoint| endpoint.resumed(now));
        let ids: Vec<GrantId> = self.grants.keys().cloned().collect();
        let policy = self.policy.clone();
        for id in ids {
            self.change(now, &id, out, |grant| {
                grant.forget_the_future(now, &policy);
                grant.resumed(now, policy.resume_spread);
            });
        }
    }

    fn policy_changed(&mut self, now: Timestamp, policy: Policy, out: &mut Vec<Action>) {
        self.policy = policy;
        let ids: Vec<GrantId> = self.grants.keys().cloned().collect();
        ids.iter().for_each(|id| self.settle(now, id, out));
    }

    /// Changes one grant, sets its timers anew and publishes it. An unknown grant changes nothing.
    fn change(&mut self, now: Timestamp, id: &GrantId, out: &mut Vec<Action>, change: impl FnOnce(&mut Grant)) {
        let Some(grant) = self.grants.get_mut(id) else { return };
        change(grant);
        self.settle(now, id, out);
    }

    /// Sets a grant's timers to what its state says, and publishes it.
    fn settle(&mut self, now: Timestamp, id: &GrantId, out: &mut Vec<Action>) {
        let Some(grant) = self.grants.get_mut(id) else { return };
        let due = grant.next_due(now, &self.policy).map(|(at, _)| at);
        if grant.due_timer != due {
            if let Some(old) = grant.due_timer.take() {
                self.due.remove(&(old, id.clone()));
            }
            if let Some(at) = due {
                self.due.insert((at, id.clone()));
            }
            grant.due_timer = due;
        }
        let changes = grant.health_changes_at(now, &self.policy);
        if grant.health_timer != changes {
            if let Some(old) = grant.health_timer.take() {
                self.health_changes.remove(&(old, id.clone()));
            }
            if let Some(at) = changes {
                self.health_changes.insert((at, id.clone()));
            }
            grant.health_timer = changes;
        }
        out.push(Action::Publish(id.clone()));
    }

    fn forget_timers(&mut self, id: &GrantId) {
        let Some(grant) = self.grants.get_mut(id) else { return };
        if let Some(at) = grant.due_timer.take() {
            self.due.remove(&(at, id.clone()));
        }
        if let Some(at) = grant.health_timer.take() {
            self.health_changes.remove(&(at, id.clone()));
        }
    }

    fn release_from_endpoint(&mut self, id: &GrantId) {
        let Some(grant) = self.grants.get(id) else { return };
        if let Some(endpoint) = self.endpoints.get_mut(&grant.endpoint) {
            endpoint.troubled.remove(id);
            endpoint.waiting.retain(|waiting| waiting != id);
        }
    }

    /// The next moment at which [`Event::Woke`] would do something, and why.
    pub fn next_wake(&self) -> Option<Wake> {
        let due = self.due.first().map(|(at, id)| Wake { at: *at, reason: WakeReason::AttemptDue(id.clone()) });
        let health =
            self.health_changes.first().map(|(at, id)| Wake { at: *at, reason: WakeReason::HealthChanges(id.clone()) });
        let probes = self.queue.iter().filter_map(|key| {
            let at = self.endpoints.get(key)?.probe_at()?;
            Some(Wake { at, reason: WakeReason::Probe(key.to_string()) })
        });
        due.into_iter().chain(health).chain(probes).min_by_key(|wake| wake.at)
    }

    /// What may be said of a grant at `now`; `None` where it is not known.
    pub fn status(&self, id: &GrantId, now: Timestamp) -> Option<GrantStatus> {
        Some(self.grants.get(id)?.status(id, now, &self.policy))
    }

    /// Every grant that is known, in order.
    pub fn grants(&self) -> impl Iterator<Item = &GrantId> {
        self.grants.keys()
    }

    /// How many attempts are under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The rules' numbers.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}

impl Grant {
    fn switch(&mut self, enabled: bool) {
        self.enabled = enabled;
        if !enabled {
            self.queued = None;
            self.wanted = None;
        }
    }

    fn saved(&mut self, generation: Generation) {
        if self.generation() == generation {
            self.unsaved = None;
        }
    }

    /// A person's wish goes before any wait but spacing; a request's does not end a backoff.
    fn want(&mut self, trigger: Trigger) {
        let backing_off = self.retry_at.is_some() && trigger != Trigger::User;
        if !backing_off && self.flight.is_none() && self.sendable().is_some() {
            self.wanted = Some(trigger);
        }
    }

    fn upstream_refused(&mut self, generation: Generation) {
        if generation != self.generation() {
            return;
        }
        match self.upstream {
            UpstreamVerdict::OnProbation(_) => self.upstream = UpstreamVerdict::RejectsFresh(generation),
            UpstreamVerdict::Accepts => {
                self.upstream = UpstreamVerdict::Refused(generation);
                self.want(Trigger::Upstream);
            }
            UpstreamVerdict::Refused(_) | UpstreamVerdict::RejectsFresh(_) => {}
        }
    }

    fn upstream_accepted(&mut self, generation: Generation) {
        if generation == self.generation() {
            self.upstream = UpstreamVerdict::Accepts;
        }
    }

    fn scopes_demanded(&mut self, generation: Generation, scopes: Vec<String>) {
        if generation != self.generation() {
            return;
        }
        let granted = |scope: &String| self.facts.as_ref().is_some_and(|facts| facts.grants_scope(scope));
        let missing: Vec<String> = scopes.iter().filter(|scope| !granted(scope)).cloned().collect();
        // Where the provider says that all are granted, the upstream sees it otherwise.
        self.missing_scopes = if missing.is_empty() { scopes.clone() } else { missing };
        for scope in scopes {
            if !self.needed_scopes.contains(&scope) {
                self.needed_scopes.push(scope);
            }
        }
    }

    fn resumed(&mut self, now: Timestamp, over: std::time::Duration) {
        let at = now.after(part_of(over, self.spread.fraction()));
        self.spread_until = Some(at);
        self.held_until = None;
        if self.retry_at.is_some() || self.is_issued_in_the_future(now) {
            self.retry_at = Some(at);
        }
    }

    fn health_changes_at(&self, now: Timestamp, policy: &Policy) -> Option<Timestamp> {
        self.facts.as_ref()?.health_changes_at(now, policy)
    }
}
