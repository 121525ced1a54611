//! Every number of the refresh rules, validated in one place.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits of the refresh rules. Its defaults are what the product promises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// The part of a token's lifetime after which it is refreshed.
    pub threshold: f64,
    /// How much earlier than that, at most, as a part of the lifetime; spread by grant.
    pub early_spread: f64,
    /// The least time between the starts of two attempts of one grant.
    pub min_spacing: Duration,
    /// Attempts of one grant in one hour, besides those on schedule and those that people ask for.
    pub hourly_budget: u32,
    /// The wait after the first failure; it doubles with each further one.
    pub backoff_base: Duration,
    /// The longest wait between attempts.
    pub backoff_cap: Duration,
    /// How much longer than computed a wait may be, as a part of it; spread by grant.
    pub backoff_spread: f64,
    /// The longest `Retry-After` that is honoured.
    pub retry_after_cap: Duration,
    /// How long one attempt may take in all.
    pub attempt_timeout: Duration,
    /// How long a proxied request may wait for a refresh.
    pub park_timeout: Duration,
    /// Attempts under way at once, over all providers.
    pub concurrency: usize,
    /// Attempts under way at once at one token endpoint's host.
    pub endpoint_concurrency: usize,
    /// How often a token of unknown lifetime is refreshed.
    pub soft_refresh: Duration,
    /// The longest time without a refresh, for providers that end a login nobody uses.
    pub keep_alive: Option<Duration>,
    /// After start and resume, how long network failures do not lengthen the wait.
    pub grace: Duration,
    /// Over how long attempts are spread after a resume.
    pub resume_spread: Duration,
    /// Failures in a row at one endpoint that open its circuit breaker.
    pub breaker_threshold: u32,
    /// Over how long the grants of an endpoint are released after its breaker closes.
    pub release_spread: Duration,
    /// Refusals of an unclear kind after which only hourly attempts are made.
    pub suspect_strikes: u32,
    /// The least time those refusals must span.
    pub suspect_span: Duration,
    /// The wait between attempts that will probably be refused.
    pub suspect_interval: Duration,
    /// How long before its end a login without refresh token is warned of, at most.
    pub warn_before_end: Duration,
    /// How long before its end a refresh token or a client secret is warned of, at most.
    pub warn_before_credential_end: Duration,
    /// How long a login may be pending.
    pub login_timeout: Duration,
    /// Logins in a row that ask for scopes in vain, after which no further one is advised.
    pub step_up_tries: u32,
    /// The clock error from which a note is shown.
    pub clock_skew_noted: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            threshold: 0.8,
            early_spread: 0.02,
            min_spacing: Duration::from_secs(10),
            hourly_budget: 30,
            backoff_base: Duration::from_secs(10),
            backoff_cap: Duration::from_secs(300),
            backoff_spread: 0.1,
            retry_after_cap: Duration::from_secs(3600),
            attempt_timeout: Duration::from_secs(60),
            park_timeout: Duration::from_secs(30),
            concurrency: 256,
            endpoint_concurrency: 8,
            soft_refresh: Duration::from_secs(3600),
            keep_alive: None,
            grace: Duration::from_secs(60),
            resume_spread: Duration::from_secs(10),
            breaker_threshold: 5,
            release_spread: Duration::from_secs(5),
            suspect_strikes: 3,
            suspect_span: Duration::from_secs(15 * 60),
            suspect_interval: Duration::from_secs(3600),
            warn_before_end: Duration::from_secs(3600),
            warn_before_credential_end: Duration::from_secs(7 * 24 * 3600),
            login_timeout: Duration::from_secs(600),
            step_up_tries: 3,
            clock_skew_noted: Duration::from_secs(60),
        }
    }
}

/// A policy that would break a promise: which number, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {demand}")]
pub struct InvalidPolicy {
    /// The field's name, as in the configuration.
    pub field: &'static str,
    /// What the number must be.
    pub demand: &'static str,
}

impl Policy {
    /// Checks every number and returns all that are wrong.
    pub fn validate(&self) -> Result<(), Vec<InvalidPolicy>> {
        let checks = [
            ("threshold", "between 0.5 and 0.95", (0.5..=0.95).contains(&self.threshold)),
            ("early_spread", "between 0 and 0.2", (0.0..=0.2).contains(&self.early_spread)),
            ("backoff_spread", "between 0 and 1", (0.0..=1.0).contains(&self.backoff_spread)),
            ("min_spacing", "at least 100 ms", self.min_spacing >= Duration::from_millis(100)),
            ("backoff_base", "at least 100 ms", self.backoff_base >= Duration::from_millis(100)),
            ("backoff_cap", "at least backoff_base", self.backoff_cap >= self.backoff_base),
            ("backoff_cap", "at most 1 h", self.backoff_cap <= Duration::from_secs(3600)),
            ("attempt_timeout", "between 1 s and 10 min", secs(1, 600).contains(&self.attempt_timeout)),
            ("park_timeout", "at most 5 min", self.park_timeout <= Duration::from_secs(300)),
            ("hourly_budget", "at least 2", self.hourly_budget >= 2),
            ("keep_alive", "at least 1 min", self.keep_alive.is_none_or(|time| time >= Duration::from_secs(60))),
            ("concurrency", "at least 1", self.concurrency >= 1),
            ("endpoint_concurrency", "at least 1", self.endpoint_concurrency >= 1),
        ];
        let wrong: Vec<InvalidPolicy> = checks
            .iter()
            .filter(|(_, _, holds)| !holds)
            .map(|&(field, demand, _)| InvalidPolicy { field, demand })
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

fn secs(from: u64, to: u64) -> std::ops::RangeInclusive<Duration> {
    Duration::from_secs(from)..=Duration::from_secs(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Policy::default().validate(), Ok(()));
    }

    #[test]
    fn every_wrong_number_is_named_at_once() {
        let policy = Policy { threshold: 1.5, min_spacing: Duration::ZERO, concurrency: 0, ..Policy::default() };
        let fields: Vec<_> = policy.validate().unwrap_err().into_iter().map(|wrong| wrong.field).collect();
        assert_eq!(fields, ["threshold", "min_spacing", "concurrency"]);
    }
}
