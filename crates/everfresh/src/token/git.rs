//! `everfresh git-credential`: git's protocol for credential helpers (git-credential(1)).
//!
//! Whatever is not for this helper is answered by silence: git goes on to the next one.

use std::collections::BTreeMap;
use std::io::Read;

use clap::Args;
use serde_json::Value;
use url::{Host, Url};

use super::render::end_of;
use super::{TokenOutput, check_usable, fetch};
use crate::client::Api;
use crate::commands::path_of;
use crate::exit::{Exit, Failure};
use crate::output;

/// Bytes of a description at most; git's lines are shorter than 64 KiB, and there are a dozen.
const INPUT_MAX: u64 = 1 << 20;

/// What git must be able to do to be given a token as it is.
const AUTHTYPE: &str = "authtype";

#[derive(Debug, Args)]
pub(crate) struct GitCredential {
    /// NAME or NAME@ACCOUNT.
    pub(crate) name: String,
    /// The host that the token is for, as HOST or HOST:PORT, where it is not that of the server's URL; may
    /// be given several times.
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Vec<String>,
    /// The user name that goes with the token, where git names none: oauth2 for GitLab, x-access-token
    /// for GitHub, x-token-auth for Bitbucket.
    #[arg(long, default_value = "oauth2", value_name = "NAME")]
    pub(crate) username: String,
    /// Send the token as `Authorization: Bearer`, for servers that want it so; needs git 2.46.
    #[arg(long)]
    pub(crate) bearer: bool,
    /// What git wants: get, store or erase.
    pub(crate) operation: String,
}

/// Does what git asks on stdin.
pub(crate) async fn git_credential(api: &Api, asked: &GitCredential) -> Result<Exit, Failure> {
    let mut text = String::new();
    let failed =
        |error: std::io::Error| Failure::new(Exit::Usage, format!("git's description cannot be read: {error}"));
    std::io::stdin().lock().take(INPUT_MAX).read_to_string(&mut text).map_err(failed)?;
    let description = Description::parse(&text);
    let is_wanted = matches!(asked.operation.as_str(), "get" | "erase");
    if !is_wanted || !description.is_safe() || !is_for(api, asked, &description).await? {
        return Ok(Exit::Done);
    }
    let answer = fetch(api, &asked.name, None).await?;
    check_usable(&asked.name, &answer, TokenOutput::Raw)?;
    let token = answer["access_token"].as_str().unwrap_or_default();
    if asked.operation == "erase" {
        // One that is not the newest has been replaced already.
        if [description.one("password"), description.one("credential")].contains(&Some(token)) {
            api.post(&format!("{}/refresh", path_of(&asked.name)?), None).await?;
        }
        return Ok(Exit::Done);
    }
    for line in answered(asked, &description, &answer, token) {
        output::line(line);
    }
    Ok(Exit::Done)
}

/// Whether the token is for the host that git is about to speak to.
async fn is_for(api: &Api, asked: &GitCredential, description: &Description) -> Result<bool, Failure> {
    if !asked.host.is_empty() {
        return Ok(asked.host.iter().any(|host| description.is_at(host)));
    }
    let server = api.get(&path_of(&asked.name)?).await?;
    let url = server["url"].as_str().and_then(|url| Url::parse(url).ok());
    let Some(host) = url.as_ref().and_then(Url::host_str) else { return Ok(false) };
    let place = url.as_ref().and_then(Url::port).map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    Ok(description.is_at(&place))
}

fn answered(asked: &GitCredential, description: &Description, answer: &Value, token: &str) -> Vec<String> {
    let end = end_of(answer).map(|end| format!("password_expiry_utc={}", end.as_millis() / 1000));
    let mut lines = if asked.bearer && description.all("capability[]").contains(&AUTHTYPE) {
        // git must not keep what ends so soon.
        vec![
            format!("capability[]={AUTHTYPE}"),
            "authtype=Bearer".to_owned(),
            format!("credential={token}"),
            "ephemeral=1".to_owned(),
        ]
    } else {
        let username = description.one("username").unwrap_or(&asked.username);
        vec![format!("username={username}"), format!("password={token}")]
    };
    lines.extend(end);
    lines
}

/// What git says about a credential: attributes, those that end in `[]` several times.
#[derive(Debug, Default)]
struct Description {
    attributes: BTreeMap<String, Vec<String>>,
}

impl Description {
    fn parse(text: &str) -> Self {
        let mut attributes = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in text.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_once('=')) {
            attributes.entry(name.to_owned()).or_default().push(value.to_owned());
        }
        Self { attributes }
    }

    fn all(&self, name: &str) -> Vec<&str> {
        self.attributes.get(name).into_iter().flatten().map(String::as_str).collect()
    }

    /// The last value, as git reads it.
    fn one(&self, name: &str) -> Option<&str> {
        self.all(name).pop().filter(|value| !value.is_empty())
    }

    /// Whether a token may go there: by TLS, or within this machine.
    fn is_safe(&self) -> bool {
        match self.one("protocol") {
            Some("https") => true,
            Some("http") => self.url().is_some_and(|url| match url.host() {
                Some(Host::Domain(name)) => name == "localhost",
                Some(Host::Ipv4(ip)) => ip.is_loopback(),
                Some(Host::Ipv6(ip)) => ip.is_loopback(),
                None => false,
            }),
            Some(_) | None => false,
        }
    }

    /// Whether git speaks to `place`, with the port that its protocol has where none is named.
    fn is_at(&self, place: &str) -> bool {
        let (Some(asked), Some(protocol)) = (self.url(), self.one("protocol")) else { return false };
        Url::parse(&format!("{protocol}://{place}/")).is_ok_and(|known| known.origin() == asked.origin())
    }

    fn url(&self) -> Option<Url> {
        let (protocol, host) = (self.one("protocol")?, self.one("host")?);
        Url::parse(&format!("{protocol}://{host}/")).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn description(text: &str) -> Description {
        Description::parse(text)
    }

    #[test]
    fn only_hosts_that_the_token_is_for_are_answered() {
        let asked = |protocol: &str, host: &str| description(&format!("protocol={protocol}\nhost={host}\n\nx=y\n"));
        let cases = [
            ("https", "git.example", "git.example", true),
            ("https", "GIT.example:443", "git.example", true),
            ("https", "git.example:8443", "git.example:8443", true),
            ("https", "git.example:8443", "git.example", false),
            ("https", "git.example.evil", "git.example", false),
            ("https", "evil.git.example", "git.example", false),
            ("https", "git.example@evil.example", "git.example", false),
            ("https", "", "git.example", false),
        ];
        for (protocol, host, known, expected) in cases {
            assert_eq!(asked(protocol, host).is_at(known), expected, "{protocol}://{host}, known {known}");
        }
        assert!(!description("host=git.example").is_at("git.example"));
    }

    #[test]
    fn a_token_goes_by_tls_or_stays_on_this_machine() {
        let asked = |protocol: &str, host: &str| description(&format!("protocol={protocol}\nhost={host}\n")).is_safe();
        assert!(asked("https", "git.example") && asked("http", "127.0.0.1:8080") && asked("http", "[::1]:80"));
        assert!(asked("http", "localhost:3000"));
        for host in ["git.example", "127.0.0.1.evil.example", "10.0.0.1", ""] {
            assert!(!asked("http", host), "{host}");
        }
        assert!(!asked("ssh", "git.example") && !description("host=git.example").is_safe());
    }

    #[test]
    fn git_is_answered_in_what_it_can_do() {
        let (answer, endless) = (json!({ "expires_at": "2026-11-24T14:00:00.900Z" }), json!({}));
        let asked = |bearer| GitCredential {
            name: "git".to_owned(),
            host: Vec::new(),
            username: "oauth2".to_owned(),
            bearer,
            operation: "get".to_owned(),
        };
        let said = |bearer, text: &str, answer| answered(&asked(bearer), &description(text), answer, "t-1").join(" ");
        let plain = "username=oauth2 password=t-1 password_expiry_utc=1795528800";
        assert_eq!(said(false, "capability[]=authtype\n", &answer), plain);
        assert_eq!(said(true, "protocol=https\n", &answer), plain, "an older git");
        assert_eq!(said(false, "username=alice\n", &endless), "username=alice password=t-1");
        assert_eq!(
            said(true, "capability[]=state\ncapability[]=authtype\n", &answer),
            "capability[]=authtype authtype=Bearer credential=t-1 ephemeral=1 password_expiry_utc=1795528800"
        );
    }
}
