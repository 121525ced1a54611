//! Measures the built binary: start and memory, recovery, and the data plane beside nginx.
//!
//! Run by `cargo xtask bench`. Figures are for comparison within one run on one quiet machine.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and stops where its ground gives way")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use everfresh_e2e::daemon::client;
use everfresh_e2e::{Daemon, World, until};
use everfresh_testkit::mcp::McpServer;
use everfresh_testkit::provider::{Behaviour, Model, ProviderServer};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

const GRANTS: usize = 1000;
const PROVIDERS: usize = 20;
const PROVIDER_MS: u64 = 200;

#[tokio::main]
async fn main() {
    let wanted = std::env::args().nth(1);
    let wants = |name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    if wants("start") {
        start().await;
    }
    if wants("recovery") {
        recovery().await;
    }
    if wants("proxy") {
        proxy().await;
    }
}

/// Time from start to `listening`, and memory at rest.
async fn start() {
    let world = World::new(Behaviour::default(), "").await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    daemon.stop().await;
    let mut starts = Vec::new();
    for _ in 0..30 {
        let daemon = world.daemon().await;
        starts.push(daemon.started_in);
        daemon.kill().await;
    }
    starts.sort();
    println!(
        "start to `listening`       median {:.1} ms, slowest {:.1} ms of {}",
        ms(starts[15]),
        ms(starts[29]),
        starts.len()
    );
    let daemon = world.daemon().await;
    rest(Duration::from_secs(3)).await;
    println!("memory at rest             {}", memory(daemon.pid()));
    daemon.expect_call("demo").await;
    daemon.run(&["list"]).await;
    daemon.run(&["refresh", "demo"]).await;
    rest(Duration::from_secs(2)).await;
    println!("memory after some work     {}", memory(daemon.pid()));
    daemon.kill().await;
}

/// A thousand logins that ended, at twenty providers that take 200 ms each.
async fn recovery() {
    let lifetime = Duration::from_secs(60);
    let world = World::new(Behaviour::default(), "").await;
    let daemon = world.daemon().await;
    let mut providers = Vec::new();
    for _ in 0..PROVIDERS {
        let provider =
            ProviderServer::start(Model::new(Behaviour { access_lifetime: lifetime, ..Behaviour::default() }));
        let provider = provider.await.unwrap();
        let upstream = McpServer::start(&provider).await.unwrap();
        upstream.forget_requests();
        providers.push((provider, upstream));
    }
    let began = Instant::now();
    stream::iter(0..GRANTS)
        .for_each_concurrent(8, |number| {
            let (daemon, upstream) = (&daemon, &providers[number % PROVIDERS].1);
            async move { log_in(daemon, &format!("s{number}"), &upstream.url()).await }
        })
        .await;
    println!("({GRANTS} logins made in {:.1} s)", began.elapsed().as_secs_f64());
    daemon.stop().await;
    rest(lifetime + Duration::from_secs(1)).await;
    let total = || providers.iter().map(|(provider, _)| provider.with(|model| model.counters.refreshes)).sum::<u64>();
    let before = total();
    for (provider, _) in &providers {
        provider.with(|model| model.switches.delay_ms = PROVIDER_MS);
    }
    let began = Instant::now();
    let daemon = world.daemon().await;
    let listening = began.elapsed();
    let all_asked = || async { (total() - before >= GRANTS as u64).then_some(()) };
    until("all to be asked", Duration::from_secs(60), all_asked).await;
    let fresh = || async {
        let listed = daemon.get("/api/v1/servers").await;
        let unhealthy = listed["servers"].as_array().unwrap().iter().any(|server| server["health"]["reason"] != "ok");
        (!unhealthy).then_some(())
    };
    until("all to be fresh", Duration::from_secs(60), fresh).await;
    let took = began.elapsed();
    println!(
        "recovery of {GRANTS} grants     all fresh {:.2} s after the start (listening after {:.0} ms), {PROVIDERS} providers at {PROVIDER_MS} ms",
        took.as_secs_f64(),
        ms(listening)
    );
    println!("memory with {GRANTS} grants     {}", memory(daemon.pid()));
    daemon.kill().await;
}

async fn log_in(daemon: &Daemon, name: &str, url: &str) {
    let server = json!({ "name": name, "url": url });
    let added = daemon.request(reqwest::Method::POST, "/api/v1/servers").json(&server).send().await.unwrap();
    assert!(added.status().is_success(), "{}", added.status());
    let started = daemon.request(reqwest::Method::POST, &format!("/api/v1/servers/{name}/login")).send().await.unwrap();
    let started: Value = started.json().await.unwrap();
    let page = client().get(started["authorization_url"].as_str().unwrap()).send().await.unwrap();
    assert!(page.status().is_success(), "{}", page.status());
}

/// A program that ends with its bench.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn nginx(folder: &Path, name: &str, http: &str) -> Running {
    let prefix = folder.join(name);
    std::fs::create_dir_all(&prefix).unwrap();
    let config = format!(
        "daemon off; master_process off; worker_processes 1; pid {0}/pid; error_log {0}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {0}/b; proxy_temp_path {0}/p; \
         fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n{http}\n}}\n",
        prefix.display()
    );
    std::fs::write(prefix.join("nginx.conf"), config).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&prefix).arg("-c").arg(prefix.join("nginx.conf")).stderr(Stdio::null());
    Running(command.spawn().unwrap())
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The data plane and nginx with a static header, in front of the same upstream.
async fn proxy() {
    let installed =
        |program: &str| Command::new(program).arg("-v").stderr(Stdio::null()).stdout(Stdio::null()).status().is_ok();
    if !installed("nginx") || !installed("wrk") {
        println!("proxy: nginx and wrk are not installed here; nothing to compare with");
        return;
    }
    let (upstream_port, nginx_port) = (free_port(), free_port());
    let world = World::new(Behaviour::default(), "").await;
    let body = "x".repeat(200);
    let _upstream = nginx(
        world.folder(),
        "upstream",
        &format!("server {{ listen 127.0.0.1:{upstream_port}; location / {{ return 200 '{body}'; }} }}"),
    );
    let peer = nginx(
        world.folder(),
        "peer",
        &format!(
            "upstream u {{ server 127.0.0.1:{upstream_port}; keepalive 64; keepalive_requests 100000000; }}\n\
             server {{ listen 127.0.0.1:{nginx_port}; location / {{ proxy_pass http://u; proxy_http_version 1.1; \
             proxy_set_header Connection ''; proxy_set_header Authorization 'Bearer static-token'; proxy_buffering off; }} }}"
        ),
    );
    let issuer = world.provider.url();
    world.configure(&format!(
        "[servers.up]\nurl = \"http://127.0.0.1:{upstream_port}/\"\n[servers.up.oauth]\nissuer = \"{issuer}\""
    ));
    let daemon = world.daemon().await;
    daemon.run(&["--browser-cmd", "curl -sSL -o /dev/null", "login", "up"]).await.expect(0);
    let key = std::fs::read_to_string(world.folder().join("data/local-key")).unwrap();
    let ours = format!("{}/mcp/up", daemon.base_url);
    let theirs = format!("http://127.0.0.1:{nginx_port}/");
    println!("proxied GET, 200 bytes     requests/s      p50        p99        CPU per 10,000 requests");
    for connections in [1, 32] {
        // Taken in turn twice, so that neither has the quieter moment.
        for round in 1..=2 {
            let nginx = wrk(&theirs, connections, &[], peer.0.id());
            let everfresh = wrk(&ours, connections, &["-H", &format!("X-Everfresh-Key: {}", key.trim())], daemon.pid());
            println!("  {connections:>2} connections, round {round}");
            println!("    nginx                {nginx}");
            println!("    everfresh            {everfresh}");
        }
    }
    println!("memory after the proxy run {}", memory(daemon.pid()));
    daemon.kill().await;
}

/// Runs wrk against `url`, and reads what it and the process `pid` used.
fn wrk(url: &str, connections: u32, more: &[&str], pid: u32) -> String {
    let before = cpu(pid);
    let threads = "1";
    let output = Command::new("wrk")
        .args(["-t", threads, "-c", &connections.to_string(), "-d", "6s", "--latency"])
        .args(more)
        .arg(url)
        .output()
        .unwrap();
    let used = cpu(pid) - before;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let after = |label: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(label)).unwrap_or_else(|| panic!("{text}"));
        line.trim_start().strip_prefix(label).unwrap().trim().to_owned()
    };
    assert!(!text.contains("Non-2xx"), "{text}");
    let requests: f64 = text
        .lines()
        .find_map(|line| line.trim().split_once(" requests in ").map(|(count, _)| count.parse().unwrap()))
        .unwrap_or_else(|| panic!("{text}"));
    format!(
        "{:>10}      {:>8}   {:>8}   {:.1} ms",
        after("Requests/sec:"),
        after("50%"),
        after("99%"),
        used * 1e3 / (requests / 1e4)
    )
}

/// CPU seconds that a process has used.
fn cpu(pid: u32) -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / TICKS_PER_SECOND
}

/// What a process holds in memory.
fn memory(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
    };
    format!("{:.1} MiB resident ({:.1} of its own, {:.1} of files)", mib("VmRSS"), mib("RssAnon"), mib("RssFile"))
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

async fn rest(time: Duration) {
    tokio::time::sleep(time).await;
}
