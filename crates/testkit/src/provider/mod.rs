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
mod reply;
mod switches;
mod tokens;
mod unattended;

pub use bound::Presented;
pub use client::ModelClient;
pub use http::ProviderServer;
pub use model::{Access, Behaviour, Counters, Model, Rotation};
pub use presets::{Preset, presets};
#[cfg(feature = "storm")]
pub(crate) use reply::http_date;
pub use reply::{Manner, Reply};
pub use switches::{
    AuthRule, DeadToken, DpopRule, DpopSwitches, ExpiresIn, Fault, OfflineRule, RefreshTokenShape, ResourceRule,
    Switches, UpstreamFault,
};
pub use unattended::{Enrolled, Signer};
