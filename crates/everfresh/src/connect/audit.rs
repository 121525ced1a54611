//! Keys in clients' files, against the keys that there are: what opens too much, nothing, or for others.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use everfresh_domain::Secret;

use super::change::{self, ByUrl};
use super::clients::{CLIENTS, Client};
use super::document::Edit;
use super::entry;
use super::file::Held;
use super::machine::Machine;
use super::own_key::Listed;

/// What should be otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What it is.
    pub(crate) found: String,
    /// What to do.
    pub(crate) fix: String,
}

/// Whom keys are looked up with.
pub(super) struct Keys<'a> {
    /// Where clients find everfresh.
    pub(super) address: &'a str,
    /// The full local key.
    pub(super) full: &'a str,
    /// The limited ones.
    pub(super) listed: &'a [Listed],
}

/// Looks at the files of clients, in their usual places and where keys were made for. Returns how many
/// hold a key, and what should be otherwise. A file that cannot be read is not judged.
pub(super) fn audit(machine: &Machine, keys: &Keys<'_>) -> (usize, Vec<Finding>) {
    let mut seen = BTreeSet::new();
    let (mut holding, mut findings) = (0, Vec::new());
    for (client, file) in places(machine, keys.listed) {
        let Some((held, entries)) = entries(client, &file, keys.address) else { continue };
        if !seen.insert(held.name()) {
            continue;
        }
        let with_key = entries.iter().any(|entry| entry.keys.iter().any(|key| entry::is_key(key) || key == keys.full));
        holding += usize::from(with_key);
        if with_key && held.is_open_to_others() {
            let found = format!("others can read {}, and a key is in it", file.display());
            findings.push(Finding { found, fix: format!("chmod 600 {}", file.display()) });
        }
        findings.extend(keys.of_client(client, &file, &entries));
        findings.extend(keys.lost(&held.name(), &entries));
    }
    for file in keys.listed.iter().filter_map(|key| key.holder.as_ref()).map(|holder| &holder.file) {
        if !seen.contains(file) {
            findings.extend(keys.lost(file, &[]));
        }
    }
    (holding, findings)
}

fn places(machine: &Machine, listed: &[Listed]) -> Vec<(&'static Client, PathBuf)> {
    let usual = CLIENTS.iter().map(|client| (client, (client.file)(machine)));
    let named = listed.iter().filter_map(|key| {
        let holder = key.holder.as_ref()?;
        Some((Client::of(&holder.client)?, PathBuf::from(&holder.file)))
    });
    usual.chain(named).collect()
}

fn entries(client: &'static Client, file: &Path, address: &str) -> Option<(Held, Vec<ByUrl>)> {
    let held = Held::open(file).ok()?;
    let edit = Edit::of(client.format, held.text().ok()?).ok()?;
    let entries = change::by_url(&edit, client, address);
    Some((held, entries))
}

impl Keys<'_> {
    fn knows(&self, text: &str) -> bool {
        let fingerprint = Secret::new(text).fingerprint();
        text == self.full || self.listed.iter().any(|key| key.fingerprint == fingerprint && !key.expired)
    }

    /// Entries that show the full key, or one that opens nothing.
    fn of_client(&self, client: &Client, file: &Path, entries: &[ByUrl]) -> Vec<Finding> {
        let opens_all = |entry: &&ByUrl| entry.keys.iter().any(|key| key == self.full);
        let opens_nothing = |entry: &&ByUrl| {
            let mut shown = entry.keys.iter().filter(|key| entry::is_key(key)).peekable();
            entry.is_here && shown.peek().is_some() && shown.all(|key| !self.knows(key))
        };
        let finding = |entries: Vec<&ByUrl>, what: &str| {
            let names: Vec<String> = entries.iter().map(|entry| entry.grant.to_string()).collect();
            let fix = format!("everfresh connect {} {} --transport http", client.id, names.join(" "));
            let found = format!("{} of {} shows {what} for {}", file.display(), client.name, names.join(", "));
            (!names.is_empty()).then_some(Finding { found, fix })
        };
        let all = finding(entries.iter().filter(opens_all).collect(), "the full local key, which opens everything,");
        let none = finding(entries.iter().filter(opens_nothing).collect(), "a key that opens nothing any more");
        all.into_iter().chain(none).collect()
    }

    /// Keys that were made for a file and are not in it, where it has no other one that `connect` replaces.
    fn lost(&self, file: &str, entries: &[ByUrl]) -> Vec<Finding> {
        if entries.iter().any(|entry| entry.is_here && entry.keys.iter().any(|key| entry::is_key(key))) {
            return Vec::new();
        }
        let of_file = self.listed.iter().filter(|key| key.holder.as_ref().is_some_and(|holder| holder.file == file));
        let lost = of_file.map(|key| Finding {
            found: format!("the key {} was made for {file}, which does not have it", key.name),
            fix: format!("everfresh key remove {}", key.name),
        });
        lost.collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::machine::System;
    use super::*;

    const FULL: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const ADDRESS: &str = "http://127.0.0.1:7411";

    fn limited(digit: char) -> String {
        format!("efk_{}", digit.to_string().repeat(64))
    }

    fn listed(name: &str, secret: &str, file: Option<&Path>) -> Listed {
        let holder = file.map(|file| json!({ "client": "cursor", "file": file }));
        let fingerprint = Secret::new(secret).fingerprint();
        let key =
            json!({ "name": name, "servers": ["a"], "expired": false, "fingerprint": fingerprint, "holder": holder });
        serde_json::from_value(key).unwrap()
    }

    fn entry(key: &str) -> Value {
        json!({ "url": format!("{ADDRESS}/mcp/a"), "headers": { "Authorization": format!("Bearer {key}") } })
    }

    #[test]
    fn what_opens_too_much_or_nothing_is_found_and_what_is_well_is_not() {
        let home = tempfile::tempdir().unwrap();
        let home_path = home.path().canonicalize().unwrap();
        let cursor = home_path.join(".cursor/mcp.json");
        std::fs::create_dir_all(cursor.parent().unwrap()).unwrap();
        let machine = Machine { system: System::Linux, home: home_path.clone(), variables: [].into() };
        let elsewhere = home_path.join("gone.json");
        let cases = [
            (json!({}), vec![], 0, ""),
            (json!({ "a": entry(&limited('a')) }), vec![listed("cursor", &limited('a'), Some(&cursor))], 1, ""),
            (json!({ "a": entry(&limited('a')) }), vec![listed("own", &limited('a'), None)], 1, ""),
            (json!({ "a": entry(FULL) }), vec![], 1, "shows the full local key"),
            (
                json!({ "a": entry(&limited('b')) }),
                vec![listed("cursor", &limited('a'), Some(&cursor))],
                1,
                "shows a key that opens nothing any more for a",
            ),
            (json!({}), vec![listed("cursor", &limited('a'), Some(&cursor))], 0, "which does not have it"),
            (json!({}), vec![listed("cursor", &limited('a'), Some(&elsewhere))], 0, "which does not have it"),
        ];
        for (servers, listed, holding, words) in cases {
            std::fs::write(&cursor, json!({ "mcpServers": servers }).to_string()).unwrap();
            #[cfg(unix)]
            std::fs::set_permissions(&cursor, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            let keys = Keys { address: ADDRESS, full: FULL, listed: &listed };
            let (count, findings) = audit(&machine, &keys);
            assert_eq!((count, findings.len()), (holding, usize::from(!words.is_empty())), "{servers}: {findings:?}");
            assert!(findings.iter().all(|finding| finding.found.contains(words)), "{findings:?}");
            assert!(!format!("{findings:?}").contains(FULL), "a finding shows no key");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_told() {
        use std::os::unix::fs::PermissionsExt;

        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(".cursor/mcp.json");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, json!({ "mcpServers": { "a": entry(&limited('a')) } }).to_string()).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        let machine = Machine { system: System::Linux, home: home.path().to_owned(), variables: [].into() };
        let listed = [listed("own", &limited('a'), None)];
        let (_, findings) = audit(&machine, &Keys { address: ADDRESS, full: FULL, listed: &listed });
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].fix.starts_with("chmod 600 "), "{findings:?}");
    }
}
