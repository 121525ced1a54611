//! What is shown, as tables.

use serde_json::{Value, json};

use super::*;

/// A login as the API shows it, with fields that the tray has no use for.
fn server(name: &str, account: &str, level: &str, action: &str) -> Value {
    json!({
        "name": name, "account": account, "url": "https://mcp.example/mcp", "source": "store", "issuer": null,
        "health": { "level": level, "admin_state": "enabled", "summary": format!("{level} it is"), "detail": "",
                    "action": action, "reason": "ok" },
        "token": { "has_refresh_token": true, "generation": 1 },
        "refresh": { "state": "scheduled" }, "login": { "pending": false },
    })
}

fn healthy(name: &str) -> Value {
    server(name, "default", "healthy", "")
}

fn needy(name: &str) -> Value {
    server(name, "default", "unhealthy", "login")
}

fn event(name: &str, data: &Value) -> Told {
    Told::Event { name: name.to_owned(), data: data.to_string() }
}

fn snapshot(servers: &[Value]) -> Told {
    event("snapshot", &json!({ "servers": servers, "problems": [] }))
}

fn changed(grant: &str, server: Value) -> Told {
    event("servers.changed", &json!({ "at": "2026-11-23T14:05:40Z", "grant": grant, "server": server }))
}

fn note(grant: &str) -> Told {
    Told::Note { grant: grant.to_owned(), text: "enter ABCD".to_owned() }
}

fn world(told: impl IntoIterator<Item = Told>) -> World {
    let mut world = World::default();
    for told in std::iter::once(Told::Live).chain(told) {
        world.hear(told).unwrap();
    }
    world
}

/// What is in the menu, a line each; what can be clicked in brackets, submenus indented.
fn lines(entries: &[Entry]) -> Vec<String> {
    let line = |entry: &Entry| match entry {
        Entry::Words(words) => vec![words.clone()],
        Entry::Act(label, _) => vec![format!("[{label}]")],
        Entry::Line => vec!["-".to_owned()],
        Entry::Menu(label, inner) => {
            let inner = lines(inner).into_iter().map(|line| format!("  {line}"));
            std::iter::once(format!("{label} >")).chain(inner).collect()
        }
    };
    entries.iter().flat_map(line).collect()
}

#[test]
fn the_summary_says_who_needs_a_person_and_the_icon_shows_the_worst() {
    use Level::{Degraded, Healthy, Unhealthy};
    let shaky = |name| server(name, "default", "degraded", "retry");
    let down = |name| server(name, "default", "unhealthy", "retry");
    let dying = |name| server(name, "default", "degraded", "login");
    let table = [
        (vec![], "No logins yet", Healthy, false),
        (vec![healthy("linear")], "1 login, all well", Healthy, false),
        (vec![healthy("a"), healthy("b")], "2 logins, all well", Healthy, false),
        (vec![healthy("a"), healthy("b"), needy("linear")], "3 logins, 1 needs you: linear", Unhealthy, true),
        (vec![healthy("a"), dying("b")], "2 logins, 1 needs you: b", Degraded, true),
        (vec![healthy("a"), shaky("b")], "2 logins, 1 degraded: b", Degraded, false),
        (
            vec![needy("a"), down("b"), shaky("c")],
            "3 logins, 1 needs you: a; 1 down: b; 1 degraded: c",
            Unhealthy,
            true,
        ),
        (vec![down("b")], "1 login, 1 down: b", Unhealthy, true),
        (["a", "b", "c", "d", "e"].map(needy).into(), "5 logins, 5 need you: a, b, c and 2 more", Unhealthy, true),
    ];
    for (servers, summary, level, wants_attention) in table {
        let view = world([snapshot(&servers)]).view();
        assert_eq!((view.summary.as_str(), view.sign), (summary, Sign::Level(level)));
        assert_eq!(view.wants_attention, wants_attention, "{summary}");
    }
}

#[test]
fn the_menu_begins_with_what_a_person_is_needed_for() {
    let mut off = healthy("off");
    off["health"]["admin_state"] = json!("disabled");
    off["health"]["summary"] = json!("Disabled");
    let mut filed = off.clone();
    (filed["name"], filed["source"]) = (json!("filed"), json!("file"));
    let mut account = off.clone();
    account["account"] = json!("work");
    let mut fresh = needy("linear");
    fresh["token"] = Value::Null;
    fresh["health"]["detail"] = json!("Nobody has logged in");
    let world = world([snapshot(&[healthy("git_hub"), fresh, off, filed, account])]);
    let menu = lines(&world.view().menu);
    let expected = [
        "5 logins, 1 needs you: linear",
        "-",
        "[Log in to linear]",
        "-",
        "– filed: Disabled >",
        "  Disabled",
        "  -",
        "  Set enabled = true in the configuration file",
        "✓ git_hub: healthy it is >",
        "  healthy it is",
        "  -",
        "  [Log in]",
        "  [Refresh]",
        "✕ linear: unhealthy it is >",
        "  unhealthy it is",
        "  Nobody has logged in",
        "  -",
        "  [Log in]",
        "– off: Disabled >",
        "  Disabled",
        "  -",
        "  [Enable]",
        "– off@work: Disabled >",
        "  Disabled",
        "  -",
        "  Enable off for this account",
        "-",
        "[Open the page]",
        "[Quit]",
    ];
    assert_eq!(menu, expected);
}

#[test]
fn a_click_is_about_the_account_whose_menu_it_was_in() {
    let world = world([snapshot(&[server("linear", "work", "unhealthy", "login")])]);
    let acts: Vec<Entry> = world.view().menu.into_iter().filter(|entry| matches!(entry, Entry::Act(..))).collect();
    let expected = Entry::Act("Log in to linear@work".to_owned(), Command::LogIn("linear@work".to_owned()));
    assert_eq!(acts[0], expected);
}

#[test]
fn every_event_about_a_grant_changes_it_and_a_snapshot_replaces_all() {
    let mut world = world([snapshot(&[healthy("a"), healthy("b")])]);
    for name in ["servers.changed", "oauth.refresh_failed", "oauth.login_required", "notice", "one.of.later"] {
        world.hear(changed("a", healthy("a"))).unwrap();
        world.hear(event(name, &json!({ "grant": "a", "server": needy("a"), "more": 1 }))).unwrap();
        assert_eq!(world.view().summary, "2 logins, 1 needs you: a", "{name}");
    }
    world.hear(changed("a", Value::Null)).unwrap();
    assert_eq!(world.view().summary, "1 login, all well");
    world.hear(snapshot(&[healthy("c"), healthy("d"), healthy("e")])).unwrap();
    assert_eq!(world.view().summary, "3 logins, all well");
}

#[test]
fn an_event_that_is_not_understood_changes_nothing() {
    let mut world = world([snapshot(&[needy("a")])]);
    let before = world.clone();
    for (name, data) in [("snapshot", "{}"), ("servers.changed", "[1]"), ("oauth.token_refreshed", "no JSON")] {
        let told = Told::Event { name: name.to_owned(), data: data.to_owned() };
        assert!(world.hear(told).is_err(), "{name}");
        assert_eq!(world, before);
    }
}

#[test]
fn a_daemon_that_is_gone_is_told_with_what_to_do_and_comes_back_as_it_was() {
    let table = [
        (Absence::NotRunning, "everfresh does not run", "everfresh serve"),
        (Absence::Silent("http://127.0.0.1:1".to_owned()), "at http://127.0.0.1:1 does not answer", "everfresh serve"),
        (Absence::KeyRefused, "refuses this key", "EVERFRESH_KEY"),
        (Absence::NoKey("denied".to_owned()), "cannot be read: denied", "everfresh doctor"),
        (Absence::Stranger(404), "(404)", "everfresh doctor"),
    ];
    let mut world = world([snapshot(&[needy("linear")])]);
    for (absence, what, fix) in table {
        world.hear(Told::Gone(absence)).unwrap();
        let view = world.view();
        assert_eq!((view.sign, view.wants_attention), (Sign::Gone, false));
        assert!(view.summary.contains(what), "{}", view.summary);
        assert!(view.details[0].contains(fix), "{:?}", view.details);
        assert_eq!(lines(&view.menu), [view.summary.as_str(), &view.details[0], "-", "[Quit]"]);
    }
    world.hear(Told::Live).unwrap();
    assert_eq!(world.view().summary, "1 login, 1 needs you: linear");
}

#[test]
fn a_note_stays_until_its_login_is_settled_or_something_else_is_asked_for() {
    let fresh = || world([snapshot(&[needy("a"), needy("b")]), note("a")]);
    let noted = |world: &World| world.view().details == ["enter ABCD"] && lines(&world.view().menu)[1] == "enter ABCD";
    let mut world = fresh();
    assert!(noted(&world));
    for told in [changed("a", needy("a")), changed("b", healthy("b")), snapshot(&[needy("a")])] {
        world.hear(told).unwrap();
        assert!(noted(&world));
    }
    for told in [changed("a", healthy("a")), changed("a", Value::Null), snapshot(&[])] {
        let mut world = fresh();
        world.hear(told).unwrap();
        assert!(!noted(&world));
    }
    world.begin();
    assert!(!noted(&world));
}

#[test]
fn a_daemon_that_is_not_ready_says_why() {
    let told = event("snapshot", &json!({ "servers": [healthy("a")], "problems": ["the disk is full"] }));
    let view = world([told]).view();
    assert_eq!((view.sign, view.details), (Sign::Level(Level::Degraded), vec!["the disk is full".to_owned()]));
}

#[test]
fn words_of_others_stay_on_one_line_of_bounded_length() {
    let table = [
        ("plain words", "plain words".to_owned()),
        (" two\nlines\u{7}\tof  it ", "two lines of it".to_owned()),
        (&*"é".repeat(LINE_MAX), "é".repeat(LINE_MAX)),
        (&*"é".repeat(LINE_MAX + 1), "é".repeat(LINE_MAX) + "…"),
    ];
    for (text, line) in table {
        assert_eq!(one_line(text), line);
    }
}
