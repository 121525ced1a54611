//! What a wish means for a client's file.

use everfresh_domain::GrantId;
use serde_json::{Map, Value};

use super::clients::{Client, Shape, Transport};
use super::document::{Edit, Item, Unusable};
use super::entry::{self, CONNECTION, Gate, Ours};

/// One server that is to be in a client's file.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) client: &'static Client,
    pub(crate) grant: &'a GrantId,
    /// What the client calls it.
    pub(crate) name: &'a str,
    pub(crate) transport: Transport,
    pub(crate) gate: &'a Gate,
}

/// What became of a wish.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was not there.
    Connected,
    /// It was ours, and said something else.
    Updated,
    /// It was something else, in these words.
    Replaced(String),
    /// It was there.
    Already,
}

/// Why a wish is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// Two of our servers would have one name.
    #[error("the name {name:?} is in use for everfresh's {grant}; give another with --as")]
    Taken { name: String, grant: GrantId },
    /// The client takes no URLs.
    #[error("{0} cannot send a key to a URL; leave --transport out")]
    NoHttp(&'static str),
}

/// Where the servers are in this file.
fn section(edit: &Edit, client: &Client) -> &'static [&'static str] {
    let holds_servers = |section: &[&str]| {
        let servers = edit.at(section).and_then(Value::as_object);
        servers.is_some_and(|servers| servers.values().all(Value::is_object))
    };
    let found = client.sections.iter().find(|section| holds_servers(section)).or_else(|| client.sections.last());
    found.copied().unwrap_or_default()
}

fn servers<'a>(edit: &'a Edit, client: &Client) -> impl Iterator<Item = (&'a String, &'a Value)> {
    edit.at(section(edit, client)).and_then(Value::as_object).into_iter().flatten()
}

/// Puts a server into the file.
pub(crate) fn connect(edit: &mut Edit, wish: &Wish<'_>) -> Result<Outcome, Refused> {
    let Some(shape) = wish.client.shape(wish.transport) else { return Err(Refused::NoHttp(wish.client.name)) };
    let path: Vec<&str> = section(edit, wish.client).iter().copied().chain([wish.name]).collect();
    let Some(found) = edit.at(&path).cloned() else {
        edit.set(&path, &Item::Map(entry::whole(wish.client, shape, wish.name, wish.grant, wish.gate)))?;
        return Ok(Outcome::Connected);
    };
    let ours = entry::ours(&found, Some(&wish.gate.base_url));
    if let Some(ours) = ours.as_ref().filter(|ours| ours.grant != *wish.grant) {
        return Err(Refused::Taken { name: wish.name.to_owned(), grant: ours.grant.clone() });
    }
    let before = edit.changes();
    match found.as_object() {
        Some(fields) => fit(edit, &path, fields, shape, ours.as_ref(), wish)?,
        None => edit.set(&path, &Item::Map(entry::whole(wish.client, shape, wish.name, wish.grant, wish.gate)))?,
    }
    Ok(match ours {
        _ if edit.changes() == before => Outcome::Already,
        Some(_) => Outcome::Updated,
        None => Outcome::Replaced(entry::described(&found)),
    })
}

/// Makes an entry that is there lead to everfresh. What else it says stays.
fn fit(
    edit: &mut Edit,
    path: &[&str],
    found: &Map<String, Value>,
    shape: Shape,
    ours: Option<&Ours>,
    wish: &Wish<'_>,
) -> Result<(), Unusable> {
    let below = |field: &str, act: &mut dyn FnMut(&[&str]) -> Result<(), Unusable>| {
        let whole: Vec<&str> = path.iter().copied().chain([field]).collect();
        act(&whole)
    };
    if ours.is_none_or(|ours| ours.transport != wish.transport) {
        let stays = |field: &str| shape.iter().any(|(own, _)| *own == field);
        for field in CONNECTION.iter().filter(|field| found.contains_key(**field) && !stays(field)) {
            below(field, &mut |path| edit.remove(path))?;
        }
    }
    let missing = entry::fields(wish.client.at_first, wish.name, wish.grant, wish.gate);
    let missing = missing.into_iter().filter(|(field, _)| !found.contains_key(field));
    let needed = entry::fields(shape, wish.name, wish.grant, wish.gate);
    for (field, item) in missing.chain(needed) {
        below(&field, &mut |path| edit.set(path, &item))?;
    }
    Ok(())
}

/// Takes our entries out: those of `grant`, or all. Returns their names.
pub(crate) fn remove(
    edit: &mut Edit,
    client: &Client,
    grant: Option<&GrantId>,
    gate_url: Option<&str>,
) -> Result<Vec<String>, Unusable> {
    let leaving = connected(edit, client, gate_url).into_iter();
    let names: Vec<String> =
        leaving.filter(|(_, ours)| grant.is_none_or(|grant| ours.grant == *grant)).map(|(name, _)| name).collect();
    let section = section(edit, client);
    for name in &names {
        let path: Vec<&str> = section.iter().copied().chain([name.as_str()]).collect();
        edit.remove(&path)?;
    }
    let is_empty = edit.at(section).and_then(Value::as_object).is_some_and(Map::is_empty);
    if is_empty && !client.keeps_section && !names.is_empty() {
        edit.remove(section)?;
    }
    Ok(names)
}

/// Our entries: what the client calls each, and what it leads to.
pub(crate) fn connected(edit: &Edit, client: &Client, gate_url: Option<&str>) -> Vec<(String, Ours)> {
    let found = servers(edit, client);
    found.filter_map(|(name, entry)| Some((name.clone(), entry::ours(entry, gate_url)?))).collect()
}

/// An entry of ours that leads to the daemon's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ByUrl {
    /// What the client calls it.
    pub(crate) name: String,
    pub(crate) grant: GrantId,
    /// What it shows, keys or not.
    pub(crate) keys: Vec<String>,
    /// Whether it is at the address where everfresh is.
    pub(crate) is_here: bool,
}

/// Our entries that lead to a URL.
pub(crate) fn by_url(edit: &Edit, client: &Client, gate_url: &str) -> Vec<ByUrl> {
    let found = servers(edit, client).filter_map(|(name, entry)| {
        let ours = entry::ours(entry, Some(gate_url)).filter(|ours| ours.transport == Transport::Http)?;
        let (name, keys, is_here) = (name.clone(), entry::keys(entry), entry::is_at(entry, gate_url));
        Some(ByUrl { name, grant: ours.grant, keys, is_here })
    });
    found.collect()
}

/// The names of entries, other than `name`, that lead to `upstream` past everfresh.
pub(crate) fn bypasses(edit: &Edit, client: &Client, name: &str, upstream: &str) -> Vec<String> {
    let others = servers(edit, client).filter(|(other, entry)| *other != name && entry::leads_to(entry, upstream));
    others.map(|(other, _)| other.clone()).collect()
}

/// Whether an entry is switched off in the file, as several clients write it.
pub(crate) fn is_off(edit: &Edit, client: &Client, name: &str) -> bool {
    let entry = servers(edit, client).find(|(found, _)| *found == name).map(|(_, entry)| entry);
    entry
        .is_some_and(|entry| entry.get("disabled") == Some(&true.into()) || entry.get("enabled") == Some(&false.into()))
}
