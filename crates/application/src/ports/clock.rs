//! The two clocks: the one that people and providers share, and the one that only counts.

use std::time::Duration;

use everfresh_domain::Timestamp;

/// Tells the time. Waiting is tokio's; deadlines are decided by asking here, not by a timer.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Clock: Send + Sync {
    /// Wall-clock time. May jump in either direction.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment of this process. Never runs back; may stand still in sleep.
    fn monotonic(&self) -> Duration;
}
