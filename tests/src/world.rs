//! A folder for one daemon, and a provider with a protected server for it to meet.

use std::path::Path;
use std::time::Duration;

use everfresh_testkit::canary;
use everfresh_testkit::mcp::McpServer;
use everfresh_testkit::provider::{Behaviour, Counters, Model, ProviderServer};
use tempfile::TempDir;

use crate::daemon::{Daemon, Ran, run};

/// A whole browser: it follows redirects, as people who are logged in at their provider do.
const BROWSER: &str = "curl -sSL -o /dev/null --max-time 20";

/// The files whose only content is a secret, by design: the keys, and what a test configures.
const SECRET_FILES: [&str; 3] = ["local-key", "master.key", "client-secret"];

/// Everything that one test meets.
pub struct World {
    folder: TempDir,
    /// The authorization server.
    pub provider: ProviderServer,
    /// The protected server.
    pub upstream: McpServer,
}

impl World {
    /// A provider that works like `behaviour`, and a daemon's folder with this `[refresh]` section.
    pub async fn new(behaviour: Behaviour, refresh: &str) -> Self {
        let provider = ProviderServer::start(Model::new(behaviour)).await.expect("the provider starts");
        let upstream = McpServer::start(&provider).await.expect("the server starts");
        let world = Self { folder: tempfile::tempdir().expect("a folder"), provider, upstream };
        world.configure(&format!("[refresh]\n{refresh}\n"));
        world
    }

    /// A provider whose access tokens live this long, with quick spacing and backoff.
    pub async fn with_lifetime(lifetime: Duration) -> Self {
        let behaviour = Behaviour { access_lifetime: lifetime, ..Behaviour::default() };
        Self::new(
            behaviour,
            "min_spacing = \"500ms\"\nbackoff_base = \"500ms\"\nbackoff_cap = \"2s\"\nhourly_budget = 10000",
        )
        .await
    }

    /// The folder of configuration, data and log.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the configuration file.
    pub fn configure(&self, text: &str) {
        let text = format!("{text}\n[master_key]\nkeychain = false\n");
        std::fs::write(self.folder().join("config.toml"), text).expect("the configuration can be written");
    }

    /// Starts the daemon.
    pub async fn daemon(&self) -> Daemon {
        Daemon::start(self.folder(), 0).await
    }

    /// Runs a command on the folder.
    pub async fn run(&self, arguments: &[&str]) -> Ran {
        run(self.folder(), arguments).await
    }

    /// Adds the protected server as `name` and logs in through a command-line browser.
    pub async fn log_in(&self, daemon: &Daemon, name: &str) {
        let ran = daemon.run(&["--browser-cmd", BROWSER, "add", name, &self.upstream.url(), "--timeout", "20s"]).await;
        assert!(ran.expect(0).stdout.contains("logged in"));
    }

    /// Nothing that the daemon ever wrote to a file, a client or its own output shows a secret: no
    /// token, code, client secret, `state`, PKCE verifier, nor either of its keys.
    fn expect_no_secrets(&self) {
        let mut folders = vec![self.folder().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let bytes = std::fs::read(&path).unwrap_or_default();
                if let Some(found) = canary::found_in(&bytes).filter(|_| !SECRET_FILES.contains(&name)) {
                    panic!("{} shows a secret: {found}", path.display());
                }
            }
        }
    }

    /// What the provider has seen.
    pub fn counters(&self) -> Counters {
        self.provider.with(|model| model.counters)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.expect_no_secrets();
        }
    }
}
