//! The record of a login, step by step.

use std::collections::BTreeMap;

use everfresh_domain::grant::{
    AttemptMark, Binding, CLIENT_REFUSALS_CONFIRMED, ClientAuthMethod, ClientRegistration, GrantType, REFUSED_KEPT,
    RequestShape,
};
use everfresh_domain::{
    AttemptId, Budget, Failure, FailureClass, Fingerprint, Generation, GrantRecord, LoginEnd, LoginLimits, Policy,
    Secret, Strikes, Timestamp, TokenResponse, TokenSet,
};

use crate::kit::{HOUR, START, grant};

pub(crate) fn response(refresh_token: Option<&str>) -> TokenResponse {
    TokenResponse {
        access_token: Secret::new("access"),
        token_type: "Bearer".into(),
        expires_in: Some(HOUR),
        refresh_token: refresh_token.map(Secret::new),
        refresh_token_expires_in: None,
        refresh_in: None,
        scopes: None,
        date: None,
    }
}

pub(crate) fn logged_in() -> GrantRecord {
    let binding = Binding {
        upstream: "https://mcp.example/mcp".into(),
        token_endpoint: "https://as.example:8443/token?x=1".into(),
        revocation_endpoint: None,
        grant_type: GrantType::AuthorizationCode,
        client: ClientRegistration {
            issuer: "https://as.example".into(),
            client_id: "client".into(),
            client_secret: None,
            private_key: None,
            auth_method: ClientAuthMethod::None,
            secret_expires_at: None,
            redirect_uris: vec![],
        },
        resource: Some("https://mcp.example".into()),
        requested_scopes: vec!["read".into()],
        dpop_key: None,
        extra_params: BTreeMap::new(),
        shape: RequestShape::default(),
    };
    let tokens = TokenSet::issued(response(Some("r1")), START, &["read".into()]);
    GrantRecord::logged_in(grant("linear"), Generation(1), binding, tokens)
}

fn print(token: &str) -> Fingerprint {
    Secret::new(token).fingerprint()
}

/// With an attempt under way that sends what is to be sent.
fn marked(record: &GrantRecord) -> GrantRecord {
    let mark = AttemptMark {
        attempt: AttemptId { run: 1, number: 1 },
        refresh_token: record.sendable().expect("something to send"),
        started_at: START,
    };
    record.attempting(mark, record.budget)
}

#[test]
fn scopes_that_a_later_answer_leaves_out_are_remembered_until_they_come_back() {
    let scoped = |scopes: &[&str]| TokenResponse {
        scopes: Some(scopes.iter().map(|scope| (*scope).to_owned()).collect()),
        ..response(None)
    };
    let whole = marked(&logged_in()).renewed(scoped(&["read", "write"]), START);
    let reduced = marked(&whole).renewed(scoped(&["read"]), START);
    assert_eq!(reduced.facts().lost_scopes, ["write"]);
    let silent = marked(&reduced).renewed(response(None), START);
    assert_eq!(silent.facts().lost_scopes, ["write"], "an answer without scopes gives none back");
    assert!(marked(&silent).renewed(scoped(&["write", "read"]), START).facts().lost_scopes.is_empty());
}

fn failed(record: &GrantRecord, class: FailureClass) -> GrantRecord {
    marked(record).failed(&Failure { oauth_error: Some("code".into()), ..Failure::without_answer(class, "as told") })
}

#[test]
fn a_just_rotated_token_that_is_refused_leaves_the_one_before_to_be_tried() {
    let rotated = marked(&logged_in()).renewed(response(Some("r2")), START);
    assert_eq!((rotated.sendable(), rotated.generation), (Some(print("r2")), Generation(2)));
    let refused = failed(&rotated, FailureClass::Refused);
    assert_eq!((refused.sendable(), &refused.ended), (Some(print("r1")), &None));
    let saved = marked(&refused).renewed(response(Some("r3")), START);
    assert_eq!((saved.sendable(), saved.ended), (Some(print("r3")), None));
    let over = failed(&refused, FailureClass::Refused);
    assert_eq!((over.sendable(), over.ended), (None, Some(LoginEnd::Refused { code: "code".into() })));
}

#[test]
fn the_token_before_goes_once_its_successor_was_accepted() {
    let first = marked(&logged_in()).renewed(response(Some("r2")), START);
    let second = marked(&first).renewed(response(Some("r3")), START);
    assert!(second.refresh_token(print("r1")).is_none() && second.refresh_token(print("r2")).is_some());
    let kept = marked(&second).renewed(response(None), START);
    assert_eq!((kept.sendable(), kept.refresh_token(print("r2")).is_some()), (Some(print("r3")), false));
}

#[test]
fn nothing_but_a_refusal_takes_a_token_away() {
    for class in [
        FailureClass::Network,
        FailureClass::AnswerLost,
        FailureClass::Provider,
        FailureClass::RateLimited,
        FailureClass::Suspect,
        FailureClass::Shape,
        FailureClass::HeldBack,
        FailureClass::Store,
        FailureClass::Configuration,
        FailureClass::ClientRejected,
    ] {
        let after = failed(&logged_in(), class);
        assert_eq!((after.sendable(), after.ended), (Some(print("r1")), None), "{class:?}");
        assert_eq!(after.tokens, logged_in().tokens, "{class:?}");
    }
}

#[test]
fn a_client_is_believed_to_be_unknown_at_the_second_word() {
    let mut record = logged_in();
    for _ in 1..CLIENT_REFUSALS_CONFIRMED {
        record = failed(&record, FailureClass::ClientRejected);
        assert_eq!(record.ended, None);
    }
    let record = failed(&record, FailureClass::ClientRejected);
    assert!(matches!(record.ended, Some(LoginEnd::ClientRejected { .. })));
    assert!(record.tokens.is_some(), "the tokens are kept");
}

#[test]
fn a_request_shape_is_tried_once_each_and_remembered() {
    let without_resource = failed(&logged_in(), FailureClass::Shape);
    assert_eq!(without_resource.binding.shape, RequestShape { resource: false, scope: false });
    let with_scope = failed(&without_resource, FailureClass::Shape);
    assert_eq!(with_scope.binding.shape, RequestShape { resource: false, scope: true });
    let no_further = failed(&with_scope, FailureClass::Shape);
    assert_eq!(no_further.binding.shape, with_scope.binding.shape);
    let kept = marked(&with_scope).renewed(response(None), START);
    assert_eq!(kept.binding.shape, with_scope.binding.shape);
}

#[test]
fn a_mark_found_at_start_means_that_an_answer_may_be_lost() {
    let found = marked(&logged_in());
    assert_eq!(found.facts().answer_lost, Some(print("r1")));
    let again = marked(&found);
    assert_eq!(again.answer_lost, Some(print("r1")));
    let refused = again.failed(&Failure::without_answer(FailureClass::Refused, "as told"));
    assert!(matches!(refused.ended, Some(LoginEnd::RotationLost { .. })), "{:?}", refused.ended);
}

#[test]
fn refused_tokens_are_remembered_but_not_without_bound() {
    let mut record = logged_in();
    for number in 0..REFUSED_KEPT * 2 {
        record = failed(&record, FailureClass::Refused);
        let tokens = TokenSet::issued(response(Some(&format!("r-{number}"))), START, &[]);
        record = GrantRecord { tokens: Some(tokens), ended: None, ..record };
    }
    assert_eq!(record.refused.len(), REFUSED_KEPT);
}

#[test]
fn the_endpoint_that_limits_are_shared_by_is_host_and_port() {
    assert_eq!(logged_in().binding.endpoint(), "as.example:8443");
}

#[test]
fn a_logout_erases_the_tokens_and_begins_a_new_generation() {
    let out = marked(&logged_in()).logged_out();
    assert_eq!((out.generation, &out.tokens, out.sendable()), (Generation(2), &None, None));
    assert_eq!((out.attempt, out.previous_refresh_token, out.ended), (None, None, Some(LoginEnd::LoggedOut)));
    assert_eq!(out.last_success_at, Some(Timestamp::from_millis(START.as_millis())));
}

#[test]
fn each_step_writes_what_another_life_of_the_process_needs() {
    let lost = failed(&logged_in(), FailureClass::AnswerLost);
    assert!(lost.answer_lost.is_some());
    let budget = Budget::default().paid(START, &Policy::default());
    let mark = AttemptMark { attempt: AttemptId { run: 1, number: 2 }, refresh_token: print("r1"), started_at: START };
    let marked = lost.attempting(mark, budget);
    assert_eq!((marked.budget, marked.last_attempt_at), (budget, Some(START)));
    let later = START.after(HOUR);
    let renewed = marked.renewed(response(Some("r2")), later);
    assert_eq!((renewed.answer_lost, renewed.last_success_at, renewed.budget), (None, Some(later), budget));
}

#[test]
fn a_refresh_clears_a_refusal_of_the_client_and_a_logout_leaves_no_token_behind() {
    let doubted = failed(&logged_in(), FailureClass::ClientRejected);
    assert_eq!(doubted.client_refusals, 1);
    let renewed = marked(&doubted).renewed(response(Some("r2")), START.after(HOUR));
    assert_eq!(renewed.client_refusals, 0);
    assert_eq!(renewed.tokens.as_ref().and_then(TokenSet::expires_at), Some(START.after(HOUR * 2)));
    let lost = failed(&renewed, FailureClass::AnswerLost);
    assert!(lost.answer_lost.is_some() && lost.previous_refresh_token.is_some());
    let out = lost.logged_out();
    assert_eq!((out.tokens, out.previous_refresh_token, out.answer_lost), (None, None, None));
}

#[test]
fn a_login_whose_server_has_moved_sends_nothing() {
    let facts = logged_in().misplaced("elsewhere".into()).facts();
    assert_eq!((facts.sendable, facts.ended), (None, Some(LoginEnd::IssuerChanged { detail: "elsewhere".into() })));
}

#[test]
fn strikes_are_kept_until_the_provider_says_something_else() {
    let twice = failed(&failed(&logged_in(), FailureClass::Suspect), FailureClass::Suspect);
    assert_eq!(twice.facts().strikes, Some(Strikes { count: 2, since: START }));
    for class in [FailureClass::Network, FailureClass::HeldBack, FailureClass::Store] {
        assert_eq!(failed(&twice, class).strikes, twice.strikes, "{class:?} asked nobody");
    }
    for class in [FailureClass::Provider, FailureClass::RateLimited, FailureClass::Shape, FailureClass::AnswerLost] {
        assert_eq!(failed(&twice, class).strikes, None, "{class:?}");
    }
    assert_eq!(marked(&twice).renewed(response(None), START).strikes, None);
    assert_eq!(twice.logged_out().strikes, None);
}

#[test]
fn the_ends_that_limits_mean_are_known_and_the_nearest_counts() {
    let day = HOUR * 24;
    let limits = LoginLimits { idle: Some(day * 90), absolute: None };
    let idle = logged_in().limited_by(limits);
    let end = |record: &GrantRecord| record.facts().tokens.and_then(|tokens| tokens.refresh_token_expires_at());
    assert_eq!(end(&logged_in()), None);
    assert_eq!(end(&idle), Some(START.after(day * 90)));
    let used = marked(&idle).renewed(response(Some("r2")), START.after(day * 40));
    assert_eq!(end(&used), Some(START.after(day * 130)), "it was used");
    let both = used.limited_by(LoginLimits { idle: None, absolute: Some(day * 100) });
    assert_eq!(both.limits, LoginLimits { idle: Some(day * 90), absolute: Some(day * 100) });
    assert_eq!(end(&both), Some(START.after(day * 100)), "the login ends, however often it is used");
}
