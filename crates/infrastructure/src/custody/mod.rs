//! The key that seals the store: where it comes from and how it is kept.
