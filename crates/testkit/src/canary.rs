//! Secrets that are looked for wherever they do not belong: in logs, answers and files.
//!
//! What the model of a provider makes is known by a word that nothing else has. Other secrets, those
//! that everfresh draws above all, are kept here once a test has come to know them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// A part of every token, code and secret that the model makes.
const WORD: &str = "-canary-";

/// How the private keys begin that everfresh makes: PKCS #8 of a key on P-256, in base64.
const PRIVATE_KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQ";

/// What stands before the private key in a file of keys that a test itself has written.
const ARMOUR: &str = "-----BEGIN PRIVATE KEY-----\n";

/// The shortest text that is told from others by chance.
const SHORTEST: usize = 16;

/// How much is shown of what stands around a secret.
const BEFORE: usize = 160;
const AFTER: usize = 60;

static KEPT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// From here on `secret` is looked for as well.
pub fn keep(secret: &str) {
    if secret.len() >= SHORTEST {
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).insert(secret.to_owned());
    }
}

/// Where a secret stands in `bytes`, with what is around it.
pub fn found_in(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let own_key = || text.match_indices(PRIVATE_KEY).map(|(at, _)| at).find(|at| !text[..*at].ends_with(ARMOUR));
    let at = text.find(WORD).or_else(own_key).or_else(|| kept.iter().find_map(|secret| text.find(secret)))?;
    let (from, to) = (text.floor_char_boundary(at.saturating_sub(BEFORE)), at + AFTER);
    Some(text[from..text.ceil_char_boundary(to.min(text.len()))].to_owned())
}

/// Every line of a log from here on, at any level, is searched; the first secret in one ends the
/// process, since a panic could be caught by whoever logs.
pub fn watch_logs() {
    drop(tracing::subscriber::set_global_default(Watcher));
}

struct Watcher;

impl Subscriber for Watcher {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = Line::default();
        span.record(&mut line);
        line.search(span.metadata());
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, values: &Record<'_>) {
        let mut line = Line::default();
        values.record(&mut line);
        if let Some(found) = found_in(line.0.as_bytes()) {
            end(&found);
        }
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        line.search(event.metadata());
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// The fields of an event or a span, as a log would show them.
#[derive(Default)]
struct Line(String);

impl Line {
    fn search(&self, metadata: &Metadata<'_>) {
        if let Some(found) = found_in(self.0.as_bytes()) {
            end(&format!("{} {}: {found}", metadata.level(), metadata.target()));
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{}={value:?} ", field.name()).expect("a text takes anything");
    }
}

#[expect(clippy::print_stderr, reason = "the last words of a test's process")]
fn end(found: &str) -> ! {
    eprintln!("a log shows a secret: {found}");
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_and_what_the_model_makes_is_found_with_what_is_around_it() {
        keep("0f1e2d3c4b5a69788796a5b4c3d2e1f0");
        keep("short");
        assert_eq!(found_in("grüße 0f1e2d3c4b5a69788796a5b4c3d2e1f0".as_bytes()).unwrap().chars().next(), Some('g'));
        assert!(found_in(b"bearer access-canary-7 and more").is_some_and(|found| found.contains("access")));
        assert_eq!(found_in(b"short, and a canary"), None);
        let key = |before: &str| found_in(format!("{before}{PRIVATE_KEY}AQ").as_bytes());
        assert!(key("kept: ").is_some() && key(ARMOUR).is_none(), "a key that a test has written is no leak");
    }

    /// Set in the process that this test starts, because that one is to end.
    const LOGGING: &str = "EVERFRESH_TEST_LOGGING";

    #[test]
    fn a_log_that_shows_a_secret_ends_the_process() {
        if let Some(secret) = std::env::var_os(LOGGING) {
            watch_logs();
            tracing::trace!(?secret, "read");
            return;
        }
        let ended = |secret: &str| {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "--nocapture", "canary::tests::a_log_that_shows_a_secret_ends_the_process"]);
            child.env(LOGGING, secret);
            child.output().unwrap()
        };
        let shown = ended("refresh-canary-9");
        assert!(!shown.status.success(), "{shown:?}");
        assert!(String::from_utf8_lossy(&shown.stderr).contains("a log shows a secret"), "{shown:?}");
        assert!(ended("9f3a01bc").status.success());
    }
}
