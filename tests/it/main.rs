//! The built binary against servers over HTTP, killed and restarted. Each test prints what it
//! measured.

#![expect(clippy::unwrap_used, reason = "a test whose ground gives way should stop there")]

mod bad_input;
mod command_line;
#[cfg(unix)]
mod completion;
mod connect;
mod connect_keys;
mod corporate;
mod disconnect;
mod doctor;
mod dpop;
mod importing;
mod keys;
mod life;
mod login;
mod many;
mod monitoring;
mod notices;
mod outage;
mod profile;
mod recipes;
mod reference;
#[cfg(target_os = "linux")]
mod service;
mod sleep;
mod stdio;
mod stdio_upstream;
mod steps;
mod survival;
mod table;
mod timeline;
#[cfg(target_os = "linux")]
mod torn;
mod traces;
mod unattended;
mod watch;
