//! The stage of the end-to-end tests: the built binary as a daemon and as commands, and the
//! servers that it meets. Nothing here looks inside everfresh.

pub mod daemon;
pub mod scripted;
pub mod stdio;
pub mod terminal;
pub mod transcript;
pub mod wait;
pub mod world;

pub use daemon::{Daemon, Ran, client};
pub use scripted::{Asked, Reply, Scripted};
pub use stdio::{Detached, StdioClient};
pub use terminal::Terminal;
pub use transcript::Transcript;
pub use wait::until;
pub use world::World;
