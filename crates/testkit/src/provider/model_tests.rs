//! The model against itself: it must be as strict as the providers it stands for.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::*;
use crate::provider::Manner;

const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

fn form(pairs: &[(&str, &str)]) -> Form {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A logged-in model and its first refresh token.
fn logged_in(behaviour: Behaviour) -> (Model, String) {
    let mut model = Model::new(behaviour);
    model.register(NOW, &json!({ "redirect_uris": ["http://127.0.0.1/cb"] }));
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(b"verifier"));
    let reply = model.authorize(&form(&[
        ("client_id", "client-1"),
        ("redirect_uri", "http://127.0.0.1/cb"),
        ("code_challenge", &challenge),
    ]));
    assert!(reply.headers[0].1.contains("code=code-canary-1"));
    let reply = model.token(
        NOW,
        &form(&[
            ("grant_type", "authorization_code"),
            ("code", "code-canary-1"),
            ("code_verifier", "verifier"),
            ("redirect_uri", "http://127.0.0.1/cb"),
            ("client_id", "client-1"),
        ]),
        None,
    );
    let token = refresh_token(&reply).expect("a refresh token");
    (model, token)
}

fn refresh_token(reply: &Reply) -> Option<String> {
    serde_json::from_str::<Value>(&reply.body).ok()?["refresh_token"].as_str().map(str::to_owned)
}

fn refresh(model: &mut Model, at: Timestamp, token: &str) -> Reply {
    model.token(
        at,
        &form(&[("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", "client-1")]),
        None,
    )
}

#[test]
fn a_spent_token_ends_the_login_of_a_strict_provider() {
    let (mut model, first) = logged_in(Behaviour::default());
    let second = refresh_token(&refresh(&mut model, NOW, &first)).unwrap();
    assert_eq!(refresh(&mut model, NOW, &first).status, 400);
    assert_eq!(refresh(&mut model, NOW, &second).status, 400, "the family is revoked");
    assert_eq!((model.counters.reuses, model.counters.families_revoked), (1, 1));
}

#[test]
fn within_its_grace_a_spent_token_may_come_again() {
    let rotation = Rotation::SingleUse { grace: Duration::from_secs(10) };
    let (mut model, first) = logged_in(Behaviour { rotation, ..Behaviour::default() });
    assert_eq!(refresh(&mut model, NOW, &first).status, 200);
    assert_eq!(refresh(&mut model, NOW.after(Duration::from_secs(9)), &first).status, 200);
    assert_eq!(refresh(&mut model, NOW.after(Duration::from_secs(30)), &first).status, 400);
}

#[test]
fn the_previous_token_is_good_until_its_successor_was_used() {
    let (mut model, first) = logged_in(Behaviour { rotation: Rotation::PreviousUntilUsed, ..Behaviour::default() });
    assert_eq!(refresh(&mut model, NOW, &first).status, 200);
    let second = refresh_token(&refresh(&mut model, NOW, &first)).unwrap();
    assert_eq!(refresh(&mut model, NOW, &second).status, 200);
    assert_eq!(refresh(&mut model, NOW, &first).status, 400);
    assert_eq!(model.counters.reuses, 1);
}

#[test]
fn a_code_is_good_once_and_only_with_its_verifier() {
    let (mut model, _) = logged_in(Behaviour::default());
    let again = form(&[("grant_type", "authorization_code"), ("code", "code-canary-1"), ("client_id", "client-1")]);
    assert_eq!(model.token(NOW, &again, None).status, 400);
}

#[test]
fn a_fault_lasts_as_often_as_it_was_told() {
    let (mut model, first) = logged_in(Behaviour { rotation: Rotation::Never, ..Behaviour::default() });
    model.switches.fault = Some(Fault::Error { status: 503, error: "temporarily_unavailable".into() });
    model.switches.fault_count = Some(2);
    let statuses: Vec<u16> = (0..3).map(|_| refresh(&mut model, NOW, &first).status).collect();
    assert_eq!(statuses, [503, 503, 200]);
}

#[test]
fn an_answer_that_is_lost_has_rotated_all_the_same() {
    let (mut model, first) = logged_in(Behaviour::default());
    model.switches.fault = Some(Fault::CloseAfter);
    model.switches.fault_count = Some(1);
    assert_eq!(refresh(&mut model, NOW, &first).manner, Manner::Close);
    assert_eq!(refresh(&mut model, NOW, &first).status, 400);
    assert_eq!(model.counters.reuses, 1);
}

#[test]
fn access_tokens_end_and_are_killed_where_the_provider_does_that() {
    let (mut model, first) = logged_in(Behaviour { kills_old_access_tokens: true, ..Behaviour::default() });
    let reply = refresh(&mut model, NOW, &first);
    let access = serde_json::from_str::<Value>(&reply.body).unwrap()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(model.access(NOW, Some(&access), false), Access::Accepted);
    assert_eq!(model.access(NOW.after(Duration::from_secs(3600)), Some(&access), false), Access::Refused);
    refresh(&mut model, NOW, &refresh_token(&reply).unwrap());
    assert_eq!(model.access(NOW, Some(&access), false), Access::Refused);
    assert_eq!(model.access(NOW, None, false), Access::Refused);
}
