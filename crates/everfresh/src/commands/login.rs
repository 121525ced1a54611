//! Adding servers and logging in.

use std::path::PathBuf;

use everfresh_application::{ClientCertificate, LoginWay};
use everfresh_domain::grant::GrantType;
use everfresh_infrastructure::http::{check_authorities, check_certificate};
use everfresh_presentation::api::views::{LoginWish, NewIdentityProvider, NewOAuth, NewServer};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;
use url::Url;

use super::servers::{not_well, sentence};
use super::{grant_in, path_of};
use crate::cli::{Add, Global, Grant, IdentityProvider, LoginHow, Open};
use crate::client::Api;
use crate::exit::{Exit, Failure};
use crate::output::{self, progress};

pub(super) async fn add(api: &Api, global: &Global, add: Add) -> Result<Exit, Failure> {
    let mut headers = std::collections::BTreeMap::new();
    for header in &add.header {
        let wrong = || Failure::new(Exit::Usage, format!("--header {header:?} must be written as 'Name: value'"));
        let (name, value) = header.split_once(':').ok_or_else(wrong)?;
        headers.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    let grant = grant_in(&add.name)?;
    let (ca_file, client_certificate) = tls_files(&add)?;
    let server = NewServer {
        name: grant.server.to_string(),
        url: add.url,
        headers,
        ca_file,
        client_cert_file: client_certificate.as_ref().map(|files| files.cert_file.clone()),
        client_key_file: client_certificate.and_then(|files| files.key_file),
        oauth: NewOAuth {
            issuer: add.issuer,
            client_id: add.client_id,
            client_secret_env: add.client_secret_env,
            grant: match add.grant {
                Grant::AuthorizationCode => GrantType::AuthorizationCode,
                Grant::ClientCredentials => GrantType::ClientCredentials,
                Grant::JwtBearer => GrantType::JwtBearer,
                Grant::EnterpriseManaged => GrantType::EnterpriseManaged,
            },
            private_key_file: add.private_key_file.map(absolute),
            signing_alg: add.signing_alg,
            assertion_file: add.assertion_file.map(absolute),
            identity_provider: identity_provider(add.identity_provider),
            scopes: add.scope,
            resource: add.resource,
            dpop: add.dpop,
            profile: add.profile,
            redirect_uri: add.redirect_uri,
            login_way: if add.how.device { LoginWay::Device } else { LoginWay::Browser },
            ..NewOAuth::default()
        },
    };
    let added = api.post("/api/v1/servers", Some(json!(server))).await;
    added.map_err(|Failure { exit, text }| {
        let more = if exit == Exit::Usage { ". All options: everfresh add --help" } else { "" };
        Failure::new(exit, text + more)
    })?;
    output::line(format!("{}: added", grant.server));
    if add.no_login {
        return Ok(Exit::Done);
    }
    let logged_in = login(api, global, &add.name, &add.how).await;
    if logged_in.is_err() {
        output::note(format!("{}: it stays added, without a login", grant.server));
    }
    logged_in
}

/// The files that were named, as the daemon finds them, and only if they can be used.
fn tls_files(add: &Add) -> Result<(Option<PathBuf>, Option<ClientCertificate>), Failure> {
    let ca_file = add.ca_file.clone().map(absolute);
    let key_file = add.client_key.clone().map(absolute);
    let certificate = add.client_cert.clone().map(|file| ClientCertificate { cert_file: absolute(file), key_file });
    let unusable = |error: std::io::Error| Failure::new(Exit::Usage, error.to_string());
    ca_file.as_deref().map_or(Ok(()), check_authorities).map_err(unusable)?;
    certificate.as_ref().map_or(Ok(()), check_certificate).map_err(unusable)?;
    Ok((ca_file, certificate))
}

/// The daemon has a working directory of its own.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

fn identity_provider(told: IdentityProvider) -> Option<NewIdentityProvider> {
    Some(NewIdentityProvider {
        issuer: told.idp_issuer,
        token_endpoint: told.idp_token_endpoint,
        client_id: told.idp_client_id,
        client_secret_env: told.idp_client_secret_env,
        id_token_file: absolute(told.id_token_file?),
    })
}

/// Has a grant that needs no person ask for a token, and says what came of it.
async fn ask(api: &Api, name: &str) -> Result<Exit, Failure> {
    let path = format!("{}/refresh", path_of(name)?);
    let answer = progress::during(&format!("{name}: asking for a token"), api.post(&path, None)).await?;
    if answer["outcome"] == "refreshed" {
        let ends = output::text(&answer["server"]["token"]["expires_at"]);
        output::line(format!("{name}: has a token until {ends}; it is kept fresh from here on"));
        return Ok(Exit::Done);
    }
    Err(not_well(name, &answer["server"]["health"], "everfresh login"))
}

pub(super) async fn login(api: &Api, global: &Global, name: &str, how: &LoginHow) -> Result<Exit, Failure> {
    let server = api.get(&path_of(name)?).await;
    if server.is_ok_and(|server| server["grant"] != "authorization_code") {
        return ask(api, name).await;
    }
    let way = match how {
        LoginHow { device: true, .. } => Some(LoginWay::Device),
        LoginHow { no_browser: true, .. } | LoginHow { paste: true, .. } => Some(LoginWay::Browser),
        LoginHow { .. } => None,
    };
    let wish = LoginWish { way, new_client: how.new_client };
    let path = format!("{}/login", path_of(name)?);
    let asking = api.post(&path, Some(json!(wish)));
    let started = match progress::during(&format!("{name}: asking how to log in"), asking).await {
        Ok(started) => started,
        Err(failure) if failure.text.ends_with("asks for no login") => {
            output::line(format!("{name}: no login needed; the server answers without one"));
            return Ok(Exit::Done);
        }
        Err(failure) if failure.exit == Exit::Unreachable => {
            let text = format!("{}. Try again once it answers; everfresh doctor {name} looks closer", failure.text);
            return Err(Failure { text, ..failure });
        }
        Err(failure) => return Err(failure),
    };
    let ended = if show_way(global, name, &started, how, api.base_url()) {
        // What is typed in must not be drawn over.
        wait(api, name, &started, how, Some(lines_of_stdin())).await?
    } else {
        let words = format!("{name}: waiting for the login in your browser");
        progress::until(&words, how.timeout, wait(api, name, &started, how, None)).await?
    };
    match ended["state"].as_str() {
        Some("succeeded") => succeeded(api, name, &ended).await,
        _ => {
            let text = format!("{name}: {}. Try again with: everfresh login {name}", sentence(&ended["message"]));
            Err(Failure::new(Exit::LoginNeeded, text))
        }
    }
}

/// Takes back the login that is under way.
pub(super) async fn cancel(api: &Api, name: &str) -> Result<Exit, Failure> {
    let pending = api.get(&format!("{}/login", path_of(name)?)).await?;
    let ended = api.delete(&format!("/api/v1/logins/{}", output::text(&pending["flow_id"]))).await?;
    if ended["state"] == "cancelled" {
        output::line(format!("{name}: the login that was under way is taken back"));
        return Ok(Exit::Done);
    }
    let text = format!("{name}: the answer to the login came first. {}", sentence(&ended["message"]));
    Err(Failure::new(Exit::Failed, text))
}

/// Says how to log in, and opens the browser where that is the way. Whether an address can be pasted:
/// where that is asked for, and where the answer comes back to another place than `here`.
fn show_way(global: &Global, name: &str, started: &Value, how: &LoginHow, here: &str) -> bool {
    let url = output::text(&started["authorization_url"]);
    if let Some(code) = started["device"]["user_code"].as_str() {
        let page = output::text(&started["device"]["verification_uri"]);
        output::note(format!("{name}: open this page on any device, and type in the code below it:"));
        output::line(&page);
        output::line(code);
        if url != page {
            output::note(format!("Or open this one, with the code in it: {url}"));
        }
        output::note("Approve only if the page shows this code. Waiting ...");
        return false;
    }
    let back = output::text(&started["redirect_uri"]);
    let pasting = how.paste || !leads_to(&back, here);
    if pasting {
        output::note("Open this URL in a browser on any machine:");
        output::line(&url);
        output::note(format!(
            "At the end the browser goes to an address that begins with {back}; on another machine it shows an error \
             there. Copy that whole address, paste it here, and press Enter:"
        ));
    } else if how.no_browser {
        output::note("Open this URL in a browser on this machine (from another one, use --paste or --device):");
        output::line(&url);
    } else if let Err(cause) = everfresh_browser::open(global.browser_cmd.as_deref(), &url) {
        output::note(format!("The browser could not be opened ({cause}). Open this URL on this machine:"));
        output::line(&url);
    } else {
        output::note(format!("{name}: the browser is open; waiting for the login. If it is not, open: {url}"));
    }
    pasting
}

/// Whether an answer that is sent to `redirect_uri` arrives at the daemon at `here`, whichever name of
/// this machine it uses.
fn leads_to(redirect_uri: &str, here: &str) -> bool {
    let place = |url: &str| Url::parse(url).ok().map(|url| (url.scheme().to_owned(), url.port_or_known_default()));
    place(redirect_uri).is_some_and(|place_of_answer| Some(place_of_answer) == place(here))
        && redirect_uri.split('?').next().is_some_and(|uri| uri.ends_with("/oauth/callback"))
}

/// Waits until the login has ended: by itself, or by what is pasted, whichever comes first.
async fn wait(
    api: &Api,
    name: &str,
    started: &Value,
    how: &LoginHow,
    mut pasted: Option<UnboundedReceiver<String>>,
) -> Result<Value, Failure> {
    let outcome = format!("/api/v1/logins/{}", output::text(&started["flow_id"]));
    let late = || {
        let (time, end) = (humantime::format_duration(how.timeout), output::text(&started["expires_at"]));
        let goes_on = if api.is_daemon() { format!("; the login stays open until {end}") } else { String::new() };
        let text = format!("{name}: nobody came back within {time}{goes_on}. Go on with: everfresh login {name}");
        Failure::new(Exit::LoginNeeded, text)
    };
    let ended = async {
        loop {
            let line = async {
                match &mut pasted {
                    Some(lines) => lines.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                state = api.get(&outcome) => {
                    let state = state?;
                    if state["state"] != "pending" {
                        return Ok(state);
                    }
                }
                line = line => match line {
                    // Nothing more comes from there; the callback still may.
                    None => pasted = None,
                    Some(line) if line.trim().is_empty() => {}
                    Some(line) => match api.post(&format!("{outcome}/answer"), Some(json!({ "url": line }))).await {
                        Ok(state) => return Ok(state),
                        Err(failure) if failure.exit == Exit::Usage => output::note(format!("{name}: {}", failure.text)),
                        // The callback was faster: how that ended is told next.
                        Err(_) => pasted = None,
                    },
                },
            }
        }
    };
    tokio::time::timeout(how.timeout, ended).await.map_err(|_| late())?
}

/// The lines of stdin, from a thread that nobody waits for: a read cannot be taken back.
fn lines_of_stdin() -> UnboundedReceiver<String> {
    let (sender, lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

async fn succeeded(api: &Api, name: &str, ended: &Value) -> Result<Exit, Failure> {
    let server = api.get(&path_of(name)?).await?;
    let lasts = match (ended["lasts_until"].as_str(), &server["token"]["has_refresh_token"]) {
        (Some(until), _) => format!("the provider gave no refresh token: this login lasts until {until}"),
        (None, Value::Bool(false)) => "the provider gave no refresh token, and does not say when its token ends".into(),
        (None, _) => "it is kept fresh from here on".to_owned(),
    };
    output::line(format!("{name}: logged in; {lasts}"));
    let missing: Vec<&str> =
        ended["scopes_not_granted"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !missing.is_empty() {
        output::note(format!("{name}: asked for, and not granted by the provider: {}", missing.join(" ")));
    }
    if let Some(note) = server["profile"]["note"].as_str() {
        output::note(format!("{}: {note}", output::text(&server["profile"]["title"])));
    }
    Ok(Exit::Done)
}

pub(super) async fn open_page(api: &Api, global: &Global, open: &Open) -> Result<Exit, Failure> {
    if !api.is_daemon() {
        return Err(Failure::new(Exit::NoDaemon, "the page needs the daemon; start it with: everfresh serve"));
    }
    let link = api.post("/api/v1/page-link", None).await?;
    let url = output::text(&link["url"]);
    if open.print || everfresh_browser::open(global.browser_cmd.as_deref(), &url).is_err() {
        output::line(&url);
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_arrives_under_any_name_of_this_machine_and_only_at_the_right_port() {
        let here = "http://127.0.0.1:7411";
        for uri in ["http://127.0.0.1:7411/oauth/callback", "http://localhost:7411/oauth/callback"] {
            assert!(leads_to(uri, here), "{uri}");
        }
        let elsewhere =
            ["http://localhost:3118/oauth/callback", "http://localhost:7411/cb", "https://a.example/oauth/callback"];
        for uri in elsewhere {
            assert!(!leads_to(uri, here), "{uri}");
        }
    }
}
