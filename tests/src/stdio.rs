//! A client that speaks stdio, and the daemon that `everfresh stdio` starts for it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use everfresh_testkit::canary;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::daemon::{client, command};
use crate::wait::until;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// `everfresh stdio`, as a client runs it.
pub struct StdioClient {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl StdioClient {
    /// Starts it for the server `name`. What it says on stderr goes to `stdio-log` in the folder.
    pub fn start(folder: &Path, name: &str) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(folder.join("stdio-log"));
        let mut child = command(folder)
            .args(["stdio", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.expect("the log can be written"))
            .spawn()
            .expect("the binary runs");
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().expect("stdout is piped"));
        Self { child, stdin, lines: BufReader::new(stdout).lines() }
    }

    /// Writes a line as it is.
    pub async fn write(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("the bridge reads");
    }

    /// Says a message.
    pub async fn say(&mut self, message: &Value) {
        self.write(&message.to_string()).await;
    }

    /// Asks, without waiting for the answer.
    pub async fn ask(&mut self, id: impl Into<Value>, method: &str, params: Value) {
        self.say(&json!({ "jsonrpc": "2.0", "id": id.into(), "method": method, "params": params })).await;
    }

    /// The next message. Anything on stdout that is no JSON-RPC ends the test.
    pub async fn hear(&mut self) -> Value {
        let line = tokio::time::timeout(ANSWER, self.lines.next_line()).await.expect("the bridge says something");
        let line = line.expect("stdout is text").expect("stdout is open");
        assert_eq!(canary::found_in(line.as_bytes()), None, "stdout shows a secret");
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(message.is_array() || message["jsonrpc"] == "2.0", "{line}");
        message
    }

    /// Asks and waits for the answer, which must be the next message.
    pub async fn call(&mut self, id: impl Into<Value>, method: &str, params: Value) -> Value {
        let id = id.into();
        self.ask(id.clone(), method, params).await;
        let answer = self.hear().await;
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// Opens a session as a legacy client does.
    pub async fn open(&mut self) {
        let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "e2e", "version": "1" } });
        let answer = self.call("opening", "initialize", params).await;
        assert_eq!(answer["result"]["protocolVersion"], "2025-06-18", "{answer}");
        self.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Ends its stdin.
    pub fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Ends its stdin; its exit code.
    pub async fn end(mut self) -> i32 {
        self.hang_up();
        self.ended().await
    }

    /// Waits for its end, which must come without another word.
    pub async fn ended(&mut self) -> i32 {
        let last = tokio::time::timeout(ANSWER, self.lines.next_line()).await.expect("stdout ends");
        assert_eq!(last.expect("stdout is text"), None, "nothing more is said");
        let ended = tokio::time::timeout(ANSWER, self.child.wait()).await.expect("it ends");
        ended.expect("it can be waited for").code().unwrap_or(-1)
    }
}

/// The daemon of a folder that nobody here started. It is stopped with the test.
pub struct Detached {
    folder: PathBuf,
}

impl Detached {
    /// Of this folder.
    pub fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn told(&self) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.folder.join("data/daemon.json")).ok()?).ok()
    }

    /// Its process, if it says that it runs.
    pub fn pid(&self) -> Option<u64> {
        self.told()?["pid"].as_u64()
    }

    /// Whether it answers.
    pub async fn is_alive(&self) -> bool {
        let Some(url) = self.told().and_then(|told| Some(told["base_url"].as_str()?.to_owned())) else { return false };
        client().get(format!("{url}/healthz")).send().await.is_ok_and(|answer| answer.status().is_success())
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("data/daemon.log")).unwrap_or_default()
    }

    /// SIGKILL, and waits for its end.
    pub async fn kill(&self) {
        self.signal("-KILL");
        until("its end", ANSWER, || async { (!self.is_alive().await).then_some(()) }).await;
    }

    fn signal(&self, signal: &str) {
        if let Some(pid) = self.pid() {
            drop(std::process::Command::new("kill").args([signal, &pid.to_string()]).status());
        }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.signal("-KILL");
    }
}
