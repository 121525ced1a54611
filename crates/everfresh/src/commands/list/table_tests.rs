//! The table at each width, with and without colours.

use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-11-23T14:00:00Z".parse().unwrap()
}

fn server(name: &str, account: &str, level: &str, summary: &str, command: Option<&str>) -> Value {
    json!({
        "name": name, "account": account, "shadows_stored": false,
        "health": { "level": level, "summary": summary, "command": command },
        "token": { "expires_at": "2026-11-23T14:47:10Z" },
        "refresh": { "next_attempt_at": "2026-11-23T14:35:00Z" },
    })
}

fn servers() -> Vec<Value> {
    let refused = "Refresh token expired - re-authentication required";
    let mut linear = server("linear", "default", "unhealthy", refused, Some("everfresh login linear"));
    linear["token"]["expires_at"] = json!("2026-11-23T13:57:00Z");
    linear["refresh"]["next_attempt_at"] = json!(null);
    let network = "Refresh failed - network error";
    let mut notion = server("notion", "default", "degraded", network, Some("everfresh refresh notion"));
    notion["shadows_stored"] = json!(true);
    vec![
        server("github", "default", "healthy", "Token refresh scheduled for 2026-11-23T14:35:00Z", None),
        server("github", "work", "healthy", "権限は有効です — Token refresh in progress", None),
        linear,
        notion,
    ]
}

fn table_at(width: Option<usize>, colour: bool) -> String {
    let problems = ["config.toml:3: servers.x.url is not a URL; the version before it stays in force".to_owned()];
    rendered(&servers(), &problems, now(), Look { width, colour, ..Look::default() })
}

#[test]
fn the_table_fits_every_terminal() {
    for width in [40, 80, 120] {
        let text = table_at(Some(width), false);
        let widest = text.lines().map(width_of).max().unwrap();
        assert!(widest <= width, "{width}: {widest}\n{text}");
        insta::assert_snapshot!(format!("table_{width}"), text);
    }
}

#[test]
fn a_pipe_gets_one_line_for_each_login_and_no_colours() {
    insta::assert_snapshot!("table_piped", table_at(None, false));
}

#[test]
fn only_levels_titles_and_problems_have_a_look() {
    for width in [40, 80, 120] {
        insta::assert_snapshot!(format!("table_{width}_colour"), table_at(Some(width), true));
    }
}

#[test]
fn a_name_that_leaves_no_room_for_a_table_is_told_without_one() {
    let name = "a".repeat(64);
    let servers = [server(&name, "default", "healthy", "Connected", None)];
    let text = rendered(&servers, &[], now(), Look { width: Some(80), ..Look::default() });
    assert!(text.starts_with(&format!("{name}  healthy\n  Connected\n")), "{text}");
}

#[test]
fn where_there_is_nothing_the_first_step_is_told() {
    let text = rendered(&[], &[], now(), Look::default());
    assert!(text.contains("everfresh add linear https://mcp.linear.app/mcp") && text.contains("everfresh demo"));
    let narrow = rendered(&[], &[], now(), Look { width: Some(40), ..Look::default() });
    assert!(narrow.lines().all(|line| width_of(line) <= 40), "{narrow}");
}
