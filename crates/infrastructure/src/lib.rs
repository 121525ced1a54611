//! What the ports of everfresh are made of.
//!
//! Deliberately absent: any decision about when to refresh or what a failure means for a login.
//! Nothing here knows of the presentation, nor it of this.

pub mod backup;
pub mod custody;
pub mod dialer;
pub mod files;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod import;
mod jose;
pub mod keys;
pub mod metrics;
pub mod notices;
pub mod oauth;
pub mod proof;
pub mod secrets;
pub mod store;
pub mod system;
