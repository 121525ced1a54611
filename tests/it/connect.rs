//! `everfresh connect` on a home folder of its own: what it writes is what a client gets in by.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use everfresh_e2e::{Daemon, Ran, World, daemon};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

const LIMIT: Duration = Duration::from_secs(20);

const CLAUDE: &str = "{\n  \"numStartups\": 3,\n  \"mcpServers\": {\n    \"demo\": { \"type\": \"http\", \"url\": \"https://demo.example/mcp\" },\n    \"files\": { \"command\": \"files\" }\n  }\n}\n";

/// A home folder, and a daemon with the protected server as `demo`, logged in to.
pub(crate) struct Stage {
    pub(crate) world: World,
    /// It runs as long as this does.
    pub(crate) daemon: Daemon,
    pub(crate) home: TempDir,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let world = World::with_lifetime(Duration::from_secs(600)).await;
        let daemon = world.daemon().await;
        world.log_in(&daemon, "demo").await;
        Self { world, daemon, home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs `connect` with these words.
    pub(crate) async fn connect(&self, words: &str) -> Ran {
        self.run(&format!("connect {words}")).await
    }

    /// Runs a command.
    pub(crate) async fn run(&self, words: &str) -> Ran {
        Self::run_in(&self.world, &self.home, words).await
    }

    /// Runs a command in this home folder.
    pub(crate) async fn run_in(world: &World, home: &TempDir, words: &str) -> Ran {
        let mut command = daemon::command(world.folder());
        command.env("HOME", home.path()).env("USERPROFILE", home.path()).current_dir(home.path());
        command.args(words.split_whitespace()).output().await.unwrap().into()
    }
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

fn call() -> Value {
    let params = json!({ "name": "add", "arguments": { "a": 2, "b": 3 } });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_in_by_what_is_written() {
    let stage = Stage::new().await;
    let file = stage.write(".claude.json", CLAUDE);
    let ran = stage.connect("claude-code demo").await.expect(0);
    assert!(ran.stdout.contains("in place of https://demo.example/mcp"), "{ran:?}");
    let entry: Value = serde_json::from_str::<Value>(&read(&file)).unwrap()["mcpServers"]["demo"].clone();
    let (url, shown) = (entry["url"].as_str().unwrap(), entry["headers"]["Authorization"].as_str().unwrap());
    let answer = daemon::client().post(url).header("authorization", shown).json(&call()).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["result"]["content"][0]["text"], "5", "{answer}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;

        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let (once, beside) = (read(&file), names(stage.home.path()));
    assert_eq!(beside.len(), 2, "the file and its backup: {beside:?}");
    let ran = stage.connect("claude-code demo").await.expect(0);
    assert!(ran.stdout.contains("already connected"), "{ran:?}");
    assert_eq!((read(&file), names(stage.home.path())), (once, beside));
    let overview = stage.connect("-o json").await.expect(0).json();
    let connected = json!([{ "name": "demo", "server": "demo", "transport": "http", "full_key": false }]);
    assert_eq!(overview["clients"][0]["connected"], connected, "{overview}");
    stage.connect("--remove claude-code demo").await.expect(0);
    let left: Value = serde_json::from_str(&read(&file)).unwrap();
    assert_eq!(left["mcpServers"], json!({ "files": { "command": "files" } }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_starts_programs_gets_in_as_well() {
    let stage = Stage::new().await;
    let file = stage.path("desktop.json");
    stage.connect(&format!("claude-desktop --all --file {}", file.display())).await.expect(0);
    let entry = serde_json::from_str::<Value>(&read(&file)).unwrap()["mcpServers"]["demo"].clone();
    let arguments = entry["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
    // As a desktop starts it: with nothing of a shell's environment.
    let mut child = tokio::process::Command::new(entry["command"].as_str().unwrap())
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(format!("{}\n", call()).as_bytes()).await.unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(LIMIT, lines.next_line()).await.unwrap().unwrap().unwrap();
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(answer["result"]["content"][0]["text"], "5", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_that_was_not_to_be() {
    let stage = Stage::new().await;
    let key = read(&stage.world.folder().join("data/local-key"));
    let file = stage.write(".cursor/mcp.json", "{\n  \"mcpServers\": {}\n}\n");
    let ran = stage.connect("cursor demo --dry-run").await.expect(0);
    assert!(ran.stdout.contains("+    \"demo\": {") && ran.stdout.contains("Bearer <key>"), "{ran:?}");
    assert!(!ran.stdout.contains(key.trim()), "a difference shows no key");
    let ran = stage.connect("--print cursor demo").await.expect(0);
    assert!(ran.stdout.contains("Bearer <key>") && !ran.stdout.contains(key.trim()), "{ran:?}");
    assert!(ran.stderr.contains("everfresh key add cursor --server demo"), "it says where the key comes from: {ran:?}");
    let keys = stage.daemon.run(&["key", "list", "-o", "json"]).await.expect(0).json();
    assert_eq!(keys["keys"], json!([]), "nothing was made");
    let generic = stage.connect("--print generic demo").await.expect(0);
    assert!(generic.stdout.contains("stdio") && !generic.stdout.contains(key.trim()), "{generic:?}");
    let ran = stage.connect("cursor demp").await.expect(5);
    assert!(ran.stderr.contains("is demo meant?"), "{ran:?}");
    stage.connect("cursor demo@work").await.expect(5);
    stage.world.run(&["add", "other", &stage.world.upstream.url(), "--no-login"]).await.expect(0);
    let ran = stage.connect("cursor other demo --dry-run").await.expect(0);
    assert_eq!(ran.stderr.matches("before a login").count(), 1, "{ran:?}");
    assert!(ran.stderr.contains("everfresh login other"), "{ran:?}");
    stage.connect("cursor").await.expect(2);
    stage.connect("generic demo").await.expect(2);
    stage.connect("claude-desktop demo --transport http").await.expect(2);
    stage.connect("goose demo --project").await.expect(2);
    assert_eq!((read(&file).as_str(), names(&stage.path(".cursor")).len()), ("{\n  \"mcpServers\": {}\n}\n", 1));
    stage.write(".cursor/mcp.json", "{\n  \"mcpServers\": {,}\n}\n");
    let ran = stage.connect("cursor demo").await.expect(2);
    assert!(ran.stderr.contains("line 2, column 18") && ran.stderr.contains("--print"), "{ran:?}");
    assert_eq!(names(&stage.path(".cursor")), ["mcp.json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_may_read_gets_no_key() {
    let stage = Stage::new().await;
    let key = read(&stage.world.folder().join("data/local-key"));
    stage.write(".git/HEAD", "ref: refs/heads/main\n");
    let ran = stage.connect("codex demo --transport http").await.expect(8);
    assert!(ran.stderr.contains("it is in the repository"), "{ran:?}");
    stage.connect("codex demo").await.expect(0);
    let written = read(&stage.path(".codex/config.toml"));
    assert!(written.contains("\"stdio\", \"demo\"") && !written.contains(key.trim()), "{written}");
    for (client, file) in [("claude-code", ".mcp.json"), ("cursor", ".cursor/mcp.json"), ("vscode", ".vscode/mcp.json")]
    {
        stage.connect(&format!("{client} demo --project")).await.expect(0);
        let written = read(&stage.path(file));
        assert!(
            written.contains("\"command\": \"everfresh\"") && written.contains("[\"stdio\", \"demo\"]"),
            "{written}"
        );
        stage.connect(&format!("{client} demo --project --transport http")).await.expect(8);
    }
}
