//! The boundaries: what the application asks of the world, each with what is true once it returns.
//!
//! Ports are used as `dyn`. With the feature `mocks`, each has a mockall mock for tests of order
//! and count; whole worlds are fakes from the testkit.

mod clock;
mod dialer;
mod entropy;
mod keys;
mod metrics;
mod notices;
mod oauth;
mod proof;
mod secrets;
mod store;

pub use clock::Clock;
pub use dialer::{Dialer, UpstreamIo};
pub use entropy::Entropy;
pub use keys::{KeyFileError, KeyFiles};
pub use metrics::Metrics;
pub use notices::{Again, Delivered, NotDelivered, NoticeMessage, NoticeStore, Notifier};
pub use oauth::{
    AuthorizationRequest, Challenge, DeviceAuthorization, Discovered, DiscoveryError, DpopOffer, IdentityExchange,
    OAuthClient, OAuthDiscovery, RegistrationError, TokenKind,
};
pub use proof::{
    DPOP, DPOP_NONCE, INVALID_DPOP_PROOF, ProofError, ProofKeys, ProofRequest, ProofSigner, USE_DPOP_NONCE, nonce_of,
    time_at_server,
};
pub use secrets::Secrets;
pub use store::{JournalEntry, JournalOutcome, LoadedGrant, RegistrationKey, StoreError, TokenStore};

#[cfg(feature = "mocks")]
pub use self::{
    clock::MockClock, dialer::MockDialer, entropy::MockEntropy, keys::MockKeyFiles, metrics::MockMetrics,
    notices::MockNoticeStore, notices::MockNotifier, oauth::MockOAuthClient, oauth::MockOAuthDiscovery,
    proof::MockProofKeys, secrets::MockSecrets, store::MockTokenStore,
};
