//! `list --watch` as a person sees it on a terminal and as a program reads it from a pipe.

use std::process::Stdio;
use std::time::Duration;

use everfresh_e2e::daemon::command;
use everfresh_e2e::{Daemon, Terminal, World};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

const SHOW_CURSOR: &str = "\u{1b}[?25h";
const LEAVE_SCREEN: &str = "\u{1b}[?1049l";

#[tokio::test(flavor = "multi_thread")]
async fn a_watching_terminal_follows_changes_outages_and_its_own_size_and_is_left_clean() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    let port = daemon.port();
    world.log_in(&daemon, "demo").await;
    let terminal = Terminal::start(world.folder(), (100, 30), &[], &["list", "--watch"]).await;
    terminal.expect_after(0, "Token refresh scheduled").await;
    assert!(terminal.drawn().contains("\u{1b}[?1049h"), "it has a screen of its own");
    let mark = terminal.mark();
    world.provider.with(|model| model.revoke_all());
    daemon.run(&["refresh", "demo"]).await.expect(3);
    let told = terminal.expect_after(mark, "re-authentication required").await;
    terminal.expect_after(mark, "everfresh login demo").await;
    let mark = terminal.mark();
    terminal.resize(50, 30);
    // So narrow a window has no table.
    terminal.expect_after(mark, "\u{1b}[?2026h").await;
    terminal.expect_after(mark, "-> everfresh login demo").await;
    assert!(!terminal.drawn()[mark..].contains("EXPIRES"), "{}", &terminal.drawn()[mark..]);
    let mark = terminal.mark();
    daemon.kill().await;
    let gone = terminal.expect_after(mark, "the daemon does not answer since").await;
    let mark = terminal.mark();
    let daemon = Daemon::start(world.folder(), port).await;
    daemon.run(&["disable", "demo"]).await.expect(0);
    let back = terminal.expect_after(mark, "Disabled").await;
    let (code, drawn) = terminal.interrupt().await;
    assert_eq!(code, 0);
    assert!(drawn.trim_end().ends_with(&format!("{SHOW_CURSOR}{LEAVE_SCREEN}")), "{drawn:?}");
    println!("watch: a change {told:.1?} after it was made, gone after {gone:.1?}, back after {back:.1?}");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_screen_is_not_drawn_again() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    daemon.run(&["add", "demo", &world.upstream.url(), "--no-login"]).await.expect(0);
    let terminal = Terminal::start(world.folder(), (100, 30), &[], &["list", "--watch"]).await;
    terminal.expect_after(0, "Login required").await;
    let other = Terminal::start(world.folder(), (100, 30), &[], &["list", "--watch"]).await;
    // Once another one has begun, drawn, and seen a change, this one has had its beats too.
    other.expect_after(0, "Login required").await;
    let mark = terminal.mark();
    daemon.run(&["list"]).await.expect(0);
    daemon.run(&["doctor"]).await;
    assert_eq!(&terminal.drawn()[mark..], "", "nothing has changed, so nothing is drawn");
    for terminal in [terminal, other] {
        assert_eq!(terminal.interrupt().await.0, 0);
    }
    daemon.kill().await;
}

/// A watcher in a pipe.
struct Watcher {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watcher {
    fn start(world: &World, arguments: &[&str]) -> Self {
        let mut watching = command(world.folder());
        watching.args(["list", "--watch"]).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = watching.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(Duration::from_secs(20), self.lines.next_line()).await;
        line.expect("a line in time").unwrap().expect("the stream goes on")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_gets_json_lines_of_its_schema_over_the_daemons_restart() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    let port = daemon.port();
    world.log_in(&daemon, "demo").await;
    let schema = daemon.run(&["schema", "watch"]).await.expect(0).json();
    let schema = super::command_line::closed(schema);
    let mut watcher = Watcher::start(&world, &["-o", "json"]);
    let mut next = async || -> Value {
        let change: Value = serde_json::from_str(&watcher.line().await).unwrap();
        let problems: Vec<String> = schema.iter_errors(&change).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{change}: {problems:?}");
        change
    };
    assert_eq!(next().await["event"], "snapshot");
    daemon.run(&["refresh", "demo"]).await.expect(0);
    let mut seen = next().await;
    while seen["event"] != "oauth.token_refreshed" {
        seen = next().await;
    }
    assert!(seen["server"]["token"]["generation"].as_u64() > Some(1), "{seen}");
    daemon.kill().await;
    while seen["event"] != "daemon.gone" {
        seen = next().await;
    }
    let daemon = Daemon::start(world.folder(), port).await;
    assert_eq!(next().await["event"], "snapshot");
    daemon.run(&["remove", "demo"]).await.expect(0);
    let mut seen = next().await;
    while !seen["server"].is_null() {
        seen = next().await;
    }
    assert_eq!(seen["grant"], "demo");
    drop(watcher.child.kill().await);
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_configuration_is_told_to_watchers_too() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    let mut watcher = Watcher::start(&world, &["-o", "json"]);
    let first: Value = serde_json::from_str(&watcher.line().await).unwrap();
    assert_eq!(first["problems"].as_array().map(Vec::len), Some(0), "{first}");
    world.configure("listen = 7");
    let second: Value = serde_json::from_str(&watcher.line().await).unwrap();
    let problem = second["problems"][0].as_str().unwrap();
    assert!(problem.contains("config.toml:1: listen"), "{second}");
    drop(watcher.child.kill().await);
    daemon.kill().await;
}
