//! (f) fifty logins that ended, one provider that hangs, (h) two daemons on one store.

use std::time::{Duration, Instant};

use everfresh_e2e::{Daemon, World, until};
use everfresh_testkit::mcp::McpServer;
use everfresh_testkit::provider::{Behaviour, Fault, Model, ProviderServer};
use serde_json::json;

const LOGINS: usize = 50;
const PROVIDERS: usize = 10;
const LIFETIME: Duration = Duration::from_secs(20);

/// Adds a server and logs in to it without a command, for many at once.
pub(crate) async fn log_in(daemon: &Daemon, name: &str, upstream: &McpServer) {
    let server = json!({ "name": name, "url": upstream.url() });
    let added = daemon.request(reqwest::Method::POST, "/api/v1/servers").json(&server).send().await.unwrap();
    assert!(added.status().is_success(), "{}", added.status());
    let path = format!("/api/v1/servers/{name}/login");
    let started = daemon.request(reqwest::Method::POST, &path).send().await.unwrap();
    let started: serde_json::Value = started.json().await.unwrap();
    let url = started["authorization_url"].as_str().unwrap_or_else(|| panic!("{started}"));
    let page = everfresh_e2e::daemon::client().get(url).send().await.unwrap();
    assert!(page.status().is_success(), "{}", page.status());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hanging_provider_delays_no_other() {
    let world = World::new(Behaviour::default(), "min_spacing = \"500ms\"").await;
    let daemon = world.daemon().await;
    let mut providers = Vec::new();
    for _ in 0..PROVIDERS {
        let behaviour = Behaviour { access_lifetime: LIFETIME, ..Behaviour::default() };
        let provider = ProviderServer::start(Model::new(behaviour)).await.unwrap();
        let upstream = McpServer::start(&provider).await.unwrap();
        providers.push((provider, upstream));
    }
    for number in 0..LOGINS {
        log_in(&daemon, &format!("s{number}"), &providers[number % PROVIDERS].1).await;
    }
    assert_eq!(daemon.stop().await, 0);
    let hanging = 3;
    providers[hanging].0.with(|model| model.switches.fault = Some(Fault::Hang));
    let ends = Instant::now() + LIFETIME;
    let ended = || async { (Instant::now() >= ends).then_some(()) };
    until("the end of all tokens", LIFETIME * 2, ended).await;
    let began = Instant::now();
    let daemon = world.daemon().await;
    let fresh = || async {
        let listed = daemon.get("/api/v1/servers").await;
        let servers = listed["servers"].as_array().unwrap();
        let fresh = servers.iter().filter(|server| server["token"]["generation"] == 2).count();
        (fresh == LOGINS - LOGINS / PROVIDERS).then_some(())
    };
    let (_, took) = until("all others fresh", Duration::from_secs(30), fresh).await;
    println!(
        "(f) {LOGINS} ended logins, one of {PROVIDERS} providers hangs: all others fresh after {:.0?}",
        began.elapsed()
    );
    assert!(took < Duration::from_secs(30));
    let stuck = daemon.server(&format!("s{hanging}")).await;
    assert_eq!(stuck["refresh"]["state"], "refreshing", "{stuck}");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_the_same_store_is_refused() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    let Err(refused) = Daemon::try_start(world.folder(), 0).await else { panic!("a second daemon has started") };
    assert_eq!(refused.code, 7, "{refused:?}");
    let named = format!("process {}", daemon.pid());
    assert!(refused.stderr.contains("in use by another everfresh") && refused.stderr.contains(&named), "{refused:?}");
    daemon.expect_call("demo").await;
    println!("(h) a second daemon on the store: exit code 7, and it names process {}", daemon.pid());
    daemon.kill().await;
}
