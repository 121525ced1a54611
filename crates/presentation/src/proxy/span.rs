//! The span of a proxied request, for those who export traces.
//!
//! It is a child of the caller's span where the request names one (W3C Trace Context). The header
//! itself passes on untouched, as every other: the upstream's span is the caller's child as well.

use everfresh_application::spans::TARGET;
use http::request::Parts;
use http::{Response, StatusCode};
use tracing::Span;
use tracing::field::Empty;

use super::target::data_path;

/// The span of a request; nothing where nobody exports traces. Neither key nor query are in it.
pub(super) fn of(head: &Parts) -> Span {
    let span = tracing::info_span!(
        target: TARGET, "mcp.proxy", otel.kind = "server", otel.name = Empty, http.request.method = %head.method,
        everfresh.server = Empty, http.response.status_code = Empty, otel.status_code = Empty,
    );
    if span.is_disabled() {
        return span;
    }
    if let Some(path) = data_path(head.uri.path()) {
        span.record("everfresh.server", path.name);
        span.record("otel.name", format!("{} /mcp/{}", head.method, path.name));
    }
    #[cfg(feature = "otel")]
    continue_trace(&span, &head.headers);
    span
}

/// The answer has begun.
pub(super) fn answered<B>(span: &Span, response: &Response<B>) {
    span.record("http.response.status_code", response.status().as_u16());
    if response.status() >= StatusCode::INTERNAL_SERVER_ERROR {
        span.record("otel.status_code", "ERROR");
    }
}

#[cfg(feature = "otel")]
fn continue_trace(span: &Span, headers: &http::HeaderMap) {
    use opentelemetry::propagation::Extractor;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    struct Headers<'a>(&'a http::HeaderMap);

    impl Extractor for Headers<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.get(key)?.to_str().ok()
        }

        fn keys(&self) -> Vec<&str> {
            self.0.keys().map(http::HeaderName::as_str).collect()
        }
    }

    let parent = opentelemetry::global::get_text_map_propagator(|propagator| propagator.extract(&Headers(headers)));
    // A span that was made otherwise has no parent to be set.
    drop(span.set_parent(parent));
}
