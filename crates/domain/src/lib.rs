//! The rules of keeping an OAuth login fresh, as data and pure functions.
//!
//! Deliberately absent: clocks, randomness, `async`, threads, files, sockets and HTTP. Time is an
//! argument, jitter is derived from the grant's name, and events carry fingerprints instead of
//! secrets, so a run is a function of its input: ten simulated years take a moment, and a recorded
//! trace replays.
//!
//! Start at [`engine::Engine`], which is told what happened and answers what is to be done.
//! [`grant::GrantRecord`] is what must survive a crash, with one method for each step of an attempt.

pub mod budget;
pub mod engine;
pub mod failure;
pub mod grant;
pub mod health;
pub mod ids;
pub mod import;
pub mod key;
pub mod login;
pub mod notice;
pub mod policy;
pub mod profile;
pub mod retry;
pub mod schedule;
pub mod secret;
pub mod status;
pub mod strikes;
pub mod time;
pub mod timeline;
pub mod token;
pub mod unattended;

pub use budget::Budget;
pub use engine::{Action, Engine, Event, Note, Wake};
pub use failure::{Failure, FailureClass};
pub use grant::{Binding, GrantFacts, GrantRecord, LoginEnd};
pub use health::{AdminState, Health, HealthAction, Level, Reason};
pub use ids::{AccountName, AttemptId, Generation, GrantId, KeyName, ServerName};
pub use import::{Imported, NotUndoable};
pub use key::{KeyHash, KeyHolder, KeyRight, KeyScope, LimitedKey};
pub use notice::{Concern, Notice, NoticeId, NoticeKind, NoticePolicy, Situation};
pub use policy::Policy;
pub use profile::Profile;
pub use secret::{Fingerprint, Secret};
pub use status::GrantStatus;
pub use strikes::Strikes;
pub use time::Timestamp;
pub use token::{LoginLimits, TokenFacts, TokenResponse, TokenSet};
