//! The span of a proxied request, for those who export traces.
//!
//! It begins once the caller is admitted and its server is known: a stranger puts no name, no method
//! and no parent into a trace. It is a child of the caller's span where the request names one (W3C
//! Trace Context). The header itself passes on untouched, as every other: the upstream's span is the
//! caller's child as well.

use everfresh_application::spans::TARGET;
use everfresh_domain::GrantId;
use http::{HeaderMap, Method, Response, StatusCode};
use tracing::Span;
use tracing::field::{Empty, display};

/// The span of a request to `server`; nothing where nobody exports traces. Neither key, path nor
/// query are in it.
pub(super) fn of(server: &GrantId, method: &Method, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        target: TARGET, "mcp.proxy", otel.kind = "server", otel.name = Empty, http.request.method = Empty,
        everfresh.server = Empty, http.response.status_code = Empty, otel.status_code = Empty,
    );
    if !span.is_disabled() {
        begin(&span, server, method, headers);
    }
    span
}

#[cold]
fn begin(span: &Span, server: &GrantId, method: &Method, headers: &HeaderMap) {
    // A client may send any word as method; OpenTelemetry has one for those that nobody knows.
    let (method, word) = if is_known(method) { (method.as_str(), method.as_str()) } else { ("_OTHER", "HTTP") };
    span.record("http.request.method", method);
    span.record("otel.name", format!("{word} /mcp/{server}"));
    span.record("everfresh.server", display(server));
    #[cfg(feature = "otel")]
    continue_trace(span, headers);
    #[cfg(not(feature = "otel"))]
    let _ = headers;
}

fn is_known(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS
    )
}

/// The answer has begun.
pub(super) fn answered<B>(span: &Span, response: &Response<B>) {
    if span.is_disabled() {
        return;
    }
    span.record("http.response.status_code", response.status().as_u16());
    if response.status() >= StatusCode::INTERNAL_SERVER_ERROR {
        span.record("otel.status_code", "ERROR");
    }
}

#[cfg(feature = "otel")]
fn continue_trace(span: &Span, headers: &HeaderMap) {
    use opentelemetry::propagation::Extractor;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    struct Headers<'a>(&'a HeaderMap);

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
