//! One token endpoint, shared by all its grants: places for attempts, and a circuit breaker.

use std::collections::{BTreeSet, VecDeque};

use crate::ids::{AttemptId, GrantId, Spread};
use crate::policy::Policy;
use crate::retry::wait_after;
use crate::status::LastFailure;
use crate::time::Timestamp;

/// Whether attempts may go to an endpoint that has failed lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breaker {
    /// All may.
    Closed,
    /// None may until then.
    Open { until: Timestamp },
    /// One is on its way, for all.
    HalfOpen { probe: AttemptId },
}

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) breaker: Breaker,
    pub(super) in_flight: usize,
    pub(super) waiting: VecDeque<GrantId>,
    /// Grants whose last attempt here failed, or that the breaker holds back.
    pub(super) troubled: BTreeSet<GrantId>,
    pub(super) last_failure: Option<LastFailure>,
    failures: u32,
    opened: u32,
}

impl Endpoint {
    pub(super) fn new() -> Self {
        Self {
            breaker: Breaker::Closed,
            in_flight: 0,
            waiting: VecDeque::new(),
            troubled: BTreeSet::new(),
            last_failure: None,
            failures: 0,
            opened: 0,
        }
    }

    /// Whether one more attempt may begin at `now`.
    pub(super) fn has_room(&self, now: Timestamp, policy: &Policy) -> bool {
        match self.breaker {
            Breaker::Closed => self.in_flight < policy.endpoint_concurrency,
            Breaker::Open { until } => now >= until,
            Breaker::HalfOpen { .. } => false,
        }
    }

    /// An attempt begins. Where the breaker was open, it stands for all.
    pub(super) fn begin(&mut self, attempt: AttemptId) {
        self.in_flight += 1;
        if let Breaker::Open { .. } = self.breaker {
            self.breaker = Breaker::HalfOpen { probe: attempt };
        }
    }

    /// The endpoint answered sensibly. Returns whether that closed the breaker.
    pub(super) fn worked(&mut self) -> bool {
        self.failures = 0;
        self.opened = 0;
        self.last_failure = None;
        let closed = self.breaker != Breaker::Closed;
        self.breaker = Breaker::Closed;
        closed
    }

    /// An attempt failed for the endpoint's own reasons. In `grace` the breaker opens no longer.
    pub(super) fn failed(
        &mut self,
        now: Timestamp,
        failure: LastFailure,
        spread: Spread,
        grace: bool,
        policy: &Policy,
    ) {
        self.failures = self.failures.saturating_add(1);
        let was_probe = matches!(self.breaker, Breaker::HalfOpen { probe } if probe == failure.attempt);
        let opens = self.breaker == Breaker::Closed && self.failures >= policy.breaker_threshold;
        if was_probe || opens {
            self.opened = if grace { 1 } else { self.opened.saturating_add(1) };
            let wait = wait_after(self.opened, failure.failure.retry_after, spread, policy);
            self.breaker = Breaker::Open { until: now.after(wait) };
        }
        self.last_failure = Some(failure);
    }

    /// An attempt ended without saying anything about the endpoint.
    pub(super) fn learned_nothing(&mut self, now: Timestamp, attempt: AttemptId) {
        if matches!(self.breaker, Breaker::HalfOpen { probe } if probe == attempt) {
            self.breaker = Breaker::Open { until: now };
        }
    }

    /// Nothing is remembered of before a resume: the network is another one.
    pub(super) fn resumed(&mut self, now: Timestamp) {
        self.failures = 0;
        self.opened = 0;
        if let Breaker::Open { until } = &mut self.breaker {
            *until = (*until).min(now);
        }
    }

    /// When the breaker lets one attempt through, while it holds any back.
    pub(super) fn probe_at(&self) -> Option<Timestamp> {
        match self.breaker {
            Breaker::Open { until } if !self.waiting.is_empty() => Some(until),
            Breaker::Open { .. } | Breaker::Closed | Breaker::HalfOpen { .. } => None,
        }
    }
}
