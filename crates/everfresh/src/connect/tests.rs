//! Each client's sample file: connected, connected again, moved, and as it was.

use std::collections::BTreeMap;
use std::path::PathBuf;

use everfresh_domain::Secret;
use serde_json::json;

use super::change::{Outcome, Refused};
use super::machine::System;
use super::*;

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const OTHER_KEY: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

const SAMPLES: [(&str, &str); 13] = [
    ("claude-code", include_str!("samples/claude-code.json")),
    ("claude-desktop", include_str!("samples/claude-desktop.json")),
    ("cursor", include_str!("samples/cursor.json")),
    ("vscode", include_str!("samples/vscode.json")),
    ("vscode-insiders", include_str!("samples/vscode.json")),
    ("vscodium", include_str!("samples/vscode.json")),
    ("codex", include_str!("samples/codex.toml")),
    ("gemini-cli", include_str!("samples/gemini-cli.json")),
    ("windsurf", include_str!("samples/windsurf.json")),
    ("devin", include_str!("samples/devin.json")),
    ("zed", include_str!("samples/zed.json")),
    ("goose", include_str!("samples/goose.yaml")),
    ("opencode", include_str!("samples/opencode.json")),
];

fn gate(port: u16, key: &str) -> Gate {
    Gate {
        base_url: format!("http://127.0.0.1:{port}"),
        key: Some(Secret::new(key)),
        command: "/opt/bin/everfresh".to_owned(),
        places: Vec::new(),
    }
}

fn grant(name: &str) -> GrantId {
    name.parse().unwrap()
}

/// Connects a server; returns what became of it, and the file.
fn connected(
    client: &'static Client,
    text: &str,
    name: &str,
    transport: Transport,
    gate: &Gate,
) -> Result<(Outcome, String), Refused> {
    let mut edit = Edit::of(client.format, text)?;
    let (grant, called) = (grant(name), entry::name_of(&grant(name)));
    let outcome = change::connect(&mut edit, &Wish { client, grant: &grant, name: &called, transport, gate })?;
    Ok((outcome, edit.finish()?.unwrap_or_else(|| text.to_owned())))
}

fn removed(client: &'static Client, text: &str, name: &str) -> (Vec<String>, String) {
    let mut edit = Edit::of(client.format, text).unwrap();
    let names = change::remove(&mut edit, client, Some(&grant(name)), None).unwrap();
    (names, edit.finish().unwrap().unwrap_or_else(|| text.to_owned()))
}

fn transports(client: &Client) -> Vec<Transport> {
    let all = [Transport::Http, Transport::Stdio].into_iter();
    all.filter(|transport| client.shape(*transport).is_some()).collect()
}

#[test]
fn every_client_has_a_sample() {
    let ids: Vec<&str> = CLIENTS.iter().map(|client| client.id).collect();
    assert_eq!(SAMPLES.map(|(id, _)| id).to_vec(), ids);
}

#[test]
fn files_become_as_their_clients_want_them() {
    for (id, text) in SAMPLES {
        let client = Client::of(id).unwrap();
        for transport in transports(client) {
            let (_, after) = connected(client, text, "linear", transport, &gate(7411, KEY)).unwrap();
            let (_, after) = connected(client, &after, "github@work", transport, &gate(7411, KEY)).unwrap();
            insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "samples" }, {
                insta::assert_snapshot!(format!("{id}-{}", transport.name()), after);
            });
        }
    }
}

#[test]
fn the_second_time_nothing_changes() {
    for (id, text) in SAMPLES {
        let client = Client::of(id).unwrap();
        for transport in transports(client) {
            let (_, once) = connected(client, text, "linear", transport, &gate(7411, KEY)).unwrap();
            let (outcome, twice) = connected(client, &once, "linear", transport, &gate(7411, KEY)).unwrap();
            assert_eq!((outcome, twice), (Outcome::Already, once), "{id}");
        }
    }
}

#[test]
fn another_port_or_key_or_transport_is_an_update() {
    for (id, text) in SAMPLES {
        let client = Client::of(id).unwrap();
        for transport in transports(client) {
            let (_, old) = connected(client, text, "linear", transport, &gate(1, OTHER_KEY)).unwrap();
            for now in transports(client) {
                let (outcome, new) = connected(client, &old, "linear", now, &gate(7411, KEY)).unwrap();
                let expected =
                    if now == transport && now == Transport::Stdio { Outcome::Already } else { Outcome::Updated };
                assert_eq!(outcome, expected, "{id}");
                if transport == now {
                    let old = old.replace(OTHER_KEY, KEY).replace("127.0.0.1:1/", "127.0.0.1:7411/");
                    assert_eq!(new, old, "{id}: nothing else is touched");
                }
                let edit = Edit::of(client.format, &new).unwrap();
                let found = change::connected(&edit, client, None);
                assert_eq!(found.len(), 1, "{id}: {new}");
                assert_eq!(found[0].1.transport, now, "{id}: {new}");
            }
        }
    }
}

#[test]
fn what_was_connected_goes_without_a_trace() {
    for (id, text) in SAMPLES {
        let client = Client::of(id).unwrap();
        for transport in transports(client) {
            // A name that is in none of the samples: what was replaced does not come back.
            let (outcome, with) = connected(client, text, "new", transport, &gate(7411, KEY)).unwrap();
            assert_eq!(outcome, Outcome::Connected, "{id}");
            let (names, without) = removed(client, &with, "new");
            assert_eq!((names, without), (vec!["new".to_owned()], text.to_owned()), "{id}");
        }
    }
}

#[test]
fn nothing_of_others_is_taken_out() {
    for (id, text) in SAMPLES {
        let client = Client::of(id).unwrap();
        for name in ["linear", "github", "notion", "files"] {
            assert_eq!(removed(client, text, name), (Vec::new(), text.to_owned()), "{id}");
        }
    }
}

#[test]
fn a_replaced_entry_keeps_what_is_the_users_and_is_told() {
    let gemini = Client::of("gemini-cli").unwrap();
    let (outcome, after) =
        connected(gemini, include_str!("samples/gemini-cli.json"), "linear", Transport::Http, &gate(7411, KEY))
            .unwrap();
    assert_eq!(outcome, Outcome::Replaced("https://mcp.linear.app/mcp".to_owned()));
    let edit = Edit::of(gemini.format, &after).unwrap();
    let entry = edit.at(&["mcpServers", "linear"]).unwrap();
    assert_eq!((&entry["trust"], &entry["timeout"]), (&json!(true), &json!(30000)));
    assert_eq!((entry.get("httpUrl"), entry.get("oauth")), (None, None));
    let desktop = Client::of("claude-desktop").unwrap();
    let sample = include_str!("samples/claude-desktop.json");
    let (outcome, _) = connected(desktop, sample, "linear", Transport::Stdio, &gate(7411, KEY)).unwrap();
    assert_eq!(outcome, Outcome::Replaced("the command npx for https://mcp.linear.app".to_owned()));
}

#[test]
fn a_name_is_never_taken_from_another_of_our_servers() {
    let cursor = Client::of("cursor").unwrap();
    let (_, text) = connected(cursor, "", "git.hub", Transport::Http, &gate(7411, KEY)).unwrap();
    let refused = connected(cursor, &text, "git-hub", Transport::Http, &gate(7411, KEY)).unwrap_err();
    assert_eq!(refused, Refused::Taken { name: "git-hub".to_owned(), grant: grant("git.hub") });
}

#[test]
fn a_client_of_programs_only_gets_no_url() {
    let desktop = Client::of("claude-desktop").unwrap();
    let refused = connected(desktop, "", "linear", Transport::Http, &gate(7411, KEY)).unwrap_err();
    assert_eq!(refused, Refused::NoHttp("Claude Desktop"));
    assert_eq!(desktop.transport(), Transport::Stdio);
}

#[test]
fn only_a_url_brings_a_key_into_a_file() {
    for client in CLIENTS.iter().chain([&GENERIC]) {
        let (_, text) = connected(client, "", "linear", Transport::Stdio, &gate(7411, KEY)).unwrap();
        assert!(!text.contains(KEY) && text.contains("/opt/bin/everfresh"), "{}: {text}", client.id);
    }
    let keyless = Gate { key: None, ..gate(7411, KEY) };
    let (_, text) = connected(Client::of("cursor").unwrap(), "", "linear", Transport::Http, &keyless).unwrap();
    assert!(!text.contains("headers"), "{text}");
}

#[test]
fn the_two_ways_of_opencode_are_told_apart() {
    let opencode = Client::of("opencode").unwrap();
    let second = "{\n  \"mcp\": {\n    \"servers\": {\n      \"a\": { \"type\": \"local\", \"command\": [\"b\"] }\n    }\n  }\n}\n";
    let (_, text) = connected(opencode, second, "linear", Transport::Stdio, &gate(7411, KEY)).unwrap();
    let edit = Edit::of(opencode.format, &text).unwrap();
    assert!(edit.at(&["mcp", "servers", "linear"]).is_some() && edit.at(&["mcp", "linear"]).is_none(), "{text}");
    let (_, text) = connected(
        opencode,
        "{\"mcp\": {\"servers\": {\"type\": \"remote\"}}}",
        "linear",
        Transport::Stdio,
        &gate(7411, KEY),
    )
    .unwrap();
    assert!(Edit::of(opencode.format, &text).unwrap().at(&["mcp", "linear"]).is_some(), "a server may be called so");
}

#[test]
fn ours_is_told_from_everything_else() {
    let url = |url: &str| json!({ "url": url });
    let keyed = |url: &str| json!({ "serverUrl": url, "headers": { "X": format!("Bearer {KEY}") } });
    let cases = [
        (keyed("http://127.0.0.1:1/mcp/linear"), Some("linear")),
        (keyed("http://localhost:1/mcp/git.hub@work"), Some("git.hub@work")),
        (keyed("https://mcp.linear.app/mcp/linear"), None),
        (url("http://127.0.0.1:7411/mcp/linear"), Some("linear")),
        (url("http://127.0.0.1:3000/mcp/linear"), None),
        (url("http://127.0.0.1:7411/mcp"), None),
        (url(&format!("http://[::1]:9/k/{KEY}/mcp/linear")), Some("linear")),
        (url("http://127.0.0.1:9/k/short/mcp/linear"), None),
        (url(&format!("http://127.0.0.1:9/k/efk_{KEY}/mcp/linear")), Some("linear")),
        (json!({ "url": "http://127.0.0.1:1/mcp/a", "headers": { "A": format!("Bearer efk_{KEY}") } }), Some("a")),
        (json!({ "command": "/opt/everfresh", "args": ["--data-dir", "d", "stdio", "a@b"] }), Some("a@b")),
        (json!({ "command": ["C:\\bin\\Everfresh.EXE", "stdio", "a"] }), Some("a")),
        (json!({ "cmd": "everfresh", "args": ["stdio", "a"] }), Some("a")),
        (json!({ "command": "everfresh", "args": ["serve"] }), None),
        (json!({ "command": "everfresher", "args": ["stdio", "a"] }), None),
        (json!({ "command": 1 }), None),
        (json!(null), None),
    ];
    for (entry, expected) in cases {
        let found = entry::ours(&entry, Some("http://127.0.0.1:7411")).map(|ours| ours.grant.to_string());
        assert_eq!(found.as_deref(), expected, "{entry}");
    }
}

#[test]
fn the_keys_of_an_entry_are_found_wherever_they_stand() {
    let limited = format!("efk_{KEY}");
    for (entry, expected) in [
        (json!({ "headers": { "Authorization": format!("Bearer {KEY}"), "X": limited } }), vec![KEY, &limited]),
        (json!({ "http_headers": { "Authorization": "Bearer other" } }), vec!["other"]),
        (json!({ "serverUrl": format!("http://127.0.0.1:1/k/{limited}/mcp/x") }), vec![&*limited]),
        (json!({ "url": "http://127.0.0.1:1/mcp/x", "headers": "none" }), vec![]),
    ] {
        assert_eq!(entry::keys(&entry), expected, "{entry}");
    }
    assert!(entry::is_key(&limited) && entry::is_full_key(KEY) && !entry::is_full_key(&limited));
    assert!(!entry::is_key(&format!("efk_{}", &KEY[1..])));
}

#[test]
fn entries_are_described_without_their_secrets() {
    for (entry, expected) in [
        (json!({ "url": "https://u:secret@a.example/mcp?key=secret" }), "https://a.example/mcp"),
        (json!({ "url": format!("http://127.0.0.1:1/k/{KEY}/mcp/x") }), "http://127.0.0.1:1"),
        (json!({ "command": "/usr/bin/npx", "args": ["--token=secret"] }), "the command npx"),
        (
            json!({ "cmd": "npx", "args": ["mcp-remote", "https://a.example/secret"] }),
            "the command npx for https://a.example",
        ),
        (json!({}), "something else"),
    ] {
        assert_eq!(entry::described(&entry), expected);
    }
}

#[test]
fn other_ways_to_the_same_server_are_found() {
    let cursor = Client::of("cursor").unwrap();
    let text = r#"{"mcpServers": {
        "Linear": {"url": "https://mcp.linear.app/mcp/"},
        "remote": {"command": "npx", "args": ["mcp-remote", "https://mcp.linear.app/mcp"]},
        "linear": {"url": "https://mcp.linear.app/mcp"}, "other": {"url": "https://mcp.linear.app/sse"}}}"#;
    let edit = Edit::of(cursor.format, text).unwrap();
    assert_eq!(change::bypasses(&edit, cursor, "linear", "https://mcp.linear.app/mcp"), ["Linear", "remote"]);
}

#[test]
fn keys_are_masked_in_differences() {
    let after = format!("a\nBearer {KEY}\nBearer {OTHER_KEY}\n");
    let shown = words::diff(Path::new("f"), "a\n", &after, Some(&Secret::new("a key of another form")));
    assert_eq!(shown, "--- f\n+++ f\n@@ -1 +1,3 @@\n a\n+Bearer <key>\n+Bearer <key>\n");
    let shown = words::diff(Path::new("f"), "", "a key of another form\n", Some(&Secret::new("a key of another form")));
    assert!(shown.ends_with("+<key>\n"), "{shown}");
}

/// Files on Linux, on Linux with every variable set that the client honours, on macOS, on Windows.
const PLACES: [(&str, &str, &str, &str, &str); 11] = [
    ("claude-code", "/u/.claude.json", "/claude/.claude.json", "/u/.claude.json", "C:/u/.claude.json"),
    (
        "claude-desktop",
        "/u/.config/Claude/claude_desktop_config.json",
        "/x/Claude/claude_desktop_config.json",
        "/u/Library/Application Support/Claude/claude_desktop_config.json",
        "C:/roam/Claude/claude_desktop_config.json",
    ),
    ("cursor", "/u/.cursor/mcp.json", "/u/.cursor/mcp.json", "/u/.cursor/mcp.json", "C:/u/.cursor/mcp.json"),
    (
        "vscode",
        "/u/.config/Code/User/mcp.json",
        "/p/user-data/User/mcp.json",
        "/u/Library/Application Support/Code/User/mcp.json",
        "C:/roam/Code/User/mcp.json",
    ),
    ("codex", "/u/.codex/config.toml", "/codex/config.toml", "/u/.codex/config.toml", "C:/u/.codex/config.toml"),
    (
        "gemini-cli",
        "/u/.gemini/settings.json",
        "/g/.gemini/settings.json",
        "/u/.gemini/settings.json",
        "C:/u/.gemini/settings.json",
    ),
    (
        "windsurf",
        "/u/.codeium/windsurf/mcp_config.json",
        "/u/.codeium/windsurf/mcp_config.json",
        "/u/.codeium/windsurf/mcp_config.json",
        "C:/u/.codeium/windsurf/mcp_config.json",
    ),
    (
        "devin",
        "/u/.config/devin/mcp_config.json",
        "/x/devin/mcp_config.json",
        "/u/.config/devin/mcp_config.json",
        "C:/roam/devin/mcp_config.json",
    ),
    (
        "zed",
        "/u/.config/zed/settings.json",
        "/flat/zed/settings.json",
        "/u/.config/zed/settings.json",
        "C:/roam/Zed/settings.json",
    ),
    (
        "goose",
        "/u/.config/goose/config.yaml",
        "/goose/config/config.yaml",
        "/u/.config/goose/config.yaml",
        "C:/roam/Block/goose/config/config.yaml",
    ),
    (
        "opencode",
        "/u/.config/opencode/opencode.json",
        "/o.json",
        "/u/.config/opencode/opencode.json",
        "C:/u/.config/opencode/opencode.json",
    ),
];

#[test]
fn each_system_has_its_places() {
    let machine = |system, home: &str, variables: &[(&str, &str)]| Machine {
        system,
        home: PathBuf::from(home),
        variables: variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
    };
    let linux = machine(System::Linux, "/u", &[("XDG_CONFIG_HOME", "")]);
    let moved = machine(
        System::Linux,
        "/u",
        &[
            ("XDG_CONFIG_HOME", "/x"),
            ("CODEX_HOME", "/codex"),
            ("CLAUDE_CONFIG_DIR", "/claude"),
            ("GEMINI_CLI_HOME", "/g"),
            ("GOOSE_PATH_ROOT", "/goose"),
            ("OPENCODE_CONFIG", "/o.json"),
            ("VSCODE_PORTABLE", "/p"),
            ("FLATPAK_XDG_CONFIG_HOME", "/flat"),
        ],
    );
    let mac = machine(System::MacOs, "/u", &[]);
    let windows = machine(System::Windows, "C:/u", &[("APPDATA", "C:/roam"), ("LOCALAPPDATA", "C:/no")]);
    for (id, on_linux, elsewhere, on_mac, on_windows) in PLACES {
        let file = Client::of(id).unwrap().file;
        let found = [&linux, &moved, &mac, &windows].map(file);
        assert_eq!(found, [on_linux, elsewhere, on_mac, on_windows].map(PathBuf::from), "{id}");
    }
}

#[test]
fn the_packaged_claude_desktop_is_found_first() {
    let folder = tempfile::tempdir().unwrap();
    let local = folder.path().join("Local");
    let packaged = local.join("Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming/Claude");
    std::fs::create_dir_all(&packaged).unwrap();
    let variables = BTreeMap::from([("LOCALAPPDATA".to_owned(), local.display().to_string())]);
    let windows = Machine { system: System::Windows, home: folder.path().to_owned(), variables };
    assert_eq!((Client::of("claude-desktop").unwrap().file)(&windows), packaged.join("claude_desktop_config.json"));
}

#[test]
fn the_file_that_a_client_reads_last_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine { system: System::Linux, home: folder.path().to_owned(), variables: BTreeMap::new() };
    for (id, preferred) in [("opencode", ".config/opencode/opencode.jsonc"), ("claude-code", ".claude/.config.json")] {
        let file = Client::of(id).unwrap().file;
        let path = folder.path().join(preferred);
        assert_ne!(file(&machine), path, "{id}");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(file(&machine), path, "{id}");
    }
}
