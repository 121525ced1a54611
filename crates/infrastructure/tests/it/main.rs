//! The adapters, from outside: contracts, crashes, damage, and servers that misbehave.

#![expect(clippy::unwrap_used, reason = "a test whose ground gives way should stop there")]

mod corporate;
mod device;
mod dialer;
mod dialer_tls;
mod dpop;
mod importing;
mod lasting;
#[cfg(unix)]
mod notices;
#[cfg(target_os = "linux")]
mod notices_desktop;
mod oauth;
mod oauth_field;
mod oauth_guard;
mod providers;
mod raw;
mod store;
mod store_damage;
mod store_kill;
mod store_power;
mod switches;
mod unattended;
