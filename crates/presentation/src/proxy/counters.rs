//! What the data plane counts, with the handles looked up once for each server.

use std::time::Duration;

use http::{Method, StatusCode};
use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};

const METHODS: [&str; 6] = ["GET", "POST", "DELETE", "PUT", "PATCH", "other"];
const CODES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// One server's counters.
pub(super) struct Counters {
    requests: [[Counter; CODES.len()]; METHODS.len()],
    upstream: Histogram,
    overhead: Histogram,
    replays: Counter,
    parked: [Counter; 2],
}

/// How a parked request went on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Parked {
    Served,
    Denied,
}

/// What `/metrics` says of the data plane's metrics.
pub(crate) fn describe() {
    describe_counter!(
        "everfresh_proxy_requests_total",
        "Proxied requests that were answered, by class of status code."
    );
    describe_counter!("everfresh_proxy_replays_total", "Requests sent again with a newer token after a 401.");
    describe_counter!("everfresh_proxy_parked_total", "Requests that waited for a refresh, by how they went on.");
    let upstream = "Time until the upstream's answer began.";
    describe_histogram!("everfresh_proxy_upstream_seconds", Unit::Seconds, upstream);
    let overhead = "Time that everfresh itself added to a request until its answer began.";
    describe_histogram!("everfresh_proxy_overhead_seconds", Unit::Seconds, overhead);
}

impl Counters {
    pub(super) fn of(server: &str) -> Self {
        let server = server.to_owned();
        let request = |method: &'static str, code: &'static str| counter!("everfresh_proxy_requests_total", "server" => server.clone(), "method" => method, "code" => code);
        let parked = |outcome: &'static str| counter!("everfresh_proxy_parked_total", "server" => server.clone(), "outcome" => outcome);
        Self {
            requests: METHODS.map(|method| CODES.map(|code| request(method, code))),
            upstream: histogram!("everfresh_proxy_upstream_seconds", "server" => server.clone()),
            overhead: histogram!("everfresh_proxy_overhead_seconds", "server" => server.clone()),
            replays: counter!("everfresh_proxy_replays_total", "server" => server.clone()),
            parked: ["served", "denied"].map(parked),
        }
    }

    /// One request was answered: `upstream` was the time until the upstream's answer began,
    /// `overhead` all other time until then.
    pub(super) fn answered(&self, method: &Method, status: StatusCode, upstream: Duration, overhead: Duration) {
        let method = METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1);
        let code = usize::from(status.as_u16() / 100).clamp(1, CODES.len()) - 1;
        self.requests[method][code].increment(1);
        if !upstream.is_zero() {
            self.upstream.record(upstream);
        }
        self.overhead.record(overhead);
    }

    pub(super) fn replayed(&self) {
        self.replays.increment(1);
    }

    pub(super) fn parked(&self, outcome: Parked) {
        self.parked[match outcome {
            Parked::Served => 0,
            Parked::Denied => 1,
        }]
        .increment(1);
    }
}
