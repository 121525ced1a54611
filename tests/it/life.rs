//! A login's ordinary life: (a) log in and call, (c) refreshed at 80 %, and what is told of it.

use std::time::Duration;

use everfresh_domain::Timestamp;
use everfresh_e2e::{World, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_login_through_a_browser_makes_a_proxied_call_succeed() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    daemon.expect_call("demo").await;
    let counters = world.counters();
    assert_eq!((counters.registrations, counters.authorizations, counters.exchanges), (1, 1, 1));
    assert_eq!(counters.refreshes, 0);
    let listed = daemon.run(&["list"]).await.expect(0);
    assert!(listed.stdout.contains("demo") && listed.stdout.contains("healthy"), "{}", listed.stdout);
    let token = daemon.run(&["token", "demo"]).await.expect(0);
    assert!(token.stdout.starts_with("access-canary-"), "{token:?}");
    println!("(a) login by a command-line browser, then a call through the proxy: 1 registration, 1 authorization");
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_refreshed_at_80_percent_of_its_life() {
    let world = World::with_lifetime(Duration::from_secs(10)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    let issued =
        |server: &serde_json::Value| -> Timestamp { server["token"]["issued_at"].as_str().unwrap().parse().unwrap() };
    let mut before = daemon.server("demo").await;
    let mut fractions = Vec::new();
    for _ in 0..2 {
        let generation = before["token"]["generation"].as_u64();
        let refreshed = || async {
            let server = daemon.server("demo").await;
            (server["token"]["generation"].as_u64() > generation).then_some(server)
        };
        let (after, _) = until("a proactive refresh", Duration::from_secs(12), refreshed).await;
        fractions.push(issued(&after).since(issued(&before)).as_secs_f64() / 10.0);
        before = after;
    }
    println!("(c) refreshed at {fractions:.3?} of the lifetime");
    // Up to 2 % earlier by rule, and a little later by this machine.
    assert!(fractions.iter().all(|fraction| (0.775..0.85).contains(fraction)), "{fractions:?}");
    assert_eq!(world.counters().reuses, 0);
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_token_is_in_logs_metrics_or_files() {
    let world = World::with_lifetime(Duration::from_secs(2)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    let refreshed = || async { (world.counters().refreshes >= 2).then_some(()) };
    until("two refreshes", Duration::from_secs(10), refreshed).await;
    daemon.expect_call("demo").await;
    let mut shown = vec![daemon.log(), daemon.text("/metrics").await, daemon.get("/api/v1/servers").await.to_string()];
    shown.push(daemon.run(&["journal", "demo"]).await.stdout);
    shown.push(daemon.run(&["show", "demo"]).await.stdout);
    for text in &shown {
        assert!(!text.contains("canary"), "a token is shown in: {text}");
    }
    assert!(shown[0].contains("OAuth token refresh succeeded"), "{}", shown[0]);
    assert_eq!(daemon.stop().await, 0);
    let mut folders = vec![world.folder().join("data")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                assert!(!bytes.windows(6).any(|part| part == b"canary"), "a token lies in {}", path.display());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_of_the_configuration_is_taken_over_and_a_broken_one_refused() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    let named = |name: &'static str| {
        let daemon = &daemon;
        move || async move {
            let listed = daemon.get("/api/v1/servers").await.to_string();
            listed.contains(name).then_some(listed)
        }
    };
    world.configure(&format!("[servers.from-file]\nurl = \"{}\"\n", world.upstream.url()));
    until("the new server", Duration::from_secs(5), named("from-file")).await;
    world.configure("[servers.from-file]\nurl = 7\n");
    let (listed, _) = until("the complaint", Duration::from_secs(5), named("must be a text")).await;
    assert!(listed.contains("from-file") && listed.contains("stays in force"), "{listed}");
    let ready = daemon.text("/readyz").await;
    assert!(ready.contains("must be a text"), "{ready}");
    let refused = daemon.run(&["remove", "from-file"]).await.expect(8);
    assert!(refused.stderr.contains("configuration file"), "{refused:?}");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_can_be_switched_logged_out_and_removed() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    daemon.run(&["disable", "demo"]).await.expect(0);
    assert_eq!(daemon.call_tool("demo", "add").await.1["error"]["data"]["reason"], "disabled");
    daemon.run(&["enable", "demo"]).await.expect(0);
    daemon.expect_call("demo").await;
    daemon.run(&["logout", "demo"]).await.expect(0);
    assert_eq!(world.counters().revocations, 1);
    let (status, answer) = daemon.call_tool("demo", "add").await;
    assert_eq!((status, answer["error"]["data"]["command"].as_str()), (200, Some("everfresh login demo")));
    daemon.run(&["token", "demo"]).await.expect(3);
    daemon.run(&["remove", "demo"]).await.expect(0);
    daemon.run(&["show", "demo"]).await.expect(5);
    let (_, answer) = daemon.call_tool("demo", "add").await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("no server"), "{answer}");
    daemon.kill().await;
}
