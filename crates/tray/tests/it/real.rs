//! The tray with the real daemon: what it writes into its folder, its key, its events, its answers.
//! `cargo xtask e2e` runs it on the binary that it builds; without `EVERFRESH_BIN` there is none.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use tokio::process::{Child, Command};

use crate::desktop::{Desktop, Tray};
use crate::{OUTAGE_SHOWN, is_gone};

/// A server whose provider nobody can reach.
const CONFIG: &str = "[servers.linear]\nurl = \"http://127.0.0.1:9/mcp\"\n";

fn serve(binary: &Path, folder: &Path) -> Child {
    let mut daemon = Command::new(binary);
    daemon.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder);
    daemon.arg("--config").arg(folder.join("config.toml")).env_remove("EVERFRESH_KEY");
    daemon.env_remove("DBUS_SESSION_BUS_ADDRESS").stdout(Stdio::null()).stderr(Stdio::null());
    daemon.kill_on_drop(true).spawn().expect("the daemon starts")
}

async fn signal(daemon: &Child, name: &str) {
    let pid = daemon.id().expect("it runs").to_string();
    let sent = Command::new("kill").args([name, &pid]).status().await;
    assert!(sent.is_ok_and(|status| status.success()), "{name} {pid}");
}

/// Waits for what `wanted` says, and tells how long it took since `since`.
async fn timed(tray: &Tray, what: &str, since: Instant, wanted: impl Fn(&crate::desktop::Seen) -> bool) {
    tray.wait_for(what, wanted).await;
    let took = since.elapsed();
    drop(writeln!(std::io::stdout(), "(t) {what}: in the tray after {:.2} s", took.as_secs_f64()));
    assert!(took < OUTAGE_SHOWN, "{what}: {took:?}");
}

#[tokio::test]
async fn the_real_daemon_is_followed_through_death_and_sleep() {
    let Some(binary) = std::env::var_os("EVERFRESH_BIN") else {
        drop(writeln!(std::io::stdout(), "SKIPPED: EVERFRESH_BIN names no daemon; `cargo xtask e2e` does"));
        return;
    };
    let Some(desktop) = Desktop::start().await else { return };
    let mut tray = desktop.tray().await;
    let folder = tray.data().to_owned();
    std::fs::write(folder.join("config.toml"), CONFIG).unwrap();
    let needs_login = |seen: &crate::desktop::Seen| seen.summary == "1 login, 1 needs you: linear";
    tray.wait_for("no daemon", is_gone).await;

    let mut daemon = serve(binary.as_ref(), &folder);
    tray.wait_for("the daemon and its login", needs_login).await;
    tray.click("Open the page").await;
    let page = tray.opened().await;
    assert!(page.starts_with("http://127.0.0.1:") && page.contains("/?once="), "{page}");
    tray.click("Log in to linear").await;
    tray.wait_for("the refusal", |seen| seen.details.starts_with("The login to linear cannot begin: ")).await;

    let killed = Instant::now();
    daemon.kill().await.unwrap();
    timed(&tray, "the daemon is killed", killed, is_gone).await;
    let mut daemon = serve(binary.as_ref(), &folder);
    tray.wait_for("the daemon at another port", needs_login).await;

    let stopped = Instant::now();
    signal(&daemon, "-STOP").await;
    timed(&tray, "the daemon hangs", stopped, is_gone).await;
    let continued = Instant::now();
    signal(&daemon, "-CONT").await;
    timed(&tray, "the daemon goes on", continued, needs_login).await;

    let key = std::fs::read_to_string(folder.join("local-key")).unwrap();
    let words = tray.quit().await;
    assert!(!words.contains(key.trim()) && !words.contains("once="), "{words}");
    signal(&daemon, "-TERM").await;
    assert!(daemon.wait().await.unwrap().success());
}
