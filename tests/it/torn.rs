//! SIGKILL at each step of import, undo, export and restore, while no daemon runs: what is left is old
//! or new, and the same command once more ends well.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use everfresh_e2e::daemon::{binary, plain};
use everfresh_e2e::{Daemon, Ran, World};
use everfresh_testkit::provider::{Behaviour, Rotation};

use crate::importing::{Home, QUICK};
use crate::steps::can_trace;

const PASSPHRASE: &str = "correct horse battery";

/// What changes files or leaves the process, each of which is let die at.
const CALLS: [&str; 8] = ["openat", "write", "fdatasync", "fsync", "rename", "link", "unlink", "sendto"];

/// How often each is let die at, at most, and from which occurrence on another one is left out: programs
/// open and write much before they do anything.
const DEATHS_MAX: u32 = 12;
const MANY: [(&str, u32); 2] = [("openat", 9), ("write", 4)];

/// Which occurrences of `call` are tried.
fn occurrences(call: &str) -> impl Iterator<Item = u32> + use<> {
    let apart = MANY.iter().find(|(many, _)| *many == call).map_or(1, |(_, apart)| *apart);
    (0..DEATHS_MAX).map(move |number| 1 + number * apart)
}

/// Runs a command that dies at the `number`-th `call` of its process; one that makes fewer ends by itself.
async fn dying(folder: &Path, home: &Path, call: &str, number: u32, arguments: &[&str]) -> Ran {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=SIGKILL:when={number}"));
    let mut command = plain("strace");
    command.args(["-f", "-q", "-q", "-o", "/dev/null", "-e", &trace, "-e", &inject]).arg(binary());
    command.arg("--config").arg(folder.join("config.toml")).arg("--data-dir").arg(folder.join("data"));
    command.env("HOME", home).env("XDG_CONFIG_HOME", home.join(".config")).env("NO_COLOR", "1");
    command.env("EVERFRESH_BACKUP_PASSPHRASE", PASSPHRASE).args(arguments).stdin(Stdio::null());
    command.output().await.unwrap().into()
}

async fn whole(folder: &Path, home: &Path, arguments: &[&str]) -> Ran {
    let mut command = everfresh_e2e::daemon::command(folder);
    command.env("HOME", home).env("XDG_CONFIG_HOME", home.join(".config"));
    command.env("EVERFRESH_BACKUP_PASSPHRASE", PASSPHRASE).args(arguments);
    command.output().await.unwrap().into()
}

/// With a provider that forgives who asks once more, as most do: what is lost then is everfresh's fault.
async fn world() -> World {
    let rotation = Rotation::SingleUse { grace: Duration::from_secs(60) };
    World::new(Behaviour { rotation, ..Behaviour::default() }, QUICK).await
}

#[expect(clippy::print_stdout, reason = "whoever reads the run should see what it left out")]
fn skipped() {
    assert!(std::env::var_os("GITHUB_ACTIONS").is_none(), "continuous integration has strace");
    println!("SKIPPED: no strace here");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_anywhere_is_completed_by_the_next_one() {
    if !can_trace().await {
        return skipped();
    }
    let mut deaths = 0;
    for call in CALLS {
        for number in occurrences(call) {
            let world = world().await;
            let home = Home::with_mcp_remote(&world);
            let import = ["import", "mcp-remote", "--name", "moved"];
            let killed = dying(world.folder(), home.path(), call, number, &import).await.code != 0;
            deaths += u32::from(killed);
            let step = format!("{call} number {number}");
            let was_armed = home.is_armed();
            assert!(killed || !was_armed, "{step}");
            let again = whole(world.folder(), home.path(), &import).await;
            let expected = if was_armed { 0 } else { 1 };
            assert_eq!(again.code, expected, "{step}: {again:?}");
            assert!(!home.is_armed(), "{step}: {again:?}");
            let daemon = world.daemon().await;
            daemon.expect_call("moved").await;
            daemon.run(&["refresh", "moved"]).await.expect(0);
            assert_eq!((world.counters().families_revoked, world.counters().authorizations), (0, 1), "{step}");
            daemon.kill().await;
            if !killed {
                break;
            }
        }
    }
    println!("(k) an import killed {deaths} times: each login came, and its copy was set aside");
    assert!(deaths > 20, "{deaths}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_that_is_killed_anywhere_leaves_one_owner() {
    if !can_trace().await {
        return skipped();
    }
    let mut deaths = 0;
    for call in ["fdatasync", "fsync", "rename", "unlink"] {
        for number in occurrences(call) {
            let world = world().await;
            let home = Home::with_mcp_remote(&world);
            whole(world.folder(), home.path(), &["import", "mcp-remote", "--name", "moved", "--no-refresh"])
                .await
                .expect(0);
            let undo = ["import", "--undo", "moved"];
            let killed = dying(world.folder(), home.path(), call, number, &undo).await.code != 0;
            deaths += u32::from(killed);
            let step = format!("{call} number {number}");
            let again = whole(world.folder(), home.path(), &undo).await;
            assert!([0, 5, 8].contains(&again.code) && home.is_armed(), "{step}: {again:?}");
            let listed = whole(world.folder(), home.path(), &["show", "moved", "-o", "json"]).await;
            let is_here = listed.code == 0 && listed.json()["token"]["has_refresh_token"] == true;
            assert!(!is_here, "{step}: {listed:?}");
            assert_eq!(world.counters().refreshes, 0, "{step}: the copy is as good as it was");
            if !killed {
                break;
            }
        }
    }
    println!("(k) an undo killed {deaths} times: the copy was the login, and its only owner");
    assert!(deaths > 4, "{deaths}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_and_a_restore_that_are_killed_anywhere_are_done_again() {
    if !can_trace().await {
        return skipped();
    }
    let world = world().await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    daemon.stop().await;
    let (home, mut deaths) = (tempfile::tempdir().unwrap(), 0);
    let good = world.folder().join("good");
    let good = good.to_str().unwrap();
    whole(world.folder(), home.path(), &["export", good]).await.expect(0);
    // Every guess of a passphrase is slow, and so is each of these.
    for call in ["fdatasync", "fsync", "link", "rename"] {
        for number in occurrences(call).take(6) {
            let file = home.path().join(format!("{call}-{number}"));
            let export = ["export", file.to_str().unwrap()];
            let killed = dying(world.folder(), home.path(), call, number, &export).await.code != 0;
            deaths += u32::from(killed);
            let there = file.exists();
            let again = whole(world.folder(), home.path(), &export).await;
            assert_eq!(again.code, i32::from(there), "{call} number {number}: {again:?}");

            let elsewhere = tempfile::tempdir().unwrap();
            std::fs::copy(world.folder().join("config.toml"), elsewhere.path().join("config.toml")).unwrap();
            let restore = ["restore", file.to_str().unwrap(), "--no-refresh"];
            let died = dying(elsewhere.path(), home.path(), call, number, &restore).await.code != 0;
            deaths += u32::from(died);
            whole(elsewhere.path(), home.path(), &restore).await.expect(0);
            let listed = whole(elsewhere.path(), home.path(), &["show", "demo", "-o", "json"]).await.expect(0).json();
            assert_eq!(listed["token"]["has_refresh_token"], true, "{call} number {number}: {listed}");
            if !killed && !died {
                break;
            }
        }
    }
    assert_eq!(world.counters().refreshes, 0);
    whole(world.folder(), home.path(), &["refresh", "demo"]).await.expect(0);
    Daemon::start(world.folder(), 0).await.expect_call("demo").await;
    println!("(k) export and restore killed {deaths} times: each backup was whole or absent, each login came back");
    assert!(deaths > 8, "{deaths}");
}
