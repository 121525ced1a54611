//! An authorization server of our own: a pure model with fault switches, the same over HTTP, and
//! a client that talks to the model without any socket.

mod bound;
mod client;
mod codes;
mod devices;
mod faults;
mod http;
mod model;
mod presets;
mod switches;
mod tokens;

pub use bound::Presented;
pub use client::ModelClient;
pub use http::ProviderServer;
#[cfg(feature = "storm")]
pub(crate) use model::http_date;
pub use model::{Access, Behaviour, Counters, Manner, Model, Reply, Rotation};
pub use presets::{Preset, presets};
pub use switches::{
    AuthRule, DeadToken, DpopRule, DpopSwitches, ExpiresIn, Fault, OfflineRule, RefreshTokenShape, ResourceRule,
    Switches, UpstreamFault,
};
