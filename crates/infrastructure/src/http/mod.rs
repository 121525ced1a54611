//! The one factory of outbound HTTP clients.
