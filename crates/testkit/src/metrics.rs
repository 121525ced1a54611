//! Metrics that count, for tests to look at.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use everfresh_application::ports::Metrics;
use everfresh_domain::{GrantId, GrantStatus, Health};

/// Counts attempts by grant, result and reason, and failed store operations.
#[derive(Debug, Default)]
pub struct CountingMetrics {
    counts: Mutex<BTreeMap<String, u64>>,
}

impl CountingMetrics {
    /// How often `what` was counted: `linear success`, `store replace`.
    pub fn count(&self, what: &str) -> u64 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).get(what).copied().unwrap_or_default()
    }

    fn increment(&self, what: String) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
    }
}

impl Metrics for CountingMetrics {
    fn attempt_ended(&self, grant: &GrantId, result: &'static str, _reason: &'static str, _duration: Duration) {
        self.increment(format!("{grant} {result}"));
    }

    fn published(&self, _status: &GrantStatus, _health: &Health) {}

    fn removed(&self, grant: &GrantId) {
        self.increment(format!("{grant} removed"));
    }

    fn in_flight(&self, _attempts: usize) {}

    fn grants(&self, _state: &'static str, _count: usize) {}

    fn notices_begin(&self, _sink: &'static str, _kind: &'static str) {}

    fn noticed(&self, sink: &'static str, kind: &'static str, result: &'static str) {
        self.increment(format!("{sink} {kind} {result}"));
    }

    fn store_failed(&self, operation: &'static str) {
        self.increment(format!("store {operation}"));
    }

    fn store_written(&self, _duration: Duration) {}
}
