//! Keys in the files of clients.

use super::report::{Check, Kind};
use crate::client::Api;
use crate::connect;

/// Whether each client has a key that opens what it needs and no more.
pub(super) async fn check(api: &Api) -> Check {
    match connect::audited(api).await {
        Ok((0, findings)) if findings.is_empty() => Check::ok(Kind::ClientFiles, "no client has a key in its file"),
        Ok((count, findings)) if findings.is_empty() => {
            let (files, have) = if count == 1 { ("file", "has") } else { ("files", "have") };
            Check::ok(Kind::ClientFiles, format!("{count} {files} of clients {have} a key, which is not the full one"))
        }
        Ok((_, findings)) => {
            let found: Vec<&str> = findings.iter().map(|finding| finding.found.as_str()).collect();
            let fix: Vec<&str> = findings.iter().map(|finding| finding.fix.as_str()).collect();
            Check::warning(Kind::ClientFiles, found.join("; "), fix.join("; "))
        }
        Err(failure) => Check::skipped(Kind::ClientFiles, failure.text),
    }
}
