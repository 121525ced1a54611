//! Adding servers and logging in.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use everfresh_presentation::api::views::{NewOAuth, NewServer};
use serde_json::json;
use url::Url;

use super::path_of;
use crate::cli::{Add, Global, LoginHow, Open};
use crate::client::Api;
use crate::exit::{Exit, Failure};
use crate::output;

pub(super) async fn add(api: &Api, global: &Global, add: Add) -> Result<Exit, Failure> {
    let mut headers = std::collections::BTreeMap::new();
    for header in &add.header {
        let wrong = || Failure::new(Exit::Usage, format!("--header {header:?} must be written as 'Name: value'"));
        let (name, value) = header.split_once(':').ok_or_else(wrong)?;
        headers.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    let server = NewServer {
        name: add.name.clone(),
        url: add.url,
        headers,
        ca_file: add.ca_file.map(|path| std::path::absolute(&path).unwrap_or(path)),
        oauth: NewOAuth {
            issuer: add.issuer,
            client_id: add.client_id,
            client_secret_env: add.client_secret_env,
            scopes: add.scope,
            resource: add.resource,
            dpop: add.dpop,
        },
    };
    api.post("/api/v1/servers", Some(json!(server))).await?;
    output::line(format!("{}: added", add.name));
    if add.no_login {
        return Ok(Exit::Done);
    }
    login(api, global, &add.name, &add.how).await
}

pub(super) async fn login(api: &Api, global: &Global, name: &str, how: &LoginHow) -> Result<Exit, Failure> {
    let started = match api.post(&format!("{}/login", path_of(name)?), None).await {
        Ok(started) => started,
        Err(failure) if failure.text.ends_with("asks for no login") => {
            output::line(format!("{name}: no login needed; the server answers without one"));
            return Ok(Exit::Done);
        }
        Err(failure) => return Err(failure),
    };
    let url = output::text(&started["authorization_url"]);
    if how.no_browser {
        output::note("Open this URL in a browser on this machine:");
        output::line(&url);
    } else if let Err(cause) = open_url(global, &url) {
        output::note(format!("The browser could not be opened ({cause}). Open this URL on this machine:"));
        output::line(&url);
    } else {
        output::note(format!("{name}: the browser is open; waiting for the login. If it is not, open: {url}"));
    }
    let flow = output::text(&started["flow_id"]);
    let (deadline, outcome) = (Instant::now() + how.timeout, format!("/api/v1/logins/{flow}"));
    loop {
        let asked = api.get(&outcome);
        let left = deadline.saturating_duration_since(Instant::now());
        let late = || {
            let text = format!("{name}: nobody came back within {}", humantime::format_duration(how.timeout));
            Failure::new(Exit::LoginNeeded, text)
        };
        let state = tokio::time::timeout(left.max(Duration::from_millis(1)), asked).await.map_err(|_| late())??;
        match state["state"].as_str() {
            Some("pending") => {}
            Some("succeeded") => return succeeded(api, name).await,
            _ => return Err(Failure::new(Exit::LoginNeeded, format!("{name}: {}", output::text(&state["message"])))),
        }
    }
}

async fn succeeded(api: &Api, name: &str) -> Result<Exit, Failure> {
    let server = api.get(&path_of(name)?).await?;
    let token = &server["token"];
    let lasts = if token["has_refresh_token"] == true {
        "it is kept fresh from here on".to_owned()
    } else {
        format!("the provider gave no refresh token: this login lasts until {}", output::text(&token["expires_at"]))
    };
    output::line(format!("{name}: logged in; {lasts}"));
    Ok(Exit::Done)
}

pub(super) async fn open_page(api: &Api, global: &Global, open: &Open) -> Result<Exit, Failure> {
    if !api.is_daemon() {
        return Err(Failure::new(Exit::NoDaemon, "the page needs the daemon; start it with: everfresh serve"));
    }
    let link = api.post("/api/v1/page-link", None).await?;
    let url = output::text(&link["url"]);
    if open.print || open_url(global, &url).is_err() {
        output::line(&url);
    }
    Ok(Exit::Done)
}

/// Opens a URL without a shell. Only https, or http on this machine: whoever wrote the metadata
/// chose it.
fn open_url(global: &Global, url: &str) -> Result<(), String> {
    let parsed = Url::parse(url).map_err(|error| error.to_string())?;
    let here = matches!(parsed.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if parsed.scheme() != "https" && !(parsed.scheme() == "http" && here) {
        return Err(format!("its scheme is {}", parsed.scheme()));
    }
    let Some(command) = &global.browser_cmd else {
        return open::that_detached(url).map_err(|error| error.to_string());
    };
    let mut words: Vec<String> = command.split_whitespace().map(|word| word.replace("%s", url)).collect();
    if !command.contains("%s") {
        words.push(url.to_owned());
    }
    let mut words = words.into_iter();
    let program = words.next().filter(|program| program != url).ok_or("--browser-cmd is empty")?;
    let spawned =
        Command::new(&program).args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    spawned.map(drop).map_err(|error| format!("{program}: {error}"))
}
