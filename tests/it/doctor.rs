//! `doctor` on the built binary: what it finds where all is well, and at each fault.

use std::time::Duration;

use everfresh_e2e::{Daemon, Ran, World, until};
use everfresh_testkit::provider::Fault;
use serde_json::Value;

/// A configuration whose address is free, whoever else has the default one.
const ANY_PORT: &str = "listen = \"127.0.0.1:0\"";

async fn doctor(world: &World, arguments: &[&str]) -> (Ran, Value) {
    let ran = world.run(&[&["doctor", "-o", "json"], arguments].concat()).await;
    let report = ran.json();
    assert_eq!(report["exit_code"].as_i64(), Some(ran.code.into()), "{ran:?}");
    (ran, report)
}

/// The result of a check of everfresh itself, or of a server.
fn result(report: &Value, server: Option<&str>, check: &str) -> String {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|found| found["check"] == check && found["server"].as_str() == server);
    found.unwrap_or_else(|| panic!("no check {check} in {report}"))["result"].as_str().unwrap().to_owned()
}

fn expect(report: &Value, server: Option<&str>, expected: &[(&str, &str)]) {
    for (check, wanted) in expected {
        assert_eq!(result(report, server, check), *wanted, "{check}: {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_is_well_doctor_says_so_and_spends_nothing() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    let before = world.counters();
    let (ran, report) = doctor(&world, &[]).await;
    assert_eq!(ran.code, 0, "{report}");
    let own = [
        "configuration",
        "data folder",
        "disk space",
        "daemon",
        "version",
        "ready",
        "port",
        "local key",
        "store",
        "master key",
        "proxies",
        "clock",
        "client files",
    ];
    expect(&report, None, &own.map(|check| (check, "ok")));
    let of_server = ["login", "server", "provider", "token endpoint", "client", "answer"];
    expect(&report, Some("demo"), &of_server.map(|check| (check, "ok")));
    let after = world.counters();
    assert_eq!((before.token_requests, before.authorizations), (after.token_requests, after.authorizations));
    let shown = daemon.run(&["doctor"]).await.expect(0).stdout;
    assert!(shown.trim_end().ends_with("all is well"), "{shown}");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_the_token_and_a_provider_that_is_gone_are_told_apart() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    daemon.run(&["add", "gone", "http://127.0.0.1:9/mcp", "--no-login"]).await.expect(0);
    let (ran, report) = doctor(&world, &["demo"]).await;
    assert_eq!(ran.code, 0, "only what was asked for: {report}");
    let (ran, report) = doctor(&world, &["gone"]).await;
    assert_eq!(ran.code, 3, "the first failure decides: {report}");
    let unreached = [
        ("login", "failed"),
        ("server", "failed"),
        ("provider", "skipped"),
        ("client", "skipped"),
        ("answer", "skipped"),
    ];
    expect(&report, Some("gone"), &unreached);
    world.provider.with(|model| model.revoke_all());
    let (_, report) = doctor(&world, &["demo"]).await;
    expect(&report, Some("demo"), &[("login", "ok"), ("answer", "failed")]);
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_cannot_be_asked_is_told_though_the_server_answers() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    let add = ["add", "lost", &world.upstream.url(), "--issuer", "http://127.0.0.1:9", "--no-login"];
    daemon.run(&add).await.expect(0);
    let (_, report) = doctor(&world, &["lost"]).await;
    let found = [("server", "ok"), ("provider", "failed"), ("token endpoint", "skipped"), ("client", "skipped")];
    expect(&report, Some("lost"), &found);
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_the_daemons_is_found_and_so_is_one_that_cannot_be_read() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    world.configure(ANY_PORT);
    let daemon = world.daemon().await;
    let file = world.folder().join("data/local-key");
    std::fs::write(&file, "00".repeat(32)).unwrap();
    let (ran, report) = doctor(&world, &[]).await;
    assert_eq!(ran.code, 8, "{report}");
    expect(&report, None, &[("daemon", "ok"), ("port", "ok"), ("local key", "failed")]);
    let unsaid = ["version", "ready", "store", "master key", "clock"];
    expect(&report, None, &unsaid.map(|check| (check, "skipped")));
    daemon.kill().await;
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let (ran, report) = doctor(&world, &[]).await;
    assert_eq!(ran.code, 7, "{report}");
    expect(&report, None, &[("local key", "failed")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_the_same_is_checked_from_here() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    world.configure(ANY_PORT);
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    daemon.kill().await;
    let (ran, report) = doctor(&world, &[]).await;
    assert_eq!(ran.code, 0, "{report}");
    expect(&report, None, &[("daemon", "warning"), ("version", "skipped"), ("ready", "skipped"), ("store", "ok")]);
    expect(&report, Some("demo"), &[("login", "ok"), ("answer", "ok")]);
    // A daemon can start right after: doctor has let go of the store.
    let daemon = world.daemon().await;
    daemon.expect_call("demo").await;
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_here_has_its_exit_code_and_the_rest_is_checked_all_the_same() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    world.configure("listen = 7");
    let (ran, report) = doctor(&world, &[]).await;
    assert_eq!(ran.code, 2, "{report}");
    expect(&report, None, &[("configuration", "failed"), ("daemon", "ok")]);
    expect(&report, Some("demo"), &[("login", "ok"), ("answer", "ok")]);
    let refused = || async { (daemon.run(&["ready"]).await.code == 1).then_some(()) };
    until("the daemon has seen it", Duration::from_secs(20), refused).await;
    expect(&doctor(&world, &[]).await.1, None, &[("ready", "failed")]);
    daemon.kill().await;
    let (ran, report) = doctor(&world, &[]).await;
    assert_eq!(ran.code, 2, "{report}");
    expect(&report, None, &[("store", "skipped"), ("daemon", "warning")]);
    world.configure(ANY_PORT);
    std::fs::write(world.folder().join("data/master.key"), "00".repeat(32)).unwrap();
    let (ran, report) = doctor(&world, &[]).await;
    assert_eq!(ran.code, 7, "{report}");
    expect(&report, None, &[("store", "failed"), ("master key", "skipped")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_everfresh_on_the_same_data_and_a_foreign_port_are_found() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    world.configure(ANY_PORT);
    let daemon = world.daemon().await;
    // Nobody can know where it is.
    std::fs::remove_file(world.folder().join("data/daemon.json")).unwrap();
    let (ran, report) = doctor(&world, &[]).await;
    assert_eq!(ran.code, 7, "{report}");
    let text = report.to_string();
    assert!(text.contains("in use by another everfresh") && text.contains(&daemon.pid().to_string()), "{text}");
    daemon.kill().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    world.configure(&format!("listen = \"{}\"", taken.local_addr().unwrap()));
    let (ran, report) = doctor(&world, &[]).await;
    assert_eq!(ran.code, 1, "{report}");
    expect(&report, None, &[("port", "failed"), ("store", "ok")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_about_to_be_refreshed_is_left_alone() {
    let world = World::with_lifetime(Duration::from_secs(6)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    world.provider.with(|model| model.switches.fault = Some(Fault::CloseBefore));
    let (_, report) = doctor(&world, &[]).await;
    assert_eq!(result(&report, Some("demo"), "answer"), "skipped", "{report}");
    daemon.kill().await;
    let daemon = Daemon::start(world.folder(), 0).await;
    daemon.kill().await;
}
