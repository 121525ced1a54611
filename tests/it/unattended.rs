//! Grants that need no person, on the real binary: a server of the configuration file that gets its
//! token by itself, a workload's assertion that changes, and an enterprise's identity provider.

use std::time::Duration;

use everfresh_domain::Timestamp;
use everfresh_e2e::{Daemon, World, until};
use everfresh_testkit::provider::{AuthRule, Behaviour, Enrolled, Model, ProviderServer, Signer};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// Quick spacing and backoff.
const REFRESH: &str =
    "[refresh]\nmin_spacing = \"500ms\"\nbackoff_base = \"500ms\"\nbackoff_cap = \"1s\"\nhourly_budget = 10000\n";

async fn world(lifetime: Duration) -> World {
    World::new(Behaviour { access_lifetime: lifetime, ..Behaviour::default() }, "").await
}

/// Writes the configuration of one server called `robot`, with this `oauth` section.
fn configure(world: &World, oauth: &str) {
    let url = world.upstream.url();
    world.configure(&format!("{REFRESH}[servers.robot]\nurl = \"{url}\"\n[servers.robot.oauth]\n{oauth}\n"));
}

async fn reason(daemon: &Daemon, wanted: &str) -> Value {
    let shown = || async {
        let server = daemon.server("robot").await;
        (server["health"]["reason"] == wanted).then_some(server)
    };
    until(wanted, PATIENCE, shown).await.0
}

fn enroll(world: &World, secret: &str) {
    world.provider.with(|model| {
        model.switches.auth = AuthRule::Basic;
        model.enroll("robot", Enrolled::Secret(secret.into()));
    });
    std::fs::write(world.folder().join("secret"), secret).unwrap();
}

const BY_SECRET: &str = "grant = \"client_credentials\"\nclient_id = \"robot\"\nclient_secret = { file = \"secret\" }";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_file_gets_its_token_by_itself_keeps_it_fresh_and_survives_kills() {
    let world = world(Duration::from_secs(3)).await;
    enroll(&world, "s1");
    configure(&world, BY_SECRET);
    let mut daemon = world.daemon().await;
    for kill in 0..5 {
        daemon.expect_call("robot").await;
        let asked = world.counters().unattended;
        let renewed = || async { (world.counters().unattended > asked).then_some(()) };
        until("the next token", PATIENCE, renewed).await;
        daemon.expect_call("robot").await;
        if kill < 4 {
            daemon.kill().await;
            daemon = world.daemon().await;
        }
    }
    let server = daemon.server("robot").await;
    assert_eq!(
        (&server["grant"], &server["token"]["has_refresh_token"]),
        (&"client_credentials".into(), &false.into())
    );
    let journal = daemon.get("/api/v1/servers/robot/journal").await;
    assert_eq!(journal["entries"][0]["refresh_token"], Value::Null, "{journal}");
    let counters = world.counters();
    assert_eq!((counters.authorizations, counters.registrations, counters.refreshes), (0, 0, 0));
    println!("a robot's token over 4 kills: {} token requests, no login", counters.token_requests);
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_secret_is_told_by_its_name_and_mended_by_its_file() {
    let world = world(Duration::from_secs(3600)).await;
    enroll(&world, "s1");
    configure(&world, BY_SECRET);
    std::fs::remove_file(world.folder().join("secret")).unwrap();
    let daemon = world.daemon().await;
    let server = reason(&daemon, "misconfigured").await;
    assert!(server["health"]["detail"].as_str().unwrap().contains("secret cannot be read"), "{server}");
    assert_eq!(world.counters().token_requests, 0, "without a secret nothing is sent");
    std::fs::write(world.folder().join("secret"), "wrong").unwrap();
    let server = reason(&daemon, "credential_refused").await;
    assert_eq!((&server["health"]["action"], &server["token"]), (&"configure".into(), &Value::Null), "{server}");
    let ran = daemon.run(&["login", "robot"]).await.expect(8);
    assert!(ran.stderr.contains("refuses the client secret"), "{ran:?}");
    std::fs::write(world.folder().join("secret"), "s1").unwrap();
    reason(&daemon, "ok").await;
    daemon.expect_call("robot").await;
    let ran = daemon.run(&["login", "robot"]).await.expect(0);
    assert!(ran.stdout.contains("has a token until"), "{ran:?}");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_signs_is_added_and_has_its_token_at_once() {
    let world = world(Duration::from_secs(3600)).await;
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(world.folder().join("key.pem"), key.serialize_pem()).unwrap();
    world.provider.with(|model| {
        model.switches.auth = AuthRule::PrivateKeyJwt;
        model.enroll("robot", Enrolled::PublicKey(key.public_key_pem()));
    });
    let daemon = world.daemon().await;
    let (url, file) = (world.upstream.url(), world.folder().join("key.pem"));
    let add = ["add", "robot", &url, "--grant", "client_credentials", "--client-id", "robot", "--private-key-file"];
    let ran = daemon.run(&[&add[..], &[file.to_str().unwrap()]].concat()).await.expect(0);
    assert!(ran.stdout.contains("has a token until"), "{ran:?}");
    daemon.expect_call("robot").await;
    assert_eq!(world.counters().token_requests, 1);
    daemon.run(&["logout", "robot"]).await.expect(0);
    assert_eq!(world.counters().revocations, 1);
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_shows_the_assertion_that_its_platform_wrote_last() {
    let world = world(Duration::from_secs(3)).await;
    let platform = Signer { issuer: "https://platform.example".into(), key: "the platform's".into() };
    let write = |minutes: u32| {
        let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
        let end = Timestamp::from_millis(now).after(Duration::from_secs(60) * minutes);
        let jwt = platform.assertion("pod", world.provider.url(), end);
        std::fs::write(world.folder().join("jwt"), jwt).unwrap();
    };
    world.provider.with(|model| model.trusted = vec![platform.clone()]);
    write(0);
    configure(&world, "grant = \"jwt_bearer\"\nassertion = { file = \"jwt\" }");
    let daemon = world.daemon().await;
    let server = reason(&daemon, "credential_refused").await;
    assert!(server["health"]["summary"].as_str().unwrap().contains("the assertion"), "{server}");
    assert_eq!(world.counters().refusals, 1);
    write(5);
    reason(&daemon, "ok").await;
    daemon.expect_call("robot").await;
    assert_eq!(world.counters().refusals, 1, "what was refused was sent once");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enterprise_vouches_for_its_people() {
    let world = world(Duration::from_secs(3)).await;
    let provider = ProviderServer::start(Model::new(Behaviour::default())).await.unwrap();
    let signer = Signer { issuer: provider.url().to_owned(), key: "the enterprise's".into() };
    provider.with(|model| {
        model.signer = Some(signer.clone());
        model.enroll("at-idp", Enrolled::Public);
        model.vouches_for.insert(world.provider.url().to_owned(), "robot".into());
    });
    enroll(&world, "s1");
    world.provider.with(|model| {
        model.trusted = vec![signer.clone()];
        model.switches.grant_profiles = vec!["urn:ietf:params:oauth:grant-profile:id-jag".into()];
    });
    let id_token = signer.assertion("anna", "at-idp", Timestamp::from_millis(i64::MAX / 2));
    std::fs::write(world.folder().join("id-token"), id_token).unwrap();
    let oauth = format!(
        "grant = \"enterprise_managed\"\nclient_id = \"robot\"\nclient_secret = {{ file = \"secret\" }}\n\
         [servers.robot.oauth.identity_provider]\nissuer = \"{}\"\nclient_id = \"at-idp\"\nid_token = {{ file = \"id-token\" }}",
        provider.url()
    );
    configure(&world, &oauth);
    let daemon = world.daemon().await;
    daemon.expect_call("robot").await;
    let renewed = || async { (world.counters().unattended > 1).then_some(()) };
    until("the next token", PATIENCE, renewed).await;
    daemon.expect_call("robot").await;
    assert!(provider.with(|model| model.counters.exchanges) > 1);
    std::fs::write(world.folder().join("id-token"), signer.assertion("anna", "at-idp", Timestamp::EPOCH)).unwrap();
    let server = reason(&daemon, "credential_refused").await;
    assert!(server["health"]["summary"].as_str().unwrap().contains("the ID token"), "{server}");
    daemon.kill().await;
}
