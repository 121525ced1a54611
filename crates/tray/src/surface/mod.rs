//! The desktop: shows a view, and says what a person clicked.
//!
//! Both ways have the same two items: `run`, which starts the desktop's side and then the loop
//! given to it, and `Surface`, by which that loop shows what is to be seen.

#[cfg(not(any(target_os = "macos", target_os = "windows")))]
mod status_notifier;
#[cfg(any(target_os = "macos", target_os = "windows"))]
mod system_tray;

#[cfg(not(any(target_os = "macos", target_os = "windows")))]
pub(crate) use status_notifier::{Surface, run};
#[cfg(any(target_os = "macos", target_os = "windows"))]
pub(crate) use system_tray::{Surface, run};

/// How many clicks may wait. A person makes one at a time; more are dropped.
const CLICKS_BOUND: usize = 8;

/// The item's name for the desktop.
const ID: &str = "everfresh-tray";

/// The runtime of the loop: one thread is plenty.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
