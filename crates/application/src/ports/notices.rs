//! Notices on their way out: the sinks that tell people and programs, and the memory of what was told.

use std::time::Duration;

use async_trait::async_trait;
use everfresh_domain::Notice;
use everfresh_domain::notice::ledger::Ledger;

use super::StoreError;

/// A notice as it goes out, the same at every try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeMessage {
    /// What is told.
    pub notice: Notice,
    /// The same as JSON, for programs. Holds no secret.
    pub json: String,
}

/// What came of a delivery that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It arrived; what was done, in words.
    Done(String),
    /// There is nobody to be told here, and why; that is no failure.
    Nobody(String),
}

/// Whether another try may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The answer will be the same.
    Never,
    /// Later; at the earliest after this time, where the other side says so.
    Later(Option<Duration>),
}

/// Why a notice did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct NotDelivered {
    /// Why, for people; without secrets.
    pub cause: String,
    /// Whether to try again.
    pub again: Again,
}

/// One way by which notices go out.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Its name in the configuration, in metrics and logs. No two sinks share one.
    fn name(&self) -> &'static str;

    /// How long one delivery may take; after that it is dropped, which must stop it.
    fn time_limit(&self) -> Duration;

    /// Tries once to deliver. Dropping the future stops whatever it has begun.
    async fn deliver(&self, message: &NoticeMessage) -> Result<Delivered, NotDelivered>;
}

/// Keeps what was told.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait NoticeStore: Send + Sync {
    /// What was stored last; `None` where nothing was.
    async fn notices(&self) -> Result<Option<Ledger>, StoreError>;

    /// Stores the ledger. Durable once returned.
    async fn put_notices(&self, ledger: &Ledger) -> Result<(), StoreError>;
}
