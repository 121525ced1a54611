//! What `connect` says and shows.

use std::path::Path;

use everfresh_domain::{GrantId, Secret};
use similar::TextDiff;

use super::change::Outcome;
use super::clients::{Client, Transport};
use super::document::{Edit, Item};
use super::entry::{self, Gate};
use crate::exit::{Exit, Failure};

/// What is shown where a key stands.
pub(super) const KEY: &str = "<key>";

/// What became of one server.
pub(super) fn connected(client: &Client, grant: &GrantId, name: &str, how: Transport, outcome: &Outcome) -> String {
    let called = if name == grant.to_string() { String::new() } else { format!(" as {name:?}") };
    let how = how.name();
    let client = client.name;
    match outcome {
        Outcome::Connected => format!("{client}: {grant} is connected{called} ({how})"),
        Outcome::Updated => format!("{client}: {grant} is connected anew{called} ({how})"),
        Outcome::Replaced(what) => {
            format!("{client}: {grant} is connected{called} ({how}), in place of {what}")
        }
        Outcome::Already => format!("{client}: {grant} is already connected{called} ({how})"),
    }
}

/// The difference between two texts, without the key.
pub(super) fn diff(path: &Path, before: &str, after: &str, key: Option<&Secret>) -> String {
    let name = path.display().to_string();
    let diff = TextDiff::from_lines(before, after).unified_diff().header(&name, &name).to_string();
    let masked = key.map_or_else(|| diff.clone(), |key| diff.replace(key.expose(), KEY));
    // An older key, which is replaced, may still open something.
    let words = masked.split_inclusive(|c: char| !c.is_ascii_hexdigit());
    words
        .map(|word| match word.trim_end_matches(|c: char| !c.is_ascii_hexdigit()) {
            run if entry::is_key(run) => word.replacen(run, KEY, 1),
            _ => word.to_owned(),
        })
        .collect()
}

/// What is printed by hand, and what is to be done with it.
pub(super) fn explained(client: &Client, how: Transport, wants_key: bool, grants: &[GrantId]) -> Vec<String> {
    let what = match how {
        Transport::Http => "leads to the daemon, which must run, and shows it a key",
        Transport::Stdio => "starts everfresh, which finds the daemon and its key, or does without",
    };
    let mut said = vec![format!("For the configuration of {}: this {what}.", client.name)];
    if wants_key {
        let servers: String = grants.iter().map(|grant| format!(" --server {grant}")).collect();
        said.push(format!("Put a key of its own in place of {KEY}; this makes one, and shows it once:"));
        said.push(format!("  everfresh key add {}{servers}", client.id));
    }
    said
}

/// A client's file with these servers and nothing else.
pub(super) fn snippet(
    client: &Client,
    how: Transport,
    gate: &Gate,
    named: &[(GrantId, String)],
) -> Result<String, Failure> {
    let impossible = |error: super::document::Unusable| Failure::new(Exit::Failed, error.to_string());
    let mut edit = Edit::of(client.format, "").map_err(impossible)?;
    let section = client.sections.last().copied().unwrap_or_default();
    for (grant, name) in named {
        let fields = entry::whole(client, client.shape(how).unwrap_or_default(), name, grant, gate);
        let path: Vec<&str> = section.iter().copied().chain([name.as_str()]).collect();
        edit.set(&path, &Item::Map(fields)).map_err(impossible)?;
    }
    Ok(edit.finish().map_err(impossible)?.unwrap_or_default())
}
