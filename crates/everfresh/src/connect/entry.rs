//! One server in a client's file: what is written, and what is recognised as ours.

use everfresh_domain::key::LIMITED_PREFIX;
use everfresh_domain::{GrantId, Secret};
use serde_json::Value;
use url::Url;

use super::clients::{Client, Part, Shape, Transport};
use super::document::Item;

/// Hexadecimal digits of a key.
const KEY_DIGITS: usize = 64;

/// How clients of this machine get to everfresh.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Where the daemon listens, for example `http://127.0.0.1:7411`.
    pub(crate) base_url: String,
    /// What it wants to see; `None` where it wants nothing.
    pub(crate) key: Option<Secret>,
    /// The program, for clients that start one.
    pub(crate) command: String,
    /// Where its files are, for clients that do not know the environment of this command.
    pub(crate) places: Vec<String>,
}

/// The name of a grant as a key that every client takes: letters, digits, hyphens, underscores.
pub(crate) fn name_of(grant: &GrantId) -> String {
    grant.to_string().replace(['@', '.'], "-")
}

/// The fields of an entry.
pub(crate) fn fields(shape: Shape, name: &str, grant: &GrantId, gate: &Gate) -> Vec<(String, Item)> {
    let filled = shape.iter().filter_map(|(field, part)| {
        let item = match part {
            Part::Url => Item::Text(format!("{}/mcp/{grant}", gate.base_url)),
            Part::Headers => {
                let key = gate.key.as_ref()?;
                let value = Item::Text(format!("Bearer {}", key.expose()));
                Item::Map(vec![("Authorization".to_owned(), value)])
            }
            Part::Command => Item::Text(gate.command.clone()),
            Part::Args => Item::List(arguments(grant, gate)),
            Part::CommandLine => {
                Item::List(std::iter::once(gate.command.clone()).chain(arguments(grant, gate)).collect())
            }
            Part::Name => Item::Text(name.to_owned()),
            Part::Description => Item::Text(format!("{grant}, through everfresh")),
            Part::Text(text) => Item::Text((*text).to_owned()),
            Part::Flag(flag) => Item::Flag(*flag),
        };
        Some(((*field).to_owned(), item))
    });
    filled.collect()
}

fn arguments(grant: &GrantId, gate: &Gate) -> Vec<String> {
    gate.places.iter().cloned().chain(["stdio".to_owned(), grant.to_string()]).collect()
}

/// An entry of ours, as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ours {
    pub(crate) grant: GrantId,
    pub(crate) transport: Transport,
}

/// What an entry of ours leads to; `None` for an entry of anybody else.
pub(crate) fn ours(entry: &Value, gate_url: Option<&str>) -> Option<Ours> {
    let by_command = command_line(entry).and_then(|line| grant_of_command(&line));
    if let Some(grant) = by_command {
        return Some(Ours { grant, transport: Transport::Stdio });
    }
    let grant = grant_of_url(&url_of(entry)?, entry, gate_url)?;
    Some(Ours { grant, transport: Transport::Http })
}

/// The URL of an entry, by whatever name its client has for it.
pub(crate) fn url_of(entry: &Value) -> Option<String> {
    let names = ["url", "serverUrl", "httpUrl", "uri"];
    names.iter().find_map(|name| entry.get(name)?.as_str()).map(str::to_owned)
}

/// The command of an entry with its arguments.
pub(crate) fn command_line(entry: &Value) -> Option<Vec<String>> {
    let texts = |value: &Value| -> Option<Vec<String>> {
        match value {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(values) => values.iter().map(|value| value.as_str().map(str::to_owned)).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        }
    };
    let mut line = texts(entry.get("command").or_else(|| entry.get("cmd"))?)?;
    line.extend(entry.get("args").and_then(texts).unwrap_or_default());
    Some(line)
}

/// `.../everfresh [options] stdio NAME`
fn grant_of_command(line: &[String]) -> Option<GrantId> {
    let (program, rest) = line.split_first()?;
    // By hand: a path of Windows is no path to other systems' rules.
    let file = program.rsplit(['/', '\\']).next()?;
    if file != "everfresh" && !file.eq_ignore_ascii_case("everfresh.exe") {
        return None;
    }
    let at = rest.iter().position(|word| word == "stdio")?;
    rest.get(at + 1)?.parse().ok()
}

/// `http://<this machine>/mcp/NAME` with a key of ours or at our address, or with the key in the path.
fn grant_of_url(text: &str, entry: &Value, gate_url: Option<&str>) -> Option<GrantId> {
    let url = Url::parse(text).ok()?;
    let is_local = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    let steps: Vec<&str> = url.path().trim_matches('/').split('/').collect();
    let (name, is_known) = match &*steps {
        ["k", key, "mcp", name, ..] => (name, is_key(key)),
        ["mcp", name, ..] => {
            let origin = url.origin().ascii_serialization();
            (name, gate_url == Some(&*origin) || shows_key(entry))
        }
        _ => return None,
    };
    if is_local && is_known { name.parse().ok() } else { None }
}

/// Whether a text has the form of a key of ours, full or limited.
pub(crate) fn is_key(text: &str) -> bool {
    let digits = text.strip_prefix(LIMITED_PREFIX).unwrap_or(text);
    digits.len() == KEY_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a text has the form of the full key that everfresh makes for itself.
pub(crate) fn is_full_key(text: &str) -> bool {
    is_key(text) && !text.starts_with(LIMITED_PREFIX)
}

fn shows_key(entry: &Value) -> bool {
    in_headers(entry).any(is_key)
}

/// What an entry sends in headers, without the name of a scheme.
fn in_headers(entry: &Value) -> impl Iterator<Item = &str> {
    let headers = ["headers", "http_headers"].iter().filter_map(|name| entry.get(name)?.as_object());
    let values = headers.flat_map(serde_json::Map::values).filter_map(Value::as_str);
    values.map(|value| value.strip_prefix("Bearer ").unwrap_or(value))
}

/// The texts by which an entry may be known: those in its headers, and the one in its URL.
pub(crate) fn keys(entry: &Value) -> Vec<String> {
    let url = url_of(entry).and_then(|url| Url::parse(&url).ok());
    let in_path = url.as_ref().and_then(|url| {
        let mut steps = url.path_segments()?;
        (steps.next() == Some("k")).then(|| steps.next()).flatten()
    });
    in_headers(entry).chain(in_path).map(str::to_owned).collect()
}

/// Whether an entry's URL is at this address.
pub(crate) fn is_at(entry: &Value, gate_url: &str) -> bool {
    let url = url_of(entry).and_then(|url| Url::parse(&url).ok());
    url.is_some_and(|url| url.origin().ascii_serialization() == gate_url)
}

/// Fields of entries, of any client, that say how a server is reached or how one shows who one is.
/// What is not among them (timeouts, which tools are allowed) stays when an entry becomes ours.
pub(crate) const CONNECTION: &[&str] = &[
    "args",
    "auth",
    "authProviderType",
    "bearer_token_env_var",
    "cmd",
    "command",
    "cwd",
    "env",
    "env_http_headers",
    "env_keys",
    "env_vars",
    "environment",
    "envs",
    "envFile",
    "headers",
    "headersHelper",
    "httpUrl",
    "http_headers",
    "oauth",
    "oauth_resource",
    "scopes",
    "serverUrl",
    "source",
    "transport",
    "type",
    "uri",
    "url",
];

/// Whether an entry leads to `upstream` by itself, whatever it is started with.
pub(crate) fn leads_to(entry: &Value, upstream: &str) -> bool {
    let same = |text: &str| text.trim_end_matches('/') == upstream.trim_end_matches('/');
    url_of(entry).is_some_and(|url| same(&url))
        || command_line(entry).is_some_and(|line| line.iter().any(|word| same(word)))
}

/// An entry in a few words, without anything that could be a secret.
pub(crate) fn described(entry: &Value) -> String {
    if let Some(url) = url_of(entry) {
        // Keys are found in queries, in user names and in paths.
        return match Url::parse(&url) {
            Ok(url) if url.has_host() => {
                let path = if url.path().contains("/k/") { "" } else { url.path() };
                format!("{}{path}", url.origin().ascii_serialization())
            }
            Ok(_) | Err(_) => "a URL".to_owned(),
        };
    }
    let Some(line) = command_line(entry) else { return "something else".to_owned() };
    let program = line.first().and_then(|program| program.rsplit(['/', '\\']).next()).unwrap_or_default();
    let upstream = line.iter().filter_map(|word| Url::parse(word).ok()).find(Url::has_host);
    match upstream {
        Some(url) => format!("the command {program} for {}", url.origin().ascii_serialization()),
        None => format!("the command {program}"),
    }
}

/// The fields of a new entry of `client`.
pub(crate) fn whole(client: &Client, shape: Shape, name: &str, grant: &GrantId, gate: &Gate) -> Vec<(String, Item)> {
    let mut whole = fields(client.at_first, name, grant, gate);
    whole.extend(fields(shape, name, grant, gate));
    whole
}
