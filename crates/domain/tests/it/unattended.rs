//! Grants that need no person: what the engine plans for them, and what their records remember.

use everfresh_domain::engine::{AttemptOutcome, Trigger};
use everfresh_domain::failure::{Failure, FailureClass};
use everfresh_domain::grant::{AttemptMark, Binding, ClientAuthMethod, GrantFacts, GrantRecord, GrantType, LoginEnd};
use everfresh_domain::status::RefreshState;
use everfresh_domain::unattended::{Answerer, Credential, configured};
use everfresh_domain::{AttemptId, Event, Fingerprint, Generation, Secret};

use crate::kit::{HOUR, START, Stage, facts, grant, secs};
use crate::record::{logged_in, response};

fn waiting() -> GrantFacts {
    GrantFacts::awaiting(GrantType::ClientCredentials, "as.example".into())
}

fn unattended(facts: GrantFacts) -> GrantFacts {
    let tokens = facts.tokens.map(|tokens| everfresh_domain::TokenFacts { refresh_token: None, ..tokens });
    GrantFacts { grant_type: GrantType::ClientCredentials, tokens, sendable: Some(configured()), ..facts }
}

#[test]
fn the_first_token_is_due_at_once_and_again_with_backoff() {
    let mut stage = Stage::new();
    stage.load("robot", waiting());
    let mut last = stage.one();
    assert_eq!((last.trigger, last.refresh_token, last.generation), (Trigger::Schedule, configured(), Generation(0)));
    for wait in [10, 20, 40, 80] {
        stage.fail(&last, FailureClass::Configuration);
        assert_eq!(stage.status("robot").state, RefreshState::Retrying);
        let next = stage.next();
        let waited = next.started_at.since(last.started_at).as_secs();
        assert!((wait..=wait + wait / 10 + 1).contains(&waited), "{waited} s instead of {wait}");
        last = next;
    }
}

#[test]
fn tokens_without_a_refresh_token_are_renewed_at_four_fifths_of_their_life() {
    let mut stage = Stage::new();
    stage.load("robot", unattended(facts(secs(0), HOUR)));
    let at = stage.next().started_at.since(START).as_secs();
    assert!((2_808..=2_880).contains(&at), "{at}");
}

#[test]
fn what_is_refused_is_looked_at_again_without_haste() {
    let mut stage = Stage::new();
    stage.load("robot", waiting());
    let first = stage.one();
    let end = LoginEnd::CredentialRefused { credential: Credential::ClientSecret, code: "invalid_client".into() };
    let refused = GrantFacts { ended: Some(end), last_attempt_at: Some(first.started_at), ..waiting() };
    let failure = Failure::without_answer(FailureClass::Refused, "as told");
    stage.report(&first, AttemptOutcome::Failed { failure, facts: Some(Box::new(refused.clone())) });
    assert_eq!(stage.status("robot").state, RefreshState::Failed);
    let second = stage.next();
    assert!(second.started_at.since(first.started_at) >= secs(10), "there is no other token to try at once");
    stage.tell(Event::Loaded { grant: grant("robot"), enabled: true, facts: Some(Box::new(refused)) });
    assert_eq!(stage.status("robot").state, RefreshState::Failed, "also in another life of the process");
    assert!(stage.status("robot").next_attempt_at.is_some());
}

fn record(grant_type: GrantType) -> GrantRecord {
    let interactive = logged_in();
    GrantRecord::awaiting(interactive.id, Binding { grant_type, ..interactive.binding })
}

fn print(text: &str) -> Fingerprint {
    Secret::new(text).fingerprint()
}

fn sending(record: &GrantRecord, credential: &str) -> GrantRecord {
    let attempt = AttemptId { run: 1, number: 1 };
    record.attempting(AttemptMark { attempt, refresh_token: print(credential), started_at: START }, record.budget)
}

fn refusal(class: FailureClass, code: &str) -> Failure {
    Failure { oauth_error: Some(code.into()), ..Failure::without_answer(class, "as told") }
}

#[test]
fn tokens_are_taken_without_the_refresh_token_that_nobody_asked_for() {
    let granted = sending(&record(GrantType::ClientCredentials), "s1").granted(response(Some("r1")), START);
    assert_eq!(
        (granted.generation, granted.attempt.clone(), granted.last_success_at),
        (Generation(1), None, Some(START))
    );
    let tokens = granted.tokens.clone().unwrap();
    assert_eq!((tokens.refresh_token, tokens.scopes), (None, vec!["read".to_owned()]));
    assert_eq!(granted.facts().sendable, Some(configured()));
}

#[test]
fn an_answer_that_is_lost_leaves_nothing_in_doubt() {
    let marked = sending(&record(GrantType::JwtBearer), "jwt");
    assert_eq!(marked.facts().answer_lost, None, "a mark found at start means nothing");
    assert_eq!(sending(&marked, "jwt").answer_lost, None);
    let lost = marked.not_granted(Answerer::AuthorizationServer, &refusal(FailureClass::AnswerLost, ""));
    assert_eq!((lost.answer_lost, lost.ended, lost.refused.len()), (None, None, 0));
}

#[test]
fn each_refusal_names_what_was_refused() {
    use Answerer::{AuthorizationServer as Server, IdentityProvider as Provider};
    use FailureClass::{ClientRejected, Refused, Shape, Suspect};
    let managed = GrantType::EnterpriseManaged;
    let cases = [
        (GrantType::JwtBearer, Server, Refused, "invalid_grant", Some(Credential::Assertion)),
        (GrantType::ClientCredentials, Server, Refused, "invalid_grant", Some(Credential::ClientId)),
        (managed, Server, Refused, "invalid_grant", Some(Credential::IdentityAssertion)),
        (managed, Provider, Refused, "invalid_grant", Some(Credential::IdToken)),
        (managed, Provider, Suspect, "invalid_request", Some(Credential::IdToken)),
        (managed, Server, Suspect, "invalid_request", None),
        (GrantType::JwtBearer, Server, Suspect, "unauthorized_client", Some(Credential::GrantType)),
        (GrantType::JwtBearer, Server, Shape, "invalid_scope", Some(Credential::Scopes)),
        (GrantType::JwtBearer, Server, Suspect, "blocked", None),
        (GrantType::JwtBearer, Server, ClientRejected, "invalid_client", None),
        (GrantType::JwtBearer, Server, FailureClass::Provider, "server_error", None),
    ];
    for (grant_type, answerer, class, code, expected) in cases {
        let after = sending(&record(grant_type), "sent").not_granted(answerer, &refusal(class, code));
        let named = expected.map(|credential| LoginEnd::CredentialRefused { credential, code: code.into() });
        assert_eq!(after.ended, named, "{grant_type:?} {answerer:?} {code}");
        assert_eq!(after.refused.contains(&print("sent")), expected.is_some(), "{code}");
        assert_eq!(after.facts().sendable, Some(configured()), "it is looked at again");
    }
}

#[test]
fn a_client_is_believed_to_be_refused_at_the_second_word_and_named_by_its_proof() {
    for (auth_method, credential) in [
        (ClientAuthMethod::ClientSecretBasic, Credential::ClientSecret),
        (ClientAuthMethod::PrivateKeyJwt, Credential::PrivateKey),
    ] {
        let mut record = record(GrantType::ClientCredentials);
        record.binding.client.auth_method = auth_method;
        let unknown = refusal(FailureClass::ClientRejected, "invalid_client");
        let doubted = sending(&record, "s1").not_granted(Answerer::AuthorizationServer, &unknown);
        assert_eq!((doubted.ended.clone(), doubted.refused.len()), (None, 0));
        let refused = sending(&doubted, "s1").not_granted(Answerer::AuthorizationServer, &unknown);
        let code = "invalid_client".to_owned();
        assert_eq!(refused.ended, Some(LoginEnd::CredentialRefused { credential, code }));
        let mended = sending(&refused, "s1").granted(response(None), START);
        assert_eq!((mended.ended, mended.refused.len(), mended.client_refusals), (None, 0, 0));
    }
}

#[test]
fn a_resource_is_left_out_once_and_then_refused() {
    let unknown = refusal(FailureClass::Shape, "invalid_target");
    let without = sending(&record(GrantType::JwtBearer), "jwt").not_granted(Answerer::AuthorizationServer, &unknown);
    assert_eq!((without.binding.shape.resource, without.ended.clone()), (false, None));
    let refused = sending(&without, "jwt").not_granted(Answerer::AuthorizationServer, &unknown);
    assert!(matches!(refused.ended, Some(LoginEnd::CredentialRefused { credential: Credential::Resource, .. })));
}

#[test]
fn a_logout_stays_until_it_is_taken_back() {
    let out = sending(&record(GrantType::JwtBearer), "jwt").granted(response(None), START).logged_out();
    assert_eq!((out.facts().sendable, out.generation), (None, Generation(2)));
    let revived = out.revived();
    assert_eq!((revived.facts().sendable, revived.generation), (Some(configured()), Generation(3)));
}

#[test]
fn nothing_of_a_persons_login_counts_for_another_grant() {
    let robot = logged_in().reconfigured(GrantType::ClientCredentials);
    assert_eq!((robot.tokens.clone(), robot.facts().sendable), (None, Some(configured())));
    let person = robot.reconfigured(GrantType::AuthorizationCode);
    assert_eq!((person.facts().sendable, person.generation), (None, Generation(1)));
}
