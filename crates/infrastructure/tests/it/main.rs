//! The adapters, from outside: contracts, crashes, damage, and servers that misbehave.

mod store;
mod store_damage;
mod store_kill;
mod store_power;
