//! Secrets that the configuration points at.
