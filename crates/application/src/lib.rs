//! The use cases of everfresh, the one loop that runs the refresh engine, and the ports.
//!
//! Deliberately absent: HTTP, files, TLS, and any decision about when to refresh, which is the
//! domain's. Tokio is used for tasks, channels and timers only.
//!
//! [`Application`] is the front door. Behind it one actor, the driver, owns the engine; attempts
//! run as tasks of the driver's own, so that no caller can cancel one; [`access::Access`] hands
//! tokens to the data plane without a lock.

pub mod access;
pub mod app;
mod attempt;
pub mod attendance;
pub mod backup;
mod board;
pub mod challenge;
mod clock_watch;
mod driver;
pub mod events;
pub mod foreign;
mod gate;
pub mod journal;
pub mod keys;
pub mod login;
pub mod notices;
pub mod ports;
mod servers;
pub mod settings;
pub mod spans;
mod unattended;
mod vault;

pub use access::{Access, Bearer, Denial, Pass, Route, Seat};
pub use app::{AppError, Application, MoveOutcome, Moved, Parts, RefreshOutcome, ServerView, TokenView};
pub use attendance::{Attempted, Timeline};
pub use events::{EventHub, PublicEvent, PublicEventKind, Subscription};
pub use foreign::{ForeignLogin, ImportError, MoveTerms};
pub use keys::{KeyError, KeyRing, KeyView, LocalKey, NewKey, Shown};
pub use login::{CallbackQuery, DevicePrompt, LoginError, LoginFinished, LoginStarted, PasteError};
pub use notices::{NoticeDesk, NoticeParts, NoticeSettings, Tried};
pub use settings::{
    ClientCertificate, DpopSetting, IdentityProviderSettings, LoginSettings, LoginWay, OAuthSettings, OfflineAccess,
    ProfileSetting, ResourceSetting, SecretSource, ServerSettings, ServerSource, SigningAlgorithm, redirect_problem,
};
