//! Local keys on the built binary: made, used, rotated, removed, over restarts and deaths.

use std::path::Path;
use std::time::Duration;

use everfresh_e2e::daemon::{client, command};
use everfresh_e2e::{Daemon, Ran, Reply, Scripted, StdioClient, World, until};
use everfresh_testkit::canary;
use reqwest::Method;
use serde_json::{Value, json};

use crate::steps::{can_trace, kill_at};

const LIFETIME: Duration = Duration::from_secs(600);

/// What rotating a key does to the disk, by the names of the system calls.
const DISK: [&str; 7] = ["openat", "write", "fdatasync", "rename", "fsync", "close", "sendto"];

/// How often each of them is died at, at most.
const DEATHS_MAX: u32 = 4;

/// The key that a command printed.
fn printed(ran: Ran) -> String {
    let key = ran.expect(0).stdout.trim().to_owned();
    canary::keep(&key);
    key
}

/// The status of a request with `key`, and the kind of problem where it is one.
async fn asked(daemon: &Daemon, method: Method, path: &str, key: &str) -> (u16, String) {
    let request = client().request(method, format!("{}{path}", daemon.base_url)).header("x-everfresh-key", key);
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    daemon.transcript().add(text.as_bytes());
    let problem: Value = serde_json::from_str(&text).unwrap_or_default();
    let kind = problem["type"].as_str().and_then(|kind| kind.rsplit(':').next()).unwrap_or_default();
    (status, kind.to_owned())
}

/// The status of a request of the data plane with `key`.
async fn used(daemon: &Daemon, key: &str) -> u16 {
    asked(daemon, Method::DELETE, "/mcp/demo", key).await.0
}

async fn run_with(folder: &Path, key: &str, arguments: &[&str]) -> Ran {
    command(folder).env("EVERFRESH_KEY", key).args(arguments).output().await.unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_key_opens_its_server_alone_and_ends_when_its_owner_says_so() {
    let world = World::with_lifetime(LIFETIME).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    daemon.run(&["add", "other", &world.upstream.url(), "--no-login"]).await.expect(0);
    let key = printed(daemon.run(&["key", "add", "ci", "--server", "demo", "--expires", "30d"]).await);
    assert_eq!(used(&daemon, &key).await, 200);
    let refused =
        ["/mcp/other", "/api/v1/servers", "/api/v1/servers/demo/token", "/events", "/metrics", "/api/v1/status"];
    for path in refused {
        let answer = asked(&daemon, Method::GET, path, &key).await;
        assert_eq!(answer, (403, "beyond-key".to_owned()), "{path}");
    }
    assert_eq!(asked(&daemon, Method::POST, "/api/v1/page-link", &key).await.0, 403);
    daemon.kill().await;
    let daemon = world.daemon().await;
    assert_eq!(used(&daemon, &key).await, 200, "it survives a kill");
    let listed = daemon.run(&["key", "list"]).await.expect(0).stdout;
    assert!(listed.contains("ci") && listed.contains("send requests to demo") && listed.contains("in 29 days"));
    let newer = printed(daemon.run(&["key", "rotate", "ci"]).await);
    assert_eq!((used(&daemon, &key).await, used(&daemon, &newer).await), (403, 200));
    daemon.run(&["key", "remove", "ci"]).await.expect(0);
    assert_eq!(asked(&daemon, Method::DELETE, "/mcp/demo", &newer).await, (403, "key-needed".to_owned()));
    daemon.run(&["key", "remove", "ci"]).await.expect(5);
    daemon.run(&["key", "rotate", "No Name"]).await.expect(2);
    daemon.run(&["key", "add", "x", "--server", "nobody"]).await.expect(5);
    daemon.run(&["key", "add", "x", "--server", "demo@home", "--account", "work"]).await.expect(2);
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_with_a_limited_key_are_limited_with_and_without_a_daemon() {
    let world = World::with_lifetime(LIFETIME).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    daemon.run(&["add", "other", &world.upstream.url(), "--no-login"]).await.expect(0);
    assert_eq!(daemon.stop().await, 0);
    // Without a daemon the commands work on the folder, by the same rules.
    let data = printed(world.run(&["key", "add", "data", "--server", "demo", "--data-plane-only"]).await);
    let token = printed(world.run(&["key", "add", "token", "--server", "demo", "--allow-token"]).await);
    for with_daemon in [false, true] {
        let daemon = if with_daemon { Some(world.daemon().await) } else { None };
        let run = |key: &str, arguments: &'static [&'static str]| {
            let (folder, key) = (world.folder().to_owned(), key.to_owned());
            async move { run_with(&folder, &key, arguments).await }
        };
        assert!(run(&token, &["token", "demo"]).await.expect(0).stdout.starts_with("access-canary-"));
        let listed = run(&token, &["list", "-o", "json"]).await.expect(0).json();
        assert_eq!(listed["servers"].as_array().unwrap().len(), 1, "{listed}");
        let refused = run(&data, &["token", "demo"]).await.expect(8);
        assert!(refused.stderr.contains("the key data may only send requests to demo"), "{refused:?}");
        run(&token, &["token", "other"]).await.expect(8);
        run(&token, &["remove", "demo"]).await.expect(8);
        run(&token, &["key", "add", "more"]).await.expect(8);
        run(&token, &["key", "rotate"]).await.expect(8);
        let shown = run(&data, &["key", "show"]).await.expect(0);
        assert_eq!(shown.stdout.trim(), data);
        // A daemon that is started with it does not open to it.
        if let Some(daemon) = daemon {
            daemon.kill().await;
        }
    }
    let daemon = Daemon::start_in(world.folder(), 0, &[("EVERFRESH_KEY", token.clone())]).await;
    assert_eq!(asked(&daemon, Method::GET, "/api/v1/status", &token).await, (403, "beyond-key".to_owned()));
    daemon.expect_call("demo").await;
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_local_key_is_in_force_at_once_for_all_who_find_it() {
    let world = World::with_lifetime(LIFETIME).await;
    world.configure("listen = \"127.0.0.1:0\"");
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    let file = world.folder().join("data/local-key");
    let kept = || std::fs::read_to_string(&file).unwrap().trim().to_owned();
    let before = printed(daemon.run(&["key", "show"]).await);
    assert_eq!(before, kept());
    let mut bridge = StdioClient::start(world.folder(), "demo");
    bridge.open().await;
    let after = printed(daemon.run(&["key", "rotate"]).await);
    assert!(after == kept() && after != before);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!((used(&daemon, &before).await, used(&daemon, &after).await), (403, 200));
    daemon.run(&["list"]).await.expect(0);
    let answer = bridge.call(5, "tools/call", json!({ "name": "add", "arguments": { "a": 2, "b": 3 } })).await;
    assert_eq!(answer["result"]["content"][0]["text"], "5", "a bridge finds the new key: {answer}");
    assert_eq!(bridge.end().await, 0);
    daemon.kill().await;
    let daemon = Daemon::start_in(world.folder(), 0, &[("EVERFRESH_KEY", "given-by-the-environment".to_owned())]).await;
    let refused = run_with(world.folder(), "given-by-the-environment", &["key", "rotate"]).await.expect(8);
    assert!(refused.stderr.contains("EVERFRESH_KEY; change it there"), "{refused:?}");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_the_port_of_a_daemon_that_died_is_shown_no_key() {
    let world = World::with_lifetime(LIFETIME).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    let address = daemon.base_url.strip_prefix("http://").unwrap().to_owned();
    daemon.kill().await;
    assert!(world.folder().join("data/daemon.json").exists(), "it died without a word");
    // Another user's program, which answers whatever it is asked.
    let imposter = Scripted::start_at(&address, |_| Reply::status(200)).await;
    let listed = world.run(&["list", "-o", "json"]).await.expect(0).json();
    assert_eq!(listed["servers"][0]["name"], "demo", "the folder itself is asked: {listed}");
    world.run(&["token", "demo"]).await.expect(0);
    world.run(&["key", "list"]).await.expect(0);
    assert_eq!(imposter.seen().len(), 0, "nobody came by");
    let refused = world.run(&["--listen", &address, "list"]).await.expect(8);
    assert!(refused.stderr.contains("is not the daemon of") && refused.stderr.contains("--data-dir"), "{refused:?}");
    let shown = imposter.seen().iter().filter(|asked| asked.header("x-everfresh-key").is_some()).count();
    assert_eq!((imposter.seen().len(), shown), (1, 0), "it was asked whether it lives, and shown no key");
}

/// Rotates the local key and dies at `call` for the `number`-th time; whether it died.
async fn rotated_to_death(daemon: &Daemon, call: &str, number: u32) -> bool {
    let strace = kill_at(daemon, call, number).await.expect("strace attaches");
    let answer = daemon.request(Method::POST, "/api/v1/local-key/rotate").send().await;
    drop(strace);
    answer.is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_system_call_of_a_rotation_there_is_one_key_that_works() {
    if !can_trace().await {
        assert!(std::env::var_os("GITHUB_ACTIONS").is_none(), "continuous integration has strace");
        println!("(keys) SKIPPED: no strace here, so no death at a system call was tried");
        return;
    }
    let world = World::with_lifetime(LIFETIME).await;
    let file = world.folder().join("data/local-key");
    let kept = || std::fs::read_to_string(&file).unwrap().trim().to_owned();
    let mut daemon = world.daemon().await;
    let limited = printed(daemon.run(&["key", "add", "ci"]).await);
    let (mut deaths, mut old, mut new) = (0, 0, 0);
    for call in DISK {
        for number in 1..=DEATHS_MAX {
            let before = kept();
            let died = rotated_to_death(&daemon, call, number).await;
            if died {
                daemon.ended().await;
            } else {
                daemon.kill().await;
            }
            daemon = world.daemon().await;
            let after = kept();
            let place = format!("{call} number {number}");
            assert_eq!(asked(&daemon, Method::GET, "/api/v1/status", &after).await.0, 200, "{place}");
            let still = asked(&daemon, Method::GET, "/api/v1/status", &before).await.0;
            assert_eq!(still == 200, before == after, "{place}: either the old key or the new one");
            assert_eq!(asked(&daemon, Method::GET, "/api/v1/key", &limited).await.0, 200, "{place}");
            if !died {
                break;
            }
            deaths += 1;
            if before == after { old += 1 } else { new += 1 }
        }
    }
    println!(
        "(keys) {deaths} deaths while the local key was rotated: the old one {old} times, the new one {new} times"
    );
    assert!(old > 0 && new > 0, "deaths before and after the step that counts");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_read_are_told_and_kept() {
    let world = World::with_lifetime(LIFETIME).await;
    let file = world.folder().join("data/keys.json");
    let daemon = world.daemon().await;
    let key = printed(daemon.run(&["key", "add", "ci"]).await);
    daemon.kill().await;
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let daemon = world.daemon().await;
    assert_eq!(asked(&daemon, Method::GET, "/api/v1/key", &key).await, (403, "key-needed".to_owned()));
    let refused = daemon.run(&["key", "add", "more"]).await.expect(7);
    assert!(refused.stderr.contains("keys.json cannot be read") && refused.stderr.contains("mend"), "{refused:?}");
    assert_eq!(std::fs::read(&file).unwrap(), whole[..whole.len() / 2]);
    daemon.kill().await;
    std::fs::write(&file, whole).unwrap();
    let daemon = world.daemon().await;
    let opens = || async { (asked(&daemon, Method::GET, "/api/v1/key", &key).await.0 == 200).then_some(()) };
    until("the key again", Duration::from_secs(5), opens).await;
    daemon.kill().await;
}
