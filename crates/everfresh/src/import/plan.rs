//! What is to be moved, from where, and what it is to be called.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use everfresh_domain::GrantId;
use everfresh_infrastructure::import::{
    Found, FoundLogin, Launch, SourceError, as_name, client_files, find_mcp_remote, find_mcpproxy, launches_in,
    name_for, read_json,
};
use serde_json::Value;

use super::{Import, Source};
use crate::exit::{Exit, Failure};

/// A document of logins, and a configuration of a client, have this many bytes at most.
const DOCUMENT_MAX: u64 = 4 * 1024 * 1024;

/// A server that is here already.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) url: String,
}

/// A login with its name here.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) found: FoundLogin,
}

/// The servers of an answer of the API.
pub(super) fn known(answer: &Value) -> Vec<Known> {
    let servers = answer["servers"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    servers.map(|server| Known { name: text(&server["name"]), url: text(&server["url"]) }).collect()
}

/// Reads what `source` has.
pub(super) fn find(import: &Import, source: Source, known: &[Known]) -> Result<Found, Failure> {
    let told = |error: SourceError| {
        let exit = match &error {
            SourceError::InUse(_) => Exit::Refused,
            SourceError::Missing(_) | SourceError::Unreadable { .. } => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    };
    match source {
        Source::McpRemote => {
            let folder = import.path.clone().map_or_else(mcp_remote_folder, Ok)?;
            find_mcp_remote(&folder, &launches(import, known)?).map_err(told)
        }
        Source::Mcpproxy => {
            let place = match import.path.clone() {
                Some(place) => place,
                None => home()?.join(".mcpproxy"),
            };
            find_mcpproxy(&place, import.source_stopped).map_err(told)
        }
        Source::Json => {
            let no_path = || Failure::new(Exit::Usage, "name the file: everfresh import json FILE, or '-' for stdin");
            let path = import.path.as_deref().ok_or_else(no_path)?;
            let bytes = document(path).map_err(|error| unreadable(path, &error))?;
            read_json(&bytes).map_err(|cause| Failure::new(Exit::Usage, format!("{}: {cause}", path.display())))
        }
    }
}

fn unreadable(path: &Path, cause: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("{} cannot be read: {cause}", path.display()))
}

fn document(path: &Path) -> std::io::Result<zeroize::Zeroizing<Vec<u8>>> {
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(DOCUMENT_MAX + 1).read_to_end(&mut bytes)?
    } else {
        std::fs::File::open(path)?.take(DOCUMENT_MAX + 1).read_to_end(&mut bytes)?
    };
    if read as u64 > DOCUMENT_MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "it is larger than 4 MiB"));
    }
    Ok(bytes)
}

fn folders() -> Result<directories::BaseDirs, Failure> {
    directories::BaseDirs::new()
        .ok_or_else(|| Failure::new(Exit::Usage, "this user has no home folder: name the place"))
}

fn home() -> Result<PathBuf, Failure> {
    Ok(folders()?.home_dir().to_owned())
}

fn mcp_remote_folder() -> Result<PathBuf, Failure> {
    match std::env::var_os("MCP_REMOTE_CONFIG_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => Ok(folder.into()),
        None => Ok(home()?.join(".mcp-auth")),
    }
}

/// Every way in which mcp-remote may have been started: as told here, as clients do it, and with the
/// URLs of the servers there are.
fn launches(import: &Import, known: &[Known]) -> Result<Vec<Launch>, Failure> {
    let mut launches: Vec<Launch> = import.url.iter().map(|url| Launch::of(url.as_str())).collect();
    for path in &import.client_config {
        let bytes = document(path).map_err(|error| unreadable(path, &error))?;
        launches.extend(launches_in(&String::from_utf8_lossy(&bytes)));
    }
    if let Ok(folders) = folders() {
        let here = std::env::current_dir().unwrap_or_default();
        // What others left there may be no file, and never end.
        for path in client_files(folders.home_dir(), folders.config_dir(), &here).iter().filter(|path| path.is_file()) {
            let bytes = document(path).unwrap_or_default();
            launches.extend(launches_in(&String::from_utf8_lossy(&bytes)));
        }
    }
    for url in import.url.iter().chain(known.iter().map(|server| &server.url)) {
        let bare = url.trim_end_matches('/');
        launches.extend([Launch::of(url.as_str()), Launch::of(bare), Launch::of(format!("{bare}/"))]);
    }
    Ok(launches)
}

/// Gives every login its name: the one that is wanted, that of a server with the same URL, the other
/// program's, or one made from the host. Those that are not wanted are left out.
pub(super) fn named(import: &Import, found: Vec<FoundLogin>, known: &[Known]) -> Result<Vec<Planned>, Failure> {
    let mut taken: BTreeSet<String> = known.iter().map(|server| server.name.clone()).collect();
    let mut planned = Vec::new();
    for found in found {
        let name = match name_of(&found, known) {
            Name::Known(name) => name,
            Name::New(name) => free(&name, &taken),
        };
        taken.insert(name.clone());
        let wanted = |only: &String| *only == name || *only == found.login.url;
        if import.only.is_empty() || import.only.iter().any(wanted) {
            planned.push(Planned { name, found });
        }
    }
    if let Some(name) = &import.name {
        name.parse::<GrantId>().map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        match planned.as_mut_slice() {
            [one] => one.name.clone_from(name),
            [] => {}
            several => {
                let names: Vec<&str> = several.iter().map(|one| one.name.as_str()).collect();
                let text =
                    format!("--name is for one login, and there are {}: choose one with --only", names.join(", "));
                return Err(Failure::new(Exit::Usage, text));
            }
        }
    }
    Ok(planned)
}

enum Name {
    /// A server that is here already: the login moves into it.
    Known(String),
    /// One that should not be another's.
    New(String),
}

fn name_of(found: &FoundLogin, known: &[Known]) -> Name {
    let url = found.login.url.trim_end_matches('/');
    let same = |server: &&Known| server.url.trim_end_matches('/') == url;
    let own = found.login.name.as_deref();
    // Who writes a document chooses the names in it.
    if let Some(name) = own.filter(|name| name.parse::<GrantId>().is_ok()) {
        let is_account = name.contains('@');
        let is_there = known.iter().any(|server| server.name == name && same(&server));
        return if is_account || is_there { Name::Known(name.to_owned()) } else { Name::New(name.to_owned()) };
    }
    if let (None, Some(server)) = (own, known.iter().find(same)) {
        return Name::Known(server.name.clone());
    }
    Name::New(own.map_or_else(|| name_for(&found.login.url), as_name))
}

fn free(name: &str, taken: &BTreeSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use everfresh_application::ForeignLogin;
    use everfresh_infrastructure::import::Origin;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        import: Import,
    }

    fn check(arguments: &[&str], logins: &[(Option<&str>, &str)], expected: &[&str]) {
        let line = ["import", "json", "-"].iter().chain(arguments);
        let import = Line::parse_from(line).import;
        let known = [
            Known { name: "linear".into(), url: "https://mcp.linear.app/mcp".into() },
            Known { name: "taken".into(), url: "https://other.example".into() },
        ];
        let found = logins.iter().map(|(name, url)| FoundLogin {
            login: ForeignLogin { name: name.map(str::to_owned), ..ForeignLogin::of(*url) },
            origin: Origin::Document,
            notes: Vec::new(),
        });
        let planned = named(&import, found.collect(), &known);
        let names: Vec<String> = match planned {
            Ok(planned) => planned.into_iter().map(|one| one.name).collect(),
            Err(failure) => vec![failure.text],
        };
        assert_eq!(names, expected);
    }

    #[test]
    fn logins_get_the_names_that_their_owner_would_give_them() {
        check(&[], &[(None, "https://mcp.linear.app/mcp/")], &["linear"]);
        check(
            &[],
            &[(None, "https://mcp.notion.com/mcp"), (None, "https://api.notion.com/v1")],
            &["notion", "notion-2"],
        );
        check(&[], &[(Some("My Server"), "https://a.example")], &["my-server"]);
        check(&[], &[(Some("taken"), "https://a.example")], &["taken-2"]);
        check(&[], &[(Some("linear"), "https://mcp.linear.app/mcp")], &["linear"]);
        check(&[], &[(Some("linear@work"), "https://mcp.linear.app/mcp")], &["linear@work"]);
    }

    #[test]
    fn one_of_several_is_chosen_by_name_or_url_and_may_be_named() {
        let two = [(Some("a"), "https://a.example"), (Some("b"), "https://b.example")];
        check(&["--only", "b"], &two, &["b"]);
        check(&["--only", "https://a.example", "--name", "mine"], &two, &["mine"]);
        check(&["--only", "c"], &two, &[]);
        check(&["--name", "mine"], &two, &["--name is for one login, and there are a, b: choose one with --only"]);
    }
}
