//! How clients start mcp-remote: from that follows which file of its folder is whose.
//!
//! mcp-remote names its files by a digest of the URL and of some arguments; which URL, no file says.
//! The arguments stand in the configurations of MCP clients, as quoted strings in a list, be it JSON,
//! JSON with comments, or TOML. Strings and the ends of lists are all that is looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};
use serde_json::Value;

use super::read_file;

/// Options of mcp-remote that take no value.
const SWITCHES: [&str; 10] = [
    "--allow-http",
    "--client-credentials",
    "--debug",
    "--device-code",
    "--disable-cookies",
    "--disable-resource-parameter",
    "--enable-proxy",
    "--keep-alive",
    "--silent",
    "--use-id-token",
];

/// Lists of arguments are short.
const ARGUMENTS_MAX: usize = 64;

/// One way to start mcp-remote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// The server's URL, as it is written.
    pub url: String,
    /// The resource indicator that is asked for.
    resource: Option<String>,
    /// Whether none is sent.
    without_resource: bool,
    headers: BTreeMap<String, String>,
    authorize_params: BTreeMap<String, String>,
    client_metadata_url: Option<String>,
    token_endpoint: Option<String>,
    /// What is configured of the client: JSON, or `@` and a file of it.
    client: Option<String>,
}

impl Launch {
    /// With nothing but a URL.
    pub fn of(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// With these arguments; `None` where they name no URL.
    fn with(arguments: &[String]) -> Option<Self> {
        let mut launch = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if SWITCHES.contains(&argument.as_str()) {
                launch.without_resource |= argument == "--disable-resource-parameter";
            } else if argument.starts_with("--") {
                launch.take(argument, rest.next()?);
            } else if launch.url.is_empty() && argument.starts_with("http") {
                launch.url.clone_from(argument);
            }
        }
        if launch.without_resource {
            launch.resource = None;
        }
        (!launch.url.is_empty()).then_some(launch)
    }

    fn take(&mut self, option: &str, value: &str) {
        let text = || Some(value.trim().to_owned());
        match option {
            "--resource" => self.resource = text(),
            "--client-metadata-url" => self.client_metadata_url = text(),
            "--token-endpoint" => self.token_endpoint = text(),
            "--static-oauth-client-info" => self.client = text(),
            "--header" => {
                if let Some((name, value)) = value.split_once(':') {
                    self.headers.insert(name.to_owned(), value.trim_start().to_owned());
                }
            }
            "--authorize-param" => {
                if let Some((name, value)) = value.split_once('=') {
                    self.authorize_params.insert(name.trim().to_owned(), value.to_owned());
                }
            }
            _ => {}
        }
    }

    /// What the names of its files begin with.
    pub(super) fn digest(&self) -> String {
        let written =
            |map: &BTreeMap<String, String>| (!map.is_empty()).then(|| serde_json::to_string(map).unwrap_or_default());
        let parts = [
            Some(self.url.clone()),
            self.resource.clone(),
            written(&self.authorize_params),
            written(&self.headers),
            self.client_metadata_url.clone(),
            self.token_endpoint.clone(),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        hex::encode(Md5::digest(parts.join("|")))
    }

    /// The resource indicator, as logins are told it: `None` leaves it to discovery.
    pub(super) fn resource(&self) -> Option<String> {
        if self.without_resource { Some("none".to_owned()) } else { self.resource.clone() }
    }

    /// The client that is not registered but configured, if it is to be had: mcp-remote keeps none of it.
    pub(super) fn client(&self) -> Option<Value> {
        if let (None, Some(url)) = (&self.client, &self.client_metadata_url) {
            return Some(serde_json::json!({ "client_id": url }));
        }
        let text = self.client.as_ref()?;
        match text.strip_prefix('@') {
            Some(path) => serde_json::from_slice(&read_file(Path::new(path)).ok()?).ok(),
            None => serde_json::from_str(text).ok(),
        }
    }
}

/// Where MCP clients keep their configurations. `settings` is the platform's folder for those.
pub fn client_files(home: &Path, settings: &Path, here: &Path) -> Vec<PathBuf> {
    let of_home = [
        ".claude.json",
        ".cursor/mcp.json",
        ".codeium/windsurf/mcp_config.json",
        ".gemini/settings.json",
        ".codex/config.toml",
        ".config/opencode/opencode.json",
        ".config/opencode/opencode.jsonc",
        ".config/zed/settings.json",
        ".mcpproxy/mcp_config.json",
    ];
    let of_settings =
        ["Claude/claude_desktop_config.json", "Code/User/mcp.json", "Code/User/settings.json", "Zed/settings.json"];
    let of_here = [".mcp.json", ".cursor/mcp.json", ".vscode/mcp.json"];
    let places = of_home.iter().map(|name| home.join(name));
    let places = places.chain(of_settings.iter().map(|name| settings.join(name)));
    places.chain(of_here.iter().map(|name| here.join(name))).collect()
}

/// Every start of mcp-remote in a client's configuration.
pub fn launches_in(text: &str) -> Vec<Launch> {
    let mut found = Vec::new();
    let mut collecting: Option<Vec<String>> = None;
    for token in tokens(text) {
        match (token, &mut collecting) {
            (Token::Text(name), None) if is_mcp_remote(&name) => collecting = Some(Vec::new()),
            (Token::Text(argument), Some(arguments)) if arguments.len() < ARGUMENTS_MAX => arguments.push(argument),
            (Token::ListEnd, Some(arguments)) => {
                found.extend(Launch::with(arguments));
                collecting = None;
            }
            (Token::Text(_) | Token::ListEnd, _) => {}
        }
    }
    found
}

fn is_mcp_remote(argument: &str) -> bool {
    let path = argument.trim_end_matches("/dist/proxy.js").trim_end_matches("\\dist\\proxy.js");
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    name == "mcp-remote" || name.starts_with("mcp-remote@")
}

enum Token {
    Text(String),
    ListEnd,
}

/// The quoted strings and ends of lists of JSON, JSON with comments, or TOML.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['"', ']', '/', '#']) {
        let (mark, after) = rest[at..].split_at(1);
        rest = after;
        match mark {
            "]" => tokens.push(Token::ListEnd),
            "\"" => {
                let end = closing_quote(rest);
                let literal = format!("\"{}\"", &rest[..end]);
                tokens.push(Token::Text(serde_json::from_str(&literal).unwrap_or_else(|_| rest[..end].to_owned())));
                rest = rest.get(end + 1..).unwrap_or_default();
            }
            "/" if rest.starts_with('*') => rest = rest.split_once("*/").map_or("", |(_, after)| after),
            "/" if !rest.starts_with('/') => {}
            // A comment, to the end of its line.
            _ => rest = rest.split_once('\n').map_or("", |(_, after)| after),
        }
    }
    tokens
}

/// Where the string that `text` begins with ends.
fn closing_quote(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => return at,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Launch {
        let mut found = launches_in(text);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn starts_are_found_in_whatever_a_client_writes() {
        let json = r#"{ "mcpServers": { "a": { "command": "npx", "args": ["-y", "mcp-remote@latest", "https://a.example/sse"] } } }"#;
        let commented = "{ // see \"mcp-remote\"\n \"servers\": { /* ] */ \"a\": { \"args\": [\n \"mcp-remote\", \"https://a.example/sse\", ], } } }";
        let toml = "[mcp_servers.a]\ncommand = \"npx\" # or \"mcp-remote\"\nargs = [\"mcp-remote\", \"https://a.example/sse\"]\n";
        let by_path = r#"{ "command": "node", "args": ["/opt/node_modules/mcp-remote/dist/proxy.js", "https://a.example/sse", "9696"] }"#;
        let in_one = r#"{ "command": ["npx", "mcp-remote@0.15.1", "--debug", "https://a.example/sse"] }"#;
        for text in [json, commented, toml, by_path, in_one] {
            assert_eq!(only(text), Launch::of("https://a.example/sse"), "{text}");
        }
        assert!(launches_in(r#"["mcp-remote-gateway", "https://a.example"], "mcp-remote""#).is_empty());
        assert_eq!(launches_in(r#"[["mcp-remote", "http://a"], ["mcp-remote"], ["mcp-remote", "http://b"]]"#).len(), 2);
    }

    /// The digests are those that mcp-remote 0.15.1 made of the same arguments.
    #[test]
    fn digests_are_those_of_mcp_remote() {
        let plain = only(r#"["mcp-remote", "https://remote.mcp.server/sse"]"#);
        assert_eq!(plain.digest(), PLAIN);
        let with_all = only(
            r#"["mcp-remote", "https://remote.mcp.server/sse", "--header", "X-Two: \"2\"", "--header", "Authorization:${AUTH}",
                "--resource", "https://remote.mcp.server/", "--authorize-param", "audience=a=b", "--transport", "http-only"]"#,
        );
        assert_eq!(with_all.digest(), WITH_ALL);
        let without = only(
            r#"["mcp-remote", "https://remote.mcp.server/sse", "--resource", "x:y", "--disable-resource-parameter"]"#,
        );
        assert_eq!((without.digest().as_str(), without.resource().as_deref()), (PLAIN, Some("none")));
    }

    const PLAIN: &str = "2499d8b26827bb8c0b6efe76f75fcbe2";
    const WITH_ALL: &str = "978b0964b0a824c605c5817b7f5b2184";

    #[test]
    fn a_configured_client_comes_along() {
        let launch =
            only(r#"["mcp-remote", "https://a.example", "--static-oauth-client-info", "{ \"client_id\": \"c\" }"]"#);
        assert_eq!(launch.client().unwrap()["client_id"], "c");
        let launch = only(r#"["mcp-remote", "https://a.example", "--client-metadata-url", "https://me.example/c"]"#);
        assert_eq!(launch.client().unwrap()["client_id"], "https://me.example/c");
    }
}
