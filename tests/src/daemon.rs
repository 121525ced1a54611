//! The built binary: as a daemon that is started, killed and asked, and as commands.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use everfresh_domain::engine::trace::TraceLine;
use everfresh_testkit::canary;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::transcript::Transcript;

/// How long a daemon may take to say that it listens.
const START: Duration = Duration::from_secs(20);

/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(90);

/// The binary under test: `EVERFRESH_BIN`, else the one that cargo builds here and now.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("EVERFRESH_BIN") {
            return path.into();
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = std::process::Command::new(cargo)
            .args(["build", "--quiet", "--package", "everfresh"])
            .current_dir(root)
            .status()
            .expect("cargo can be run");
        assert!(built.success(), "the binary does not build");
        let test = std::env::current_exe().expect("this test has a path");
        let folder = test.ancestors().nth(2).expect("tests lie in target/<profile>/deps");
        folder.join(format!("everfresh{}", std::env::consts::EXE_SUFFIX))
    })
}

/// What a program needs of the caller's environment wherever it runs.
const NEEDED: [&str; 5] = ["PATH", "SystemRoot", "TEMP", "TMP", "TMPDIR"];

/// A command with what a program cannot do without, and nothing else of the caller's environment:
/// whoever runs the tests may have `CI`, colours, proxies or a desktop.
pub fn plain(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(NEEDED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command
}

/// A command of the binary on this data folder, in a plain environment.
pub fn command(folder: &Path) -> Command {
    let mut command = plain(binary());
    command
        .env("HOME", folder)
        .arg("--config")
        .arg(folder.join("config.toml"))
        .arg("--data-dir")
        .arg(folder.join("data"))
        .env("NO_COLOR", "1")
        .env("EVERFRESH_TEST_CLOCK", folder.join("clock"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it said besides.
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        // What a person is to open carries the `state`, and must.
        let said: Vec<&str> = stderr.lines().filter(|line| !line.contains("/authorize?")).collect();
        assert_eq!(canary::found_in(said.join("\n").as_bytes()), None, "what a command says shows a secret");
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr,
        }
    }
}

impl Ran {
    /// What was printed, as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The same, after a look at the exit code.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// Runs a command to its end.
pub async fn run(folder: &Path, arguments: &[&str]) -> Ran {
    let output = command(folder).args(arguments).output();
    tokio::time::timeout(COMMAND, output).await.expect("the command ends").expect("the command runs").into()
}

/// A running daemon.
pub struct Daemon {
    child: Child,
    folder: PathBuf,
    /// Where it listens.
    pub base_url: String,
    /// How long it took until it said so.
    pub started_in: Duration,
    client: reqwest::Client,
    key: String,
    transcript: Transcript,
}

impl Daemon {
    /// Starts the daemon of `folder` on a free port, or on `port`.
    pub async fn start(folder: &Path, port: u16) -> Self {
        Self::start_in(folder, port, &[]).await
    }

    /// The same with these variables in its environment.
    pub async fn start_in(folder: &Path, port: u16, environment: &[(&str, String)]) -> Self {
        match Self::launch(folder, port, environment).await {
            Ok(daemon) => daemon,
            Err(ran) => panic!("the daemon did not start: {ran:?}"),
        }
    }

    /// Starts the daemon; one that ends at once tells how.
    pub async fn try_start(folder: &Path, port: u16) -> Result<Self, Ran> {
        Self::launch(folder, port, &[]).await
    }

    async fn launch(folder: &Path, port: u16, environment: &[(&str, String)]) -> Result<Self, Ran> {
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log"));
        let began = Instant::now();
        let mut child = command(folder)
            .args(["serve", "--log-format", "json", "--log-level", "trace", "--listen", &format!("127.0.0.1:{port}")])
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(log.expect("the log can be written"))
            .spawn()
            .expect("the binary runs");
        let out = child.stdout.take().expect("stdout is piped");
        let transcript = Transcript::of(folder);
        let mut lines = BufReader::new(out).lines();
        let line = tokio::time::timeout(START, lines.next_line()).await.expect("the daemon says something");
        let started_in = began.elapsed();
        let Some(line) = line.ok().flatten() else {
            let output = child.wait_with_output().await.expect("the daemon has ended");
            let stderr = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            return Err(Ran { stderr, ..output.into() });
        };
        let base_url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        let key = std::fs::read_to_string(folder.join("data/local-key")).expect("the local key is there");
        let key = key.trim().to_owned();
        canary::keep(&key);
        let master_key = std::fs::read_to_string(folder.join("data/master.key")).unwrap_or_default();
        canary::keep(master_key.trim());
        let rest = transcript.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                rest.add(line.as_bytes());
            }
        });
        Ok(Self { child, folder: folder.to_owned(), base_url, started_in, client: client(), key, transcript })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.base_url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("the URL ends in a port")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// SIGKILL: nothing is finished.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// SIGTERM, and the exit code once it has ended.
    pub async fn stop(self) -> i32 {
        self.signal_stop();
        self.ended().await
    }

    /// SIGTERM.
    pub fn signal_stop(&self) {
        let pid = self.pid().to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> i32 {
        let status =
            tokio::time::timeout(COMMAND, self.child.wait()).await.expect("it ends").expect("it can be waited for");
        status.code().unwrap_or(-1)
    }

    /// Runs a command against it.
    pub async fn run(&self, arguments: &[&str]) -> Ran {
        run(&self.folder, arguments).await
    }

    /// A call of the API that succeeds.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.request(reqwest::Method::GET, path).send().await.expect("the daemon answers");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        let text = answer.text().await.expect("the answer is text");
        self.transcript.add(text.as_bytes());
        serde_json::from_str(&text).expect("the answer is JSON")
    }

    /// One server as the API shows it.
    pub async fn server(&self, name: &str) -> Value {
        self.get(&format!("/api/v1/servers/{name}")).await
    }

    /// A text that needs no key.
    pub async fn text(&self, path: &str) -> String {
        let answer = self.client.get(format!("{}{path}", self.base_url)).send().await.expect("the daemon answers");
        let text = answer.text().await.expect("the answer is text");
        self.transcript.add(text.as_bytes());
        text
    }

    /// A request with the local key.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base_url)).header("x-everfresh-key", &self.key)
    }

    /// Calls a tool of `server` through the proxy, as a client that knows nothing of OAuth.
    pub async fn call_tool(&self, server: &str, tool: &str) -> (u16, Value) {
        let message = serde_json::json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": tool, "arguments": { "text": "hello", "a": 2, "b": 3 } },
        });
        let answer = self.request(reqwest::Method::POST, &format!("/mcp/{server}")).json(&message).send().await;
        let answer = answer.expect("the proxy answers");
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap_or_default();
        self.transcript.add(&body);
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// What clients of this daemon have read, for the search after the test.
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// Calls `add(2, 3)` and wants 5.
    pub async fn expect_call(&self, server: &str) {
        let (status, body) = self.call_tool(server, "add").await;
        assert_eq!((status, body["result"]["content"][0]["text"].as_str()), (200, Some("5")), "{body}");
    }

    /// The steps of the engine that it logged, over all its lives in this folder.
    pub fn trace(&self) -> Vec<TraceLine> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let steps = lines.filter_map(|line| serde_json::from_str(line["step"].as_str()?).ok());
        steps.collect()
    }

    /// What the daemon logged, over all its lives in this folder.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

/// A client for this machine.
pub fn client() -> reqwest::Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    let roots = rustls::RootCertStore::empty();
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let client = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).timeout(COMMAND);
    client.build().expect("a client without any file can be built")
}
