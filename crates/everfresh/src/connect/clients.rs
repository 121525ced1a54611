//! The clients, as data: where each keeps its servers, and how it wants them written.
//!
//! A client's own documentation or program is the source, named at each. Where a client takes both
//! transports, HTTP is the default: it needs no process for each server and window. It is not
//! where the file leaves the machine by itself (`keyless`): the other form holds no key.

use std::path::{Path, PathBuf};

use super::document::Format;
use super::machine::{Machine, System};

/// How a client reaches everfresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Transport {
    /// The daemon's URL, with the key in a header.
    Http,
    /// A process of its own, `everfresh stdio NAME`. No key, and it starts the daemon if none runs.
    Stdio,
}

impl Transport {
    /// As it is said and given.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Stdio => "stdio",
        }
    }
}

/// What a field of an entry holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// The server's URL at the daemon.
    Url,
    /// A map with the header that carries the key.
    Headers,
    /// The program's path.
    Command,
    /// The program's arguments.
    Args,
    /// Both, as one list.
    CommandLine,
    /// The entry's own name.
    Name,
    /// A line for people.
    Description,
    Text(&'static str),
    Flag(bool),
}

/// Fields, in the order in which they are written.
pub(crate) type Shape = &'static [(&'static str, Part)];

/// A client of MCP servers.
#[derive(Debug)]
pub(crate) struct Client {
    /// As it is given on the command line.
    pub(crate) id: &'static str,
    /// As its makers call it.
    pub(crate) name: &'static str,
    pub(crate) format: Format,
    /// Where in the file the servers are. The first that is there counts; the last is made.
    pub(crate) sections: &'static [&'static [&'static str]],
    /// Whether a section stays that has nothing in it any more: files that hold nothing else keep it.
    pub(crate) keeps_section: bool,
    /// The user's file.
    pub(crate) file: fn(&Machine) -> PathBuf,
    /// The file of a project, below its folder.
    pub(crate) project_file: Option<&'static str>,
    pub(crate) http: Option<Shape>,
    pub(crate) stdio: Shape,
    /// Fields that a new entry has before the others, and that are the user's from then on.
    pub(crate) at_first: Shape,
    /// Why no key is written by default.
    pub(crate) keyless: Option<&'static str>,
    /// When a change is seen.
    pub(crate) effect: &'static str,
}

impl Client {
    /// The client with this id.
    pub(crate) fn of(id: &str) -> Option<&'static Self> {
        CLIENTS.iter().find(|client| client.id == id)
    }

    /// Its file on `machine`, in the separators of this system: the table has those of most.
    pub(crate) fn place(&self, machine: &Machine) -> PathBuf {
        (self.file)(machine).components().collect()
    }

    /// How it is connected where nobody says otherwise.
    pub(crate) fn transport(&self) -> Transport {
        if self.http.is_some() && self.keyless.is_none() { Transport::Http } else { Transport::Stdio }
    }

    /// The fields that say how a server is reached.
    pub(crate) fn shape(&self, transport: Transport) -> Option<Shape> {
        match transport {
            Transport::Http => self.http,
            Transport::Stdio => Some(self.stdio),
        }
    }
}

const COMMAND: Shape = &[("command", Part::Command), ("args", Part::Args)];
const TYPED_COMMAND: Shape = &[("type", Part::Text("stdio")), ("command", Part::Command), ("args", Part::Args)];
const URL: Shape = &[("url", Part::Url), ("headers", Part::Headers)];
const TYPED_URL: Shape = &[("type", Part::Text("http")), ("url", Part::Url), ("headers", Part::Headers)];

const MCP_SERVERS: &[&[&str]] = &[&["mcpServers"]];

/// VS Code and what is built from it differ in the name of a folder.
/// <https://code.visualstudio.com/docs/agents/reference/mcp-configuration> and, for folders,
/// <https://code.visualstudio.com/docs/configure/settings>. The file is among what Settings Sync
/// carries to other machines.
const fn vscode(id: &'static str, name: &'static str, file: fn(&Machine) -> PathBuf) -> Client {
    Client {
        id,
        name,
        format: Format::Json,
        sections: &[&["servers"]],
        keeps_section: true,
        file,
        project_file: Some(".vscode/mcp.json"),
        http: Some(TYPED_URL),
        stdio: TYPED_COMMAND,
        at_first: &[],
        keyless: Some("Settings Sync may carry its file to other machines"),
        effect: "It sees the change by itself; start the server where it offers that.",
    }
}

/// All clients, in the order in which they are listed.
pub(crate) const CLIENTS: &[Client] = &[
    // https://code.claude.com/docs/en/mcp; the place as the program computes it (2.1.197): below
    // CLAUDE_CONFIG_DIR, and an old `.config.json` is preferred where one is left.
    Client {
        id: "claude-code",
        name: "Claude Code",
        format: Format::Json,
        sections: MCP_SERVERS,
        keeps_section: false,
        file: |machine| {
            let old =
                machine.named("CLAUDE_CONFIG_DIR").unwrap_or_else(|| machine.home(".claude")).join(".config.json");
            let place = machine.named("CLAUDE_CONFIG_DIR").unwrap_or_else(|| machine.home.clone());
            if old.exists() { old } else { place.join(".claude.json") }
        },
        project_file: Some(".mcp.json"),
        http: Some(TYPED_URL),
        stdio: TYPED_COMMAND,
        at_first: &[],
        keyless: None,
        effect: "New sessions see the change; in a running one, /mcp reconnects.",
    },
    // https://modelcontextprotocol.io/docs/develop/connect-local-servers: the file takes programs only.
    Client {
        id: "claude-desktop",
        name: "Claude Desktop",
        format: Format::Json,
        sections: MCP_SERVERS,
        keeps_section: false,
        file: |machine| claude_desktop(machine).join("claude_desktop_config.json"),
        project_file: None,
        http: None,
        stdio: COMMAND,
        at_first: &[],
        keyless: None,
        effect: "Quit it and start it again to see the change.",
    },
    // https://cursor.com/docs/context/mcp
    Client {
        id: "cursor",
        name: "Cursor",
        format: Format::Json,
        sections: MCP_SERVERS,
        keeps_section: true,
        file: |machine| machine.home(".cursor/mcp.json"),
        project_file: Some(".cursor/mcp.json"),
        http: Some(URL),
        stdio: TYPED_COMMAND,
        at_first: &[],
        keyless: None,
        effect: "It sees the change by itself; if a server stays red, switch it off and on in its settings.",
    },
    vscode("vscode", "VS Code", |machine| code(machine, "Code")),
    vscode("vscode-insiders", "VS Code Insiders", |machine| code(machine, "Code - Insiders")),
    vscode("vscodium", "VSCodium", |machine| code(machine, "VSCodium")),
    // https://developers.openai.com/codex/mcp
    Client {
        id: "codex",
        name: "Codex",
        format: Format::Toml,
        sections: &[&["mcp_servers"]],
        keeps_section: false,
        file: |machine| machine.named("CODEX_HOME").unwrap_or_else(|| machine.home(".codex")).join("config.toml"),
        project_file: Some(".codex/config.toml"),
        http: Some(&[("url", Part::Url), ("http_headers", Part::Headers)]),
        stdio: COMMAND,
        at_first: &[],
        keyless: None,
        effect: "New sessions see the change.",
    },
    // https://geminicli.com/docs/tools/mcp-server; `httpUrl` is deprecated for `url` with a `type`, as
    // the program says (0.61.0). GEMINI_CLI_HOME stands for the home folder.
    Client {
        id: "gemini-cli",
        name: "Gemini CLI",
        format: Format::Json,
        sections: MCP_SERVERS,
        keeps_section: false,
        file: |machine| {
            machine.named("GEMINI_CLI_HOME").unwrap_or_else(|| machine.home.clone()).join(".gemini/settings.json")
        },
        project_file: Some(".gemini/settings.json"),
        http: Some(TYPED_URL),
        stdio: COMMAND,
        at_first: &[],
        keyless: None,
        effect: "New sessions see the change.",
    },
    // https://docs.devin.ai/desktop/cascade/mcp: the file of Windsurf and of its Cascade agent.
    Client {
        id: "windsurf",
        name: "Windsurf",
        format: Format::Json,
        sections: MCP_SERVERS,
        keeps_section: true,
        file: |machine| machine.home(".codeium/windsurf/mcp_config.json"),
        project_file: None,
        http: Some(&[("serverUrl", Part::Url), ("headers", Part::Headers)]),
        stdio: COMMAND,
        at_first: &[],
        keyless: None,
        effect: "Press the refresh button of its MCP servers to see the change.",
    },
    // The same editor since June 2026, and Devin CLI; https://docs.devin.ai (Devin Local, MCP).
    Client {
        id: "devin",
        name: "Devin Desktop",
        format: Format::Json,
        sections: MCP_SERVERS,
        keeps_section: true,
        file: |machine| {
            let place = if machine.system == System::Windows { machine.app_data() } else { machine.config_home() };
            place.join("devin/mcp_config.json")
        },
        project_file: Some(".devin/mcp_config.json"),
        http: Some(&[("url", Part::Url), ("transport", Part::Text("http")), ("headers", Part::Headers)]),
        stdio: COMMAND,
        at_first: &[],
        keyless: None,
        effect: "New sessions see the change.",
    },
    // https://zed.dev/docs/ai/mcp; places as `paths.rs` of zed-industries/zed has them.
    Client {
        id: "zed",
        name: "Zed",
        format: Format::Json,
        sections: &[&["context_servers"]],
        keeps_section: false,
        file: |machine| {
            let place = match machine.system {
                System::Linux => {
                    machine.named("FLATPAK_XDG_CONFIG_HOME").unwrap_or_else(|| machine.config_home()).join("zed")
                }
                System::MacOs => machine.home(".config/zed"),
                System::Windows => machine.app_data().join("Zed"),
            };
            place.join("settings.json")
        },
        project_file: Some(".zed/settings.json"),
        http: Some(URL),
        stdio: COMMAND,
        at_first: &[],
        keyless: Some("its file holds all settings, and people share those"),
        effect: "It sees the change by itself.",
    },
    // https://block.github.io/goose/docs/guides/config-files
    Client {
        id: "goose",
        name: "goose",
        format: Format::Yaml,
        sections: &[&["extensions"]],
        keeps_section: true,
        file: |machine| {
            let place = match (machine.named("GOOSE_PATH_ROOT"), machine.system) {
                (Some(root), _) => root.join("config"),
                (None, System::Windows) => machine.app_data().join("Block/goose/config"),
                (None, System::Linux | System::MacOs) => machine.config_home().join("goose"),
            };
            place.join("config.yaml")
        },
        project_file: None,
        http: Some(&[("type", Part::Text("streamable_http")), ("uri", Part::Url), ("headers", Part::Headers)]),
        stdio: &[("type", Part::Text("stdio")), ("cmd", Part::Command), ("args", Part::Args)],
        at_first: &[("enabled", Part::Flag(true)), ("name", Part::Name), ("description", Part::Description)],
        keyless: None,
        effect: "New sessions see the change.",
    },
    // https://opencode.ai/docs/mcp-servers and /docs/migrate-v1: version 2 reads both ways of writing.
    Client {
        id: "opencode",
        name: "opencode",
        format: Format::Json,
        sections: &[&["mcp", "servers"], &["mcp"]],
        keeps_section: false,
        file: |machine| {
            let folder = machine.config_home().join("opencode");
            // The second is read last, and wins.
            let commented = folder.join("opencode.jsonc");
            let usual = if commented.exists() { commented } else { folder.join("opencode.json") };
            machine.named("OPENCODE_CONFIG").unwrap_or(usual)
        },
        project_file: Some("opencode.json"),
        http: Some(&[
            ("type", Part::Text("remote")),
            ("url", Part::Url),
            ("headers", Part::Headers),
            // It would try an OAuth of its own.
            ("oauth", Part::Flag(false)),
        ]),
        stdio: &[("type", Part::Text("local")), ("command", Part::CommandLine)],
        at_first: &[],
        keyless: None,
        effect: "Restart it to see the change.",
    },
];

/// What most clients read that are not in the table.
pub(crate) const GENERIC: Client = Client {
    id: "generic",
    name: "any other client",
    format: Format::Json,
    sections: MCP_SERVERS,
    keeps_section: true,
    file: |machine| machine.home("mcp.json"),
    project_file: None,
    http: Some(TYPED_URL),
    stdio: COMMAND,
    at_first: &[],
    keyless: Some("it is not known where its file goes"),
    effect: "",
};

/// On Windows the app is a package whose settings are redirected
/// (<https://github.com/anthropics/claude-code/issues/26073>).
fn claude_desktop(machine: &Machine) -> PathBuf {
    let usual = machine.electron().join("Claude");
    if machine.system != System::Windows {
        return usual;
    }
    let packages = std::fs::read_dir(machine.local_app_data().join("Packages")).into_iter().flatten().flatten();
    let mut packaged: Vec<PathBuf> = packages
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("Claude_"))
        .map(|entry| entry.path().join("LocalCache/Roaming/Claude"))
        .filter(|folder| folder.is_dir())
        .collect();
    packaged.sort();
    packaged.into_iter().next().unwrap_or(usual)
}

fn code(machine: &Machine, folder: &str) -> PathBuf {
    let user = Path::new("User/mcp.json");
    match machine.named("VSCODE_PORTABLE") {
        Some(portable) => portable.join("user-data").join(user),
        None => machine.electron().join(folder).join(user),
    }
}
