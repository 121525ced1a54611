//! A provider that is dead for a month, and the requests that reach it: through driver and gate.

use std::time::Duration;

use everfresh_application::ServerSettings;
use everfresh_domain::{FailureClass, GrantId, ServerName};
use everfresh_testkit::provider::{Behaviour, Fault};

use crate::world::{HOUR, World, pass};

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn grant(number: u32) -> GrantId {
    format!("s{number}").parse().unwrap()
}

async fn with_logins(count: u32) -> World {
    let world = World::new(Behaviour::default()).await;
    for number in 0..count {
        let name: ServerName = format!("s{number}").parse().unwrap();
        world.app.add_server(ServerSettings::new(name, "https://mcp.example/mcp")).await.unwrap();
        world.log_in_as(&grant(number)).await;
    }
    world
}

/// Figures: run with `--success-output immediate`.
#[tokio::test(start_paused = true)]
async fn a_provider_that_is_dead_for_a_month_sees_twelve_requests_an_hour_of_twenty_logins() {
    let world = with_logins(20).await;
    let dead = Fault::Status { status: 502, body: "<html>down</html>".into(), retry_after: None };
    world.with(|model| model.switches.fault = Some(dead));
    let (began, mut before, mut busiest) = (world.counters().token_requests, 0, 0);
    for hour in 1..=30 * 24 {
        pass(HOUR).await;
        // Clients go on asking, as an editor that is left open does.
        let route = world.app.access().route(&grant(hour % 20).to_string()).unwrap();
        drop(tokio::time::timeout(Duration::from_secs(60), world.app.access().pass(&route)).await);
        let seen = world.counters().token_requests - began;
        busiest = busiest.max(seen - before);
        before = seen;
    }
    let hourly = before as f64 / (30.0 * 24.0);
    println!("20 logins, dead for 30 days: {before} requests, {hourly:.1} an hour, {busiest} in the busiest");
    assert!((11.0..=12.0).contains(&hourly), "{hourly} requests an hour");
    assert!(busiest <= 20, "{busiest} requests in one hour");
    for number in 0..20 {
        let status = world.app.server(&grant(number)).unwrap().status;
        assert_eq!(status.last_failure.map(|last| last.failure.class), Some(FailureClass::Provider), "s{number}");
    }
    world.with(|model| model.switches.fault = None);
    pass(Duration::from_secs(360)).await;
    let fresh = (0..20).filter(|number| world.app.server(&grant(*number)).unwrap().health.reason.as_str() == "ok");
    assert_eq!(fresh.count(), 20, "within one probe of the provider's return");
}

/// A provider that answers in words that may mean a dead login, under a daemon that is started
/// again every ten minutes.
#[tokio::test(start_paused = true)]
async fn a_refusal_of_an_unclear_kind_is_not_repeated_at_each_start() {
    let mut world = with_logins(1).await;
    world.with(|model| model.switches.fault = Some(Fault::Error { status: 400, error: "invalid_request".into() }));
    pass(HOUR * 2).await;
    let began = world.counters().token_requests;
    for _ in 0..6 * 24 {
        world.app.shutdown().await;
        world = world.restart().await;
        pass(Duration::from_secs(600)).await;
    }
    let seen = world.counters().token_requests - began;
    assert!((20..=25).contains(&seen), "{seen} requests in a day, and not one for each of 144 starts");
    world.with(|model| model.switches.fault = None);
    pass(HOUR).await;
    assert_eq!(world.app.server(&grant(0)).unwrap().health.reason.as_str(), "ok");
}

/// After a night, a thousand logins at one provider that answers at once.
#[tokio::test(start_paused = true)]
async fn a_large_recovery_is_paced_and_never_held_back() {
    let world = with_logins(1_000).await;
    world.clock.jump(i64::try_from(DAY.as_millis()).unwrap());
    let began = world.counters().token_requests;
    let fresh = |world: &World| world.app.servers().iter().filter(|view| view.health.reason.as_str() == "ok").count();
    let mut seconds = 0;
    // One server of the world has no login.
    while fresh(&world) < 1_000 && seconds < 60 {
        pass(Duration::from_secs(1)).await;
        seconds += 1;
    }
    assert_eq!((fresh(&world), world.counters().token_requests - began), (1_000, 1_000));
    assert!(seconds <= 40, "10 s until the jump is seen, 10 s of spread, 50 requests a second: {seconds} s");
    let held = |view: &everfresh_application::ServerView| view.status.last_failure.is_some();
    assert!(!world.app.servers().iter().any(held));
}

#[tokio::test(start_paused = true)]
async fn a_login_that_ends_unused_is_used_in_time_and_its_end_is_told() {
    let world = World::new(Behaviour { access_lifetime: DAY * 365, ..Behaviour::default() }).await;
    let mut server = ServerSettings::new("s0".parse().unwrap(), "https://mcp.example/mcp");
    server.oauth.limits.absolute = Some(DAY * 20);
    world.app.add_server(server.clone()).await.unwrap();
    world.log_in_as(&grant(0)).await;
    pass(HOUR).await;
    server.oauth.limits.idle = Some(DAY * 2);
    server.source = everfresh_application::ServerSource::File;
    world.app.replace_file_servers(vec![server]).await.unwrap();
    let before = world.counters().refreshes;
    pass(DAY * 8).await;
    let used = world.counters().refreshes - before;
    assert!((7..=9).contains(&used), "every day: {used}");
    pass(DAY * 9).await;
    let view = world.app.server(&grant(0)).unwrap();
    assert_eq!(view.health.reason.as_str(), "refresh_token_expiring");
    assert!(view.health.detail.contains("after a fixed time"), "{}", view.health.detail);
}
