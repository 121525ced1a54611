//! The engine's attempts: who is due, who may begin, and what an ended one means.

use std::sync::Arc;

use super::endpoint::{Breaker, Endpoint};
use super::event::{Action, Attempt, AttemptOutcome, AttemptReport, Note, Trigger};
use super::grant::Flight;
use super::{Engine, Grant};
use crate::budget::Budget;
use crate::ids::{AttemptId, GrantId};
use crate::status::LastFailure;
use crate::time::{Timestamp, part_of};

impl Engine {
    /// Moves every grant whose time has come into its endpoint's queue.
    pub(super) fn enqueue_due(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        while let Some((at, id)) = self.health_changes.first().filter(|(at, _)| *at <= now).cloned() {
            self.health_changes.remove(&(at, id.clone()));
            if let Some(grant) = self.grants.get_mut(&id) {
                grant.health_timer = None;
            }
            self.settle(now, &id, out);
        }
        while let Some((at, id)) = self.due.first().filter(|(at, _)| *at <= now).cloned() {
            self.due.remove(&(at, id.clone()));
            let Some(grant) = self.grants.get_mut(&id) else { continue };
            grant.due_timer = None;
            let Some((_, trigger)) = grant.next_due(now, &self.policy) else { continue };
            grant.queued = Some(trigger);
            let key = Arc::clone(&grant.endpoint);
            let endpoint = self.endpoints.entry(Arc::clone(&key)).or_insert_with(Endpoint::new);
            if endpoint.waiting.is_empty() {
                self.queue.push_back(key);
            }
            endpoint.waiting.push_back(id.clone());
            self.show_held_back(&id, out);
        }
    }

    /// A grant behind an open breaker shows the endpoint's failure as its own reason to wait.
    fn show_held_back(&mut self, id: &GrantId, out: &mut Vec<Action>) {
        let Some(grant) = self.grants.get_mut(id) else { return };
        let Some(endpoint) = self.endpoints.get_mut(&grant.endpoint) else { return };
        grant.held_until = match endpoint.breaker {
            Breaker::Open { until } => Some(until),
            Breaker::HalfOpen { .. } | Breaker::Closed => None,
        };
        if endpoint.breaker != Breaker::Closed && grant.last_failure.is_none() {
            grant.last_failure.clone_from(&endpoint.last_failure);
            endpoint.troubled.insert(id.clone());
            out.push(Action::Publish(id.clone()));
        }
    }

    /// Begins as many attempts as there are places, taking the endpoints in turn.
    pub(super) fn begin_attempts(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        let mut passed_over = 0;
        while passed_over < self.queue.len() && self.in_flight.len() < self.policy.concurrency {
            let Some(key) = self.queue.pop_front() else { return };
            let Some(endpoint) = self.endpoints.get_mut(&key) else { continue };
            let next = if endpoint.has_room(now, &self.policy) { endpoint.waiting.pop_front() } else { None };
            if !endpoint.waiting.is_empty() {
                self.queue.push_back(Arc::clone(&key));
            }
            match next {
                Some(id) => {
                    passed_over = 0;
                    self.begin(now, &id, &key, out);
                }
                None => passed_over += 1,
            }
        }
    }

    fn begin(&mut self, now: Timestamp, id: &GrantId, key: &Arc<str>, out: &mut Vec<Action>) {
        let Some(grant) = self.grants.get_mut(id) else { return };
        let Some(trigger) = grant.queued.take() else { return };
        grant.held_until = None;
        // Between queue and place the login may have changed: only what is due still begins.
        let (Some((at, _)), Some(refresh_token)) = (grant.next_due(now, &self.policy), grant.sendable()) else {
            return;
        };
        if at > now {
            return self.settle(now, id, out);
        }
        self.attempts += 1;
        let attempt = AttemptId { run: self.run, number: self.attempts };
        grant.wanted = None;
        grant.spread_until = None;
        grant.flight = Some(Flight { attempt, trigger, superseded: false });
        let mut budget = Budget::default();
        if let Some(facts) = &mut grant.facts {
            facts.last_attempt_at = Some(now);
            if trigger.is_budgeted() {
                facts.budget = facts.budget.paid(now, &self.policy);
            }
            budget = facts.budget;
        }
        let generation = grant.generation();
        if let Some(endpoint) = self.endpoints.get_mut(key) {
            endpoint.begin(attempt);
        }
        self.in_flight.insert(attempt, Arc::clone(key));
        out.push(Action::Attempt(Attempt {
            id: attempt,
            grant: id.clone(),
            generation,
            refresh_token,
            trigger,
            started_at: now,
            budget,
        }));
        self.settle(now, id, out);
    }

    /// An attempt is answered once; what it says counts only for the login that it began with.
    pub(super) fn attempt_ended(&mut self, now: Timestamp, report: AttemptReport, out: &mut Vec<Action>) {
        let Some(key) = self.in_flight.remove(&report.attempt) else { return };
        self.tell_endpoint(now, &key, &report, out);
        let Some(grant) = self.grants.get_mut(&report.grant) else { return };
        let Some(flight) = grant.flight.take_if(|flight| flight.attempt == report.attempt) else { return };
        let ended_before = grant.is_ended();
        if !flight.superseded {
            self.tell_grant(now, &report.grant, report.attempt, flight.trigger, report.outcome);
        }
        // Published first: whoever hears of the end must find it everywhere.
        self.settle(now, &report.grant, out);
        self.note_end(&report.grant, ended_before, out);
        self.note_schedule(now, &report.grant, out);
    }

    fn tell_grant(
        &mut self,
        now: Timestamp,
        id: &GrantId,
        attempt: AttemptId,
        trigger: Trigger,
        outcome: AttemptOutcome,
    ) {
        let grace = now < self.grace_until;
        let Some(grant) = self.grants.get_mut(id) else { return };
        match outcome {
            AttemptOutcome::Stored(facts) | AttemptOutcome::Adopted(facts) => grant.succeeded(*facts, trigger),
            AttemptOutcome::Unsaved { facts, cause } => {
                grant.succeeded(*facts, trigger);
                grant.unsaved = Some(cause);
            }
            AttemptOutcome::Failed { failure, facts } => {
                grant.failed(now, attempt, failure, facts.map(|facts| *facts), grace, &self.policy);
            }
            AttemptOutcome::Discarded => {}
        }
    }

    fn tell_endpoint(&mut self, now: Timestamp, key: &Arc<str>, report: &AttemptReport, out: &mut Vec<Action>) {
        let grace = now < self.grace_until;
        let Some(endpoint) = self.endpoints.get_mut(key) else { return };
        endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
        let closed = match &report.outcome {
            AttemptOutcome::Stored(_) | AttemptOutcome::Unsaved { .. } => endpoint.worked(),
            AttemptOutcome::Failed { failure, .. } if failure.class.shows_a_working_endpoint() => endpoint.worked(),
            AttemptOutcome::Failed { failure, .. } if failure.class.counts_against_the_endpoint() => {
                let failure = LastFailure { attempt: report.attempt, at: now, failure: failure.clone() };
                endpoint.failed(now, failure, report.grant.spread(), grace, &self.policy);
                endpoint.troubled.insert(report.grant.clone());
                false
            }
            AttemptOutcome::Failed { .. } | AttemptOutcome::Adopted(_) | AttemptOutcome::Discarded => {
                endpoint.learned_nothing(now, report.attempt);
                false
            }
        };
        match (closed, &report.outcome) {
            (true, _) => self.release(now, key, out),
            (false, AttemptOutcome::Stored(_) | AttemptOutcome::Unsaved { .. } | AttemptOutcome::Adopted(_)) => {
                endpoint.troubled.remove(&report.grant);
            }
            (false, AttemptOutcome::Failed { .. } | AttemptOutcome::Discarded) => self.show_all_held_back(key, out),
        }
    }

    fn show_all_held_back(&mut self, key: &Arc<str>, out: &mut Vec<Action>) {
        let waiting: Vec<GrantId> =
            self.endpoints.get(key).map(|endpoint| endpoint.waiting.iter().cloned().collect()).unwrap_or_default();
        waiting.iter().for_each(|id| self.show_held_back(id, out));
    }

    /// The endpoint works again: all that waited for it are due, spread over a short time.
    fn release(&mut self, now: Timestamp, key: &Arc<str>, out: &mut Vec<Action>) {
        let Some(endpoint) = self.endpoints.get_mut(key) else { return };
        let waiting = std::mem::take(&mut endpoint.waiting);
        let troubled = std::mem::take(&mut endpoint.troubled);
        self.queue.retain(|queued| queued != key);
        for id in waiting.into_iter().chain(troubled) {
            let over = self.policy.release_spread;
            self.change(now, &id, out, |grant| grant.released(now.after(part_of(over, grant.spread.fraction()))));
        }
    }

    fn note_end(&self, id: &GrantId, ended_before: bool, out: &mut Vec<Action>) {
        let end = self.grants.get(id).and_then(|grant| grant.facts.as_ref()?.ended.clone());
        if let Some(end) = end.filter(|_| !ended_before) {
            out.push(Action::Note(Note::LoginEnded { grant: id.clone(), end }));
        }
    }

    fn note_schedule(&self, now: Timestamp, id: &GrantId, out: &mut Vec<Action>) {
        let Some(grant) = self.grants.get(id) else { return };
        let Some((at, _)) = grant.next_due(now, &self.policy) else { return };
        let grant_id = id.clone();
        out.push(Action::Note(match grant.failures {
            0 => Note::Scheduled { grant: grant_id, at },
            failures => Note::RetryScheduled { grant: grant_id, at, failures },
        }));
    }
}

impl Grant {
    fn is_ended(&self) -> bool {
        self.facts.as_ref().is_some_and(|facts| facts.ended.is_some())
    }

    fn released(&mut self, at: Timestamp) {
        self.queued = None;
        self.held_until = None;
        if self.failures == 0 {
            self.last_failure = None;
            self.spread_until = Some(at);
        } else if self.retry_at.is_some_and(|retry_at| retry_at > at) && !self.asked_to_pause() {
            self.retry_at = Some(at);
        }
    }

    fn asked_to_pause(&self) -> bool {
        self.last_failure.as_ref().is_some_and(|last| last.failure.retry_after.is_some())
    }
}
