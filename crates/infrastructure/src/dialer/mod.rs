//! Connections to upstreams for the data plane.
