//! Tokens that are bound to a key (DPoP, RFC 9449): logged in, used, refreshed, and kept over a kill.

use std::time::Duration;

use everfresh_e2e::{Daemon, World};
use everfresh_testkit::provider::{DpopRule, DpopSwitches};
use futures_util::future::join_all;

/// A provider and an upstream that serve bound tokens only, and want another nonce every few proofs.
async fn bound_world(rotate_every: u32) -> World {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let rule = DpopRule::Required;
    world.provider.with(|model| {
        model.switches.dpop =
            DpopSwitches { rule, server_nonce: true, resource_nonce: true, rotate_every, ..DpopSwitches::default() };
    });
    world
}

async fn twenty_calls(daemon: &Daemon) {
    join_all((0..20).map(|_| daemon.expect_call("demo"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_login_is_used_refreshed_and_kept_with_its_key() {
    let world = bound_world(1).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    for _ in 0..3 {
        daemon.expect_call("demo").await;
    }
    daemon.run(&["refresh", "demo"]).await.expect(0);
    daemon.expect_call("demo").await;
    let server = daemon.server("demo").await;
    assert_eq!((&server["token"]["type"], &server["token"]["generation"]), (&"DPoP".into(), &2.into()), "{server}");
    daemon.kill().await;
    world.provider.with(|model| model.expire_access_tokens());
    let daemon = world.daemon().await;
    daemon.expect_call("demo").await;
    daemon.run(&["refresh", "demo"]).await.expect(0);
    daemon.expect_call("demo").await;
    let counters = world.counters();
    println!(
        "(dpop) {} calls, {} refreshes over a kill: {} nonces demanded, {} proofs refused, {} logins",
        counters.accepted,
        counters.refreshes,
        counters.nonces_demanded,
        counters.proofs_refused,
        counters.authorizations
    );
    assert_eq!((counters.authorizations, counters.exchanges, counters.reuses, counters.refusals), (1, 1, 0, 0));
    assert_eq!(counters.proofs_refused, 0);
    assert!(counters.refreshes >= 3, "{counters:?}");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonces_that_change_under_twenty_calls_at_once_disturb_none() {
    let world = bound_world(50).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    for _ in 0..10 {
        twenty_calls(&daemon).await;
    }
    world.provider.with(|model| model.expire_access_tokens());
    twenty_calls(&daemon).await;
    let counters = world.counters();
    assert_eq!((counters.accepted, counters.refreshes, counters.proofs_refused), (220, 1, 0), "{counters:?}");
    println!("(dpop) 220 calls, 20 at once, another nonce every 50: {} demanded again", counters.nonces_demanded);
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_token_is_not_handed_out_as_if_it_were_of_use() {
    let world = bound_world(0).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    for output in ["raw", "header", "headers-json", "exec-credential"] {
        let ran = daemon.run(&["token", "demo", "-o", output]).await.expect(8);
        assert_eq!(ran.stdout, "");
        assert!(ran.stderr.contains("bound to a key") && ran.stderr.contains("everfresh url demo"), "{ran:?}");
    }
    let told = daemon.run(&["token", "demo", "-o", "json"]).await.expect(0).json();
    assert_eq!(told["token_type"], "DPoP");
    assert!(daemon.run(&["show", "demo"]).await.expect(0).stdout.contains("type                DPoP"));
    assert!(daemon.log().lines().all(|line| !line.contains("eyJ0eXAiOiJkcG9wK2p3dCI")), "no proof is logged");
    daemon.kill().await;
}
