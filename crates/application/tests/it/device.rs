//! Logins by device code, in virtual time: the daemon asks, nobody comes back.

use std::time::Duration;

use everfresh_application::{DpopSetting, LoginError, LoginStarted, LoginWay};
use everfresh_domain::login::LoginOutcome;
use everfresh_testkit::provider::{Behaviour, DpopRule, Fault};

use crate::world::{World, grant, pass, server};

async fn begin(world: &World) -> LoginStarted {
    world.app.start_login(&grant(), Some(LoginWay::Device)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_code_is_asked_about_until_it_is_approved() {
    let world = World::new(Behaviour::default()).await;
    let started = begin(&world).await;
    let prompt = started.device.unwrap();
    assert_eq!(prompt.user_code, "USER-0001");
    assert_eq!(prompt.verification_uri, "https://as.example/activate");
    assert_eq!(started.authorization_url, "https://as.example/activate?user_code=USER-0001");
    assert_eq!(started.redirect_uri, None);
    pass(Duration::from_secs(61)).await;
    let asked = world.counters().token_requests;
    assert_eq!((asked, world.counters().hasty_questions), (12, 0), "every five seconds");
    assert_eq!(world.reason(), "login_required");
    world.with(|model| model.answer_devices(true));
    assert_eq!(world.app.login_outcome(started.flow).await, LoginOutcome::Succeeded);
    assert_eq!((world.reason(), world.counters().exchanges), ("ok", 1));
    let asked = world.counters().token_requests;
    pass(Duration::from_secs(60)).await;
    assert_eq!(world.counters().token_requests, asked, "it is asked no more");
    pass(Duration::from_secs(3_600)).await;
    assert!(world.counters().refreshes >= 1, "and kept fresh like any other login");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_says_slow_down_is_asked_five_seconds_later_each_time() {
    let world = World::new(Behaviour::default()).await;
    world.with(|model| {
        model.switches.fault = Some(Fault::Error { status: 400, error: "slow_down".into() });
        model.switches.fault_count = Some(2);
    });
    begin(&world).await;
    let mut asked = Vec::new();
    // Looked for between the seconds.
    pass(Duration::from_millis(500)).await;
    for second in 1..=45 {
        pass(Duration::from_secs(1)).await;
        if world.counters().token_requests > asked.len() as u64 {
            asked.push(second);
        }
    }
    assert_eq!(asked, [5, 15, 30, 45]);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_away_for_a_while_ends_nothing() {
    let world = World::new(Behaviour::default()).await;
    let started = begin(&world).await;
    world.with(|model| model.switches.fault = Some(Fault::CloseBefore));
    pass(Duration::from_secs(120)).await;
    assert!(world.counters().token_requests <= 5, "asked less and less often");
    world.with(|model| {
        model.switches.fault = None;
        model.answer_devices(true);
    });
    assert_eq!(world.app.login_outcome(started.flow).await, LoginOutcome::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_denied_an_expired_and_an_unanswered_code_end_in_their_own_words() {
    let world = World::new(Behaviour::default()).await;
    let denied = begin(&world).await;
    world.with(|model| model.answer_devices(false));
    let outcome = world.app.login_outcome(denied.flow).await;
    assert_eq!(outcome, LoginOutcome::Denied { code: "access_denied".into() });
    let short = Behaviour { device_code_lifetime: Duration::from_secs(30), ..Behaviour::default() };
    world.with(|model| model.behaviour = short);
    let expired = begin(&world).await;
    assert_eq!(expired.expires_at, world.app.now().after(Duration::from_secs(30)));
    assert_eq!(world.app.login_outcome(expired.flow).await, LoginOutcome::TimedOut);
    world.with(|model| model.behaviour = Behaviour::default());
    let unanswered = begin(&world).await;
    assert_eq!(unanswered.expires_at, world.app.now().after(world.app.policy().login_timeout));
    assert_eq!(world.app.login_outcome(unanswered.flow).await, LoginOutcome::TimedOut);
    let asked = world.counters().token_requests;
    pass(Duration::from_secs(900)).await;
    assert_eq!(world.counters().token_requests, asked, "nobody asks for a login that is over");
}

#[tokio::test(start_paused = true)]
async fn a_login_without_refresh_token_says_how_long_it_lasts() {
    let world = World::new(Behaviour { issues_refresh_tokens: false, ..Behaviour::default() }).await;
    let started = begin(&world).await;
    world.with(|model| model.answer_devices(true));
    let end = world.app.login_end(started.flow).await.unwrap();
    assert!(end.lasts_until.is_some() && end.outcome == LoginOutcome::Succeeded, "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn its_tokens_are_bound_to_a_key_where_that_is_wanted() {
    let world = World::new(Behaviour::default()).await;
    let mut settings = server();
    settings.oauth.dpop = DpopSetting::Required;
    world.app.replace_file_servers(vec![settings]).await.unwrap();
    let started = begin(&world).await;
    world.with(|model| model.answer_devices(true));
    let unbound = world.app.login_outcome(started.flow).await;
    assert!(matches!(unbound, LoginOutcome::Failed { .. }), "{unbound:?}");
    assert_eq!((world.counters().revocations, world.reason()), (1, "login_required"), "bearer tokens are given back");
    world.with(|model| model.switches.dpop.rule = DpopRule::Offered);
    let started = begin(&world).await;
    world.with(|model| model.answer_devices(true));
    assert_eq!(world.app.login_outcome(started.flow).await, LoginOutcome::Succeeded);
    let record = world.store.on_disk(&grant()).unwrap();
    assert!(record.binding.dpop_key.is_some() && record.tokens.unwrap().is_dpop_bound());
}

#[tokio::test(start_paused = true)]
async fn where_no_codes_are_handed_out_that_is_said() {
    let world = World::new(Behaviour { offers_device_codes: false, ..Behaviour::default() }).await;
    let error = world.app.start_login(&grant(), Some(LoginWay::Device)).await.unwrap_err();
    assert!(error.to_string().contains("offers no login by device code"), "{error}");
    assert_eq!(world.app.server(&grant()).unwrap().pending_login, None);
}

#[tokio::test(start_paused = true)]
async fn a_login_of_another_way_takes_the_place_of_a_pending_one() {
    let world = World::new(Behaviour::default()).await;
    let browser = world.app.start_login(&grant(), None).await.unwrap();
    let device = begin(&world).await;
    assert_eq!(world.app.login_outcome(browser.flow).await, LoginOutcome::Cancelled);
    assert_eq!(begin(&world).await.flow, device.flow, "the same way is the same login");
    let answer = world.answer_of_provider(&browser.authorization_url);
    let late = world.app.finish_login(answer).await.unwrap_err();
    assert!(matches!(late, everfresh_application::AppError::Login(LoginError::AnsweredBefore(_))), "{late}");
    assert_eq!(world.counters().exchanges, 0);
}

#[tokio::test(start_paused = true)]
async fn tokens_for_a_login_that_was_taken_back_are_given_back() {
    let world = World::logged_in(Behaviour::default()).await;
    let started = begin(&world).await;
    world.with(|model| {
        model.switches.delay_ms = 3_000;
        model.answer_devices(true);
    });
    pass(Duration::from_secs(6)).await;
    assert_eq!(world.counters().exchanges, 2, "the provider has said yes, and its answer is on the way");
    world.app.logout(&grant()).await.unwrap();
    assert_eq!(world.app.login_outcome(started.flow).await, LoginOutcome::Cancelled);
    pass(Duration::from_secs(10)).await;
    assert_eq!(world.reason(), "logged_out");
    assert_eq!(world.counters().revocations, 2, "of the login, and of the one that came too late");
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_client_is_registered_anew_at_the_next_try() {
    let world = World::logged_in(Behaviour::default()).await;
    world.with(|model| model.forget_clients());
    let error = world.app.start_login(&grant(), Some(LoginWay::Device)).await.unwrap_err();
    assert!(error.to_string().contains("registers a new one"), "{error}");
    begin(&world).await;
    assert_eq!(world.counters().registrations, 2);
}
