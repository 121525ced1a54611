//! What people and programs see of everfresh: the data plane, the API, events, health, metrics and
//! the page, behind one guard on one listener.
//!
//! Deliberately absent: stores, OAuth and any decision about tokens. Connections to upstreams come
//! through a port; how the metrics look is somebody else's function.

pub mod api;
mod cookie;
pub mod guard;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    //! The parsers of foreign bytes, as fuzzing reaches them. Not for use.

    /// What a browser brings to the redirect URI.
    pub fn callback_query(query: &str) {
        crate::api::callback::read(query);
    }
}
pub mod help;
mod page;
pub mod problem;
pub mod proxy;
mod server;

pub use guard::{Guard, KeyRule};
pub use server::{Parts, Server};
