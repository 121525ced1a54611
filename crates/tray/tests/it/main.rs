//! The tray as the desktop sees it: on a bus of its own, with a daemon that says what it is told.
#![cfg(target_os = "linux")]

mod daemon;
mod desktop;
mod real;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::daemon::FakeDaemon;
use crate::desktop::{Desktop, Seen};

/// How long an outage may stay unseen.
const OUTAGE_SHOWN: Duration = Duration::from_secs(5);

fn server(name: &str, level: &str, action: &str) -> Value {
    json!({
        "name": name, "account": "default", "url": "https://mcp.example/mcp", "source": "file",
        "health": { "level": level, "admin_state": "enabled", "summary": format!("It is {level}"), "detail": "",
                    "action": action, "reason": "ok" },
        "token": { "has_refresh_token": true },
    })
}

fn is_gone(seen: &Seen) -> bool {
    seen.summary.contains("does not")
}

#[tokio::test]
async fn the_item_follows_the_daemon_through_its_lives() {
    let Some(desktop) = Desktop::start().await else { return };
    let tray = desktop.tray().await;
    let gone = tray.wait_for("no daemon", |seen| seen.summary == "everfresh does not run").await;
    assert_eq!(gone.status, "Active");
    let clickable: Vec<&str> = gone.menu.iter().filter(|item| item.enabled).map(|item| item.label.as_str()).collect();
    assert_eq!(clickable, ["Quit"]);

    let daemon = FakeDaemon::start("key-of-the-first-life", &[server("lin_ear", "healthy", "")]).await;
    daemon.announce(tray.data());
    let well = tray.wait_for("all well", |seen| seen.summary == "1 login, all well").await;
    assert_eq!(well.status, "Active");
    assert_ne!(well.icon, gone.icon);

    daemon.tell(
        "oauth.login_required",
        &json!({ "grant": "lin_ear", "server": server("lin_ear", "unhealthy", "login") }),
    );
    let needy = tray.wait_for("a login is needed", |seen| seen.status == "NeedsAttention").await;
    assert_eq!(needy.summary, "1 login, 1 needs you: lin_ear");
    assert_eq!(needy.icon, needy.attention_icon);
    assert!(needy.icon != well.icon && needy.icon != gone.icon);
    // Two underscores are one that is shown; one would mark a key.
    assert!(needy.menu.iter().any(|item| item.label == "Log in to lin__ear" && item.enabled), "{needy:?}");

    let stopped = Instant::now();
    daemon.stop();
    tray.wait_for("the daemon is gone", is_gone).await;
    assert!(stopped.elapsed() < OUTAGE_SHOWN, "{:?}", stopped.elapsed());

    let mut next = FakeDaemon::start("key-of-the-next-life", &[]).await;
    next.announce(tray.data());
    let empty = tray.wait_for("the next life", |seen| seen.summary == "No logins yet").await;
    assert_eq!(empty.icon, well.icon);
    let resumed = next.opened.recv().await.expect("the stream was opened");
    assert_eq!(resumed.as_deref(), Some("run-2"), "the next stream goes on behind the last event");

    let words = tray.quit().await;
    assert!(!words.contains("key-of"), "{words}");
}

#[tokio::test]
async fn a_click_logs_in_and_tells_the_code_of_a_device() {
    let Some(desktop) = Desktop::start().await else { return };
    let mut daemon = FakeDaemon::start("k-secret", &[server("linear", "unhealthy", "login")]).await;
    let mut tray = desktop.tray().await;
    daemon.announce(tray.data());
    let url = "https://as.example/authorize?state=s-secret";
    daemon.answer(200, json!({ "authorization_url": url, "device": { "user_code": "ABCD-EFGH" }, "flow_id": "1" }));
    tray.wait_for("a login is needed", |seen| seen.status == "NeedsAttention").await;
    tray.click("Log in to linear").await;
    assert_eq!(daemon.calls.recv().await.as_deref(), Some("POST /api/v1/servers/linear/login"));
    assert_eq!(tray.opened().await, url);
    let noted = |seen: &Seen| seen.details.contains("linear: the provider asks for this code: ABCD-EFGH");
    tray.wait_for("the code", noted).await;

    daemon.tell("servers.changed", &json!({ "grant": "linear", "server": server("linear", "healthy", "") }));
    tray.wait_for("the login", |seen| seen.summary == "1 login, all well" && seen.details.is_empty()).await;

    daemon.answer(200, json!({ "url": "http://127.0.0.1:1/?once=o-secret" }));
    tray.click("Open the page").await;
    assert_eq!(daemon.calls.recv().await.as_deref(), Some("POST /api/v1/page-link"));
    assert_eq!(tray.opened().await, "http://127.0.0.1:1/?once=o-secret");

    daemon.answer(502, json!({ "type": "x", "detail": "the provider <does> not answer" }));
    tray.click("Refresh").await;
    assert_eq!(daemon.calls.recv().await.as_deref(), Some("POST /api/v1/servers/linear/refresh"));
    let told = tray.wait_for("the failure", |seen| seen.details.contains("was not refreshed")).await;
    assert_eq!(told.details, "linear was not refreshed: the provider &lt;does&gt; not answer");

    let words = tray.quit().await;
    assert!(words.contains("was not refreshed") && !words.contains("secret"), "{words}");
}

#[tokio::test]
async fn an_authorization_url_that_no_page_can_be_at_is_not_opened() {
    let Some(desktop) = Desktop::start().await else { return };
    let daemon = FakeDaemon::start("k", &[server("linear", "unhealthy", "login")]).await;
    let tray = desktop.tray().await;
    daemon.announce(tray.data());
    daemon.answer(200, json!({ "authorization_url": "file:///etc/passwd" }));
    tray.wait_for("a login is needed", |seen| seen.status == "NeedsAttention").await;
    tray.click("Log in to linear").await;
    let told = tray.wait_for("the refusal", |seen| seen.details.contains("cannot be opened")).await;
    assert!(told.details.contains("its scheme is file") && told.details.contains("everfresh login linear"), "{told:?}");
}

#[tokio::test]
async fn a_daemon_that_hangs_is_shown_as_gone_and_goes_on_where_it_was() {
    let Some(desktop) = Desktop::start().await else { return };
    let daemon = FakeDaemon::start("k", &[server("linear", "healthy", "")]).await;
    let tray = desktop.tray().await;
    daemon.announce(tray.data());
    tray.wait_for("all well", |seen| seen.summary == "1 login, all well").await;
    let hung = Instant::now();
    daemon.hang(true);
    tray.wait_for("it hangs", is_gone).await;
    assert!(hung.elapsed() < OUTAGE_SHOWN, "{:?}", hung.elapsed());
    daemon.hang(false);
    tray.wait_for("it is back", |seen| seen.summary == "1 login, all well").await;
}

#[tokio::test]
async fn a_daemon_that_wants_another_key_is_told_apart_from_one_that_is_gone() {
    let Some(desktop) = Desktop::start().await else { return };
    let daemon = FakeDaemon::start("k", &[]).await;
    let tray = desktop.tray().await;
    daemon.announce(tray.data());
    std::fs::write(tray.data().join("local-key"), "another").unwrap();
    let refused = tray.wait_for("the refusal", |seen| seen.summary.contains("refuses this key")).await;
    assert!(refused.details.contains("EVERFRESH_KEY"), "{refused:?}");
}
