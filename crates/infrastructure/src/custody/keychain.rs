//! The operating system's keychain, where there is one that answers in time.
//!
//! A keychain may ask its user, hang or be absent: every call runs on a thread of its own and is
//! given up after [`PATIENCE`]. Only the start of the daemon calls, so nothing else ever waits.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use keyring_core::api::CredentialStoreApi;
use zeroize::Zeroizing;

/// How long a keychain may take.
const PATIENCE: Duration = Duration::from_secs(5);

const SERVICE: &str = "everfresh";

/// The master key's place in the keychain. Each data folder has its own.
pub(super) struct Entry {
    entry: Arc<keyring_core::Entry>,
}

/// The place of the key that belongs to the data folder `folder`; `None` without a keychain.
pub(super) fn entry(folder: &Path) -> Option<Entry> {
    if !is_likely() {
        return None;
    }
    let user = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()).display().to_string();
    let entry = in_time(move || platform_store()?.build(SERVICE, &user, None))?;
    Some(Entry { entry: Arc::new(entry) })
}

impl Entry {
    /// The stored text, if there is one that can be had.
    pub(super) fn read(&self) -> Option<Zeroizing<String>> {
        let entry = Arc::clone(&self.entry);
        in_time(move || entry.get_password().map(Zeroizing::new))
    }

    /// Stores `text` and reads it back. Returns whether it is there.
    pub(super) fn write(&self, text: &Zeroizing<String>) -> bool {
        let (entry, written) = (Arc::clone(&self.entry), text.clone());
        in_time(move || entry.set_password(&written)).is_some() && self.read().as_ref() == Some(text)
    }
}

/// Runs `call` with a time limit. Why it failed goes to the log; that it did is what matters here.
fn in_time<T: Send + 'static>(call: impl FnOnce() -> keyring_core::Result<T> + Send + 'static) -> Option<T> {
    let (answer, wait) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("keychain".into()).spawn(move || drop(answer.send(call()))).ok()?;
    match wait.recv_timeout(PATIENCE) {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the keychain of this system gave nothing");
            None
        }
        Err(_) => {
            tracing::warn!("the keychain of this system did not answer in time");
            None
        }
    }
}

#[cfg(target_os = "linux")]
fn platform_store() -> keyring_core::Result<Arc<zbus_secret_service_keyring_store::Store>> {
    zbus_secret_service_keyring_store::Store::new()
}

#[cfg(target_os = "macos")]
fn platform_store() -> keyring_core::Result<Arc<apple_native_keyring_store::keychain::Store>> {
    apple_native_keyring_store::keychain::Store::new()
}

#[cfg(windows)]
fn platform_store() -> keyring_core::Result<Arc<windows_native_keyring_store::Store>> {
    windows_native_keyring_store::Store::new()
}

/// Whether it is worth asking: without a session bus there is no secret service.
#[cfg(target_os = "linux")]
fn is_likely() -> bool {
    std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some()
}

#[cfg(any(target_os = "macos", windows))]
fn is_likely() -> bool {
    true
}
