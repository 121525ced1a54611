//! What operators count. Labels carry names and closed sets of words, never secrets.

use std::time::Duration;

use everfresh_domain::{GrantId, GrantStatus, Health};

/// Receives what the refresh engine did. The data plane counts its requests by itself.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Metrics: Send + Sync {
    /// One attempt ended after a real request of `duration`: `result` as in `INTERFACES.md`,
    /// `reason` a failure class or empty.
    fn attempt_ended(&self, grant: &GrantId, result: &'static str, reason: &'static str, duration: Duration);

    /// The published state of a grant, and what people are told of it.
    fn published(&self, status: &GrantStatus, health: &Health);

    /// A grant is no more; its series end.
    fn removed(&self, grant: &GrantId);

    /// Attempts under way.
    fn in_flight(&self, attempts: usize);

    /// How many grants are in each refresh state, by the state's name.
    fn grants(&self, state: &'static str, count: usize);

    /// Notices of `kind` may leave through `sink` from here on: what comes of them is counted from zero.
    fn notices_begin(&self, sink: &'static str, kind: &'static str);

    /// A notice of `kind` left through `sink`: `result` is `delivered`, `nobody`, `failed` or `dropped`.
    fn noticed(&self, sink: &'static str, kind: &'static str, result: &'static str);

    /// A store operation failed.
    fn store_failed(&self, operation: &'static str);

    /// A durable write took `duration`.
    fn store_written(&self, duration: Duration);
}
