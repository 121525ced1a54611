//! Which clients are on this machine, and what of everfresh each has.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::change;
use super::clients::{CLIENTS, Client};
use super::document::Edit;
use super::entry::{self, Ours};
use super::file::Held;
use super::machine::Machine;
use crate::cli::Output;
use crate::output;

struct Found {
    client: &'static Client,
    file: PathBuf,
    /// What is connected under which name, or why that cannot be told.
    connected: Result<Vec<Entry>, String>,
}

/// A server that is connected.
struct Entry {
    /// What the client calls it.
    name: String,
    ours: Ours,
    /// Whether it shows a key that opens more than it has to.
    has_full_key: bool,
}

/// Prints the clients that are there.
pub(super) fn print(machine: &Machine, address: Option<&str>, how: Output) {
    let found: Vec<Found> = CLIENTS.iter().filter_map(|client| look(machine, client, address)).collect();
    match how {
        Output::Json => output::json(&json!({ "clients": found.iter().map(as_json).collect::<Vec<_>>() })),
        Output::Table if found.is_empty() => {
            output::line(
                "no client was found; for one that everfresh does not know: everfresh connect generic NAME --print",
            );
        }
        Output::Table => {
            let mut table = output::table(["CLIENT", "CONNECTED", "FILE"]);
            for found in &found {
                let connected = match &found.connected {
                    Ok(entries) if entries.is_empty() => "-".to_owned(),
                    Ok(entries) => entries.iter().map(shown).collect::<Vec<_>>().join(", "),
                    Err(why) => why.clone(),
                };
                table.add_row([found.client.id.to_owned(), connected, found.file.display().to_string()]);
            }
            output::print(&table);
        }
    }
}

fn look(machine: &Machine, client: &'static Client, address: Option<&str>) -> Option<Found> {
    let file = client.place(machine);
    let is_there = file.exists() || file.parent().is_some_and(|folder| folder != machine.home && folder.is_dir());
    if !is_there {
        return None;
    }
    let connected = Held::open(&file)
        .and_then(|held| held.text().map(str::to_owned))
        .map_err(|failure| failure.text)
        .and_then(|text| Edit::of(client.format, &text).map_err(|unusable| unusable.to_string()))
        .map(|edit| entries(&edit, client, address));
    Some(Found { client, file, connected })
}

fn entries(edit: &Edit, client: &Client, address: Option<&str>) -> Vec<Entry> {
    let by_url = change::by_url(edit, client, address.unwrap_or_default());
    let connected = change::connected(edit, client, address).into_iter();
    let entry = |(name, ours): (String, Ours)| {
        let shown = by_url.iter().find(|entry| entry.name == name);
        let has_full_key = shown.is_some_and(|entry| entry.keys.iter().any(|key| entry::is_full_key(key)));
        Entry { name, ours, has_full_key }
    };
    connected.map(entry).collect()
}

fn shown(Entry { name, ours, has_full_key }: &Entry) -> String {
    let called = if *name == entry::name_of(&ours.grant) { String::new() } else { format!(" as {name:?}") };
    let key = if *has_full_key { ", with the full local key" } else { "" };
    format!("{}{called} ({}{key})", ours.grant, ours.transport.name())
}

fn as_json(found: &Found) -> Value {
    let entry = |Entry { name, ours, has_full_key }: &Entry| {
        json!({
            "name": name, "server": ours.grant.to_string(), "transport": ours.transport.name(),
            "full_key": has_full_key,
        })
    };
    let (connected, problem) = match &found.connected {
        Ok(entries) => (entries.iter().map(entry).collect(), None),
        Err(why) => (Vec::new(), Some(why)),
    };
    json!({
        "client": found.client.id, "name": found.client.name, "file": found.file.display().to_string(),
        "connected": connected, "problem": problem,
    })
}
