//! (d) the provider goes and comes back, (e) it refuses the refresh token.

use std::time::{Duration, Instant};

use everfresh_e2e::{World, until};
use everfresh_testkit::provider::Fault;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_degrades_and_heals_without_a_login() {
    let world = World::with_lifetime(Duration::from_secs(6)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    world.provider.with(|model| model.switches.fault = Some(Fault::CloseBefore));
    let with = |level: &'static str, reason: &'static str| {
        let daemon = &daemon;
        move || async move {
            let server = daemon.server("demo").await;
            (server["health"]["level"] == level && server["health"]["reason"] == reason).then_some(server)
        }
    };
    let (_, degraded) = until("degraded", Duration::from_secs(10), with("degraded", "retrying_network")).await;
    until("unhealthy", Duration::from_secs(10), with("unhealthy", "retrying_network")).await;
    daemon.run(&["list", "--check"]).await.expect(10);
    daemon.run(&["token", "demo"]).await.expect(4);
    let status = Fault::Status { status: 503, body: "<html>".into(), retry_after: None };
    world.provider.with(|model| model.switches.fault = Some(status));
    until("another reason", Duration::from_secs(10), with("unhealthy", "retrying_provider")).await;
    world.provider.with(|model| model.switches.fault = None);
    let (_, healed) = until("healthy", Duration::from_secs(10), with("healthy", "ok")).await;
    daemon.expect_call("demo").await;
    daemon.run(&["list", "--check"]).await.expect(0);
    println!(
        "(d) degraded {degraded:.1?} after the login (80 % of 6 s), healthy {healed:.1?} after the provider was back"
    );
    assert_eq!(world.counters().authorizations, 1);
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_endpoint_that_moves_is_found_again_without_a_login() {
    let world = World::with_lifetime(Duration::from_secs(6)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    let place = format!("{}/oauth/token", world.provider.url());
    world.provider.with(|model| {
        model.switches.token_endpoint_told = Some(place);
        model.switches.old_token_endpoint_gone = true;
    });
    let began = Instant::now();
    let found = || async { (world.counters().refreshes > 1).then_some(()) };
    until("refreshes at the new place", Duration::from_secs(30), found).await;
    println!("(d) the token endpoint moved: refreshed twice at the new place {:.1?} later", began.elapsed());
    daemon.expect_call("demo").await;
    assert_eq!((world.counters().authorizations, world.counters().reuses), (1, 0));
    let told = daemon.log();
    assert!(told.contains("the token endpoint has moved, as its issuer says"));
    daemon.kill().await;
}

/// Reads server-sent events until one has this name.
async fn event(daemon: &everfresh_e2e::Daemon, name: &str) -> Value {
    let mut answer = daemon.request(reqwest::Method::GET, "/events").send().await.unwrap();
    let mut text = String::new();
    while let Some(chunk) = daemon.transcript().chunk(&mut answer).await {
        text.push_str(&String::from_utf8_lossy(&chunk));
        if let Some((_, rest)) = text.split_once(&format!("event: {name}\n"))
            && let Some((block, _)) = rest.split_once("\n\n")
        {
            let data = block.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
            return serde_json::from_str(data).unwrap();
        }
    }
    panic!("the stream ended without {name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_refresh_token_is_told_everywhere_and_never_sent_again() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    world.provider.with(|model| model.revoke_all());
    let began = Instant::now();
    let listening = event(&daemon, "oauth.login_required");
    let refreshing = daemon.run(&["refresh", "demo"]);
    let (told, ran) = tokio::join!(listening, refreshing);
    let by_events = began.elapsed();
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(told["server"]["health"]["reason"], "refresh_token_rejected", "{told}");
    let server = daemon.server("demo").await;
    let health = &server["health"];
    let expected = ("unhealthy", "refresh_token_rejected", "login");
    let found = (health["level"].as_str(), health["reason"].as_str(), health["action"].as_str());
    assert_eq!(found, (Some(expected.0), Some(expected.1), Some(expected.2)));
    let listed = daemon.run(&["list"]).await.expect(0);
    assert!(listed.stdout.contains("re-authentication required"), "{}", listed.stdout);
    let metrics = daemon.text("/metrics").await;
    assert!(metrics.contains("everfresh_health_level{server=\"demo\"} 2"), "{metrics}");
    assert!(metrics.contains("result=\"failed_invalid_grant\""), "{metrics}");
    let everywhere = began.elapsed();
    println!(
        "(e) refused: shown by SSE after {by_events:.0?}, and by command, API and metrics within {everywhere:.0?}"
    );
    assert!(everywhere < Duration::from_secs(5));
    let asked = world.counters().token_requests;
    daemon.run(&["refresh", "demo"]).await.expect(3);
    daemon.call_tool("demo", "add").await;
    let port = daemon.port();
    daemon.kill().await;
    let daemon = everfresh_e2e::Daemon::start(world.folder(), port).await;
    daemon.run(&["refresh", "demo"]).await.expect(3);
    assert_eq!(world.counters().token_requests, asked, "the dead token was not sent again, after a restart neither");
    let ran = daemon.run(&["--browser-cmd", "curl -sSL -o /dev/null --max-time 20", "login", "demo"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    daemon.expect_call("demo").await;
    daemon.kill().await;
}
