//! Grants that need no person, over days in virtual time: asked for at once, kept fresh, refused,
//! mended, and never "log in".

use std::time::Duration;

use everfresh_application::access::Pass;
use everfresh_application::ports::JournalOutcome;
use everfresh_application::{OAuthSettings, RefreshOutcome, SecretSource, ServerSettings};
use everfresh_domain::grant::GrantType;
use everfresh_domain::health::HealthAction;
use everfresh_testkit::provider::{AuthRule, Behaviour, Enrolled, Fault, ResourceRule, Signer};

use crate::world::{HOUR, World, grant, pass, server};

const MINUTE: Duration = Duration::from_secs(60);

fn by_client_credentials() -> ServerSettings {
    let oauth = OAuthSettings {
        grant: GrantType::ClientCredentials,
        client_id: Some("robot".into()),
        client_secret: Some(SecretSource::Env("SECRET".into())),
        scopes: vec!["read".into()],
        ..OAuthSettings::default()
    };
    ServerSettings { oauth, ..server() }
}

/// A provider that knows the client, and no server yet.
async fn enrolled() -> World {
    let world = World::empty(Behaviour::default()).await;
    world.variables.set("SECRET", Some("s1"));
    world.with(|model| {
        model.switches.auth = AuthRule::Basic;
        model.enroll("robot", Enrolled::Secret("s1".into()));
    });
    world
}

async fn started() -> World {
    let world = enrolled().await;
    world.app.add_server(by_client_credentials()).await.unwrap();
    pass(Duration::from_secs(1)).await;
    assert_eq!(world.reason(), "ok");
    world
}

fn action(world: &World) -> HealthAction {
    world.app.server(&grant()).unwrap().health.action
}

#[tokio::test(start_paused = true)]
async fn a_token_is_asked_for_at_once_and_kept_fresh_for_days_and_over_restarts() {
    let world = started().await;
    assert_eq!(world.generation_of_pass().await, Some(1));
    pass(HOUR * 24).await;
    world.app.shutdown().await;
    let world = world.restart().await;
    pass(HOUR * 24).await;
    let counters = world.counters();
    assert!((59..=63).contains(&counters.unattended), "one at 80 % of each hour: {}", counters.unattended);
    assert_eq!((counters.authorizations, counters.refreshes, counters.registrations), (0, 0, 0));
    let status = world.status();
    assert!(!status.has_refresh_token() && status.next_attempt_at.is_some());
    let journal = world.app.journal(&grant(), 1).await.unwrap();
    assert_eq!(journal[0].refresh_token, None);
    assert!(journal[0].credential.is_some());
    assert!(matches!(journal[0].outcome, JournalOutcome::Refreshed { refresh_token: None }), "{journal:?}");
}

#[tokio::test(start_paused = true)]
async fn what_ended_while_the_process_was_dead_is_asked_for_at_start_and_requests_wait() {
    let world = started().await;
    world.app.shutdown().await;
    pass(HOUR * 10).await;
    let world = world.restart().await;
    assert_eq!(world.generation_of_pass().await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_first_token_and_never_goes_without() {
    let world = enrolled().await;
    world.with(|model| model.switches.delay_ms = 2_000);
    world.app.add_server(by_client_credentials()).await.unwrap();
    assert_eq!((world.reason(), action(&world)), ("refreshing", HealthAction::None));
    let passed = world.app.access().pass(&world.route()).await.unwrap();
    assert!(matches!(passed, Pass::Bearer(_)), "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_down_at_first_is_asked_again_with_backoff() {
    let world = enrolled().await;
    world.with(|model| model.switches.metadata_down = true);
    world.app.add_server(by_client_credentials()).await.unwrap();
    pass(MINUTE).await;
    let health = world.app.server(&grant()).unwrap().health;
    assert_eq!((health.reason.as_str(), health.action), ("retrying_network", HealthAction::Retry));
    assert!(health.summary.starts_with("No token yet"), "{health:?}");
    pass(HOUR).await;
    let tries = world.status().retry_count;
    assert!((10..=25).contains(&tries), "{tries} in an hour");
    assert_eq!(world.counters().token_requests, 0, "nothing is sent where nobody knows where to");
    world.with(|model| model.switches.metadata_down = false);
    pass(MINUTE * 6).await;
    assert_eq!(world.reason(), "ok");
    world.with(|model| model.switches.metadata_down = true);
    pass(HOUR * 24).await;
    assert_eq!(world.reason(), "ok", "where tokens are issued is known by then");
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_not_there_is_the_configurations_fault_until_it_is() {
    let world = enrolled().await;
    world.variables.set("SECRET", None);
    world.app.add_server(by_client_credentials()).await.unwrap();
    pass(MINUTE).await;
    let health = world.app.server(&grant()).unwrap().health;
    assert_eq!((health.reason.as_str(), health.action), ("misconfigured", HealthAction::Configure));
    assert!(health.detail.contains("SECRET is not set"), "{health:?}");
    assert_eq!(world.counters().token_requests, 0);
    world.variables.set("SECRET", Some("s1"));
    pass(MINUTE * 6).await;
    assert_eq!(world.reason(), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_refused_secret_is_named_not_sent_again_and_mended_by_its_change() {
    let world = started().await;
    world.with(|model| model.enroll("robot", Enrolled::Secret("s2".into())));
    pass(HOUR).await;
    let health = world.app.server(&grant()).unwrap().health;
    assert_eq!((health.reason.as_str(), health.action), ("credential_refused", HealthAction::Configure));
    assert_eq!(health.summary, "The provider refuses the client secret: invalid_client");
    let asked = world.counters().token_requests;
    assert_eq!(asked, 3, "the first, and two refusals: the first of them may be a mishap");
    let world = world.restart().await;
    pass(HOUR * 24).await;
    assert_eq!(world.counters().token_requests, asked, "also after a restart");
    assert_eq!((world.reason(), action(&world)), ("credential_refused", HealthAction::Configure));
    world.variables.set("SECRET", Some("s2"));
    pass(MINUTE * 6).await;
    assert_eq!((world.reason(), world.counters().token_requests), ("ok", asked + 1));
}

#[tokio::test(start_paused = true)]
async fn a_person_may_send_again_what_was_refused() {
    let world = started().await;
    world.with(|model| model.enroll("robot", Enrolled::Secret("s2".into())));
    pass(HOUR).await;
    assert_eq!(world.reason(), "credential_refused");
    // The provider's side is mended, and the secret is the one it was.
    world.with(|model| model.enroll("robot", Enrolled::Secret("s1".into())));
    assert!(matches!(world.app.refresh(&grant()).await.unwrap(), RefreshOutcome::Refreshed(_)));
    assert_eq!(world.reason(), "ok");
    pass(HOUR * 2).await;
    assert_eq!(world.reason(), "ok", "it counts again by itself");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_is_asked_for_again_and_costs_nothing() {
    let world = started().await;
    world.with(|model| (model.switches.fault, model.switches.fault_count) = (Some(Fault::CloseAfter), Some(3)));
    pass(HOUR * 2).await;
    assert_eq!((world.reason(), world.status().ended), ("ok", None));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_nobody_asked_for_is_not_taken() {
    let world = enrolled().await;
    world.with(|model| model.switches.gives_refresh_token_unasked = true);
    world.app.add_server(by_client_credentials()).await.unwrap();
    pass(HOUR * 5).await;
    assert!(!world.status().has_refresh_token());
    assert_eq!((world.counters().refreshes, world.reason()), (0, "ok"));
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_the_provider_does_not_know_is_left_out_once_and_for_all() {
    let world = enrolled().await;
    world.with(|model| model.switches.resource = ResourceRule::Rejected);
    world.app.add_server(by_client_credentials()).await.unwrap();
    pass(HOUR * 4).await;
    let counters = world.counters();
    assert_eq!((world.reason(), counters.token_requests - counters.unattended), ("ok", 1));
}

#[tokio::test(start_paused = true)]
async fn scopes_that_are_refused_are_not_asked_for_again() {
    let world = enrolled().await;
    let error = Fault::Error { status: 400, error: "invalid_scope".into() };
    world.with(|model| model.switches.fault = Some(error));
    world.app.add_server(by_client_credentials()).await.unwrap();
    pass(HOUR * 2).await;
    assert_eq!((world.reason(), world.counters().token_requests), ("credential_refused", 1));
    world.with(|model| model.switches.fault = None);
    let mut settings = by_client_credentials();
    settings.oauth.scopes = vec!["other".into()];
    world.app.replace_file_servers(vec![settings]).await.unwrap();
    pass(Duration::from_secs(11)).await;
    assert_eq!(world.reason(), "ok", "a change of the configuration counts at once");
}

#[tokio::test(start_paused = true)]
async fn a_logout_lasts_until_somebody_wants_the_grant_again() {
    let world = started().await;
    world.app.logout(&grant()).await.unwrap();
    let world = world.restart().await;
    pass(HOUR * 3).await;
    assert_eq!((world.reason(), world.counters().unattended), ("logged_out", 1));
    assert!(matches!(world.app.refresh(&grant()).await.unwrap(), RefreshOutcome::Refreshed(_)));
    assert_eq!((world.reason(), world.counters().unattended), ("ok", 2));
}

#[tokio::test(start_paused = true)]
async fn an_assertion_is_fetched_for_each_attempt_and_refused_once() {
    let world = World::empty(Behaviour::default()).await;
    let platform = Signer { issuer: "https://platform.example".into(), key: "key".into() };
    let end = |minutes: u64| world.app.now().after(MINUTE * u32::try_from(minutes).unwrap());
    world.variables.set("JWT", Some(&platform.assertion("pod", "https://as.example", end(70))));
    world.with(|model| model.trusted = vec![platform.clone()]);
    let oauth = OAuthSettings {
        grant: GrantType::JwtBearer,
        assertion: Some(SecretSource::Env("JWT".into())),
        ..OAuthSettings::default()
    };
    world.app.add_server(ServerSettings { oauth, ..server() }).await.unwrap();
    pass(HOUR).await;
    assert_eq!((world.reason(), world.counters().unattended), ("ok", 2));
    // The platform forgets to rotate: the second request with the ended one is the last.
    pass(HOUR).await;
    assert_eq!((world.reason(), world.counters().refusals), ("credential_refused", 1));
    assert!(world.app.server(&grant()).unwrap().health.summary.contains("the assertion"));
    pass(HOUR).await;
    assert_eq!(world.counters().refusals, 1);
    world.variables.set("JWT", Some(&platform.assertion("pod", "https://as.example", end(6_000))));
    pass(MINUTE * 6).await;
    assert_eq!(world.reason(), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_given_a_client_of_its_own_uses_nothing_of_a_persons_login() {
    let world = World::logged_in(Behaviour::default()).await;
    world.variables.set("SECRET", Some("s1"));
    world.with(|model| {
        model.switches.auth = AuthRule::Basic;
        model.enroll("robot", Enrolled::Secret("s1".into()));
        model.switches.delay_ms = 1_000;
    });
    world.app.replace_file_servers(vec![by_client_credentials()]).await.unwrap();
    assert!(world.app.access().try_pass(&world.route()).is_none(), "the person's token is not used");
    pass(Duration::from_secs(12)).await;
    assert_eq!((world.generation_of_pass().await, world.counters().unattended), (Some(2), 1));
    world.app.replace_file_servers(vec![server()]).await.unwrap();
    assert_eq!(world.reason(), "login_required");
    assert!(world.app.start_login(&grant(), None).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn there_is_nobody_to_log_in() {
    let world = started().await;
    let error = world.app.start_login(&grant(), None).await.unwrap_err();
    assert!(error.to_string().contains("needs no login"), "{error}");
}
