//! The surfaces over real sockets: a client on one side, a protected server on the other.

#![expect(clippy::unwrap_used, reason = "a test whose ground gives way should stop there")]

mod api;
mod connections;
mod dpop;
mod endpoint;
mod events;
mod framing;
mod guard;
mod help;
mod home;
mod keys;
mod logins;
mod reference;
mod refusals;
mod spans;
mod streams;
mod stub;
mod transparency;
mod wire;
