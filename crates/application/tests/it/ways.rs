//! Logins that go another way than straight back: pasted, doubled, taken back, with another client,
//! of several accounts, and none at all from the background.

use std::time::Duration;

use everfresh_application::access::Pass;
use everfresh_application::{AppError, CallbackQuery, LoginError, LoginStarted, PasteError, ServerSettings};
use everfresh_domain::GrantId;
use everfresh_domain::login::LoginOutcome;
use everfresh_testkit::provider::{Behaviour, Fault};

use crate::world::{World, grant, pass, server};

/// The address to which the provider sends a person who says yes.
fn address(world: &World, started: &LoginStarted) -> String {
    let answer = world.answer_of_provider(&started.authorization_url);
    let text = |secret: Option<everfresh_domain::Secret>| secret.unwrap().expose().to_owned();
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("code", &text(answer.code))
        .append_pair("state", &text(answer.state))
        .append_pair("iss", &answer.iss.unwrap())
        .finish();
    format!("{}?{query}", started.redirect_uri.as_ref().unwrap())
}

fn pasted(result: Result<everfresh_application::LoginFinished, AppError>) -> Option<PasteError> {
    match result {
        Err(AppError::Login(LoginError::Pasted(error))) => Some(error),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_pasted_address_is_an_answer_like_any_other() {
    let world = World::new(Behaviour::default()).await;
    let started = world.app.start_login(&grant(), None).await.unwrap();
    let wrong = world.app.paste_login(started.flow, &started.authorization_url).await;
    assert!(matches!(pasted(wrong), Some(PasteError::Beginning { .. })));
    let address = address(&world, &started);
    let forged = address.replace("iss=https%3A%2F%2Fas.example", "iss=https%3A%2F%2Fevil.example");
    let other = world.app.start_login(&"github".parse().unwrap(), None).await;
    assert!(matches!(other, Err(AppError::NoSuchServer(_))));
    let finished = world.app.paste_login(started.flow, &format!(" '{address}' ")).await.unwrap();
    assert_eq!(finished.outcome, LoginOutcome::Succeeded);
    assert!(world.app.paste_login(started.flow, &address).await.is_err(), "it counts once");
    let again = world.app.start_login(&grant(), None).await.unwrap();
    assert!(matches!(pasted(world.app.paste_login(again.flow, &forged).await), Some(PasteError::OtherLogin)));
    let address = self::address(&world, &again);
    let forged = address.replace("as.example", "evil.example");
    let finished = world.app.paste_login(again.flow, &forged).await.unwrap();
    assert!(matches!(finished.outcome, LoginOutcome::Failed { .. }), "{finished:?}");
    assert_eq!(world.counters().exchanges, 1, "the issuer is checked as at the callback");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_twice_tells_how_the_first_ended() {
    let world = World::new(Behaviour::default()).await;
    world.with(|model| model.switches.delay_ms = 5_000);
    let started = world.app.start_login(&grant(), None).await.unwrap();
    let answer = world.answer_of_provider(&started.authorization_url);
    let (first, second) = tokio::join!(world.app.finish_login(answer.clone()), world.app.finish_login(answer.clone()));
    assert_eq!(first.unwrap().outcome, LoginOutcome::Succeeded);
    for doubled in [second, world.app.finish_login(answer).await] {
        let Err(AppError::Login(LoginError::AnsweredBefore(end))) = doubled else { panic!("{doubled:?}") };
        assert_eq!((end.grant, end.outcome), (grant(), LoginOutcome::Succeeded));
    }
    assert_eq!(world.counters().exchanges, 1);
}

#[tokio::test(start_paused = true)]
async fn an_exchange_under_way_is_not_cut_by_the_end_of_the_wait() {
    let world = World::new(Behaviour::default()).await;
    let started = world.app.start_login(&grant(), None).await.unwrap();
    world.with(|model| model.switches.delay_ms = 10_000);
    let answer = world.answer_of_provider(&started.authorization_url);
    pass(Duration::from_secs(595)).await;
    assert_eq!(world.app.finish_login(answer).await.unwrap().outcome, LoginOutcome::Succeeded);
    assert_eq!(world.reason(), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_removed_during_a_login_comes_back_with_nothing() {
    let world = World::new(Behaviour::default()).await;
    let started = world.app.start_login(&grant(), None).await.unwrap();
    world.with(|model| model.switches.delay_ms = 5_000);
    let answer = world.answer_of_provider(&started.authorization_url);
    let (finished, ()) = tokio::join!(world.app.finish_login(answer), async {
        pass(Duration::from_secs(1)).await;
        world.app.remove_server(&grant().server).await.unwrap();
    });
    assert_eq!(finished.unwrap().outcome, LoginOutcome::Cancelled);
    assert!(world.store.on_disk(&grant()).is_none());
}

#[tokio::test(start_paused = true)]
async fn the_words_of_an_error_say_what_to_do() {
    let cases = [
        ("invalid_scope", "set oauth.scopes"),
        ("invalid_target", "set oauth.resource"),
        ("unauthorized_client", "--new-client"),
        ("temporarily_unavailable", "try again later"),
        ("invalid_request", "invalid_request"),
    ];
    for (code, words) in cases {
        let world = World::new(Behaviour::default()).await;
        let started = world.app.start_login(&grant(), None).await.unwrap();
        let answer = CallbackQuery {
            code: None,
            error: Some(code.into()),
            error_description: Some("Because\u{7}.".into()),
            ..world.answer_of_provider(&started.authorization_url)
        };
        let LoginOutcome::Failed { message } = world.app.finish_login(answer).await.unwrap().outcome else {
            panic!("{code}")
        };
        assert!(message.contains(words) && message.ends_with("It says: Because."), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_the_token_endpoint_does_not_know_is_registered_anew_at_the_next_login() {
    let world = World::new(Behaviour::default()).await;
    let started = world.app.start_login(&grant(), None).await.unwrap();
    let answer = world.answer_of_provider(&started.authorization_url);
    world.with(|model| model.forget_clients());
    let LoginOutcome::Failed { message } = world.app.finish_login(answer).await.unwrap().outcome else { panic!() };
    assert!(message.contains("the next login registers a new one"), "{message}");
    world.log_in().await;
    assert_eq!((world.counters().registrations, world.reason()), (2, "ok"));
}

#[tokio::test(start_paused = true)]
async fn a_refused_code_forgets_no_client() {
    let world = World::new(Behaviour::default()).await;
    let started = world.app.start_login(&grant(), None).await.unwrap();
    world.with(|model| model.switches.fault = Some(Fault::Error { status: 400, error: "invalid_grant".into() }));
    let answer = world.answer_of_provider(&started.authorization_url);
    assert!(matches!(world.app.finish_login(answer).await.unwrap().outcome, LoginOutcome::Failed { .. }));
    world.with(|model| model.switches.fault = None);
    world.log_in().await;
    assert_eq!(world.counters().registrations, 1);
}

#[tokio::test(start_paused = true)]
async fn a_person_can_ask_for_a_new_client() {
    let world = World::new(Behaviour::default()).await;
    let first = world.app.start_login(&grant(), None).await.unwrap();
    let second = world.app.start_login_as_new_client(&grant(), None).await.unwrap();
    assert_ne!(first.authorization_url, second.authorization_url);
    assert_eq!(world.app.login_outcome(first.flow).await, LoginOutcome::Cancelled);
    assert_eq!(world.counters().registrations, 2);
    let answer = world.answer_of_provider(&second.authorization_url);
    assert_eq!(world.app.finish_login(answer).await.unwrap().outcome, LoginOutcome::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn another_issuer_gets_another_registration_and_never_a_configured_client() {
    let world = World::logged_in(Behaviour::default()).await;
    world.with(|model| model.issuer = "https://as2.example".into());
    world.log_in().await;
    assert_eq!(world.counters().registrations, 2, "a client is not used at another issuer");
    assert_eq!(world.store.on_disk(&grant()).unwrap().binding.client.issuer, "https://as2.example");

    let mut known = server();
    known.oauth.client_id = Some("client-1".into());
    let mut github = ServerSettings { name: "github".parse().unwrap(), ..known };
    world.app.add_server(github.clone()).await.unwrap();
    let account: GrantId = "github@work".parse().unwrap();
    world.log_in_as(&account).await;
    world.with(|model| model.issuer = "https://as3.example".into());
    for name in ["github@work", "github", "github@home"] {
        let error = world.app.start_login(&name.parse().unwrap(), None).await.unwrap_err();
        assert!(error.to_string().contains("as2.example") && error.to_string().contains("as3.example"), "{error}");
    }
    assert_eq!(world.counters().registrations, 2);
    github.oauth.issuer = Some("https://as3.example".into());
    world.app.replace_file_servers(vec![github]).await.unwrap();
    world.app.start_login(&account, None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn logins_of_different_grants_run_beside_each_other() {
    let world = World::new(Behaviour::default()).await;
    let names: [GrantId; 3] = ["linear", "linear@work", "linear@home"].map(|name| name.parse().unwrap());
    let mut started = Vec::new();
    for name in &names {
        started.push(world.app.start_login(name, None).await.unwrap());
    }
    for (name, started) in names.iter().zip(&started).rev() {
        let answer = world.answer_of_provider(&started.authorization_url);
        let finished = world.app.finish_login(answer).await.unwrap();
        assert_eq!((&finished.grant, finished.outcome), (name, LoginOutcome::Succeeded));
    }
    let shown = world.app.servers();
    let tokens: std::collections::BTreeSet<_> =
        shown.iter().map(|view| view.status.tokens.as_ref().unwrap().fingerprint).collect();
    assert_eq!((shown.len(), tokens.len(), world.counters().registrations), (3, 3, 1));
}

#[tokio::test(start_paused = true)]
async fn one_account_can_be_removed_and_the_others_stay() {
    let world = World::logged_in(Behaviour::default()).await;
    let account: GrantId = "linear@work".parse().unwrap();
    world.log_in_as(&account).await;
    world.app.remove_account(&account).await.unwrap();
    assert!(world.store.on_disk(&account).is_none() && world.app.server(&account).is_err());
    assert_eq!((world.counters().revocations, world.reason()), (1, "ok"));
    assert!(matches!(world.app.remove_account(&account).await, Err(AppError::NoSuchServer(_))));
    let world = world.restart().await;
    assert_eq!(world.app.servers().len(), 1);
}

/// Fifty servers whose logins are dead, ten clients that connect again and again, for a day.
#[tokio::test(start_paused = true)]
async fn no_login_ever_begins_by_itself() {
    let world = World::new(Behaviour::default()).await;
    let names: Vec<GrantId> = (0..50).map(|n| format!("server-{n}").parse().unwrap()).collect();
    for name in &names {
        world.app.add_server(ServerSettings { name: name.server.clone(), ..server() }).await.unwrap();
        world.log_in_as(name).await;
    }
    let before = world.counters();
    world.with(|model| model.revoke_all());
    let routes: Vec<_> = names.iter().map(|name| world.app.access().route(&name.to_string()).unwrap()).collect();
    for _ in 0..24 * 2 {
        for route in &routes {
            for _client in 0..10 {
                match world.app.access().pass(route).await {
                    Ok(Pass::Bearer(bearer)) => {
                        drop(world.app.access().pass_after_refusal(route, bearer.generation).await);
                    }
                    Ok(Pass::Anonymous) | Err(_) => {}
                }
            }
        }
        pass(Duration::from_secs(1_800)).await;
    }
    let after = world.counters();
    assert!(world.app.servers().iter().all(|view| view.pending_login.is_none()));
    assert_eq!((after.authorizations, after.registrations), (before.authorizations, before.registrations));
    assert_eq!(after.device_authorizations, 0);
    assert!(after.token_requests - before.token_requests <= 2 * 50, "and a dead token is not sent again");
}
