//! Logging in: once, by the right answer, from the right issuer.

use std::time::Duration;

use everfresh_application::{CallbackQuery, PublicEventKind};
use everfresh_domain::Secret;
use everfresh_domain::login::LoginOutcome;
use everfresh_testkit::provider::Behaviour;

use crate::world::{World, grant, pass};

#[tokio::test(start_paused = true)]
async fn a_second_login_of_a_grant_is_the_first() {
    let world = World::new(Behaviour::default()).await;
    let first = world.app.start_login(&grant(), None).await.unwrap();
    let second = world.app.start_login(&grant(), None).await.unwrap();
    assert_eq!((first.flow, first.authorization_url), (second.flow, second.authorization_url));
    assert_eq!(world.counters().registrations, 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_once_and_only_with_its_state() {
    let world = World::new(Behaviour::default()).await;
    let started = world.app.start_login(&grant(), None).await.unwrap();
    let answer = world.answer_of_provider(&started.authorization_url);
    let forged = CallbackQuery { state: Some(Secret::new("forged")), ..answer.clone() };
    assert!(world.app.finish_login(forged).await.is_err());
    assert_eq!(world.app.finish_login(answer.clone()).await.unwrap().outcome, LoginOutcome::Succeeded);
    assert!(world.app.finish_login(answer).await.is_err());
    assert_eq!(world.counters().exchanges, 1);
    assert_eq!(world.app.login_outcome(started.flow).await, LoginOutcome::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_another_issuer_or_of_none_is_not_used() {
    for iss in [None, Some("https://evil.example".to_owned()), Some("https://as.example/".to_owned())] {
        let world = World::new(Behaviour::default()).await;
        let started = world.app.start_login(&grant(), None).await.unwrap();
        let answer = CallbackQuery { iss: iss.clone(), ..world.answer_of_provider(&started.authorization_url) };
        let finished = world.app.finish_login(answer).await.unwrap();
        assert!(matches!(finished.outcome, LoginOutcome::Failed { .. }), "{iss:?}: {finished:?}");
        assert_eq!(world.counters().exchanges, 0, "{iss:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_denied_and_an_unanswered_login_end_in_their_own_words() {
    let world = World::new(Behaviour::default()).await;
    let started = world.app.start_login(&grant(), None).await.unwrap();
    let answer = world.answer_of_provider(&started.authorization_url);
    let denied = CallbackQuery { code: None, error: Some("access_denied".into()), ..answer };
    let finished = world.app.finish_login(denied).await.unwrap();
    assert_eq!(finished.outcome, LoginOutcome::Denied { code: "access_denied".into() });
    let late = world.app.start_login(&grant(), None).await.unwrap();
    pass(Duration::from_secs(601)).await;
    assert_eq!(world.app.login_outcome(late.flow).await, LoginOutcome::TimedOut);
    let answer = world.answer_of_provider(&late.authorization_url);
    assert!(world.app.finish_login(answer).await.is_err(), "its time is over");
}

#[tokio::test(start_paused = true)]
async fn a_login_without_refresh_token_says_how_long_it_lasts() {
    let world = World::new(Behaviour { issues_refresh_tokens: false, ..Behaviour::default() }).await;
    let finished = world.log_in().await;
    assert!(finished.lasts_until.is_some());
    assert_eq!(world.reason(), "no_refresh_token");
    pass(Duration::from_secs(3_601)).await;
    assert_eq!(world.reason(), "expired_no_refresh_token");
    assert_eq!(world.counters().refreshes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_login_takes_the_place_of_a_dead_one_at_once() {
    let world = World::logged_in(Behaviour::default()).await;
    world.with(|model| model.revoke_all());
    world.app.refresh(&grant()).await.unwrap();
    assert_eq!(world.reason(), "refresh_token_rejected");
    world.log_in().await;
    assert_eq!(world.reason(), "ok");
    assert_eq!(world.generation_of_pass().await, Some(2));
    assert_eq!(world.counters().registrations, 1, "the registration is used again");
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_client_is_believed_at_the_second_word_and_registered_anew() {
    let world = World::logged_in(Behaviour::default()).await;
    world.with(|model| model.forget_clients());
    pass(Duration::from_secs(3_600)).await;
    assert_eq!(world.reason(), "client_rejected");
    assert!(world.store.on_disk(&grant()).unwrap().tokens.unwrap().refresh_token.is_some(), "the token is kept");
    world.log_in().await;
    assert_eq!((world.counters().registrations, world.reason()), (2, "ok"));
}

#[tokio::test(start_paused = true)]
async fn listeners_hear_that_a_login_begins_and_ends() {
    let world = World::new(Behaviour::default()).await;
    let mut heard = world.app.events().subscribe(None).live;
    let mut pending = async || {
        let event = tokio::time::timeout(Duration::from_secs(1), heard.recv()).await.expect("it is told").unwrap();
        assert_eq!((&event.grant, &event.kind), (&grant(), &PublicEventKind::ServersChanged));
        world.app.server(&grant()).unwrap().pending_login.map(|login| login.flow)
    };
    let first = world.app.start_login(&grant(), None).await.unwrap();
    assert_eq!(pending().await, Some(first.flow));
    world.app.take_back_login(first.flow);
    assert_eq!(pending().await, None);
    assert_eq!(world.app.login_outcome(first.flow).await, LoginOutcome::Cancelled);
    let late = world.app.start_login(&grant(), None).await.unwrap();
    assert_eq!(pending().await, Some(late.flow));
    pass(Duration::from_secs(601)).await;
    assert_eq!(pending().await, None, "nobody came back in time");
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_taken_back_takes_no_answer_and_one_that_is_answered_is_not_taken_back() {
    let world = World::new(Behaviour::default()).await;
    let started = world.app.start_login(&grant(), None).await.unwrap();
    let answer = world.answer_of_provider(&started.authorization_url);
    world.app.take_back_login(started.flow);
    assert!(world.app.finish_login(answer).await.is_err());
    assert_eq!(world.counters().exchanges, 0);
    let next = world.app.start_login(&grant(), None).await.unwrap();
    assert_ne!(next.flow, started.flow);
    world.app.take_back_login(started.flow);
    let answer = world.answer_of_provider(&next.authorization_url);
    let answering = world.app.finish_login(answer);
    let (finished, ()) = tokio::join!(answering, async { world.app.take_back_login(next.flow) });
    assert_eq!(finished.unwrap().outcome, LoginOutcome::Succeeded, "the code was used already");
    assert_eq!(world.reason(), "ok");
}
