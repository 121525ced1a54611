//! A past as a line, at each width, with and without what terminals can draw.

use serde_json::json;

use super::*;
use crate::output::width_of;

const DRAWN: Look = Look { width: Some(80), colour: false, unicode: true };

/// A day with everything in it.
fn past() -> Value {
    let at = |clock: &str| format!("2026-11-{clock}:00Z");
    let span = |from: &str, to: &str, state: &str| json!({ "from": at(from), "to": at(to), "state": state });
    json!({
        "from": at("22T14:00"), "to": at("23T14:00"),
        "spans": [
            span("22T14:00", "22T15:00", "unknown"),
            span("22T15:00", "22T16:00", "logged_out"),
            span("22T16:00", "23T01:00", "valid"),
            span("23T01:00", "23T04:00", "off"),
            { "from": at("23T04:00"), "to": "2026-11-23T04:00:02.500Z", "state": "lapsed" },
            { "from": "2026-11-23T04:00:02.500Z", "to": at("23T10:00"), "state": "valid" },
            span("23T10:00", "23T11:30", "lapsed"),
            span("23T11:30", "23T14:00", "valid"),
        ],
        "outages": [
            { "from": at("22T20:00"), "to": at("22T20:01"), "reason": "rate_limited" },
            { "from": at("23T09:00"), "to": at("23T11:30"), "reason": "retrying_network" },
        ],
        "attempts": [
            { "at": at("22T17:00"), "duration_ms": 80, "result": "refreshed", "reason": null },
            { "at": at("23T09:00"), "duration_ms": 80, "result": "failed", "reason": "retrying_network" },
        ],
    })
}

fn text(told: &Told) -> String {
    let meanings: Vec<String> = told.meanings.iter().map(|(sign, words)| format!("{sign}: {words}")).collect();
    format!("{}\n{}\n{}", told.title, told.signs, meanings.join("\n"))
}

#[test]
fn a_day_is_one_line_that_fits_and_each_of_its_signs_is_explained() {
    insta::assert_snapshot!("past_drawn", text(&told(&past(), DRAWN).unwrap()));
    insta::assert_snapshot!("past_plain", text(&told(&past(), Look::default()).unwrap()));
    for (width, signs) in [(40, 36), (60, 48), (80, 72), (120, 96), (20, 24)] {
        let told = told(&past(), Look { width: Some(width), ..DRAWN }).unwrap();
        assert_eq!(width_of(&told.signs), signs, "{width}");
    }
}

#[test]
fn every_state_that_the_daemon_tells_is_known_here() {
    use everfresh_domain::timeline::State as Told;
    for state in [Told::Valid, Told::Lapsed, Told::LoggedOut, Told::Disabled, Told::Off] {
        assert_ne!(State::named(state.as_str()), State::Unknown, "{state:?}");
    }
    let mut past = past();
    past["spans"][1]["state"] = json!("disabled");
    let told = text(&told(&past, DRAWN).unwrap());
    assert!(told.contains("═ switched off: 60 min") && !told.contains("logged out"), "{told}");
}

#[test]
fn what_is_no_terminal_gets_nothing_but_ascii() {
    assert!(text(&told(&past(), Look::default()).unwrap()).is_ascii());
}

#[test]
fn a_lapse_is_seen_however_short_it_was() {
    for width in [40, 80, 120] {
        let signs = told(&past(), Look { width: Some(width), ..DRAWN }).unwrap().signs;
        assert_eq!(signs.split('█').filter(|rest| !rest.is_empty()).count(), 3, "{signs}");
    }
}

#[test]
fn a_lapse_that_lasts_says_since_when() {
    let mut past = past();
    past["spans"].as_array_mut().unwrap().pop();
    past["to"] = json!("2026-11-23T11:30:00Z");
    let told = told(&past, DRAWN).unwrap();
    let lapsed = told.meanings.iter().find(|(sign, _)| sign.starts_with('█')).unwrap();
    assert_eq!(lapsed.1, "90 min in all, 2 times, since 2026-11-23 10:00:00 UTC");
}

#[test]
fn the_last_sign_is_how_it_is_however_short_that_has_been() {
    let mut past = past();
    past["to"] = json!("2026-11-23T11:30:01Z");
    past["spans"][7]["to"] = json!("2026-11-23T11:30:01Z");
    assert!(told(&past, DRAWN).unwrap().signs.ends_with('█'), "what must not be overlooked stays");
    past["spans"][6]["state"] = json!("off");
    assert!(told(&past, DRAWN).unwrap().signs.ends_with("─▄"));
}

#[test]
fn only_good_and_bad_have_colours_and_each_run_of_signs_has_one() {
    let signs = told(&past(), Look { colour: true, ..DRAWN }).unwrap().signs;
    assert_eq!(signs.matches("\u{1b}[32m").count(), 4, "{signs:?}");
    assert_eq!(signs.matches("\u{1b}[33m").count(), 2, "{signs:?}");
    assert_eq!(signs.matches("\u{1b}[31m").count(), 2, "{signs:?}");
}

#[test]
fn where_nothing_is_recorded_nothing_is_said() {
    let span = json!({ "from": "2026-11-22T14:00:00Z", "to": "2026-11-23T14:00:00Z", "state": "unknown" });
    let past = json!({ "from": span["from"], "to": span["to"], "spans": [span], "outages": [], "attempts": [] });
    assert!(told(&past, DRAWN).is_none());
    assert!(told(&Value::Null, DRAWN).is_none(), "a daemon that is too old does not tell");
}

#[test]
fn a_state_that_is_not_known_here_is_one_that_is_not_recorded() {
    let mut past = past();
    past["spans"][3]["state"] = json!("hibernating");
    assert!(!told(&past, DRAWN).unwrap().signs.contains('─'));
}
