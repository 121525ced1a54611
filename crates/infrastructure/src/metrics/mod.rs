//! Prometheus: what the refresh engine did, under the names of `docs/MONITORING.md`.
//!
//! The recorder is the process's; the data plane counts its requests through the same facade.
//! There is no listener here: a route of ours renders the text.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use everfresh_application::ports::Metrics;
use everfresh_domain::{GrantId, GrantStatus, Health, HealthAction, Level, Reason, Timestamp, TokenFacts};
use metrics::{Counter, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

/// Buckets of refreshes, in seconds: from a quick provider to a stuck one.
const REFRESH: [f64; 7] = [0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
/// Buckets of durable writes.
const STORE: [f64; 7] = [0.000_5, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0];
/// Buckets of upstream answers.
const UPSTREAM: [f64; 9] = [0.005, 0.02, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];
/// Buckets of what the proxy itself adds.
const OVERHEAD: [f64; 7] = [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.01, 0.1];

/// The operations whose failures are counted.
const STORE_OPERATIONS: [&str; 2] = ["append_journal", "replace"];

/// What can come of a notice.
const NOTICE_RESULTS: [&str; 4] = ["delivered", "nobody", "failed", "dropped"];

/// The metrics of this process.
pub struct PrometheusMetrics {
    handle: PrometheusHandle,
    process: Mutex<Collector>,
    /// The reason and action that each grant was last published with.
    told: Mutex<BTreeMap<GrantId, (Reason, HealthAction)>>,
}

impl PrometheusMetrics {
    /// Makes the recorder the process's. Fails if there is one already.
    pub fn install() -> Result<Self, BuildError> {
        let buckets: [(&str, &[f64]); 4] = [
            ("everfresh_oauth_refresh_duration_seconds", &REFRESH),
            ("everfresh_store_write_seconds", &STORE),
            ("everfresh_proxy_upstream_seconds", &UPSTREAM),
            ("everfresh_proxy_overhead_seconds", &OVERHEAD),
        ];
        let mut builder = PrometheusBuilder::new();
        for (name, buckets) in buckets {
            builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)?;
        }
        let handle = builder.install_recorder()?;
        describe();
        // Seen at zero before they count: the increase to the first failure is one as well.
        for operation in STORE_OPERATIONS {
            counter!("everfresh_store_errors_total", "op" => operation).increment(0);
        }
        let process = Collector::default();
        process.describe();
        gauge!("everfresh_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Ok(Self { handle, process: Mutex::new(process), told: Mutex::default() })
    }

    /// The text that Prometheus reads.
    pub fn render(&self) -> String {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).collect();
        self.handle.render()
    }

    /// Marks what a grant's health is, and what it was as past.
    fn tell_health(&self, grant: &GrantId, now: Option<(Reason, HealthAction)>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match now {
            Some(now) => told.insert(grant.clone(), now),
            None => told.remove(grant),
        };
        let mark = |(reason, action): (Reason, HealthAction), value: f64| {
            let labels = [("server", grant.to_string())];
            let labels = labels
                .into_iter()
                .chain([("reason", reason.as_str().to_owned()), ("action", action.as_str().to_owned())]);
            gauge!("everfresh_health_info", &labels.collect::<Vec<_>>()).set(value);
        };
        if let Some(before) = before.filter(|before| Some(*before) != now) {
            mark(before, 0.0);
        }
        if let Some(now) = now {
            mark(now, 1.0);
        }
    }

    /// Folds samples together. To be called now and then: nobody may ever scrape.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// What `/metrics` says of each metric.
fn describe() {
    let counters = [
        ("everfresh_oauth_refresh_total", "Refresh attempts that ended, by result and reason."),
        ("everfresh_notifications_total", "Notices, by the way that they left and what came of them."),
        ("everfresh_store_errors_total", "Operations of the store that failed."),
    ];
    for (name, text) in counters {
        describe_counter!(name, text);
    }
    let histograms = [
        ("everfresh_oauth_refresh_duration_seconds", "How long the request of a refresh attempt took."),
        ("everfresh_store_write_seconds", "How long a durable write of the store took."),
    ];
    for (name, text) in histograms {
        describe_histogram!(name, Unit::Seconds, text);
    }
    let gauges = [
        ("everfresh_build_info", "Always 1; the label says which version runs."),
        ("everfresh_grants", "Logins in each refresh state."),
        ("everfresh_refresh_in_flight", "Refresh attempts under way."),
        ("everfresh_refresh_retries", "Attempts in a row that failed without ending the login."),
        ("everfresh_health_level", "0 healthy, 1 degraded, 2 unhealthy."),
        ("everfresh_health_info", "1 for the reason and action that a login's health has, 0 for those it had."),
        ("everfresh_clock_skew_seconds", "How far this machine's clock is ahead of the provider's; NaN where unknown."),
        ("everfresh_token_expiry_timestamp_seconds", "When the access token ends; NaN where unknown."),
        ("everfresh_refresh_token_expiry_timestamp_seconds", "When the refresh token ends; NaN where unknown."),
        ("everfresh_refresh_next_attempt_timestamp_seconds", "When the next attempt is due; NaN where none is."),
        (
            "everfresh_refresh_last_success_timestamp_seconds",
            "When a refresh last brought a token; NaN where none did.",
        ),
    ];
    for (name, text) in gauges {
        describe_gauge!(name, text);
    }
}

/// A moment as Prometheus has it. None is not a number: an alert on what is past must not fire.
fn moment(at: Option<Timestamp>) -> f64 {
    at.map_or(f64::NAN, Timestamp::as_secs_f64)
}

fn refreshes(grant: &GrantId, result: &'static str, reason: &'static str) -> Counter {
    let labels = [("server", grant.to_string()), ("result", result.to_owned()), ("reason", reason.to_owned())];
    counter!("everfresh_oauth_refresh_total", &labels)
}

fn notices(sink: &'static str, kind: &'static str, result: &'static str) -> Counter {
    counter!("everfresh_notifications_total", "sink" => sink, "kind" => kind, "result" => result)
}

fn level(level: Level) -> f64 {
    match level {
        Level::Healthy => 0.0,
        Level::Degraded => 1.0,
        Level::Unhealthy => 2.0,
    }
}

impl Metrics for PrometheusMetrics {
    fn attempt_ended(&self, grant: &GrantId, result: &'static str, reason: &'static str, duration: Duration) {
        refreshes(grant, result, reason).increment(1);
        if !duration.is_zero() {
            let labels = [("server", grant.to_string()), ("result", result.to_owned())];
            histogram!("everfresh_oauth_refresh_duration_seconds", &labels).record(duration);
        }
    }

    fn published(&self, status: &GrantStatus, health: &Health) {
        let labels = [("server", status.id.to_string())];
        gauge!("everfresh_token_expiry_timestamp_seconds", &labels).set(moment(status.expires_at()));
        let refresh_token_ends = status.tokens.as_ref().and_then(TokenFacts::refresh_token_expires_at);
        gauge!("everfresh_refresh_token_expiry_timestamp_seconds", &labels).set(moment(refresh_token_ends));
        gauge!("everfresh_refresh_next_attempt_timestamp_seconds", &labels).set(moment(status.next_attempt_at));
        gauge!("everfresh_refresh_last_success_timestamp_seconds", &labels).set(moment(status.last_success_at));
        gauge!("everfresh_refresh_retries", &labels).set(f64::from(status.retry_count));
        gauge!("everfresh_clock_skew_seconds", &labels).set(status.clock_skew_s.map_or(f64::NAN, |skew| skew as f64));
        gauge!("everfresh_health_level", &labels).set(level(health.level));
        refreshes(&status.id, "success", "").increment(0);
        self.tell_health(&status.id, Some((health.reason, health.action)));
    }

    /// The exporter keeps a series for ever; a removed server's gauges say that they mean nothing.
    fn removed(&self, grant: &GrantId) {
        let labels = [("server", grant.to_string())];
        let gauges = [
            "everfresh_token_expiry_timestamp_seconds",
            "everfresh_refresh_token_expiry_timestamp_seconds",
            "everfresh_refresh_next_attempt_timestamp_seconds",
            "everfresh_refresh_last_success_timestamp_seconds",
            "everfresh_refresh_retries",
            "everfresh_clock_skew_seconds",
            "everfresh_health_level",
        ];
        for name in gauges {
            gauge!(name, &labels).set(f64::NAN);
        }
        self.tell_health(grant, None);
    }

    fn in_flight(&self, attempts: usize) {
        gauge!("everfresh_refresh_in_flight").set(attempts as f64);
    }

    fn grants(&self, state: &'static str, count: usize) {
        gauge!("everfresh_grants", "state" => state).set(count as f64);
    }

    fn notices_begin(&self, sink: &'static str, kind: &'static str) {
        NOTICE_RESULTS.iter().for_each(|result| notices(sink, kind, result).increment(0));
    }

    fn noticed(&self, sink: &'static str, kind: &'static str, result: &'static str) {
        notices(sink, kind, result).increment(1);
    }

    fn store_failed(&self, operation: &'static str) {
        counter!("everfresh_store_errors_total", "op" => operation).increment(1);
    }

    fn store_written(&self, duration: Duration) {
        histogram!("everfresh_store_write_seconds").record(duration);
    }
}
