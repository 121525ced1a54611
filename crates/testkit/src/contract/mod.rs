//! What every implementation of a port must do, as suites that run over any of them.

pub mod store;
