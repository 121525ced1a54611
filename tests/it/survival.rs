//! (b) killed while its token ends, (g) killed two hundred times under rotation, (i) stopped in the
//! middle of a refresh.

use std::time::{Duration, Instant};

use everfresh_e2e::{World, until};
use everfresh_testkit::provider::{Behaviour, Rotation};

/// How long a daemon may take that was killed again and again, on a machine that does much besides.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ended_while_the_daemon_was_dead_is_refreshed_at_start() {
    let world = World::with_lifetime(Duration::from_secs(3)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    let port = daemon.port();
    daemon.kill().await;
    let before = world.counters();
    world.provider.with(|model| {
        model.expire_access_tokens();
        // What a refresh needs was recorded with the login.
        model.switches.metadata_down = true;
    });
    let asked = world.upstream.seen().len();
    let ends = Instant::now() + Duration::from_secs(4);
    until("the end of the token", Duration::from_secs(6), || async { (Instant::now() >= ends).then_some(()) }).await;
    let began = Instant::now();
    let daemon = everfresh_e2e::Daemon::start(world.folder(), port).await;
    daemon.expect_call("demo").await;
    let first_call = began.elapsed();
    let after = world.counters();
    let tried = (after.refreshes - before.refreshes, after.token_requests - before.token_requests);
    assert_eq!(tried, (1, 1), "one refresh, at the recorded endpoint");
    assert_eq!(after.metadata_requests, before.metadata_requests, "no discovery");
    let seen = world.upstream.seen().split_off(asked);
    let targets: Vec<&str> = seen.iter().map(|request| request.target.as_str()).collect();
    assert_eq!(targets, ["POST /mcp"], "nothing but the call, and that with the new token");
    assert_eq!((after.authorizations, after.registrations, after.reuses), (1, 1, 0), "no login");
    assert_eq!(after.rejected, before.rejected, "no request went out with the old token");
    let started = daemon.started_in;
    println!(
        "(b) listening after {started:.0?}, first call answered {first_call:.0?} after the start, one refresh, no login"
    );
    assert!(first_call < Duration::from_secs(30));
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_requests_on_an_ended_token_make_one_token_request() {
    let world = World::new(Behaviour::default(), "").await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    world.provider.with(|model| {
        model.expire_access_tokens();
        model.switches.delay_ms = 300;
    });
    let before = world.counters();
    let calls = (0..100).map(|_| daemon.call_tool("demo", "count"));
    let answers = futures_util::future::join_all(calls).await;
    let served: std::collections::BTreeSet<_> =
        answers.iter().map(|(_, body)| body["result"]["content"][0]["text"].as_str().unwrap_or_default()).collect();
    let after = world.counters();
    assert_eq!(served.len(), 100, "each was executed once, and answered with its own number");
    assert_eq!(after.executions - before.executions, 100);
    assert_eq!(after.token_requests - before.token_requests, 1);
    println!(
        "(m) 100 requests on an ended token: 1 token request, 100 executions, {} refused by the upstream and sent again",
        after.rejected - before.rejected
    );
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_under_way_survive_that_a_refresh_kills_their_token() {
    let behaviour = Behaviour { kills_old_access_tokens: true, ..Behaviour::default() };
    let world = World::new(behaviour, "min_spacing = \"100ms\"").await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    // The provider kills the old tokens at once, and everfresh learns of the new one only later.
    world.provider.with(|model| model.switches.delay_ms = 300);
    let before = world.counters();
    let mut served = std::collections::BTreeSet::new();
    for round in 1..=5 {
        let asked = daemon.request(reqwest::Method::POST, "/api/v1/servers/demo/refresh").send();
        let asked = tokio::spawn(asked);
        let killed = || async { (world.counters().refreshes >= before.refreshes + round).then_some(()) };
        until("the refresh at the provider", Duration::from_secs(10), killed).await;
        let calls = (0..20).map(|_| daemon.call_tool("demo", "count"));
        for (status, body) in futures_util::future::join_all(calls).await {
            assert_eq!(status, 200, "{body}");
            served.insert(body["result"]["content"][0]["text"].as_str().unwrap_or_default().to_owned());
        }
        assert!(asked.await.unwrap().unwrap().status().is_success());
    }
    let after = world.counters();
    assert_eq!((served.len(), after.executions - before.executions), (100, 100), "each executed exactly once");
    let refused = after.rejected - before.rejected;
    assert!(refused > 0, "no call met the dead token: refresh and calls did not overlap");
    assert_eq!((after.refreshes - before.refreshes, after.reuses), (5, 0), "no further refresh");
    println!("(m) 5 refreshes that kill the tokens of 20 calls each: 100 executions, {refused} refused and sent again");
    daemon.kill().await;
}

/// How long tokens live, and how long the stream is held at least: with `EVERFRESH_SOAK=1` ten minutes.
fn stream_times() -> (Duration, Duration) {
    match std::env::var_os("EVERFRESH_SOAK") {
        Some(_) => (Duration::from_secs(30), Duration::from_secs(600)),
        None => (Duration::from_secs(2), Duration::ZERO),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_does_not_notice_twenty_refreshes() {
    let (lifetime, at_least) = stream_times();
    let world = World::with_lifetime(lifetime).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    let limit = lifetime * 30;
    let mut stream = daemon.request(reqwest::Method::GET, "/mcp/demo").timeout(limit).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    let before = world.counters();
    let began = Instant::now();
    let mut chunks = 0;
    while world.counters().refreshes < before.refreshes + 20 || began.elapsed() < at_least {
        let chunk = daemon.transcript().chunk(&mut stream).await;
        assert!(chunk.is_some(), "the stream ended after {:.1?}", began.elapsed());
        chunks += 1;
        assert!(began.elapsed() < limit, "no 20 refreshes in the lifetime of 30 tokens");
    }
    let after = world.counters();
    assert_eq!((after.streams_open, after.streams_closed), (1, before.streams_closed), "it is still the same stream");
    println!(
        "(m) one stream over {} refreshes in {:.0?}: {chunks} chunks, no break",
        after.refreshes - before.refreshes,
        began.elapsed()
    );
    drop(stream);
    let told = everfresh_domain::engine::trace::replay(daemon.trace()).unwrap();
    println!("(n) {told} steps of the engine, run again from the log of the daemon: each answered as it was");
    assert!(told > 40, "{told} steps");
    daemon.kill().await;
}

/// A provider that keeps the previous token until the new one was used: every login can be kept.
fn forgiving() -> Behaviour {
    Behaviour { access_lifetime: Duration::from_secs(2), rotation: Rotation::PreviousUntilUsed, ..Behaviour::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_kills_under_rotation_lose_no_login() {
    let kills: u64 = std::env::var("EVERFRESH_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let refresh = "min_spacing = \"100ms\"\nbackoff_base = \"100ms\"\nbackoff_cap = \"1s\"\nhourly_budget = 10000";
    let world = World::new(forgiving(), refresh).await;
    world.provider.with(|model| model.switches.delay_ms = 20);
    let mut daemon = world.daemon().await;
    for name in ["a", "b", "c", "d"] {
        world.log_in(&daemon, name).await;
    }
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut slowest = Duration::ZERO;
    for kill in 0..kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Half of the kills at any moment, half within a refresh: sent, answered, stored, or not yet.
        let ms = if kill % 2 == 0 {
            let asked = world.counters().token_requests;
            let sent = || async { (world.counters().token_requests > asked).then_some(()) };
            until("a refresh", PATIENCE, sent).await;
            random % 40
        } else {
            random % 400
        };
        let at = Instant::now() + Duration::from_millis(ms);
        let moment = || async { (Instant::now() >= at).then_some(()) };
        until("the moment of the kill", Duration::from_secs(5), moment).await;
        daemon.kill().await;
        world.provider.with(|model| model.expire_access_tokens());
        daemon = world.daemon().await;
        slowest = slowest.max(daemon.started_in);
    }
    for name in ["a", "b", "c", "d"] {
        // The last death was a moment ago, and a busy disk may take longer than a call waits.
        let fresh = || async { (daemon.server(name).await["health"]["reason"] == "ok").then_some(()) };
        until("a refresh after the last death", PATIENCE, fresh).await;
        daemon.expect_call(name).await;
        let server = daemon.server(name).await;
        assert_eq!(server["health"]["level"], "healthy", "{server}");
    }
    let counters = world.counters();
    println!(
        "(g) {kills} kills: {} refreshes, {} answers lost and asked for again, {} logins, {} reuses, {} refused, slowest start \
         {slowest:.0?}",
        counters.refreshes, counters.repeats, counters.authorizations, counters.reuses, counters.refusals
    );
    assert!(counters.repeats > 0, "some kills must lose an answer, or this proves nothing");
    assert_eq!((counters.authorizations, counters.reuses, counters.families_revoked), (4, 0, 0));
    assert!(!daemon.log().contains("cannot be read"), "no unreadable store");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_under_way_is_finished_and_stored_before_the_daemon_stops() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    world.provider.with(|model| model.switches.delay_ms = 1500);
    let before = world.counters().token_requests;
    let asked = daemon.request(reqwest::Method::POST, "/api/v1/servers/demo/refresh").send();
    let asked = tokio::spawn(asked);
    let sent = || async { (world.counters().token_requests > before).then_some(()) };
    until("the refresh to be sent", Duration::from_secs(5), sent).await;
    let began = Instant::now();
    assert_eq!(daemon.stop().await, 0);
    let took = began.elapsed();
    drop(asked.await);
    world.provider.with(|model| model.switches.delay_ms = 0);
    let daemon = world.daemon().await;
    let server = daemon.server("demo").await;
    assert_eq!(server["token"]["generation"], 2, "{server}");
    daemon.run(&["refresh", "demo"]).await.expect(0);
    assert_eq!(world.counters().reuses, 0, "the stored token is the rotated one");
    println!("(i) SIGTERM during a refresh: ended with 0 after {took:.1?}, the new token was stored");
    daemon.kill().await;
}
