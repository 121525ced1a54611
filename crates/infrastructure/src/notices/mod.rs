//! The ways by which notices leave: the desktop, a command of the user's, a webhook.
//!
//! Each tries once and in bounded time; whether to try again, and everything that is remembered, is
//! the application's.

mod command;
mod desktop;
mod webhook;

pub use command::CommandNotifier;
pub use desktop::{DesktopNotifier, OnClick};
pub use webhook::{WebhookNotifier, WebhookSettings};

use everfresh_application::ports::{Again, NotDelivered};

fn never(cause: impl Into<String>) -> NotDelivered {
    NotDelivered { cause: cause.into(), again: Again::Never }
}

fn later(cause: impl Into<String>) -> NotDelivered {
    NotDelivered { cause: cause.into(), again: Again::Later(None) }
}
