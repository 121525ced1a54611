//! The Prometheus recorder.
