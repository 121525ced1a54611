//! Randomness for everything that must not be guessed.

/// Draws from the operating system's generator.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Entropy: Send + Sync {
    /// 32 unpredictable bytes.
    fn bytes(&self) -> [u8; 32];
}
