//! Logging in from every kind of machine, on the real binary: pasted, by device code, denied, late,
//! with several accounts, and with scopes that nobody grants.

use std::process::Stdio;
use std::time::Duration;

use everfresh_e2e::{Daemon, Ran, World};
use everfresh_testkit::provider::{Behaviour, UpstreamFault};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const PATIENCE: Duration = Duration::from_secs(30);

/// A whole browser on this machine.
const BROWSER: &str = "curl -sSL -o /dev/null --max-time 20";

/// A login that waits for somebody.
struct Waiting {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Waiting {
    fn start(world: &World, arguments: &[&str]) -> Self {
        let mut child = everfresh_e2e::daemon::command(world.folder())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, stdin, stdout: BufReader::new(stdout).lines() }
    }

    /// The next line that it prints.
    async fn line(&mut self) -> String {
        tokio::time::timeout(PATIENCE, self.stdout.next_line()).await.unwrap().unwrap().unwrap()
    }

    async fn paste(&mut self, line: &str) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn end(mut self, code: i32) -> Ran {
        let mut stdout = String::new();
        while let Ok(Some(line)) = tokio::time::timeout(PATIENCE, self.stdout.next_line()).await.unwrap() {
            stdout.push_str(&line);
        }
        let output = tokio::time::timeout(PATIENCE, self.child.wait_with_output()).await.unwrap().unwrap();
        Ran { stdout, ..Ran::from(output) }.expect(code)
    }
}

/// The address that a browser on another machine is sent to, where it reaches nobody.
async fn sent_to(url: &str) -> String {
    let output = Command::new("curl").args(["-sS", "-o", "/dev/null", "-w", "%{redirect_url}", url]).output();
    String::from_utf8(output.await.unwrap().stdout).unwrap()
}

async fn world_and_daemon() -> (World, Daemon) {
    let world = World::new(Behaviour::default(), "").await;
    let daemon = world.daemon().await;
    daemon.run(&["add", "demo", &world.upstream.url(), "--no-login"]).await.expect(0);
    (world, daemon)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_pasted_on_stdin_logs_in_and_a_wrong_one_can_be_mended() {
    let (world, daemon) = world_and_daemon().await;
    let mut login = Waiting::start(&world, &["login", "demo", "--paste"]);
    let url = login.line().await;
    let back = sent_to(&url).await;
    login.paste(&url).await;
    login.paste("").await;
    login.paste(&back.replace("127.0.0.1", "localhost")).await;
    login.paste(&format!("  '{back}'")).await;
    let ran = login.end(0).await;
    assert!(ran.stdout.contains("logged in; it is kept fresh"), "{ran:?}");
    assert!(ran.stderr.contains("at which the login begins") && ran.stderr.contains("not the address"), "{ran:?}");
    daemon.expect_call("demo").await;
    assert_eq!((world.counters().exchanges, daemon.stop().await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_comes_first_of_callback_and_paste_is_the_answer() {
    let (world, daemon) = world_and_daemon().await;
    let mut login = Waiting::start(&world, &["login", "demo", "--paste"]);
    let url = login.line().await;
    let browser = Command::new("curl").args(["-sSL", "-o", "/dev/null", "-w", "%{http_code}", &url]).output();
    assert_eq!(browser.await.unwrap().stdout, b"200");
    assert!(login.end(0).await.stdout.contains("logged in"));
    // Nothing to paste at all: stdin is closed from the start.
    let denied = daemon.run(&["login", "demo", "--paste", "--timeout", "1s"]).await.expect(3);
    assert!(denied.stderr.contains("nobody came back within 1s"), "{denied:?}");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_typed_in_elsewhere_logs_in_or_is_declined() {
    let (world, daemon) = world_and_daemon().await;
    let mut login = Waiting::start(&world, &["login", "demo", "--device"]);
    assert_eq!(login.line().await, format!("{}/activate", world.provider.url()));
    assert_eq!(login.line().await, "USER-0001");
    world.provider.with(|model| model.answer_devices(true));
    let ran = login.end(0).await;
    assert!(ran.stdout.contains("logged in; it is kept fresh"), "{ran:?}");
    daemon.expect_call("demo").await;
    let mut login = Waiting::start(&world, &["login", "demo", "--device"]);
    assert_eq!(
        (login.line().await, login.line().await.as_str()),
        (format!("{}/activate", world.provider.url()), "USER-0002")
    );
    world.provider.with(|model| model.answer_devices(false));
    let ran = login.end(3).await;
    assert!(ran.stderr.contains("declined"), "{ran:?}");
    daemon.expect_call("demo").await;
    world.provider.with(|model| model.behaviour.offers_device_codes = false);
    let ran = daemon.run(&["login", "demo", "--device"]).await.expect(8);
    assert!(ran.stderr.contains("offers no login by device code"), "{ran:?}");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_and_a_late_login_end_in_their_own_words_and_code() {
    let (world, daemon) = world_and_daemon().await;
    let late = daemon.run(&["login", "demo", "--no-browser", "--timeout", "1s"]).await.expect(3);
    assert!(late.stderr.contains("the login stays open until"), "{late:?}");
    let again = daemon.run(&["login", "demo", "--no-browser", "--timeout", "1s"]).await.expect(3);
    assert_eq!(late.stdout, again.stdout, "the same login goes on");
    let mut login = Waiting::start(&world, &["login", "demo", "--no-browser"]);
    let url = login.line().await;
    let state = url.split(['?', '&']).find_map(|part| part.strip_prefix("state=")).unwrap().to_owned();
    let (issuer, query) = (world.provider.url(), format!("state={state}&error=access_denied"));
    let answer = daemon.text(&format!("/oauth/callback?{query}&iss={issuer}")).await;
    assert!(answer.contains("Not logged in to demo") && answer.contains("declined"), "{answer}");
    assert!(login.end(3).await.stderr.contains("declined"));
    assert_eq!(daemon.server("demo").await["health"]["reason"], "login_required");
    let renewed = daemon.run(&["login", "demo", "--new-client", "--no-browser", "--timeout", "1s"]).await.expect(3);
    assert_ne!(renewed.stdout, late.stdout);
    assert_eq!(world.counters().registrations, 2);
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_accounts_of_one_server_live_beside_each_other() {
    let (world, daemon) = world_and_daemon().await;
    let url = world.upstream.url();
    daemon.run(&["--browser-cmd", BROWSER, "login", "demo"]).await.expect(0);
    daemon.run(&["--browser-cmd", BROWSER, "login", "demo@work"]).await.expect(0);
    daemon.run(&["--browser-cmd", BROWSER, "add", "other@home", &url]).await.expect(0);
    let listed = daemon.run(&["list"]).await.expect(0).stdout;
    assert!(listed.contains("demo@work") && listed.contains("other@home"), "{listed}");
    let tokens = [daemon.run(&["token", "demo"]).await.expect(0), daemon.run(&["token", "demo@work"]).await.expect(0)];
    assert_ne!(tokens[0].stdout, tokens[1].stdout);
    daemon.expect_call("demo@work").await;
    daemon.expect_call("other@home").await;
    assert!(daemon.run(&["url", "demo@work"]).await.expect(0).stdout.trim().ends_with("/mcp/demo@work"));
    daemon.run(&["logout", "demo@work"]).await.expect(0);
    daemon.expect_call("demo").await;
    daemon.run(&["remove", "demo@work"]).await.expect(0);
    daemon.run(&["show", "demo@work"]).await.expect(5);
    daemon.expect_call("demo").await;
    assert_eq!(world.counters().registrations, 1, "one client for all");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_nobody_grants_is_asked_for_three_times_and_then_said_to_be_so() {
    let (world, daemon) = world_and_daemon().await;
    daemon.run(&["--browser-cmd", BROWSER, "login", "demo"]).await.expect(0);
    world.provider.with(|model| {
        model.switches.upstream = UpstreamFault::WantsScope { scope: "admin".into() };
        model.switches.scope_told = Some("read".into());
    });
    let reason = async || {
        assert_eq!(daemon.call_tool("demo", "add").await.0, 403);
        daemon.server("demo").await["health"]["reason"].as_str().unwrap().to_owned()
    };
    for _ in 0..3 {
        assert_eq!(reason().await, "insufficient_scope");
        let ran = daemon.run(&["--browser-cmd", BROWSER, "login", "demo"]).await.expect(0);
        assert!(ran.stderr.contains("not granted by the provider: admin"), "{ran:?}");
    }
    assert_eq!(reason().await, "scope_not_granted");
    let shown = daemon.run(&["list"]).await.expect(0).stdout;
    assert!(shown.contains("The provider does not grant: admin"), "{shown}");
    daemon.kill().await;
}
