//! The use cases in virtual time: worlds of fakes for what happens, mocks for order and count.

#![expect(clippy::unwrap_used, reason = "a test whose ground gives way should stop there")]

mod backup;
mod changing;
mod device;
mod keys;
mod lasting;
mod login;
mod month;
mod moving;
mod notices;
mod order;
mod refresh;
mod scopes;
mod timeline;
mod unattended;
mod ways;
mod world;
