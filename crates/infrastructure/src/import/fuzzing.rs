//! The parsers of other programs' files, as fuzzing reaches them.

use std::io::Cursor;

use super::bolt::Bolt;
use super::{json, launches_in};

/// A database: whatever it holds, reading it ends, and what is read lies within it.
pub(crate) fn bolt(bytes: &[u8]) {
    let Ok(mut bolt) = Bolt::open(Cursor::new(bytes)) else { return };
    for name in ["oauth_tokens", "upstreams", "small", "many", "long"] {
        for entry in bolt.bucket(name.as_bytes()).ok().flatten().unwrap_or_default() {
            let at = usize::try_from(entry.at).expect("it lies in memory");
            assert_eq!(bytes.get(at..at + entry.value.len()), Some(entry.value.as_slice()));
        }
    }
}

/// A document of logins, or a client's configuration.
pub(crate) fn document(bytes: &[u8]) {
    for login in json::read(bytes).map(|found| found.logins).unwrap_or_default() {
        let written = serde_json::to_vec(&login.login).expect("what was read can be written");
        assert_eq!(serde_json::from_slice::<everfresh_application::ForeignLogin>(&written).ok(), Some(login.login));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(launches_in(text).iter().all(|launch| launch.url.starts_with("http")));
    }
}
