//! The use cases of everfresh, the one loop that runs the refresh engine, and the ports.
pub mod ports;
pub mod settings;

pub use settings::{LoginSettings, OAuthSettings, ResourceSetting, SecretSource, ServerSettings, ServerSource};
