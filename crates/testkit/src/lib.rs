//! placeholder
pub mod contract;
