//! What people are told: every situation has its own words.

use std::collections::BTreeMap;
use std::time::Duration;

use everfresh_domain::failure::{Failure, FailureClass};
use everfresh_domain::grant::{GrantType, LoginEnd};
use everfresh_domain::health::{AdminState, Health, HealthAction, Level, Reason};
use everfresh_domain::status::{GrantStatus, LastFailure, RefreshState, UpstreamVerdict};
use everfresh_domain::unattended::Credential;
use everfresh_domain::{AttemptId, Generation, Policy};

use crate::kit::{HOUR, START, facts, grant, secs};

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn connected() -> GrantStatus {
    GrantStatus {
        generation: Generation(1),
        tokens: facts(secs(60), HOUR).tokens,
        state: RefreshState::Scheduled,
        next_attempt_at: Some(START.after(secs(2_800))),
        ..GrantStatus::unknown(grant("linear"))
    }
}

fn expired(status: GrantStatus) -> GrantStatus {
    GrantStatus { tokens: facts(secs(7_200), HOUR).tokens, ..status }
}

fn retrying(class: FailureClass) -> GrantStatus {
    let failure = Failure::without_answer(class, "connection timed out");
    GrantStatus {
        state: RefreshState::Retrying,
        retry_count: 3,
        next_attempt_at: Some(START.after(secs(40))),
        last_failure: Some(LastFailure { attempt: AttemptId { run: 1, number: 4 }, at: START, failure }),
        ..connected()
    }
}

fn ended(end: LoginEnd) -> GrantStatus {
    GrantStatus { state: RefreshState::Failed, next_attempt_at: None, ended: Some(end), ..connected() }
}

fn unrefreshable(age_s: u64) -> GrantStatus {
    let mut tokens = facts(secs(age_s), HOUR).tokens.expect("the facts of a login have tokens");
    tokens.refresh_token = None;
    GrantStatus { tokens: Some(tokens), state: RefreshState::Idle, next_attempt_at: None, ..connected() }
}

fn refresh_token_of(lifetime: Duration, age: Duration) -> GrantStatus {
    let mut tokens = connected().tokens.expect("whoever is connected has tokens");
    tokens.refresh_token_issued_at = Some(START.before(age));
    tokens.refresh_token_lifetime = Some(lifetime);
    GrantStatus { tokens: Some(tokens), ..connected() }
}

/// A login that its provider ends after `absolute`, made `age` ago.
fn login_of(absolute: Duration, age: Duration) -> GrantStatus {
    let mut tokens = connected().tokens.expect("whoever is connected has tokens");
    tokens.login_ends_at = Some((START.before(age).after(absolute), absolute));
    GrantStatus { tokens: Some(tokens), ..connected() }
}

fn client_secret_ending_in(time: Duration) -> GrantStatus {
    GrantStatus { client_secret_expires_at: Some(START.after(time)), ..connected() }
}

/// So many logins asked for a scope that is still missing.
fn asked_in_vain(step_ups: u32) -> GrantStatus {
    let (missing_scopes, requested_scopes) = (vec!["write".into()], vec!["read".into(), "write".into()]);
    GrantStatus { missing_scopes, requested_scopes, step_ups, ..connected() }
}

/// Situations in which scopes are wanting.
fn wanting_scopes() -> Vec<(GrantStatus, Level, HealthAction, Reason)> {
    use HealthAction as Do;
    use Level::Degraded;
    vec![
        (
            GrantStatus { missing_scopes: vec!["write".into()], ..connected() },
            Degraded,
            Do::Login,
            Reason::InsufficientScope,
        ),
        (asked_in_vain(2), Degraded, Do::Login, Reason::InsufficientScope),
        (asked_in_vain(3), Degraded, Do::None, Reason::ScopeNotGranted),
        (
            GrantStatus { requested_scopes: vec!["read".into()], ..asked_in_vain(9) },
            Degraded,
            Do::Login,
            Reason::InsufficientScope,
        ),
        (GrantStatus { lost_scopes: vec!["write".into()], ..connected() }, Degraded, Do::Login, Reason::ScopeReduced),
    ]
}

/// What works, and stands on something that ends.
fn ends() -> Vec<(GrantStatus, Level, HealthAction, Reason)> {
    use HealthAction as Do;
    use Level::{Degraded, Healthy};
    vec![
        (refresh_token_of(DAY * 90, DAY * 80), Healthy, Do::None, Reason::Ok),
        (refresh_token_of(DAY * 90, DAY * 84), Degraded, Do::Login, Reason::RefreshTokenExpiring),
        (refresh_token_of(HOUR, secs(3_000)), Healthy, Do::None, Reason::Ok),
        (refresh_token_of(HOUR, secs(3_100)), Degraded, Do::Login, Reason::RefreshTokenExpiring),
        (login_of(DAY * 365, DAY * 350), Healthy, Do::None, Reason::Ok),
        (login_of(DAY * 365, DAY * 359), Degraded, Do::Login, Reason::RefreshTokenExpiring),
        (client_secret_ending_in(DAY * 8), Healthy, Do::None, Reason::Ok),
        (client_secret_ending_in(DAY * 6), Degraded, Do::Login, Reason::ClientSecretExpiring),
    ]
}

fn unattended(status: GrantStatus) -> GrantStatus {
    GrantStatus { grant_type: GrantType::ClientCredentials, ..status }
}

fn first_token_after(class: FailureClass) -> GrantStatus {
    unattended(GrantStatus { tokens: None, ..retrying(class) })
}

fn secret_refused() -> LoginEnd {
    LoginEnd::CredentialRefused { credential: Credential::ClientSecret, code: "invalid_client".into() }
}

type Situation = (GrantStatus, Level, HealthAction, Reason);

fn situations() -> Vec<Situation> {
    [of_logins(), of_unattended_grants()].concat()
}

fn of_unattended_grants() -> Vec<Situation> {
    use HealthAction as Do;
    use Level::{Degraded, Healthy, Unhealthy};
    vec![
        (unattended(connected()), Healthy, Do::None, Reason::Ok),
        (unattended(unrefreshable(60)), Healthy, Do::None, Reason::Ok),
        (unattended(GrantStatus::unknown(grant("linear"))), Healthy, Do::None, Reason::Refreshing),
        (first_token_after(FailureClass::Network), Unhealthy, Do::Retry, Reason::RetryingNetwork),
        (first_token_after(FailureClass::Provider), Unhealthy, Do::ViewLogs, Reason::RetryingProvider),
        (first_token_after(FailureClass::Configuration), Unhealthy, Do::Configure, Reason::Misconfigured),
        (unattended(ended(secret_refused())), Degraded, Do::Configure, Reason::CredentialRefused),
        (unattended(expired(ended(secret_refused()))), Unhealthy, Do::Configure, Reason::CredentialRefused),
        (unattended(ended(LoginEnd::LoggedOut)), Unhealthy, Do::Login, Reason::LoggedOut),
        (
            unattended(GrantStatus { suspected_dead: true, ..retrying(FailureClass::Suspect) }),
            Degraded,
            Do::Configure,
            Reason::SuspectedRejected,
        ),
    ]
}

fn of_logins() -> Vec<Situation> {
    use HealthAction as Do;
    use Level::{Degraded, Healthy, Unhealthy};
    let code = || "invalid_grant".to_owned();
    let refreshing = GrantStatus { state: RefreshState::Refreshing, next_attempt_at: None, ..connected() };
    let mut situations = wanting_scopes();
    situations.extend([
        (connected(), Healthy, Do::None, Reason::Ok),
        (refreshing.clone(), Healthy, Do::None, Reason::Refreshing),
        (expired(refreshing), Healthy, Do::None, Reason::Refreshing),
        (retrying(FailureClass::Network), Degraded, Do::Retry, Reason::RetryingNetwork),
        (expired(retrying(FailureClass::Network)), Unhealthy, Do::Retry, Reason::RetryingNetwork),
        (retrying(FailureClass::AnswerLost), Degraded, Do::Retry, Reason::RetryingNetwork),
        (retrying(FailureClass::Provider), Degraded, Do::ViewLogs, Reason::RetryingProvider),
        (expired(retrying(FailureClass::Provider)), Unhealthy, Do::ViewLogs, Reason::RetryingProvider),
        (retrying(FailureClass::RateLimited), Degraded, Do::ViewLogs, Reason::RateLimited),
        (retrying(FailureClass::HeldBack), Degraded, Do::ViewLogs, Reason::HeldBack),
        (retrying(FailureClass::Store), Degraded, Do::ViewLogs, Reason::StoreWriteFailed),
        (
            GrantStatus { suspected_dead: true, ..retrying(FailureClass::Suspect) },
            Degraded,
            Do::Login,
            Reason::SuspectedRejected,
        ),
        (ended(LoginEnd::Refused { code: code() }), Unhealthy, Do::Login, Reason::RefreshTokenRejected),
        (ended(LoginEnd::RotationLost { code: code() }), Unhealthy, Do::Login, Reason::RotationLost),
        (ended(LoginEnd::ClientRejected { code: code() }), Unhealthy, Do::Login, Reason::ClientRejected),
        (ended(LoginEnd::IssuerChanged { detail: code() }), Unhealthy, Do::Login, Reason::IssuerChanged),
        (ended(LoginEnd::LoggedOut), Unhealthy, Do::Login, Reason::LoggedOut),
        (GrantStatus::unknown(grant("linear")), Unhealthy, Do::Login, Reason::LoginRequired),
        (unrefreshable(60), Healthy, Do::Login, Reason::NoRefreshToken),
        (unrefreshable(3_000), Degraded, Do::Login, Reason::NoRefreshToken),
        (unrefreshable(7_200), Unhealthy, Do::Login, Reason::ExpiredNoRefreshToken),
        (
            GrantStatus { upstream: UpstreamVerdict::RejectsFresh(Generation(1)), ..connected() },
            Unhealthy,
            Do::Login,
            Reason::RejectedAfterRefresh,
        ),
        (
            GrantStatus { unsaved: Some("disk full".into()), ..connected() },
            Degraded,
            Do::ViewLogs,
            Reason::StoreWriteFailed,
        ),
        (
            GrantStatus { unreadable: Some("damaged".into()), ..connected() },
            Unhealthy,
            Do::ViewLogs,
            Reason::StoreUnreadable,
        ),
        (GrantStatus { clock_skew_s: Some(-90), ..connected() }, Degraded, Do::Configure, Reason::ClockSkew),
        (
            GrantStatus { misconfigured: Some("no such file".into()), ..connected() },
            Unhealthy,
            Do::Configure,
            Reason::Misconfigured,
        ),
        (GrantStatus { enabled: false, ..connected() }, Healthy, Do::Enable, Reason::Disabled),
    ]);
    situations
}

fn health(status: &GrantStatus) -> Health {
    status.health(START, &Policy::default())
}

#[test]
fn every_situation_has_its_level_action_and_reason() {
    for (status, level, action, reason) in situations().into_iter().chain(ends()) {
        let health = health(&status);
        assert_eq!((health.level, health.action, health.reason), (level, action, reason), "{health:?}");
    }
}

#[test]
fn every_reason_is_reached() {
    let reached: Vec<Reason> = situations().iter().chain(&ends()).map(|(_, _, _, reason)| *reason).collect();
    for reason in Reason::ALL {
        assert!(reached.contains(reason), "{reason:?}");
    }
}

#[test]
fn no_two_reasons_share_a_text() {
    let mut words: BTreeMap<String, Reason> = BTreeMap::new();
    for (status, _, _, reason) in situations().into_iter().chain(ends()) {
        let other = *words.entry(health(&status).summary).or_insert(reason);
        assert_eq!(other, reason);
    }
}

#[test]
fn names_are_those_of_the_interface() {
    assert_eq!(
        [Level::Healthy, Level::Degraded, Level::Unhealthy].map(Level::as_str),
        ["healthy", "degraded", "unhealthy"]
    );
    use HealthAction as Do;
    let actions = [Do::Login, Do::Retry, Do::ViewLogs, Do::Enable, Do::Configure, Do::None];
    assert_eq!(actions.map(Do::as_str), ["login", "retry", "view_logs", "enable", "configure", ""]);
}

#[test]
fn what_is_wrong_stands_in_the_detail_and_who_switched_off_is_told_apart() {
    let misconfigured = health(&GrantStatus { misconfigured: Some("no such file".into()), ..connected() });
    assert_eq!((misconfigured.detail.as_str(), misconfigured.admin_state), ("no such file", AdminState::Enabled));
    assert_eq!(health(&GrantStatus { enabled: false, ..connected() }).admin_state, AdminState::Disabled);
}

#[test]
fn a_retry_under_way_is_still_a_failure_and_a_failure_that_is_over_is_none() {
    let retrying = retrying(FailureClass::Network);
    let under_way = GrantStatus { state: RefreshState::Refreshing, next_attempt_at: None, ..retrying.clone() };
    assert_eq!(health(&under_way).reason, Reason::RetryingNetwork);
    let held_back = GrantStatus { retry_count: 0, ..retrying.clone() };
    assert_eq!(health(&held_back).reason, Reason::RetryingNetwork);
    let over = GrantStatus { retry_count: 0, state: RefreshState::Scheduled, ..retrying };
    assert_eq!(health(&over).reason, Reason::Ok);
}

#[test]
fn past_its_refresh_point_or_its_end_a_token_is_being_refreshed() {
    let due = GrantStatus { next_attempt_at: Some(START), ..connected() };
    assert_eq!(health(&due).reason, Reason::Refreshing);
    assert_eq!(health(&expired(connected())).reason, Reason::Refreshing);
}
