//! People are told of what needs them: once, in time, by every way, over restarts too.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use everfresh_e2e::{Daemon, Reply, Scripted, World, until};
use everfresh_testkit::canary;
use serde_json::Value;

use crate::many::log_in;

const LIMIT: Duration = Duration::from_secs(20);

/// 32 bytes in base64, to sign with.
const SECRET: &str = "whsec_Y2FuYXJ5LW9mLXRoZS13ZWJob29rLXNlY3JldC0zMiE=";

const BROWSER: &str = "curl -sSL -o /dev/null --max-time 20";

/// A world whose daemon runs a script and posts to a webhook; the script keeps what it is told.
async fn world(webhook: &Scripted) -> World {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let told = world.folder().join("told");
    std::fs::create_dir(&told).unwrap();
    canary::keep(SECRET);
    std::fs::write(world.folder().join("client-secret"), SECRET).unwrap();
    let script =
        "cat > $1/$EVERFRESH_NOTICE_ID.tmp; env > $1/env; mv $1/$EVERFRESH_NOTICE_ID.tmp $1/$EVERFRESH_NOTICE_ID.json";
    world.configure(&format!(
        "[refresh]\nmin_spacing = \"500ms\"\nhourly_budget = 10000\n[notify.command]\n\
         run = [\"sh\", \"-c\", '{script}', \"sh\", \"{}\"]\n\
         [notify.webhook]\nurl = \"{}/hook\"\nsecret = {{ file = \"client-secret\" }}\n",
        told.display(),
        webhook.url,
    ));
    world
}

/// What the script was told so far, the oldest first.
fn told(folder: &Path) -> Vec<Value> {
    let entries = std::fs::read_dir(folder.join("told")).unwrap().flatten();
    let files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    let json = files.iter().filter(|path| path.extension().is_some_and(|end| end == "json"));
    let mut told: Vec<Value> =
        json.map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect();
    told.sort_by_key(|notice| notice["timestamp"].to_string());
    told
}

/// Which servers each notice is about.
fn about(told: &[Value]) -> Vec<String> {
    let servers = |notice: &Value| {
        let servers = notice["data"]["servers"].as_array().unwrap().iter();
        servers.map(|server| server["server"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    told.iter().map(servers).collect()
}

/// The provider ends all logins, and everfresh finds out by that of `name`.
async fn die(world: &World, daemon: &Daemon, name: &str) -> Instant {
    world.provider.with(|model| model.revoke_all());
    let died = Instant::now();
    daemon.run(&["refresh", name]).await.expect(3);
    died
}

/// Waits until script and webhook have been told so often.
async fn expect_told(world: &World, webhook: &Scripted, count: usize) -> Vec<Value> {
    let arrived = || async {
        let told = told(world.folder());
        (told.len() >= count && webhook.seen().len() >= count).then_some(told)
    };
    let (told, _) = until("the notice", LIMIT, arrived).await;
    assert_eq!((told.len(), webhook.seen().len()), (count, count), "{:?}", about(&told));
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_login_is_told_once_over_restarts_and_the_next_death_once_more() {
    let webhook = Scripted::start(|_| Reply::status(204)).await;
    let world = world(&webhook).await;
    let master_key = [("EVERFRESH_MASTER_KEY", "ab".repeat(32))];
    canary::keep(&master_key[0].1);
    let daemon = Daemon::start_in(world.folder(), 0, &master_key).await;
    log_in(&daemon, "unused", &world.upstream).await;
    daemon.run(&["logout", "unused"]).await.expect(0);
    log_in(&daemon, "demo", &world.upstream).await;
    let died = die(&world, &daemon, "demo").await;
    let first = expect_told(&world, &webhook, 1).await;
    let took = died.elapsed();
    assert_eq!((about(&first), &first[0]["type"]), (vec!["demo".to_owned()], &"login_needed".into()));
    assert_eq!(first[0]["data"]["servers"][0]["reason"], "refresh_token_rejected");
    assert_eq!(first[0]["data"]["servers"][0]["command"], "everfresh login demo");
    let asked = webhook.seen();
    assert_eq!(asked[0].message, first[0], "both are told the same");
    assert_eq!(asked[0].header("webhook-id"), first[0]["id"].as_str());
    assert!(asked[0].header("webhook-signature").unwrap().starts_with("v1,"));
    let env = std::fs::read_to_string(world.folder().join("told/env")).unwrap();
    assert!(env.contains("EVERFRESH_EVENT=login_needed") && !env.contains("EVERFRESH_MASTER_KEY"), "{env}");

    assert_eq!(daemon.stop().await, 0);
    let daemon = Daemon::start_in(world.folder(), 0, &master_key).await;
    log_in(&daemon, "other", &world.upstream).await;
    die(&world, &daemon, "other").await;
    let second = expect_told(&world, &webhook, 2).await;
    assert_eq!(about(&second), ["demo", "other"], "the restart told nothing anew");

    daemon.kill().await;
    let daemon = Daemon::start_in(world.folder(), 0, &master_key).await;
    daemon.run(&["--browser-cmd", BROWSER, "login", "demo"]).await.expect(0);
    die(&world, &daemon, "demo").await;
    let third = expect_told(&world, &webhook, 3).await;
    assert_eq!(about(&third), ["demo", "other", "demo"]);
    let metrics = daemon.text("/metrics").await;
    let counted = "everfresh_notifications_total{sink=\"webhook\",kind=\"login_needed\",result=\"delivered\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    println!("(notice) command and webhook told {took:.1?} after the provider ended the login, 3 s of it gathering");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_goes_through_every_way_and_new_settings_need_no_restart() {
    let webhook = Scripted::start(|_| Reply::status(500)).await;
    let world = world(&webhook).await;
    let daemon = world.daemon().await;
    let tried = daemon.run(&["notify", "test", "-o", "json"]).await.expect(1).json();
    let result = |sink: usize| (tried["sinks"][sink]["sink"].as_str(), tried["sinks"][sink]["result"].as_str());
    assert_eq!(result(0), (Some("command"), Some("delivered")), "{tried}");
    assert_eq!(result(1), (Some("desktop"), Some("nobody")), "{tried}");
    assert_eq!(result(2), (Some("webhook"), Some("failed")), "{tried}");
    assert_eq!(told(world.folder())[0]["type"], "test");
    world.configure("[notify]\ndesktop = false\n");
    let none = || async {
        let ran = daemon.run(&["notify", "test"]).await;
        ran.stderr.contains("no way to tell is configured").then_some(ran.code)
    };
    assert_eq!(until("the new settings", LIMIT, none).await.0, 0);
    assert_eq!(daemon.stop().await, 0);
}
