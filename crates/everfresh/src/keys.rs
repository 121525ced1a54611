//! `everfresh key`: the full local key, and limited ones for programs that need less.

use std::time::Duration;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use everfresh_domain::ids::InvalidName;
use everfresh_domain::{KeyName, Secret};
use serde_json::{Value, json};

use crate::cli::Output;
use crate::client::Api;
use crate::completion;
use crate::exit::{Exit, Failure};
use crate::local_key;
use crate::output;
use crate::paths::Paths;

/// Commands about local keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key that opens less than all, and print it this once.
    Add(Add),
    /// The limited keys there are.
    List {
        /// How to print it.
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Print the key that commands show here: the full local key, or that of `EVERFRESH_KEY`.
    Show,
    /// Make another secret for a key, and print it; the one before opens nothing from then on.
    Rotate {
        /// The limited key; the full local key where none is named.
        name: Option<String>,
    },
    /// Remove a limited key; it opens nothing from then on.
    Remove {
        /// The limited key.
        name: String,
    },
}

/// A limited key to be made.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// A name for whoever gets it: a-z, 0-9, '.', '_', '-'.
    pub(crate) name: String,
    /// A login that it opens, as NAME or NAME@ACCOUNT; may be given several times. All, where none is.
    #[arg(long, value_name = "SERVER", add = ArgValueCandidates::new(completion::names))]
    pub(crate) server: Vec<String>,
    /// Whose logins it stands for: requests to a server by its bare name are served as this account.
    #[arg(long, value_name = "ACCOUNT")]
    pub(crate) account: Option<String>,
    /// It may send requests, and never sees a token. So it is unless told otherwise.
    #[arg(long, conflicts_with = "allow_token")]
    pub(crate) data_plane_only: bool,
    /// It may also be handed access tokens of these logins, see their state, and refresh them.
    #[arg(long)]
    pub(crate) allow_token: bool,
    /// How long it lives, as 30d or 12h; for ever, where not given.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) expires: Option<Duration>,
    /// Take the place of a key of that name, whose secret ends.
    #[arg(long)]
    pub(crate) replace: bool,
    /// How to print it.
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Output,
}

/// Runs one of them.
pub(crate) async fn run(api: &Api, paths: &Paths, command: Key) -> Result<Exit, Failure> {
    match command {
        Key::Add(add) => added(api, &add).await,
        Key::List { output } => list(api, output).await,
        Key::Show => show(api, paths).await,
        Key::Rotate { name: Some(name) } => rotate(api, &name).await,
        Key::Rotate { name: None } => rotate_local(api).await,
        Key::Remove { name } => remove(api, &name).await,
    }
}

/// Makes a limited key: what the API says of it, with its `secret`.
async fn make(api: &Api, add: &Add) -> Result<Value, Failure> {
    let wish = json!({
        "name": add.name,
        "servers": add.server,
        "account": add.account,
        "right": if add.allow_token { "tokens" } else { "data_plane" },
        "lifetime_s": add.expires.map(|lifetime| lifetime.as_secs()),
        "replace": add.replace,
    });
    api.post("/api/v1/keys", Some(wish)).await
}

/// Makes a key that may send requests to one server, for whoever is to have it: its secret and its words.
pub(crate) async fn make_for(api: &Api, whom: &str, server: &str) -> Result<(Secret, String), Failure> {
    let add = Add {
        name: whom.to_owned(),
        server: vec![server.to_owned()],
        account: None,
        data_plane_only: true,
        allow_token: false,
        expires: None,
        replace: false,
        output: Output::Table,
    };
    let made = make(api, &add).await?;
    let words = format!("The key {whom} may {}.", output::text(&made["key"]["may"]));
    Ok((Secret::new(output::text(&made["secret"])), words))
}

/// The API's path of a key, if its name is one.
pub(crate) fn path_of(name: &str) -> Result<String, Failure> {
    let name: KeyName = name.parse().map_err(|error: InvalidName| Failure::new(Exit::Usage, error.to_string()))?;
    Ok(format!("/api/v1/keys/{name}"))
}

async fn added(api: &Api, add: &Add) -> Result<Exit, Failure> {
    let made = make(api, add).await?;
    if add.output == Output::Json {
        output::json(&made);
        return Ok(Exit::Done);
    }
    let (name, key) = (&add.name, &made["key"]);
    output::note(format!("The key {name} may {}.", output::text(&key["may"])));
    if !key["expires_at"].is_null() {
        output::note(format!("It ends at {}.", output::text(&key["expires_at"])));
    }
    output::note("Give it to one program, as X-Everfresh-Key or Authorization: Bearer, in the URL");
    output::note(format!("{}/k/KEY/mcp/NAME, or as EVERFRESH_KEY. It is shown this once:", api.base_url()));
    output::line(output::text(&made["secret"]));
    Ok(Exit::Done)
}

async fn list(api: &Api, format: Output) -> Result<Exit, Failure> {
    let answer = api.get("/api/v1/keys").await?;
    if format == Output::Json {
        output::json(&answer);
        return Ok(Exit::Done);
    }
    let keys = answer["keys"].as_array().cloned().unwrap_or_default();
    if keys.is_empty() {
        output::line("no limited key yet; make one with: everfresh key add NAME --server SERVER");
        return Ok(Exit::Done);
    }
    let now = crate::commands::now();
    let mut table = output::table(["NAME", "MAY", "MADE", "LAST USED", "ENDS", "IN THE FILE OF"]);
    for key in &keys {
        let end = &key["expires_at"];
        let end = if end.is_null() { "never".to_owned() } else { output::relative(now, end) };
        let cells: [comfy_table::Cell; 6] = [
            output::text(&key["name"]).into(),
            output::text(&key["may"]).into(),
            output::relative(now, &key["created_at"]).into(),
            output::relative(now, &key["last_used_at"]).into(),
            end.into(),
            holder(key).into(),
        ];
        table.add_row(cells);
    }
    output::print(&table);
    Ok(Exit::Done)
}

/// The client that a key was made for, and its file.
fn holder(key: &Value) -> String {
    match (key["holder"]["client"].as_str(), key["holder"]["file"].as_str()) {
        (Some(client), Some(file)) => format!("{client}: {file}"),
        _ => "-".to_owned(),
    }
}

/// How a client gets its key back, where one was made for it by `connect`.
fn connect_anew(key: &Value) -> Option<String> {
    let (client, file) = (key["holder"]["client"].as_str()?, key["holder"]["file"].as_str()?);
    let servers: Vec<&str> = key["servers"].as_array()?.iter().filter_map(Value::as_str).collect();
    Some(format!("everfresh connect {client} {} --transport http --file \"{file}\"", servers.join(" ")))
}

async fn remove(api: &Api, name: &str) -> Result<Exit, Failure> {
    let path = path_of(name)?;
    let listed = api.get("/api/v1/keys").await?;
    let key = listed["keys"].as_array().into_iter().flatten().find(|key| key["name"] == name);
    api.delete(&path).await?;
    output::line(format!("{name}: removed; it opens nothing any more"));
    if let Some(command) = key.and_then(connect_anew) {
        output::note(format!("It was made for a client, which gets in no more. Another one is made by: {command}"));
    }
    Ok(Exit::Done)
}

async fn show(api: &Api, paths: &Paths) -> Result<Exit, Failure> {
    let none = || {
        let text = format!("there is no local key in {} yet; the daemon makes one at its start", paths.data.display());
        Failure::new(Exit::Failed, text)
    };
    let key = local_key::find(paths)?.ok_or_else(none)?;
    let own = api.get("/api/v1/key").await?;
    match own["key"]["may"].as_str() {
        Some(may) => {
            output::note(format!("This is the limited key {}; it may {may}.", output::text(&own["key"]["name"])))
        }
        None => {
            output::note("This key opens everything: every login, its tokens, and the settings. Keep it to yourself;");
            output::note("for a program there are limited ones: everfresh key add NAME --server SERVER");
        }
    }
    output::line(key);
    Ok(Exit::Done)
}

async fn rotate(api: &Api, name: &str) -> Result<Exit, Failure> {
    let made = api.post(&format!("{}/rotate", path_of(name)?), None).await?;
    output::note(format!("The key {name} has another secret; the one before opens nothing any more. Shown this once:"));
    output::line(output::text(&made["secret"]));
    if let Some(command) = connect_anew(&made["key"]) {
        output::note(format!(
            "It is of a client, which has the one before in its file. Give it this one with: {command}"
        ));
    }
    Ok(Exit::Done)
}

async fn rotate_local(api: &Api) -> Result<Exit, Failure> {
    let made = api.post("/api/v1/local-key/rotate", None).await?;
    output::note("There is another local key; the one before opens nothing any more, and the page is closed.");
    output::note(
        "Commands and `everfresh stdio` find it by themselves, and limited keys stay, those of connected clients",
    );
    output::note("among them. What has the one before in its settings is better off with a key of its own: everfresh");
    output::note("connect CLIENT NAME, everfresh url NAME --for WHOM, or everfresh key add.");
    if std::env::var_os(local_key::VARIABLE).is_some() {
        output::note(format!("{} in this environment still holds the one before.", local_key::VARIABLE));
    }
    output::line(output::text(&made["secret"]));
    Ok(Exit::Done)
}
