//! A token in a file, for programs that read one: web identity tokens of clouds above all.

use std::path::{Path, PathBuf};
use std::time::Duration;

use everfresh_application::ports::Clock;
use everfresh_domain::Timestamp;
use everfresh_infrastructure::files;
use everfresh_infrastructure::system::SystemClock;
use serde_json::Value;

use super::render::end_of;
use crate::client::Api;
use crate::exit::{Exit, Failure};
use crate::output;

/// How often it is looked whether there is another token, at most: the daemon renews them long before
/// their end, and readers read again when they need to.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// The same at least, for tokens that live shortly.
const LOOK_MIN: Duration = Duration::from_secs(1);

/// Looks while one token lives.
const LOOKS: u32 = 10;

/// Writes `text` and nothing after it: readers send what they find.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Failed, format!("the token cannot be written to {}: {error}", path.display()))
    };
    let path: PathBuf = std::path::absolute(path).map_err(failed)?;
    files::write_private(&path, text.as_bytes()).map_err(failed)
}

/// What was done, for a person.
pub(super) fn written(path: &Path, answer: &Value) -> String {
    match end_of(answer) {
        Some(end) => format!("{}: written; this token ends at {end}", path.display()),
        None => format!("{}: written", path.display()),
    }
}

/// Keeps the file fresh until the process is ended. A token that cannot be had leaves the one before in
/// its place, and is asked for again.
pub(super) async fn keep(
    api: &Api,
    path: &Path,
    fetch: impl AsyncFn() -> Result<(String, Value), Failure>,
) -> Result<(), Failure> {
    if !api.is_daemon() {
        let text = "--watch needs the daemon, which keeps the token fresh: everfresh serve";
        return Err(Failure::new(Exit::NoDaemon, text));
    }
    let (mut stands, mut told) = (None, None);
    loop {
        let pause = match fetch().await {
            Ok((text, answer)) => {
                if stands.as_ref() != Some(&text) {
                    write(path, &text)?;
                    output::note(written(path, &answer));
                    stands = Some(text);
                }
                told = None;
                pause(SystemClock::default().now(), end_of(&answer))
            }
            // Nothing stands there yet: whoever has started this should know at once.
            Err(failure) if stands.is_none() => return Err(failure),
            Err(failure) => {
                if told.as_ref() != Some(&failure.text) {
                    output::note(format!("{}: not renewed: {}", path.display(), failure.text));
                }
                told = Some(failure.text);
                LOOK_MAX
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// How long to wait before the next look at a token that ends then.
fn pause(now: Timestamp, end: Option<Timestamp>) -> Duration {
    end.map_or(LOOK_MAX, |end| (end.since(now) / LOOKS).clamp(LOOK_MIN, LOOK_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_ends_soon_is_looked_at_often() {
        let now = Timestamp::from_millis(1_795_000_000_000);
        let after = |seconds| pause(now, Some(now.after(Duration::from_secs(seconds))));
        assert_eq!((after(3600), after(30), after(0)), (LOOK_MAX, Duration::from_secs(3), LOOK_MIN));
        assert_eq!(pause(now, None), LOOK_MAX);
    }
}
