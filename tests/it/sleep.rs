//! The machine sleeps for hours and days, and its network comes back later than it does.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use everfresh_e2e::{World, until};
use everfresh_testkit::mcp::McpServer;
use everfresh_testkit::provider::{Behaviour, Model, ProviderServer};

use crate::many::log_in;

const SERVERS: usize = 50;

/// How long after it wakes the machine has no network.
const NO_NETWORK: Duration = Duration::from_secs(20);

/// By when after that every login is fresh.
const FRESH: Duration = Duration::from_secs(30);

/// The daemon's clock and the provider's; the other one, by which time passes, stands still.
fn set_clock(world: &World, model: &Mutex<Model>, ahead_ms: i64) {
    model.lock().unwrap().switches.clock_ahead_s = ahead_ms / 1_000;
    std::fs::write(world.folder().join("clock"), ahead_ms.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_logins_outlive_the_sleep_of_the_machine() {
    // The rules' own numbers: nothing is hurried here.
    let world = World::new(Behaviour::default(), "").await;
    let daemon = world.daemon().await;
    let provider = ProviderServer::start(Model::new(Behaviour::default())).await.unwrap();
    let (address, model) = (provider.address(), provider.model());
    let upstream = McpServer::start(&provider).await.unwrap();
    let mut network = Some(provider);
    for number in 0..SERVERS {
        log_in(&daemon, &format!("s{number}"), &upstream).await;
    }
    let hour: i64 = 3_600_000;
    let mut asleep_ms = 0;
    for (nap, hours) in [("8 hours", 8), ("3 days", 72)] {
        let before = model.lock().unwrap().counters;
        drop(network.take());
        asleep_ms += hours * hour;
        set_clock(&world, &model, asleep_ms);
        let woke = Instant::now();
        // Somebody is at work again before the network is.
        let parked = async { (daemon.call_tool("s1", "add").await, woke.elapsed()) };
        let network_comes = async {
            let back = || async { (woke.elapsed() >= NO_NETWORK).then_some(()) };
            until("the network", NO_NETWORK * 2, back).await;
            ProviderServer::serve(address, std::sync::Arc::clone(&model)).await.unwrap()
        };
        let (((status, body), waited), provider) = tokio::join!(parked, network_comes);
        network = Some(provider);
        assert_eq!((status, &body["result"]["content"][0]["text"]), (200, &"5".into()), "{waited:.1?}: {body}");
        let fresh = || async {
            let listed = daemon.get("/api/v1/servers").await;
            let servers = listed["servers"].as_array().unwrap();
            servers.iter().all(|server| server["health"]["reason"] == "ok").then_some(())
        };
        until("all fresh", FRESH, fresh).await;
        let took = woke.elapsed();
        let after = model.lock().unwrap().counters;
        println!(
            "(j) asleep for {nap}, network {NO_NETWORK:?} after waking: {SERVERS} of {SERVERS} fresh {took:.1?} after waking, \
             {:.1?} after the network; {} requests; a call made on waking was served after {waited:.1?}",
            took - NO_NETWORK,
            after.token_requests - before.token_requests
        );
        assert!(took - NO_NETWORK <= FRESH, "fresh only {:.1?} after the network", took - NO_NETWORK);
        assert_eq!(after.refreshes - before.refreshes, SERVERS as u64, "one refresh each");
        assert_eq!((after.authorizations, after.reuses), (before.authorizations, 0), "no login, no reuse");
        daemon.expect_call("s0").await;
    }
    // Set back by an hour: nothing is refreshed in a loop.
    let before = model.lock().unwrap().counters;
    set_clock(&world, &model, asleep_ms - hour);
    let settled = || async {
        let requests = model.lock().unwrap().counters.token_requests - before.token_requests;
        (requests >= SERVERS as u64).then_some(requests)
    };
    until("all tokens from the future replaced", Duration::from_secs(60), settled).await;
    daemon.expect_call("s0").await;
    let after = model.lock().unwrap().counters;
    assert_eq!(after.token_requests - before.token_requests, SERVERS as u64, "one refresh each");
    assert_eq!(after.reuses, 0);
    drop(network);
    daemon.kill().await;
}
