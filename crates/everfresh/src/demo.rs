//! The newcomer's first minute: the whole product on one machine, with nothing left behind.
//!
//! A provider and a protected MCP server of our own run here; the daemon is a process of its own,
//! so that it can really be killed. Everything that is told was seen through the daemon's API.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use everfresh_application::ports::Entropy;
use everfresh_infrastructure::files;
use everfresh_infrastructure::system::SystemEntropy;
use everfresh_testkit::mcp::McpServer;
use everfresh_testkit::provider::{Behaviour, Model, ProviderServer};
use serde_json::{Value, json};

use crate::cli::{Demo, Global};
use crate::client::http_client;
use crate::config::PORT;
use crate::exit::{Exit, Failure};
use crate::output;

/// How long any one step may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often the daemon is asked while something is awaited.
const LOOK: Duration = Duration::from_millis(200);

/// How long a call is waited for before the next one.
const BETWEEN_CALLS: Duration = Duration::from_secs(2);

/// A folder that goes away with the demo.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The daemon, killed with the demo.
struct Daemon {
    child: Child,
    base_url: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The stage: everything that runs, and who looks at it.
struct Stage {
    folder: Folder,
    provider: Option<ProviderServer>,
    upstream: McpServer,
    client: reqwest::Client,
    key: String,
    began: Instant,
    calls: u64,
}

/// Tells the story, then goes on until Ctrl-C.
pub(crate) async fn demo(global: &Global, demo: &Demo) -> Result<(), Failure> {
    let told = async {
        let mut stage = Stage::set(demo.lifetime).await?;
        let daemon = stage.start_daemon(global).await?;
        let daemon = stage.tell(global, daemon, demo.lifetime).await?;
        if demo.once {
            stage.say("That was the demo. Everything it made is gone again.");
            return Ok(());
        }
        stage.say("The story is over; refreshes go on. Ctrl-C ends it and removes everything.");
        stage.go_on(&daemon).await
    };
    tokio::select! {
        ended = told => ended,
        _ = tokio::signal::ctrl_c() => {
            output::line("");
            Ok(())
        }
    }
}

fn failed(text: impl Into<String>) -> Failure {
    Failure::new(Exit::Failed, text)
}

impl Stage {
    async fn set(lifetime: Duration) -> Result<Self, Failure> {
        let name: String = SystemEntropy.bytes()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = Folder(std::env::temp_dir().join(format!("everfresh-demo-{name}")));
        files::create_private_folder(&folder.0).map_err(|error| failed(format!("{}: {error}", folder.0.display())))?;
        let behaviour = Behaviour { access_lifetime: lifetime, ..Behaviour::default() };
        let provider = ProviderServer::start(Model::new(behaviour)).await.map_err(|error| failed(error.to_string()))?;
        let upstream = McpServer::start(&provider).await.map_err(|error| failed(error.to_string()))?;
        upstream.forget_requests();
        let stage = Self {
            folder,
            provider: Some(provider),
            upstream,
            client: http_client(),
            key: String::new(),
            began: Instant::now(),
            calls: 0,
        };
        output::line("everfresh demo: a provider, a protected MCP server and everfresh between them, on this machine.");
        let seconds = lifetime.as_secs();
        output::line(format!(
            "Access tokens live {seconds} s. Refresh tokens are good once; used twice, the login is revoked."
        ));
        output::line("");
        Ok(stage)
    }

    fn say(&self, text: impl AsRef<str>) {
        output::line(format!("{:>6.1} s  {}", self.began.elapsed().as_secs_f64(), text.as_ref()));
    }

    /// Starts the daemon at the usual port, or at a free one if that is taken.
    async fn start_daemon(&mut self, global: &Global) -> Result<Daemon, Failure> {
        let usual = format!("127.0.0.1:{PORT}");
        let free = std::net::TcpListener::bind(&usual).is_ok();
        let listen = match (global.listen, free) {
            (Some(address), _) => address.to_string(),
            (None, true) => usual,
            (None, false) => "127.0.0.1:0".to_owned(),
        };
        let daemon = spawn(&self.folder.0, &listen)?;
        let key =
            std::fs::read_to_string(self.folder.0.join("local-key")).map_err(|error| failed(error.to_string()))?;
        key.trim().clone_into(&mut self.key);
        Ok(daemon)
    }

    async fn tell(&mut self, global: &Global, daemon: Daemon, lifetime: Duration) -> Result<Daemon, Failure> {
        self.say(format!("The daemon listens on {}.", daemon.base_url));
        self.log_in(&daemon).await?;
        let link = self.api(&daemon, "POST", "/api/v1/page-link", None).await?;
        self.say(format!("Look at it in a browser (this link works once): {}", output::text(&link["url"])));
        self.call(&daemon).await?;
        self.see_refresh(&daemon, lifetime).await?;
        let daemon = self.restart(global, daemon, lifetime).await?;
        self.outage(&daemon, lifetime).await?;
        Ok(daemon)
    }

    /// Adds the server and logs in, following the redirect as a browser would.
    async fn log_in(&mut self, daemon: &Daemon) -> Result<(), Failure> {
        let server = json!({ "name": "demo", "url": self.upstream.url() });
        self.api(daemon, "POST", "/api/v1/servers", Some(server)).await?;
        let started = self.api(daemon, "POST", "/api/v1/servers/demo/login", None).await?;
        let url = output::text(&started["authorization_url"]);
        let page = self.client.get(url).send().await.map_err(|error| failed(error.to_string()))?;
        if !page.status().is_success() {
            return Err(failed(format!("the login ended with {}", page.status())));
        }
        self.say(
            "Logged in: found the provider, registered a client, PKCE, code for tokens. The only login there will be.",
        );
        Ok(())
    }

    /// One call of a tool through the proxy, by a client that knows nothing of OAuth.
    async fn call(&mut self, daemon: &Daemon) -> Result<Duration, Failure> {
        self.calls += 1;
        let message = json!({
            "jsonrpc": "2.0", "id": self.calls, "method": "tools/call",
            "params": { "name": "add", "arguments": { "a": self.calls, "b": 1 } },
        });
        let began = Instant::now();
        let answer = self
            .client
            .post(format!("{}/mcp/demo", daemon.base_url))
            .header("x-everfresh-key", &self.key)
            .json(&message)
            .send()
            .await
            .map_err(|error| failed(error.to_string()))?;
        let status = answer.status();
        let body: Value = answer.json().await.unwrap_or_default();
        let sum = output::text(&body["result"]["content"][0]["text"]);
        if sum != (self.calls + 1).to_string() {
            return Err(failed(format!("a call through the proxy gave {status} {body}")));
        }
        let took = began.elapsed();
        if self.calls == 1 {
            self.say(format!(
                "First call through the proxy: add(1, 1) = {sum}, in {:.1} ms.",
                took.as_secs_f64() * 1e3
            ));
        }
        Ok(took)
    }

    async fn see_refresh(&mut self, daemon: &Daemon, lifetime: Duration) -> Result<(), Failure> {
        let before = self.server(daemon).await?;
        let server = self.until(daemon, |server| generation(server) > generation(&before)).await?;
        let age = millis_between(&before["token"]["issued_at"], &server["token"]["issued_at"]);
        let part = 100.0 * age / lifetime.as_secs_f64() / 1e3;
        let calls = self.calls;
        self.say(format!(
            "Refreshed at {part:.0} % of the token's life, before it ended. {calls} calls so far, none failed."
        ));
        Ok(())
    }

    /// Kills the daemon, lets the token end meanwhile, and starts it again.
    async fn restart(&mut self, global: &Global, mut daemon: Daemon, lifetime: Duration) -> Result<Daemon, Failure> {
        let address = daemon.base_url.trim_start_matches("http://").to_owned();
        drop(daemon.child.kill());
        drop(daemon.child.wait());
        let seconds = lifetime.as_secs() + 2;
        self.say(format!("Killed the daemon (SIGKILL), and waiting {seconds} s until its token has ended ..."));
        drop(daemon);
        tokio::time::sleep(lifetime + Duration::from_secs(2)).await;
        let listen = Global { listen: address.parse().ok(), ..global.clone() };
        let began = Instant::now();
        let daemon = self.start_daemon(&listen).await?;
        self.call(&daemon).await?;
        let ms = began.elapsed().as_secs_f64() * 1e3;
        self.say(format!(
            "Started it again: refreshed at once, first call answered {ms:.0} ms after the start. No login."
        ));
        Ok(daemon)
    }

    /// Takes the provider away over the next refresh, and brings it back.
    async fn outage(&mut self, daemon: &Daemon, lifetime: Duration) -> Result<(), Failure> {
        let Some(provider) = self.provider.take() else { return Ok(()) };
        let (address, model) = (provider.address(), provider.model());
        drop(provider);
        self.say("Took the provider down. The next refresh will fail ...");
        let failing = self.until(daemon, |server| server["health"]["reason"] == "retrying_network").await?;
        let health = &failing["health"];
        self.say(format!(
            "{}: {}. {}",
            output::text(&health["level"]),
            output::text(&health["summary"]),
            output::text(&health["detail"])
        ));
        let before = generation(&failing);
        let back = ProviderServer::serve(address, model).await.map_err(|error| failed(error.to_string()))?;
        self.provider = Some(back);
        self.say("Brought the provider back. Nobody tells the daemon ...");
        let server = self.until(daemon, |server| generation(server) > before).await?;
        self.say(format!(
            "{}: {}. No login.",
            output::text(&server["health"]["level"]),
            output::text(&server["health"]["summary"])
        ));
        let _ = lifetime;
        Ok(())
    }

    /// Calls on, and tells each refresh.
    async fn go_on(&mut self, daemon: &Daemon) -> Result<(), Failure> {
        let mut seen = generation(&self.server(daemon).await?);
        loop {
            let server = self.until(daemon, |server| generation(server) > seen).await?;
            seen = generation(&server);
            self.say(format!("Refreshed (generation {seen}), {} calls so far.", self.calls));
        }
    }

    /// Waits until the server is as wanted, calling a tool now and then.
    async fn until(&mut self, daemon: &Daemon, wanted: impl Fn(&Value) -> bool) -> Result<Value, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut next_call = Instant::now();
        while Instant::now() < deadline {
            let server = self.server(daemon).await?;
            if wanted(&server) {
                return Ok(server);
            }
            if Instant::now() >= next_call && server["health"]["level"] != "unhealthy" {
                self.call(daemon).await?;
                next_call = Instant::now() + BETWEEN_CALLS;
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(failed("the demo waited in vain; that is a bug: please report it"))
    }

    async fn server(&self, daemon: &Daemon) -> Result<Value, Failure> {
        self.api(daemon, "GET", "/api/v1/servers/demo", None).await
    }

    async fn api(&self, daemon: &Daemon, method: &str, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        let method = method.parse().map_err(|_| failed("not a method"))?;
        let mut request = self.client.request(method, format!("{}{path}", daemon.base_url));
        request = request.header("x-everfresh-key", &self.key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.map_err(|error| failed(error.to_string()))?;
        let status = answer.status();
        let body: Value = answer.json().await.unwrap_or_default();
        if status.is_success() { Ok(body) } else { Err(failed(format!("{path}: {}", output::text(&body["detail"])))) }
    }
}

fn generation(server: &Value) -> u64 {
    server["token"]["generation"].as_u64().unwrap_or_default()
}

fn millis_between(from: &Value, to: &Value) -> f64 {
    let at = |value: &Value| value.as_str().and_then(|text| text.parse::<everfresh_domain::Timestamp>().ok());
    match (at(from), at(to)) {
        (Some(from), Some(to)) => to.since(from).as_secs_f64() * 1e3,
        _ => f64::NAN,
    }
}

/// Starts the daemon as a process of its own, and waits until it says that it listens.
fn spawn(folder: &Path, listen: &str) -> Result<Daemon, Failure> {
    let config = folder.join("config.toml");
    std::fs::write(&config, "[master_key]\nkeychain = false\n").map_err(|error| failed(error.to_string()))?;
    let log = std::fs::File::create(folder.join("log")).map_err(|error| failed(error.to_string()))?;
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let mut child = Command::new(program)
        .args(["serve", "--listen", listen, "--config"])
        .arg(&config)
        .arg("--data-dir")
        .arg(folder)
        .env_remove("EVERFRESH_KEY")
        .env_remove("EVERFRESH_MASTER_KEY")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        drop(BufReader::new(out).read_line(&mut line));
    }
    match line.trim().strip_prefix("listening on ") {
        Some(base_url) => Ok(Daemon { base_url: base_url.to_owned(), child }),
        None => {
            drop(child.kill());
            drop(child.wait());
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            Err(failed(format!("the daemon did not start: {}", log.trim())))
        }
    }
}
