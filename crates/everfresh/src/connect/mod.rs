//! `everfresh connect`: writes servers into the configuration of MCP clients, and takes them out.
//!
//! What is known of each client is data ([`clients`]); how files are edited without loss is in
//! [`document`]; what a wish means for a file is in [`change`]; here is what people see.

mod audit;
mod change;
mod clients;
mod document;
mod entry;
mod file;
mod gate;
mod machine;
mod overview;
mod own_key;
mod words;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PossibleValuesParser;
use clap_complete::ArgValueCandidates;
use everfresh_domain::{GrantId, Secret};

use crate::cli::{Global, Output};
use crate::client::{Api, Need};
use crate::completion;
use crate::exit::{Exit, Failure};
use crate::local_key;
use crate::output;
use crate::paths::Paths;
use audit::{Finding, Keys};
use change::{ByUrl, Outcome, Refused, Wish};
use clients::{CLIENTS, Client, GENERIC, Transport};
use document::Edit;
use entry::Gate;
use file::Held;
use gate::Known;
use machine::Machine;
use own_key::OwnKey;

/// Connects MCP clients. Without arguments: which clients are on this machine, and what is connected.
#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// Which client; `generic` with --print.
    #[arg(value_parser = client_ids())]
    client: Option<String>,
    /// Servers, as NAME or NAME@ACCOUNT.
    #[arg(conflicts_with = "all", value_name = "NAME", add = ArgValueCandidates::new(completion::names))]
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
    if wanted.names.is_empty() && !wanted.all {
        let what = if wanted.remove { "take out" } else { "connect" };
        return Err(Failure::new(Exit::Usage, format!("name the servers to {what}, or give --all")));
    }
    let job = Job { global, paths, wanted };
    if wanted.print {
        return job.print(id).await;
    }
    let place = place(&machine, id, wanted)?;
    if wanted.remove {
        return job.remove(place).await;
    }
    let transport = chosen(&place, wanted, gate::has_fixed_port(global, paths)?)?;
    // Without a key nothing is to be kept together.
    let alone = match own_key::alone(paths) {
        Err(failure) if transport == Transport::Http => return Err(failure),
        alone => alone.ok(),
    };
    let api = gate::open(global, paths, transport).await?;
    let done = job.add(&place.read_again()?, transport, api.as_ref()).await;
    if let Some(api) = api {
        api.close().await;
    }
    drop(alone);
    done
}

/// How many clients have a key in their files, and what should be otherwise with those.
pub(crate) async fn audited(api: &Api) -> Result<(usize, Vec<Finding>), Failure> {
    let listed = own_key::listed(api).await?;
    let keys = Keys { address: api.base_url(), full: api.key(), listed: &listed };
    Ok(Machine::this().map(|machine| audit::audit(&machine, &keys)).unwrap_or_default())
}

/// What is asked for, and where.
struct Job<'a> {
    global: &'a Global,
    paths: &'a Paths,
    wanted: &'a Connect,
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

impl Place {
    /// The same file as it is at this moment.
    fn read_again(self) -> Result<Self, Failure> {
        Ok(Self { held: Held::open(&self.named)?, ..self })
    }
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
                output::note(format!("note: a key goes into {}, and {why}", place.named.display()));
            }
            Ok(Transport::Http)
        }
        (None, None) if has_fixed_port => Ok(client.transport()),
        (Some(Transport::Stdio) | None, _) => Ok(Transport::Stdio),
    }
}

impl Job<'_> {
    /// Puts the servers in, one after another, and writes once.
    async fn add(&self, place: &Place, transport: Transport, api: Option<&Api>) -> Result<Exit, Failure> {
        let known = gate::know(api, transport).await?;
        let grants = gate::grants(&known, &self.wanted.names, self.wanted.all)?;
        let before = place.held.text()?;
        let edit =
            Edit::of(place.client.format, before).map_err(|unusable| by_hand(place, &unusable.into(), &grants))?;
        let by_url = change::by_url(&edit, place.client, known.base_url());
        if transport == Transport::Http {
            gate::check_port(known.base_url())?;
        }
        let wants_key = transport == Transport::Http && gate::wants_key(self.global, self.paths)?;
        let mut task =
            Task { place, transport, known: &known, grants: &grants, along: Vec::new(), wanted: self.wanted };
        let after = match api.filter(|_| wants_key) {
            None => self.put(&task, edit, None)?,
            Some(api) => {
                let own = OwnKey::look(api, place.client.id, place.held.name()).await?;
                task.along = by_url.iter().filter(|entry| own.is_for(entry)).cloned().collect();
                let shown: Vec<String> = task.along.iter().flat_map(|entry| entry.keys.iter().cloned()).collect();
                let servers = task.along.iter().map(|entry| &entry.grant).chain(&grants).cloned().collect();
                let is_known = |grant: &GrantId| known.has_server(grant);
                let prepared = own.prepare(&shown, servers, is_known, self.wanted.dry_run).await?;
                let put = self.put(&task, edit, Some(&prepared.key));
                if put.is_err() {
                    own.take_back(&prepared).await;
                }
                put?
            }
        };
        if transport == Transport::Http && !known.is_running() {
            output::note("note: no daemon runs; the client reaches everfresh only while one does (everfresh serve)");
        }
        if self.wanted.dry_run {
            return Ok(Exit::Done);
        }
        self.warn_of_full_key(place, &by_url, &change::by_url(&after, place.client, known.base_url()))?;
        if let Some(api) = api {
            settle(place, &after, api).await;
        }
        Ok(Exit::Done)
    }

    /// Writes the servers into the file, and returns what is in it then.
    fn put(&self, task: &Task<'_>, mut edit: Edit, key: Option<&Secret>) -> Result<Edit, Failure> {
        let place = task.place;
        let base_url = task.known.base_url();
        let gate = gate::gate(self.global, self.paths, base_url, key.cloned(), self.wanted.project)?;
        let said = task.put_into(&mut edit, &gate)?;
        let after = edit.finish().map_err(|unusable| by_hand(place, &unusable.into(), task.grants))?;
        if write(place, after.as_deref(), key, self.wanted)? {
            said.iter().for_each(output::line);
        }
        if after.is_some() && !self.wanted.dry_run {
            output::note(place.client.effect);
        }
        let text = after.as_deref().map_or_else(|| place.held.text(), Ok)?;
        Edit::of(place.client.format, text).map_err(|unusable| refusal(place, &unusable.into()))
    }

    /// What entries of the file have that open everything, or had.
    fn warn_of_full_key(&self, place: &Place, before: &[ByUrl], after: &[ByUrl]) -> Result<(), Failure> {
        let Some(full) = local_key::find(self.paths)? else { return Ok(()) };
        let with_full = |entries: &[ByUrl]| -> Vec<String> {
            let shown = entries.iter().filter(|entry| entry.keys.contains(&full));
            shown.map(|entry| entry.grant.to_string()).collect()
        };
        let (had, has) = (with_full(before), with_full(after));
        if !has.is_empty() {
            output::note(format!(
                "warning: {} of {} shows the full local key, which opens everything; this gives it one of its own: \
                 everfresh connect {} {} --transport http",
                has.join(" and "),
                place.named.display(),
                place.client.id,
                has.join(" ")
            ));
        } else if !had.is_empty() {
            output::note(
                "the full local key was in this file, and is in its backups: if others may have read it, make another \
                 with everfresh key rotate",
            );
        }
        Ok(())
    }

    async fn remove(&self, place: Place) -> Result<Exit, Failure> {
        let (paths, wanted) = (self.paths, self.wanted);
        let address = gate::address(self.global, paths);
        // Where there are no limited keys none is to be removed, and no store is to be made.
        let has_keys = paths.limited_keys().exists() && !wanted.dry_run;
        let alone = if has_keys { Some(own_key::alone(paths)?) } else { None };
        let place = place.read_again()?;
        let after = take_out(&place, address.as_deref(), wanted)?;
        if has_keys {
            match Api::open(self.global, paths, Need::Look).await {
                Ok(api) => {
                    settle(&place, &after, &api).await;
                    api.close().await;
                }
                Err(failure) => {
                    output::note(format!("note: a key of this file stays, if there is one: {}", failure.text));
                    output::note("remove it by hand (everfresh key list, everfresh key remove), or run this again");
                }
            }
        }
        drop(alone);
        Ok(Exit::Done)
    }

    /// Prints what would be written into an empty file.
    async fn print(&self, id: &str) -> Result<Exit, Failure> {
        let (global, paths, wanted) = (self.global, self.paths, self.wanted);
        let client = Client::of(id).unwrap_or(&GENERIC);
        let transport = wanted.transport.unwrap_or_else(|| client.transport());
        if client.shape(transport).is_none() {
            return Err(Failure::new(Exit::Usage, Refused::NoHttp(client.name).to_string()));
        }
        let api = gate::open(global, paths, transport).await?;
        let known = gate::know(api.as_ref(), transport).await;
        if let Some(api) = api {
            api.close().await;
        }
        let known = known?;
        let grants = gate::grants(&known, &wanted.names, wanted.all)?;
        let wants_key = transport == Transport::Http && gate::wants_key(global, paths)?;
        if transport == Transport::Http {
            gate::check_port(known.base_url())?;
        }
        let key = wants_key.then(|| Secret::new(words::KEY));
        let gate = gate::gate(global, paths, known.base_url(), key, wanted.project)?;
        let named = grants.iter().map(|grant| Ok((grant.clone(), name_in_client(wanted, &grants, grant)?)));
        let named: Vec<(GrantId, String)> = named.collect::<Result<_, Failure>>()?;
        words::explained(client, transport, wants_key, &grants).iter().for_each(output::note);
        output::line(words::snippet(client, transport, &gate, &named)?.trim_end());
        Ok(Exit::Done)
    }
}

/// Servers on their way into a file.
struct Task<'a> {
    place: &'a Place,
    transport: Transport,
    known: &'a Known,
    grants: &'a [GrantId],
    /// Entries that get the same key, be they named or not.
    along: Vec<ByUrl>,
    wanted: &'a Connect,
}

impl Task<'_> {
    fn put_into(&self, edit: &mut Edit, gate: &Gate) -> Result<Vec<String>, Failure> {
        let (place, client, transport) = (self.place, self.place.client, self.transport);
        let mut said = Vec::new();
        let mut names = BTreeSet::new();
        for grant in self.grants {
            let name = name_in_client(self.wanted, self.grants, grant)?;
            let wish = Wish { client, grant, name: &name, transport, gate };
            let outcome = change::connect(edit, &wish).map_err(|refused| by_hand(place, &refused, self.grants))?;
            said.push(words::connected(client, grant, &name, transport, &outcome));
            self.remark(edit, grant, &name);
            names.insert(name);
        }
        for ByUrl { name, grant, .. } in self.along.iter().filter(|entry| !names.contains(&entry.name)) {
            let wish = Wish { client, grant, name, transport, gate };
            let outcome = change::connect(edit, &wish).map_err(|refused| by_hand(place, &refused, self.grants))?;
            if outcome != Outcome::Already {
                said.push(words::connected(client, grant, name, transport, &outcome));
            }
        }
        Ok(said)
    }

    /// What a person should know of a server that is connected.
    fn remark(&self, edit: &Edit, grant: &GrantId, name: &str) {
        let (place, client) = (self.place, self.place.client);
        if self.known.needs_login(grant) {
            output::note(format!("note: nothing comes through before a login: everfresh login {grant}"));
        }
        if change::is_off(edit, client, name) {
            output::note(format!("note: {name} is switched off in {}", place.named.display()));
        }
        let upstream = self.known.upstream(grant);
        for other in upstream.map(|url| change::bypasses(edit, client, name, url)).unwrap_or_default() {
            output::note(format!(
                "note: {other:?} leads to the same server past everfresh, with a login of its own; take it out, or \
                 let it be the one: everfresh connect {} {grant} --as {other:?}",
                client.id
            ));
        }
    }
}

/// Lets the file's own key open what the file needs it for, and no more.
async fn settle(place: &Place, after: &Edit, api: &Api) {
    match OwnKey::look(api, place.client.id, place.held.name()).await {
        Ok(own) => own.settle(&change::by_url(after, place.client, api.base_url())).await,
        Err(failure) => output::note(format!("note: the key of this file stays as it was: {}", failure.text)),
    }
}

/// Writes what has changed, or shows it. Returns whether what was said before has become true.
fn write(place: &Place, after: Option<&str>, key: Option<&Secret>, wanted: &Connect) -> Result<bool, Failure> {
    let Some(after) = after else {
        if key.is_some() && place.held.is_open_to_others() {
            output::note(format!(
                "warning: others on this machine can read {}, and a key is in it: chmod 600 it",
                place.named.display()
            ));
        }
        return Ok(true);
    };
    if wanted.dry_run {
        output::line(words::diff(place.held.path(), place.held.text()?, after, key).trim_end());
        return Ok(false);
    }
    let was_open = place.held.is_open_to_others();
    let backup = place.held.replace(after, key.is_some(), crate::commands::now())?;
    output::note(format!("{} {}", if backup.is_some() { "changed" } else { "created" }, place.named.display()));
    if let Some(backup) = backup {
        output::note(format!("what it was before is in {}", backup.display()));
    }
    if key.is_some() && was_open {
        output::note("only you can read it from here on: it holds a key");
    }
    Ok(true)
}

/// Takes servers out, and returns what is in the file then.
fn take_out(place: &Place, address: Option<&str>, wanted: &Connect) -> Result<Edit, Failure> {
    let unusable = |unusable: document::Unusable| refusal(place, &Refused::from(unusable));
    let mut edit = Edit::of(place.client.format, place.held.text()?).map_err(unusable)?;
    let mut said = Vec::new();
    let grants: Vec<Option<GrantId>> = match wanted.all {
        true => vec![None],
        false => wanted.names.iter().map(|name| gate::parse(name).map(Some)).collect::<Result<_, _>>()?,
    };
    for grant in grants {
        let gone = change::remove(&mut edit, place.client, grant.as_ref(), address).map_err(unusable)?;
        said.extend(gone.iter().map(|name| format!("{}: {name} is taken out", place.client.name)));
        if gone.is_empty() {
            let what = grant.map_or_else(|| "nothing".to_owned(), |grant| format!("{grant} is not there: nothing"));
            output::note(format!("{}: {what} to take out of {}", place.client.name, place.named.display()));
        }
    }
    let after = edit.finish().map_err(unusable)?;
    if write(place, after.as_deref(), None, wanted)? {
        said.iter().for_each(output::line);
    }
    if after.is_some() && !wanted.dry_run {
        output::note(place.client.effect);
    }
    let text = after.as_deref().map_or_else(|| place.held.text(), Ok)?;
    Edit::of(place.client.format, text).map_err(unusable)
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
