//! Traces by OpenTelemetry, where a collector is named by the standard variables.
//!
//! `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` turns them on;
//! `OTEL_TRACES_EXPORTER=none` and `OTEL_SDK_DISABLED=true` turn them off. The other `OTEL_` variables
//! mean what the specification of OpenTelemetry says. Exporting is a build feature, `otel`.

use tracing_subscriber::Layer;
use tracing_subscriber::registry::Registry;

/// Whether the environment asks for traces.
fn are_wanted() -> bool {
    let value = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let endpoints = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
    endpoints.iter().any(|name| value(name).is_some())
        && value("OTEL_SDK_DISABLED").is_none_or(|disabled| !disabled.eq_ignore_ascii_case("true"))
        && value("OTEL_TRACES_EXPORTER").is_none_or(|exporter| exporter != "none")
}

/// What turns spans into traces.
pub(crate) type TracesLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// What is left to say in the log, once there is one: that traces go out, or why they do not.
type Note = Option<Result<&'static str, String>>;

#[cfg(feature = "otel")]
mod exporting {
    use std::time::Duration;

    use everfresh_application::spans;
    use opentelemetry::KeyValue;
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_otlp::SpanExporter;
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::filter::{LevelFilter, Targets};

    use super::{Layer, Note, TracesLayer, are_wanted};

    /// How long spans that are not sent yet are waited for at the end.
    const LAST_SPANS: Duration = Duration::from_secs(2);

    /// What sends spans, and sends the last ones when dropped.
    pub(crate) struct Traces(Option<SdkTracerProvider>);

    impl Drop for Traces {
        fn drop(&mut self) {
            if let Some(provider) = self.0.take() {
                drop(provider.shutdown_with_timeout(LAST_SPANS));
            }
        }
    }

    /// The layer that turns spans into traces, where they are wanted.
    pub(crate) fn start() -> (Traces, Option<TracesLayer>, Note) {
        if !are_wanted() {
            return (Traces(None), None, None);
        }
        // The exporter's client has no other cryptography than ours.
        drop(rustls::crypto::ring::default_provider().install_default());
        let exporter = match SpanExporter::builder().with_http().build() {
            Ok(exporter) => exporter,
            Err(error) => return (Traces(None), None, Some(Err(format!("no traces are exported: {error}")))),
        };
        let resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let resource = match std::env::var_os("OTEL_SERVICE_NAME") {
            Some(_) => resource,
            None => resource.with_service_name("everfresh"),
        };
        let provider =
            SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter).build();
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("everfresh")).with_location(false);
        // What the log says within a span goes along with it; the exporter's own requests do not.
        let filter = Targets::new()
            .with_target(spans::TARGET, LevelFilter::INFO)
            .with_target("everfresh_application", LevelFilter::INFO)
            .with_target("everfresh_infrastructure", LevelFilter::INFO);
        (Traces(Some(provider)), Some(layer.with_filter(filter).boxed()), Some(Ok("traces are exported")))
    }
}

#[cfg(not(feature = "otel"))]
mod exporting {
    use super::{Note, TracesLayer, are_wanted};

    /// Nothing that would send spans.
    pub(crate) struct Traces;

    /// No layer, and a word where one is wanted.
    pub(crate) fn start() -> (Traces, Option<TracesLayer>, Note) {
        let text = "an OTLP endpoint is set, but this everfresh exports no traces; build it with --features otel";
        (Traces, None, are_wanted().then(|| Err(text.to_owned())))
    }
}

pub(crate) use exporting::{Traces, start};
