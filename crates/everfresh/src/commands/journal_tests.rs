//! The journal in words.

use serde_json::json;

use super::*;

fn entry(result: &str, trigger: &str, more: Value) -> Value {
    let mut entry = json!({
        "attempt_id": "00ab12cd-7", "started_at": "2026-11-23T13:57:00.250Z", "duration_ms": 87, "trigger": trigger,
        "generation": 3, "refresh_token": "1a2b3c4d", "credential": null, "result": result,
        "new_refresh_token": null, "oauth_error": null, "http_status": null, "message": null,
    });
    for (name, value) in more.as_object().unwrap() {
        entry[name] = value.clone();
    }
    entry
}

fn entries() -> Vec<Value> {
    vec![
        entry("refreshed", "schedule", json!({ "new_refresh_token": "5e6f7a8b" })),
        entry(
            "failed",
            "retry",
            json!({ "duration_ms": 10_020, "message": "the answer was lost: connection reset by peer" }),
        ),
        entry("failed", "user", json!({ "message": "the provider refused", "oauth_error": "invalid_grant" })),
        entry("adopted", "request", json!({})),
        entry("discarded", "upstream", json!({})),
        entry("refreshed", "lost_answer", json!({ "refresh_token": null, "credential": "77aa88bb" })),
    ]
}

#[test]
fn attempts_are_told_in_words_at_every_width() {
    let now = "2026-11-23T14:00:00Z".parse().unwrap();
    for width in [40, 80, 120] {
        let text = rendered(&entries(), now, Look { width: Some(width), ..Look::default() });
        let widest = text.lines().map(width_of).max().unwrap();
        assert!(widest <= width, "{width}: {widest}\n{text}");
        insta::assert_snapshot!(format!("journal_{width}"), text);
    }
}

#[test]
fn only_the_outcome_has_a_colour() {
    let text = rendered(
        &entries()[..1],
        "2026-11-23T14:00:00Z".parse().unwrap(),
        Look { width: Some(80), colour: true, ..Look::default() },
    );
    assert_eq!(text.matches("\u{1b}[32m").count(), 1, "{text:?}");
}

#[test]
fn no_attempt_is_told_too() {
    assert_eq!(rendered(&[], Timestamp::EPOCH, Look::default()), "no attempt yet");
}
