//! The timeline of a login, asked of the daemon after a stop, hours without it, and a SIGKILL.

use std::time::Duration;

use everfresh_e2e::{Daemon, World, until};
use serde_json::Value;

/// The daemon's clock and the provider's.
fn set_clock(world: &World, ahead_ms: i64) {
    world.provider.with(|model| model.switches.clock_ahead_s = ahead_ms / 1_000);
    std::fs::write(world.folder().join("clock"), ahead_ms.to_string()).unwrap();
}

async fn spans(daemon: &Daemon) -> Vec<Value> {
    let timeline = daemon.get("/api/v1/servers/demo/timeline?hours=12").await;
    let spans = timeline["spans"].as_array().unwrap().clone();
    assert!(spans.windows(2).all(|two| two[0]["to"] == two[1]["from"]), "{timeline}");
    assert_eq!((&spans[0]["from"], &spans.last().unwrap()["to"]), (&timeline["from"], &timeline["to"]));
    spans
}

fn states(spans: &[Value]) -> Vec<&str> {
    spans.iter().map(|span| span["state"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_without_the_daemon_are_off_and_its_token_is_lapsed_until_the_refresh() {
    let world = World::with_lifetime(Duration::from_secs(3_600)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    assert_eq!(states(&spans(&daemon).await), ["unknown", "logged_out", "valid"]);
    let port = daemon.port();
    assert_eq!(daemon.stop().await, 0);
    set_clock(&world, 3 * 3_600_000);
    world.provider.with(|model| model.switches.delay_ms = 300);
    let daemon = Daemon::start(world.folder(), port).await;
    let all = || async {
        let spans = spans(&daemon).await;
        (states(&spans) == ["unknown", "logged_out", "valid", "off", "lapsed", "valid"]).then_some(spans)
    };
    let (spans_then, _) = until("the whole past", Duration::from_secs(20), all).await;
    let ran = daemon.run(&["journal", "demo"]).await.expect(0);
    assert!(ran.stdout.contains("refreshed"), "{ran:?}");
    daemon.kill().await;
    let daemon = Daemon::start(world.folder(), port).await;
    let after_kill = spans(&daemon).await;
    assert_eq!(after_kill[1..3], spans_then[1..3], "what was told once is told again");
    // Nobody noted yet that the killed one ran for a second, and its attempt shows how long it did.
    let told = states(&after_kill);
    assert_eq!(told[..4], ["unknown", "logged_out", "valid", "off"]);
    assert!(told[4..] == ["lapsed", "valid"] || told[4..].ends_with(&["unknown", "valid"]), "{told:?}");
    assert!(!told[4..].contains(&"off"), "{told:?}");
    assert_eq!(after_kill[3], spans_then[3]);
    daemon.kill().await;
}
