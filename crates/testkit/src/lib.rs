//! A world to test everfresh in: clocks, weather, stores that fail, an authorization server as a
//! pure model and over HTTP, an MCP server, and the invariants that must hold whatever happens.
//!
//! Nothing here is in the way of a user's login. The binary has it for `everfresh demo` only.

pub mod canary;
pub mod clock;
pub mod contract;
#[cfg(feature = "corporate")]
pub mod corporate;
pub mod documents;
pub mod mcp;
pub mod memory;
pub mod metrics;
pub mod proof;
pub mod provider;
pub mod secrets;
mod serving;
pub mod sim;
#[cfg(feature = "storm")]
pub mod storm;
