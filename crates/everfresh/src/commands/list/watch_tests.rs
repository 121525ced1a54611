//! What a watcher sees of changes, without a terminal and without a daemon.

use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-11-23T14:00:00Z".parse().unwrap()
}

fn server(name: &str, level: &str, summary: &str) -> Value {
    json!({ "name": name, "account": "default", "health": { "level": level, "summary": summary, "command": null } })
}

fn snapshot(servers: &[Value], problems: &[&str]) -> Change {
    Change::of("snapshot", &json!({ "servers": servers, "problems": problems }), now())
}

fn changed(name: &str, server: Option<Value>) -> Change {
    let data = json!({ "at": "2026-11-23T14:00:05Z", "grant": name, "server": server });
    Change::of("servers.changed", &data, now())
}

const LOOK: Look = Look { width: Some(80), colour: false, unicode: false };

fn seen(standing: &Standing) -> String {
    standing.frame(now(), LOOK, 40).join("\n")
}

#[test]
fn a_change_reaches_the_screen_and_a_removed_login_leaves_it() {
    let mut standing = Standing::default();
    standing.take(snapshot(&[server("a", "healthy", "Connected"), server("b", "healthy", "Connected")], &[]), now());
    standing.take(changed("a", Some(server("a", "unhealthy", "Login required"))), now());
    assert!(seen(&standing).contains("Login required"), "{}", seen(&standing));
    standing.take(changed("b", None), now());
    assert!(!seen(&standing).contains("\nb "), "{}", seen(&standing));
}

#[test]
fn a_daemon_that_is_gone_is_told_with_since_when_and_forgotten_once_it_is_back() {
    let mut standing = Standing::default();
    standing.take(snapshot(&[server("a", "healthy", "Connected")], &[]), now());
    standing.take(Change::gone("none runs", now()), now());
    let later = now().after(Duration::from_secs(12));
    standing.take(Change::gone("it hangs", later), later);
    let text = standing.frame(later, LOOK, 40).join("\n");
    assert!(text.contains("since 2026-11-23 14:00:00 UTC (12 s ago): it hangs"), "{text}");
    assert!(text.contains("Connected"), "what was known last stays: {text}");
    standing.take(snapshot(&[], &["config.toml:1: no"]), now());
    let text = seen(&standing);
    assert!(!text.contains("does not answer") && text.contains("problem: config.toml:1: no"), "{text}");
}

#[test]
fn a_low_window_says_how_much_it_does_not_show() {
    let servers: Vec<Value> = (0..30).map(|n| server(&format!("s{n:02}"), "healthy", "Connected")).collect();
    let mut standing = Standing::default();
    standing.take(snapshot(&servers, &[]), now());
    let frame = standing.frame(now(), LOOK, 10);
    assert_eq!(frame.len(), 10);
    // Two lines of title, one of columns, and thirty logins.
    assert_eq!(frame[9], "... 24 more lines; a higher window shows them");
}

#[test]
fn a_pipe_gets_a_line_only_where_level_or_words_have_changed() {
    let mut told = BTreeMap::new();
    let first = snapshot(&[server("a", "healthy", "Connected"), server("b", "healthy", "Connected")], &[]);
    assert_eq!(text_lines(&mut told, &first).len(), 2);
    assert!(text_lines(&mut told, &first).is_empty());
    let change = changed("a", Some(server("a", "unhealthy", "Login required")));
    assert_eq!(text_lines(&mut told, &change), ["2026-11-23T14:00:05Z  a  unhealthy  Login required"]);
    assert_eq!(text_lines(&mut told, &changed("a", None)), ["2026-11-23T14:00:05Z  a  removed"]);
}

#[test]
fn a_change_as_json_is_one_line_without_what_does_not_apply() {
    let lines = json_line(&Change::gone("none runs", now()));
    assert_eq!(lines, [r#"{"event":"daemon.gone","at":"2026-11-23T14:00:00Z","message":"none runs"}"#]);
}
