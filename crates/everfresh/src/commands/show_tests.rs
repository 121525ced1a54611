//! One login in full, at each width.

use serde_json::json;

use super::*;

fn server() -> Value {
    json!({
        "name": "linear", "account": "work", "url": "https://mcp.linear.app/mcp", "grant": "authorization_code",
        "source": "file", "shadows_stored": true, "issuer": "https://mcp.linear.app",
        "health": {
            "level": "degraded", "admin_state": "enabled", "summary": "Refresh failed - network error",
            "detail": "Refresh retry 3 at 2026-11-23T14:05:40Z: connection timed out", "action": "retry",
            "command": "everfresh refresh linear@work", "reason": "retrying_network",
        },
        "token": {
            "type": "Bearer", "expires_at": "2026-11-23T14:20:00Z", "issued_at": "2026-11-23T12:20:00Z",
            "lifetime_s": 7200, "has_refresh_token": true, "refresh_token_expires_at": "2026-12-23T14:00:00Z",
            "scopes": ["read", "write", "issues:create", "comments:create", "admin"], "lost_scopes": [],
            "generation": 17, "fingerprint": "9f3a01bc",
        },
        "refresh": {
            "state": "retrying", "next_attempt_at": "2026-11-23T14:05:40Z", "retry_count": 3,
            "last_attempt_at": "2026-11-23T13:59:00Z", "last_success_at": "2026-11-23T12:20:00Z",
            "last_error": { "reason": "retrying_network", "message": "connection timed out", "attempt_id": "00ab12cd-7" },
        },
        "login": { "pending": false, "pending_until": null, "requested_scopes": ["read"], "needed_scopes": [],
                   "client_secret_expires_at": null },
        "timeline": {
            "from": "2026-11-22T14:00:00Z", "to": "2026-11-23T14:00:00Z",
            "spans": [
                { "from": "2026-11-22T14:00:00Z", "to": "2026-11-22T20:00:00Z", "state": "off" },
                { "from": "2026-11-22T20:00:00Z", "to": "2026-11-23T14:00:00Z", "state": "valid" },
            ],
            "outages": [{ "from": "2026-11-23T13:50:00Z", "to": null, "reason": "retrying_network" }],
            "attempts": [{ "at": "2026-11-23T13:50:00Z", "duration_ms": 10_000, "result": "failed", "reason": "retrying_network" }],
        },
        "profile": { "name": "linear", "title": "Linear", "note": "refresh tokens last 30 days" },
    })
}

#[test]
fn everything_about_a_login_is_aligned_and_fits() {
    let now = "2026-11-23T14:00:00Z".parse().unwrap();
    for width in [40, 80] {
        let text = rendered(&server(), now, Look { width: Some(width), ..Look::default() });
        let widest = text.lines().map(output::width_of).max().unwrap();
        assert!(widest <= width, "{width}: {widest}\n{text}");
        insta::assert_snapshot!(format!("show_{width}"), text);
    }
}

#[test]
fn a_login_that_was_never_made_has_no_empty_lines() {
    let mut server = server();
    for part in ["token", "profile", "issuer"] {
        server[part] = json!(null);
    }
    let text = rendered(&server, "2026-11-23T14:00:00Z".parse().unwrap(), Look::default());
    assert!(text.contains("none; nobody is logged in"), "{text}");
    assert!(!text.lines().any(|line| line.ends_with(" -")), "{text}");
}
