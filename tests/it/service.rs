//! The daemon as a service: what its manager is told and passes, and the commands that install it,
//! with a stand-in for systemd that starts the real binary.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use everfresh_e2e::daemon::{binary, client, command, plain};
use everfresh_e2e::{Daemon, Ran, World, until};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixDatagram;
use tokio::process::Child;
use tokio::time::timeout;

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(30);

/// How long a watchdog must stay unfed to count as that: many of its periods.
const SILENCE: Duration = Duration::from_secs(2);

/// The ear of a service manager.
struct Ear {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Ear {
    fn new(folder: &Path) -> Self {
        let path = folder.join("notify");
        Self { socket: UnixDatagram::bind(&path).unwrap(), path }
    }

    fn variables(&self) -> [(&'static str, String); 1] {
        [("NOTIFY_SOCKET", self.path.display().to_string())]
    }

    /// The next message.
    async fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = timeout(LIMIT, self.socket.recv(&mut buffer)).await.expect("a message").unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// The messages up to the first that has `words`.
    async fn until(&self, words: &str) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            heard.push(self.next().await);
            if heard.last().is_some_and(|last| last.lines().any(|line| line.contains(words))) {
                return heard;
            }
        }
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_told_once_the_listener_answers_and_then_how_the_logins_are() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let ear = Ear::new(world.folder());
    let (port, variables) = (free_port(), ear.variables());
    let (daemon, first) = tokio::join!(Daemon::start_in(world.folder(), port, &variables), async {
        let first = ear.next().await;
        let answer = client().get(format!("http://127.0.0.1:{port}/readyz")).send().await;
        assert_eq!(answer.expect("whoever is told can connect").status(), 200);
        first
    });
    assert_eq!(first, "READY=1\nSTATUS=no logins\n");
    world.log_in(&daemon, "demo").await;
    ear.until("STATUS=1 login, all well").await;
    daemon.run(&["logout", "demo"]).await.expect(0);
    ear.until("STATUS=1 login, 1 needs you").await;
    world.configure("listen = 7");
    let heard = ear.until("READY=1").await;
    assert!(heard.iter().any(|message| message.starts_with("RELOADING=1\nMONOTONIC_USEC=")), "{heard:?}");
    assert!(heard.last().unwrap().contains("1 needs you, the configuration has one error"), "{heard:?}");
    daemon.signal_stop();
    ear.until("STOPPING=1").await;
    assert_eq!(daemon.ended().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_engine_hangs_says_nothing_of_life() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let ear = Ear::new(world.folder());
    let mut daemon = command(world.folder())
        .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "trace", "--log-format", "json"])
        .envs(ear.variables())
        .env("WATCHDOG_USEC", "10000")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    ear.until("READY=1").await;
    ear.until("WATCHDOG=1").await;
    // Nobody reads its log, whose every line the engine waits for: once the pipe is full, it hangs.
    let silent = async { while timeout(SILENCE, ear.next()).await.is_ok() {} };
    timeout(LIMIT, silent).await.expect("a hanging engine is told alive");
    let mut log = daemon.stderr.take().unwrap();
    let reader = tokio::spawn(async move { log.read_to_end(&mut Vec::new()).await });
    ear.until("WATCHDOG=1").await;
    daemon.kill().await.unwrap();
    reader.await.unwrap().unwrap();
}

/// Starts the daemon with a listener on `host` that was made by somebody else, and connects before
/// it runs.
const PASS: &str = "
import os, socket, sys
listener = socket.create_server((sys.argv[1], 0))
print('bound', listener.getsockname()[1], flush=True)
sys.stdin.readline()
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
";

fn passed(folder: &Path, host: &str) -> Child {
    let inner = command(folder);
    let words = inner.as_std().get_args().map(|word| word.to_owned());
    let mut outer = plain("python3");
    outer.args(["-c", PASS, host]).arg(binary()).args(words).args(["serve", "--log-format", "json"]);
    outer.envs(inner.as_std().get_envs().filter_map(|(name, value)| Some((name, value?)))).kill_on_drop(true);
    outer.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("python3 runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passed_listener_is_used_and_those_who_came_early_are_served() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let mut daemon = passed(world.folder(), "127.0.0.1");
    let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
    let bound = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap().unwrap();
    let port = bound.strip_prefix("bound ").unwrap().to_owned();
    let early = tokio::spawn(client().get(format!("http://127.0.0.1:{port}/healthz")).send());
    drop(daemon.stdin.take());
    let line = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert_eq!(line, format!("listening on http://127.0.0.1:{port}"));
    assert_eq!(early.await.unwrap().unwrap().status(), 200);
    daemon.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passed_listener_that_is_open_to_the_network_is_refused() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let mut daemon = passed(world.folder(), "0.0.0.0");
    drop(daemon.stdin.take());
    let ran: Ran = timeout(LIMIT, daemon.wait_with_output()).await.unwrap().unwrap().into();
    let ran = ran.expect(2);
    assert!(ran.stderr.contains("open to the network") && ran.stderr.contains("ListenStream="), "{ran:?}");
}

/// A user whose systemd is a stand-in.
struct Home {
    world: World,
    listen: String,
}

impl Home {
    async fn new() -> Self {
        let world = World::with_lifetime(Duration::from_secs(600)).await;
        let bin = world.folder().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for name in ["systemctl", "systemd-run", "loginctl"] {
            std::fs::write(bin.join(name), include_str!("systemctl.py")).unwrap();
            std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        // Windows's scheduler: every task is there, and what it is told is done.
        std::fs::write(bin.join("schtasks.exe"), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(bin.join("schtasks.exe"), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { world, listen: format!("127.0.0.1:{}", free_port()) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.folder().join(name)
    }

    fn unit(&self) -> String {
        std::fs::read_to_string(self.path(".config/systemd/user/everfresh.service")).unwrap_or_default()
    }

    fn calls(&self) -> String {
        std::fs::read_to_string(self.path("calls")).unwrap_or_default()
    }

    async fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
        let search = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = command(self.world.folder());
        command.args(["--listen", &self.listen]).args(arguments).env("PATH", search);
        command.env("FAKE_SYSTEMD", self.world.folder()).envs(variables.iter().copied());
        timeout(LIMIT * 2, command.output()).await.expect("the command ends").unwrap().into()
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(&[], arguments).await
    }

    async fn status(&self, code: i32) -> Value {
        self.run(&["service", "status", "-o", "json"]).await.expect(code).json()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.path("pid")).unwrap_or_default();
        if !pid.trim().is_empty() {
            drop(std::process::Command::new("kill").arg(pid.trim()).stderr(Stdio::null()).status());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_installed_brought_up_to_date_and_removed_with_nothing_lost() {
    let mut home = Home::new().await;
    let absent = home.status(6).await;
    assert_eq!((&absent["installed"], &absent["daemon"]), (&Value::Bool(false), &Value::Null), "{absent}");

    let ran = home.run(&["service", "install"]).await.expect(0);
    assert!(ran.stdout.contains("installed") && ran.stdout.contains(&home.listen), "{ran:?}");
    assert!(ran.stderr.contains("where programs are built") && ran.stderr.contains("enable-linger"), "{ran:?}");
    let unit = home.unit();
    assert!(unit.contains("ProtectSystem=strict") && unit.contains(&home.listen), "{unit}");
    let running = home.status(0).await;
    assert_eq!((&running["running"], &running["starts_at_login"]), (&Value::Bool(true), &Value::Bool(true)));
    assert_eq!(running["daemon"]["pid"], running["pid"], "{running}");
    home.run(&["add", "kept", "https://example.com", "--no-login"]).await.expect(0);

    let again = home.run(&["service", "install"]).await.expect(0);
    assert!(again.stdout.contains("as it should be"), "{again:?}");
    assert_eq!(home.status(0).await["pid"], running["pid"], "what is right is left alone");

    let before = home.listen.clone();
    home.listen = format!("127.0.0.1:{}", free_port());
    // The daemon is found where its folder says.
    let moved = home.run(&["service", "install"]).await.expect(0);
    assert!(moved.stdout.contains("brought up to date"), "{moved:?}");
    assert!(home.unit().contains(&home.listen) && !home.unit().contains(&before));
    assert_eq!(home.status(0).await["daemon"]["base_url"], format!("http://{}", home.listen));

    let restarted = home.run(&["service", "restart"]).await.expect(0);
    assert!(restarted.stdout.contains("stopped\nit runs at"), "{restarted:?}");
    assert_ne!(home.status(0).await["pid"], running["pid"]);

    let removed = home.run(&["service", "uninstall"]).await.expect(0);
    assert!(removed.stdout.contains("stay in"), "{removed:?}");
    assert_eq!(home.unit(), "");
    home.status(6).await;
    let listed = home.run(&["list"]).await.expect(0);
    assert!(listed.stdout.contains("kept"), "{listed:?}");
    let calls = home.calls();
    assert!(calls.contains("systemctl --user daemon-reload") && calls.contains("systemctl --user enable"), "{calls}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_the_unit_and_changes_nothing() {
    let home = Home::new().await;
    let shown = home.run(&["service", "install", "--dry-run", "--socket"]).await.expect(0);
    assert!(shown.stdout.contains("Type=notify") && shown.stdout.contains(&format!("ListenStream={}", home.listen)));
    assert_eq!(home.unit(), "");
    assert!(!home.calls().contains("--user start") && !home.calls().contains("enable"), "{}", home.calls());
    let agent = home.run(&["service", "install", "--dry-run", "--manager", "launchd"]).await.expect(0);
    assert!(agent.stdout.contains("LaunchAgents/everfresh.plist") && agent.stdout.contains("<plist"), "{agent:?}");
    let refused = home.run(&["service", "install", "--dry-run", "--manager", "launchd", "--socket"]).await.expect(2);
    assert!(refused.stderr.contains("--socket is for systemd"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_of_a_service_is_told_before_it_is_started() {
    let home = Home::new().await;
    let taken = std::net::TcpListener::bind(&home.listen).unwrap();
    let ran = home.run(&["service", "install"]).await.expect(1);
    assert!(ran.stderr.contains("in use by another program"), "{ran:?}");
    assert!(!home.calls().contains("--user start"), "{}", home.calls());
    drop(taken);
    let ran = home.run_with(&[("FAKE_SYSTEMD_FAILS", "start")], &["service", "start"]).await.expect(1);
    assert!(ran.stderr.contains("its log: journalctl --user"), "{ran:?}");
    home.run(&["service", "start"]).await.expect(0);
    home.status(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_installed_is_told_to_be_that() {
    let home = Home::new().await;
    for command in ["start", "stop", "restart"] {
        let ran = home.run(&["service", command]).await.expect(1);
        assert!(ran.stderr.contains("not installed: everfresh service install"), "{command}: {ran:?}");
    }
    let ran = home.run(&["service", "uninstall"]).await.expect(0);
    assert!(ran.stdout.contains("it is not installed"), "{ran:?}");
    assert!(home.calls().lines().all(|call| call.contains(" show ")), "nothing is done: {}", home.calls());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_ready_is_not_well() {
    let home = Home::new().await;
    home.run(&["service", "install"]).await.expect(0);
    home.world.configure("listen = 7");
    let told = || async {
        let ran = home.run(&["service", "status"]).await;
        (ran.code == 1).then_some(ran)
    };
    let (ran, _) = until("the broken configuration is told", LIMIT, told).await;
    assert!(ran.stdout.contains("not ready\n") && ran.stdout.contains("the configuration has one error"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_not_the_services_own_is_left_alone_and_told_of() {
    let home = Home::new().await;
    let port = home.listen.rsplit(':').next().unwrap().parse().unwrap();
    let foreign = Daemon::start(home.world.folder(), port).await;
    let ran = home.run(&["service", "install"]).await.expect(0);
    let pid = format!("(pid {})", foreign.pid());
    assert!(ran.stderr.contains("has not started") && ran.stderr.contains(&pid), "{ran:?}");
    assert!(!home.calls().contains("--user start"), "{}", home.calls());
    let seen = home.status(6).await;
    assert_eq!(seen["daemon"]["is_service"], false, "{seen}");
    home.run(&["service", "uninstall"]).await.expect(0);
    foreign.text("/healthz").await;
    foreign.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_systemd_it_is_said_what_to_do() {
    let home = Home::new().await;
    let ran = home.run_with(&[("FAKE_SYSTEMD_GONE", "1")], &["service", "install"]).await.expect(1);
    assert!(ran.stderr.contains("systemd does not run for this user") && ran.stderr.contains("wsl.conf"), "{ran:?}");
    assert_eq!(home.unit(), "", "nothing is written");
    let status = ["service", "status", "-o", "json"];
    home.run_with(&[("FAKE_SYSTEMD_GONE", "1")], &status).await.expect(1);
    // There may be a daemon all the same.
    let daemon = home.world.daemon().await;
    let seen = home.run_with(&[("FAKE_SYSTEMD_GONE", "1")], &status).await.expect(6).json();
    assert_eq!((&seen["daemon"]["ready"], &seen["daemon"]["is_service"]), (&Value::Bool(true), &Value::Bool(false)));
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_an_exit_code() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let ran = world.run(&["ready"]).await.expect(6);
    assert!(ran.stderr.contains("no daemon runs"), "{ran:?}");
    let daemon = world.daemon().await;
    daemon.run(&["ready", "--wait", "10s"]).await.expect(0);
    world.configure("listen = 7");
    let broken = || async { Some(daemon.run(&["ready"]).await).filter(|ran| ran.code == 1) };
    let (ran, _) = until("the broken configuration is told", LIMIT, broken).await;
    assert!(ran.stderr.contains("not ready: the configuration has one error"), "{ran:?}");
    daemon.kill().await;
}

/// What the task of Windows starts.
fn keeper(home: &Home) -> Child {
    let mut keeper = command(home.world.folder());
    keeper.args(["--listen", "127.0.0.1:0", "service", "run"]).stderr(Stdio::null()).spawn().unwrap()
}

/// The daemon that says that it runs.
async fn daemon_pid(home: &Home) -> Option<u64> {
    let told = std::fs::read(home.path("data/daemon.json")).ok()?;
    serde_json::from_slice::<Value>(&told).ok()?["pid"].as_u64()
}

/// The words of a command on the service that Windows has.
fn task(command: &str) -> [&str; 4] {
    ["service", command, "--manager", "task"]
}

/// Waits until the daemon is the service's own and ready.
async fn ready(home: &Home) {
    let ready = || async { Some(home.run(&task("status")).await).filter(|ran| ran.code == 0) };
    until("the service is ready", LIMIT, ready).await;
}

fn daemon_log(home: &Home) -> String {
    std::fs::read_to_string(home.path("data/daemon.log")).unwrap()
}

/// Waits until a daemon has ended as one ends that stores what it has under way.
async fn drained(home: &Home) {
    let drained = || async { daemon_log(home).contains("\"message\":\"stopped\"").then_some(()) };
    until("the daemon stops by itself", LIMIT, drained).await;
}

fn kill(signal: &str, pid: u64) {
    assert!(std::process::Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_windows_starts_keeps_the_daemon_running() {
    let home = Home::new().await;
    let mut keeper = keeper(&home);
    let (first, _) = until("a daemon runs", LIMIT, || daemon_pid(&home)).await;
    kill("-KILL", first);
    let another = || async { daemon_pid(&home).await.filter(|pid| *pid != first) };
    let (_, took) = until("another daemon runs", LIMIT, another).await;
    println!("a killed daemon was back after {took:?}");
    assert!(daemon_log(&home).contains("the store is open"), "{}", daemon_log(&home));
    kill("-TERM", keeper.id().unwrap().into());
    assert!(timeout(LIMIT, keeper.wait()).await.unwrap().unwrap().success());
    drained(&home).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_windows_starts_is_seen_and_ends_when_the_service_is_stopped() {
    let home = Home::new().await;
    let idle = home.run(&task("stop")).await.expect(0);
    assert_eq!(idle.stdout, "stopped\n", "there is nothing to be stopped");
    let mut keeper = keeper(&home);
    ready(&home).await;
    home.run(&task("stop")).await.expect(0);
    assert!(timeout(LIMIT, keeper.wait()).await.unwrap().unwrap().success());
    drained(&home).await;
    home.run(&task("status")).await.expect(6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_keeper_is_killed_ends_as_one_that_is_told_to() {
    let home = Home::new().await;
    let mut keeper = keeper(&home);
    ready(&home).await;
    keeper.kill().await.unwrap();
    drained(&home).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_windows_starts_ends_where_the_configuration_is_wrong() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    world.configure("listen = 7");
    let ran = world.run(&["service", "run"]).await.expect(2);
    assert!(ran.stderr.contains("daemon.log"), "{ran:?}");
    let log = std::fs::read_to_string(world.folder().join("data/daemon.log")).unwrap();
    assert!(log.contains("listen must be a text"), "{log}");
}
