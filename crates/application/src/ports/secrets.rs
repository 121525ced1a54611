//! Secrets that the configuration only points at.

use async_trait::async_trait;
use everfresh_domain::Secret;

use crate::settings::SecretSource;

/// Fetches client secrets from where the user keeps them.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Secrets: Send + Sync {
    /// The secret at `source`, which is one line. The error names the source and the fix, and shows no content.
    async fn resolve(&self, source: &SecretSource) -> Result<Secret, String>;

    /// The whole text at `source`, for what has many lines: a private key in PEM.
    async fn resolve_whole(&self, source: &SecretSource) -> Result<Secret, String>;
}
