//! `everfresh connect`: writes servers into the configuration of MCP clients, and takes them out.
//!
//! What is known of each client is data ([`clients`]); how files are edited without loss is in
//! [`document`]; what a wish means for a file is in [`change`]; here is what people see.

mod change;
mod clients;
mod document;
mod entry;
mod file;
mod gate;
mod machine;
mod overview;
mod words;

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PossibleValuesParser;
use everfresh_domain::GrantId;

use crate::cli::{Global, Output};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::paths::Paths;
use change::{Refused, Wish};
use clients::{CLIENTS, Client, GENERIC, Transport};
use document::Edit;
use entry::Gate;
use file::Held;
use gate::Known;
use machine::Machine;

/// Connects MCP clients. Without arguments: which clients are on this machine, and what is connected.
#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// Which client; `generic` with --print.
    #[arg(value_parser = client_ids())]
    client: Option<String>,
    /// Servers, as NAME or NAME@ACCOUNT.
    #[arg(conflicts_with = "all", value_name = "NAME")]
    names: Vec<String>,
    /// All servers.
    #[arg(long, requires = "client")]
    all: bool,
    /// Take the servers out of the client's configuration.
    #[arg(long, requires = "client")]
    remove: bool,
    /// Print what would change, and change nothing.
    #[arg(long, requires = "client")]
    dry_run: bool,
    /// Print what to put into the client's configuration by hand, and change nothing.
    #[arg(long, requires = "client", conflicts_with_all = ["remove", "dry_run"])]
    print: bool,
    /// Write the file of the project in this folder, for all who share it; it never holds a key.
    #[arg(long, requires = "client", conflicts_with = "file")]
    project: bool,
    /// How the client reaches everfresh, where not as usual for it.
    #[arg(long, requires = "client", conflicts_with = "remove", value_name = "HOW")]
    transport: Option<Transport>,
    /// What the client calls the server, where not the same.
    #[arg(long = "as", requires = "client", conflicts_with_all = ["all", "remove"], value_name = "NAME")]
    other_name: Option<String>,
    /// The client's file, where it is not in the usual place.
    #[arg(long, requires = "client", value_name = "FILE")]
    file: Option<PathBuf>,
    /// How the overview is printed.
    #[arg(short, long, default_value = "table", conflicts_with = "client")]
    output: Output,
}

fn client_ids() -> PossibleValuesParser {
    PossibleValuesParser::new(CLIENTS.iter().map(|client| client.id).chain([GENERIC.id]))
}

/// Runs the command.
pub(crate) async fn connect(global: &Global, paths: &Paths, wanted: &Connect) -> Result<Exit, Failure> {
    let no_home = || Failure::new(Exit::Usage, "this user has no home folder, and clients keep their files there");
    let machine = Machine::this().ok_or_else(no_home)?;
    let Some(id) = &wanted.client else {
        overview::print(&machine, gate::address(global, paths).as_deref(), wanted.output);
        return Ok(Exit::Done);
    };
    if wanted.remove {
        return remove(&place(&machine, id, wanted)?, gate::address(global, paths).as_deref(), wanted);
    }
    if wanted.names.is_empty() && !wanted.all {
        return Err(Failure::new(Exit::Usage, "name the servers to connect, or give --all"));
    }
    if wanted.print {
        return print(global, paths, id, wanted).await;
    }
    let place = place(&machine, id, wanted)?;
    let transport = chosen(&place, wanted, gate::has_fixed_port(global, paths)?)?;
    let known = gate::know(global, paths, transport).await?;
    let grants = gate::grants(&known, &wanted.names, wanted.all)?;
    let gate = gate::gate(global, paths, &known, place.client, transport, wanted.project)?;
    add(&place, transport, &gate, &known, &grants, wanted)
}

/// A client's file.
struct Place {
    client: &'static Client,
    held: Held,
    /// As it is named, which need not be where it is.
    named: PathBuf,
}

fn place(machine: &Machine, id: &str, wanted: &Connect) -> Result<Place, Failure> {
    let Some(client) = Client::of(id) else {
        return Err(Failure::new(
            Exit::Usage,
            "for other clients there is --print: everfresh connect generic NAME --print",
        ));
    };
    let named = match (&wanted.file, wanted.project, client.project_file) {
        (Some(file), _, _) => std::path::absolute(file).unwrap_or_else(|_| file.clone()),
        (None, true, Some(below)) => std::env::current_dir().unwrap_or_default().join(below),
        (None, true, None) => {
            return Err(Failure::new(Exit::Usage, format!("{} has no file for projects", client.name)));
        }
        (None, false, _) => client.place(machine),
    };
    Ok(Place { client, held: Held::open(&named)?, named })
}

/// By which transport: what is asked for, else what is usual, and never a key in a shared file.
fn chosen(place: &Place, wanted: &Connect, has_fixed_port: bool) -> Result<Transport, Failure> {
    let client = place.client;
    if wanted.transport == Some(Transport::Http) && client.http.is_none() {
        return Err(refusal(place, &Refused::NoHttp(client.name)));
    }
    let shared = if wanted.project {
        Some("it is a project's, for all who share it".to_owned())
    } else {
        place.held.repository().map(|folder| format!("it is in the repository {}", folder.display()))
    };
    match (wanted.transport, shared) {
        (Some(Transport::Http), Some(why)) => {
            let text = format!("no key is written into {}: {why}; leave --transport http out", place.named.display());
            Err(Failure::new(Exit::Refused, text))
        }
        (Some(Transport::Http), None) => {
            if let Some(why) = client.keyless {
                output::note(format!("note: the local key goes into {}, and {why}", place.named.display()));
            }
            Ok(Transport::Http)
        }
        (None, None) if has_fixed_port => Ok(client.transport()),
        (Some(Transport::Stdio) | None, _) => Ok(Transport::Stdio),
    }
}

/// Puts the servers in, one after another, and writes once.
fn add(
    place: &Place,
    transport: Transport,
    gate: &Gate,
    known: &Known,
    grants: &[GrantId],
    wanted: &Connect,
) -> Result<Exit, Failure> {
    let client = place.client;
    let before = place.held.text()?;
    let mut edit = Edit::of(client.format, before).map_err(|unusable| by_hand(place, &unusable.into(), grants))?;
    let mut said = Vec::new();
    for grant in grants {
        let name = name_in_client(wanted, grants, grant)?;
        let wish = Wish { client, grant, name: &name, transport, gate };
        let outcome = change::connect(&mut edit, &wish).map_err(|refused| by_hand(place, &refused, grants))?;
        said.push(words::connected(client, grant, &name, transport, &outcome));
        if known.needs_login(grant) {
            output::note(format!("note: nothing comes through before a login: everfresh login {grant}"));
        }
        if change::is_off(&edit, client, &name) {
            output::note(format!("note: {name} is switched off in {}", place.named.display()));
        }
        for other in known.upstream(grant).map(|url| change::bypasses(&edit, client, &name, url)).unwrap_or_default() {
            output::note(format!(
                "note: {other:?} leads to the same server past everfresh, with a login of its own; take it out, or \
                 let it be the one: everfresh connect {} {grant} --as {other:?}",
                client.id
            ));
        }
    }
    let after = edit.finish().map_err(|unusable| by_hand(place, &unusable.into(), grants))?;
    let holds_key = transport == Transport::Http && gate.key.is_some();
    if write(place, before, after.as_deref(), holds_key, gate, wanted)? {
        said.iter().for_each(output::line);
    }
    if after.is_some() && !wanted.dry_run {
        output::note(client.effect);
    }
    if transport == Transport::Http && !known.is_running() {
        output::note("note: no daemon runs; the client reaches everfresh only while one does (everfresh serve)");
    }
    Ok(Exit::Done)
}

/// Writes what has changed, or shows it. Returns whether what was said before has become true.
fn write(
    place: &Place,
    before: &str,
    after: Option<&str>,
    holds_key: bool,
    gate: &Gate,
    wanted: &Connect,
) -> Result<bool, Failure> {
    let Some(after) = after else {
        if holds_key && place.held.is_open_to_others() {
            output::note(format!(
                "warning: others on this machine can read {}, and the local key is in it: chmod 600 it",
                place.named.display()
            ));
        }
        return Ok(true);
    };
    if wanted.dry_run {
        output::line(words::diff(place.held.path(), before, after, gate.key.as_ref()).trim_end());
        return Ok(false);
    }
    let was_open = place.held.is_open_to_others();
    let backup = place.held.replace(after, holds_key, crate::commands::now())?;
    output::note(format!("{} {}", if backup.is_some() { "changed" } else { "created" }, place.named.display()));
    if let Some(backup) = backup {
        output::note(format!("what it was before is in {}", backup.display()));
    }
    if holds_key && was_open {
        output::note("only you can read it from here on: it holds the local key");
    }
    Ok(true)
}

fn remove(place: &Place, address: Option<&str>, wanted: &Connect) -> Result<Exit, Failure> {
    if wanted.names.is_empty() && !wanted.all {
        return Err(Failure::new(Exit::Usage, "name the servers to take out, or give --all"));
    }
    let before = place.held.text()?;
    let mut edit = Edit::of(place.client.format, before).map_err(|unusable| refusal(place, &unusable.into()))?;
    let mut said = Vec::new();
    let grants: Vec<Option<GrantId>> = match wanted.all {
        true => vec![None],
        false => wanted.names.iter().map(|name| gate::parse(name).map(Some)).collect::<Result<_, _>>()?,
    };
    for grant in grants {
        let unusable = |unusable| refusal(place, &Refused::from(unusable));
        let gone = change::remove(&mut edit, place.client, grant.as_ref(), address).map_err(unusable)?;
        said.extend(gone.iter().map(|name| format!("{}: {name} is taken out", place.client.name)));
        if gone.is_empty() {
            let what = grant.map_or_else(|| "nothing".to_owned(), |grant| format!("{grant} is not there: nothing"));
            output::note(format!("{}: {what} to take out of {}", place.client.name, place.named.display()));
        }
    }
    let after = edit.finish().map_err(|unusable| refusal(place, &unusable.into()))?;
    let gate = Gate { base_url: String::new(), key: None, command: String::new(), places: Vec::new() };
    if write(place, before, after.as_deref(), false, &gate, wanted)? {
        said.iter().for_each(output::line);
    }
    if after.is_some() && !wanted.dry_run {
        output::note(place.client.effect);
    }
    Ok(Exit::Done)
}

/// Prints what would be written into an empty file.
async fn print(global: &Global, paths: &Paths, id: &str, wanted: &Connect) -> Result<Exit, Failure> {
    let client = Client::of(id).unwrap_or(&GENERIC);
    let transport = wanted.transport.unwrap_or_else(|| client.transport());
    if client.shape(transport).is_none() {
        return Err(Failure::new(Exit::Usage, Refused::NoHttp(client.name).to_string()));
    }
    let known = gate::know(global, paths, transport).await?;
    let grants = gate::grants(&known, &wanted.names, wanted.all)?;
    let gate = gate::gate(global, paths, &known, client, transport, wanted.project)?;
    let named = grants.iter().map(|grant| Ok((grant.clone(), name_in_client(wanted, &grants, grant)?)));
    let named: Vec<(GrantId, String)> = named.collect::<Result<_, Failure>>()?;
    output::line(words::snippet(client, transport, &gate, &named)?.trim_end());
    if transport == Transport::Http && gate.key.is_some() {
        output::note("The local key is in it: keep it to yourself.");
    }
    Ok(Exit::Done)
}

/// What the client calls a server.
fn name_in_client(wanted: &Connect, grants: &[GrantId], grant: &GrantId) -> Result<String, Failure> {
    match &wanted.other_name {
        None => Ok(entry::name_of(grant)),
        Some(_) if grants.len() != 1 => Err(Failure::new(Exit::Usage, "--as takes one server")),
        Some(name) if name.trim().is_empty() || name.chars().any(char::is_control) => {
            Err(Failure::new(Exit::Usage, format!("{name:?} is no name for a server")))
        }
        Some(name) => Ok(name.clone()),
    }
}

fn refusal(place: &Place, refused: &Refused) -> Failure {
    let exit = match refused {
        Refused::Unusable(_) | Refused::NoHttp(_) => Exit::Usage,
        Refused::Taken { .. } => Exit::Refused,
    };
    Failure::new(exit, format!("{}: {refused}; nothing was changed", shown(&place.named)))
}

/// The same, with the way to do it by hand.
fn by_hand(place: &Place, refused: &Refused, grants: &[GrantId]) -> Failure {
    let failure = refusal(place, refused);
    match refused {
        Refused::Unusable(_) => {
            let names: Vec<String> = grants.iter().map(ToString::to_string).collect();
            let hint = format!("to do it by hand: everfresh connect {} {} --print", place.client.id, names.join(" "));
            Failure::new(failure.exit, format!("{}\n{hint}", failure.text))
        }
        Refused::Taken { .. } | Refused::NoHttp(_) => failure,
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
