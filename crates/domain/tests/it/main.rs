//! The engine from outside: told what happened, asked what is to be done.

mod endpoint;
mod engine;
mod health;
mod import;
mod kit;
mod lifecycle;
mod notice;
mod profiles;
mod record;
mod timeline;
mod unattended;
