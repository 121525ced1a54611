//! Bad input: each gets a text that names the thing and the fix, the right exit code, and loses
//! nothing.

use std::time::Duration;

use everfresh_e2e::{Daemon, Ran, World, until};
use everfresh_testkit::provider::Fault;

async fn refused(world: &World, port: u16) -> Ran {
    let Err(ran) = Daemon::try_start(world.folder(), port).await else { panic!("the daemon has started") };
    ran
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_configuration_is_refused_whole_before_anything_is_made() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    world.configure("listen = 7\n[servers.x]\nurl = \"nonsense\"\n");
    let ran = refused(&world, 0).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("2 errors") && ran.stderr.contains("config.toml:1: listen"), "{ran:?}");
    assert!(ran.stderr.contains("config.toml:3: servers.x.url"), "{ran:?}");
    assert!(!world.folder().join("data").exists(), "nothing is written before the configuration is valid");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_servers_and_wrong_arguments_have_their_exit_codes() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    world.run(&["show", "nobody"]).await.expect(5);
    world.run(&["show", "No Name"]).await.expect(5);
    world.run(&["add", "x", "ftp://example.com", "--no-login"]).await.expect(2);
    world.run(&["add", "Bad Name", "https://example.com", "--no-login"]).await.expect(2);
    world.run(&["frobnicate"]).await.expect(2);
    world.run(&["open"]).await.expect(6);
    world.run(&["list"]).await.expect(0);
    let taken = world.run(&["add", "x", "https://example.com", "--no-login"]).await.expect(0);
    assert!(taken.stdout.contains("x: added"), "{taken:?}");
    let taken = world.run(&["add", "x", "https://example.com", "--no-login"]).await.expect(1);
    assert!(taken.stderr.contains("there is a server x already"), "{taken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_endpoint_that_answers_garbage_costs_no_login() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    let garbage = [
        (Fault::Html, "no JSON"),
        (Fault::Huge, "more than an answer may have"),
        (Fault::WrongTypes, "without an access token"),
        (Fault::Endless, "more than an answer may have"),
        (Fault::Portal, "redirect"),
    ];
    for (fault, words) in garbage {
        world.provider.with(|model| model.switches.fault = Some(fault.clone()));
        let ran = daemon.run(&["refresh", "demo"]).await;
        assert_eq!(ran.code, 4, "{fault:?}: {ran:?}");
        assert!(ran.stderr.contains(words), "{fault:?}: {ran:?}");
        daemon.expect_call("demo").await;
    }
    world.provider.with(|model| model.switches.fault = None);
    let healed = || async { (daemon.server("demo").await["health"]["reason"] == "ok").then_some(()) };
    until("healthy again", Duration::from_secs(10), healed).await;
    assert_eq!(world.counters().authorizations, 1);
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ran = refused(&world, port).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains(&format!("127.0.0.1:{port} is in use")) && ran.stderr.contains("--listen"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_or_missing_key_is_told_and_nothing_is_lost() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    daemon.kill().await;
    let key = world.folder().join("data/master.key");
    let right = std::fs::read(&key).unwrap();
    std::fs::write(&key, "00".repeat(32)).unwrap();
    let wrong = refused(&world, 0).await;
    assert!(wrong.code == 7 && wrong.stderr.contains("the key is not the one"), "{wrong:?}");
    std::fs::remove_file(&key).unwrap();
    let missing = refused(&world, 0).await;
    assert!(missing.code == 7 && missing.stderr.contains("is missing"), "{missing:?}");
    std::fs::write(&key, "not a key").unwrap();
    let nonsense = refused(&world, 0).await;
    assert!(nonsense.code == 7 && nonsense.stderr.contains("does not hold a key"), "{nonsense:?}");
    std::fs::write(&key, right).unwrap();
    let daemon = world.daemon().await;
    daemon.expect_call("demo").await;
    assert_eq!(world.counters().authorizations, 1);
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_is_mended_or_reported_and_never_taken_for_an_empty_one() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    assert_eq!(daemon.stop().await, 0);
    let record = world.folder().join("data/records/grant.demo.sealed");
    let whole = std::fs::read(&record).unwrap();
    std::fs::write(&record, &whole[..whole.len() / 2]).unwrap();
    let daemon = world.daemon().await;
    daemon.expect_call("demo").await;
    let doctor = daemon.run(&["doctor"]).await;
    assert!(doctor.stdout.contains("restored from sled"), "{doctor:?}");
    assert_eq!(daemon.stop().await, 0);
    std::fs::write(&record, b"something foreign").unwrap();
    std::fs::remove_dir_all(world.folder().join("data/sled")).unwrap();
    let daemon = world.daemon().await;
    let server = daemon.server("demo").await;
    assert_eq!(server["health"]["reason"], "store_unreadable", "{server}");
    assert_eq!(std::fs::read(&record).unwrap(), b"something foreign");
    daemon.run(&["--browser-cmd", "curl -sSL -o /dev/null --max-time 20", "login", "demo"]).await.expect(0);
    daemon.expect_call("demo").await;
    daemon.kill().await;
}

/// A small file system that can be filled, where this user may mount one.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &std::path::Path) -> Option<Self> {
        std::fs::create_dir_all(at).ok()?;
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=6m,mode=0700", "everfresh-test"])
            .arg(at)
            .stderr(std::process::Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(std::process::Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_the_new_token_is_kept_and_saved_later() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let data = world.folder().join("data");
    let Some(disk) = SmallDisk::mount(&data) else {
        println!("bad input: no file system could be mounted here; the full disk is covered by the store's own tests");
        return;
    };
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    let filler = data.join("filler");
    let fill = || {
        use std::io::Write;
        let mut file = std::fs::File::options().create(true).append(true).open(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        while file.write_all(&[0; 1]).is_ok() {}
    };
    fill();
    // The attempt itself must be recorded before it is made, so it is not made: nothing is spent.
    let asked = world.counters().token_requests;
    let ran = daemon.run(&["refresh", "demo"]).await;
    assert_eq!(ran.code, 7, "{ran:?}");
    assert!(ran.stderr.contains("No space left"), "{ran:?}");
    assert_eq!(world.counters().token_requests, asked);
    daemon.expect_call("demo").await;
    std::fs::remove_file(&filler).unwrap();
    let healed = || async { (daemon.server("demo").await["token"]["generation"] == 2).then_some(()) };
    until("the refresh once there is room", Duration::from_secs(10), healed).await;
    // And a disk that fills between the request and its answer: the tokens are kept in memory.
    world.provider.with(|model| model.switches.delay_ms = 1500);
    let asked = world.counters().token_requests;
    let refreshing = daemon.run(&["refresh", "demo"]);
    let filling = async {
        let sent = || async { (world.counters().token_requests > asked).then_some(()) };
        until("the refresh to be sent", Duration::from_secs(10), sent).await;
        fill();
    };
    let (_, ()) = tokio::join!(refreshing, filling);
    let server = daemon.server("demo").await;
    assert_eq!(server["health"]["reason"], "store_write_failed", "{server}");
    daemon.expect_call("demo").await;
    std::fs::remove_file(&filler).unwrap();
    let saved = || async { (daemon.server("demo").await["health"]["reason"] == "ok").then_some(()) };
    until("the token to be saved", Duration::from_secs(20), saved).await;
    daemon.kill().await;
    world.provider.with(|model| model.switches.delay_ms = 0);
    let daemon = world.daemon().await;
    assert_eq!(daemon.server("demo").await["token"]["generation"], 3);
    daemon.run(&["refresh", "demo"]).await.expect(0);
    assert_eq!(world.counters().reuses, 0);
    daemon.kill().await;
    drop(disk);
}
