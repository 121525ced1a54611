//! Logs, to stderr: text for people, JSON for machines.

use std::io::IsTerminal;

use everfresh_application::spans;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::cli::{Global, LogFormat};
use crate::exit::{Exit, Failure};
use crate::traces::{self, Traces, TracesLayer};

/// Starts logging. `default` is the filter where none is given.
pub(crate) fn start(global: &Global, default: &str) -> Result<(), Failure> {
    start_over(global, default, None)
}

/// The same, and exports traces where the environment asks for that, until what it returns is dropped.
pub(crate) fn start_with_traces(global: &Global, default: &str) -> Result<Traces, Failure> {
    let (traces, layer, note) = traces::start();
    start_over(global, default, layer)?;
    match note {
        Some(Ok(note)) => tracing::info!("{note}"),
        Some(Err(note)) => tracing::warn!("{note}"),
        None => {}
    }
    Ok(traces)
}

fn start_over(global: &Global, default: &str, below: Option<TracesLayer>) -> Result<(), Failure> {
    let text = global.log_level.as_deref().unwrap_or(default);
    let filter: Targets = text.parse().map_err(|error| {
        let text =
            format!("--log-level {text:?} is not a filter: {error}; use a level like info, or info,everfresh=debug");
        Failure::new(Exit::Usage, text)
    })?;
    // sled logs its ordinary work as warnings, and the log's lines say themselves what spans would.
    let filter = filter.with_target("sled", LevelFilter::OFF).with_target(spans::TARGET, LevelFilter::OFF);
    let on_terminal = std::io::stderr().is_terminal();
    let format = global.log_format.unwrap_or(if on_terminal { LogFormat::Text } else { LogFormat::Json });
    let layer = match format {
        LogFormat::Text => {
            let colour = on_terminal && std::env::var_os("NO_COLOR").is_none();
            fmt::layer().with_writer(std::io::stderr).with_ansi(colour).with_target(false).boxed()
        }
        LogFormat::Json => {
            fmt::layer().with_writer(std::io::stderr).json().flatten_event(true).with_current_span(false).boxed()
        }
    };
    // A filter of all spares what it leaves out from being looked at where it happens, such as the span of
    // each request; beside a layer that exports, the log's filter must be its own.
    let exports = below.is_some();
    let registry = tracing_subscriber::registry().with(below);
    // A second start in one process, as in tests, keeps the first.
    drop(if exports {
        registry.with(layer.with_filter(filter)).try_init()
    } else {
        registry.with(layer).with(filter).try_init()
    });
    Ok(())
}
