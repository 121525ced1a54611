//! Which scopes are asked for, and what becomes of those that are not granted.

use everfresh_application::OfflineAccess;
use everfresh_application::ports::Challenge;
use everfresh_domain::HealthAction;
use everfresh_testkit::provider::Behaviour;

use crate::world::{World, grant, server};

async fn asked(world: &World) -> String {
    let started = world.app.start_login(&grant(), None).await.unwrap();
    let query = url::Url::parse(&started.authorization_url).unwrap();
    let scope = query.query_pairs().find(|(name, _)| name == "scope").map(|(_, value)| value.into_owned());
    let answer = world.answer_of_provider(&started.authorization_url);
    world.app.finish_login(answer).await.unwrap();
    scope.unwrap_or_default()
}

/// The upstream answers a request of now with 403.
async fn demand(world: &World, scopes: &[&str]) {
    let (route, scopes) = (world.route(), scopes.iter().map(|scope| (*scope).to_owned()).collect());
    let pass = world.app.access().pass(&route).await.unwrap();
    let challenge = Challenge { scopes, error: Some("insufficient_scope".into()), ..Challenge::default() };
    world.app.access().scope_demanded(&route, &pass, challenge);
    crate::world::pass(std::time::Duration::from_millis(1)).await;
}

async fn world_with(offline_access: OfflineAccess, scopes: &[&str]) -> World {
    let world = World::new(Behaviour::default()).await;
    let mut settings = server();
    settings.oauth.offline_access = offline_access;
    settings.oauth.scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    world.app.replace_file_servers(vec![settings]).await.unwrap();
    world
}

#[tokio::test(start_paused = true)]
async fn offline_access_is_asked_for_as_configured() {
    use OfflineAccess::{Always, Auto, Never};
    let cases = [
        (Auto, &["read"][..], &[][..], "read"),
        (Auto, &["read"], &["offline_access"], "read offline_access"),
        (Always, &["read"], &[], "read offline_access"),
        (Never, &["read"], &["offline_access"], "read"),
        (Never, &["read", "offline_access"], &[], "read"),
    ];
    for (setting, scopes, listed, expected) in cases {
        let world = world_with(setting, scopes).await;
        world.with(|model| model.scopes_listed = listed.iter().map(|scope| (*scope).to_owned()).collect());
        assert_eq!(asked(&world).await, expected, "{setting:?} {scopes:?} {listed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_up_asks_for_the_union() {
    let world = world_with(OfflineAccess::Auto, &["read"]).await;
    assert_eq!(asked(&world).await, "read");
    demand(&world, &["write"]).await;
    assert_eq!(world.reason(), "insufficient_scope");
    assert_eq!(asked(&world).await, "read write");
    assert_eq!(world.reason(), "ok");
    demand(&world, &["admin"]).await;
    assert_eq!(asked(&world).await, "read write admin");
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_is_never_granted_is_not_asked_for_for_ever() {
    let world = world_with(OfflineAccess::Auto, &["read"]).await;
    world.with(|model| model.switches.scope_told = Some("read".into()));
    asked(&world).await;
    for _ in 0..3 {
        demand(&world, &["write"]).await;
        let health = world.app.server(&grant()).unwrap().health;
        assert_eq!((health.reason.as_str(), health.action), ("insufficient_scope", HealthAction::Login));
        asked(&world).await;
    }
    let world = world.restart().await;
    demand(&world, &["write"]).await;
    let health = world.app.server(&grant()).unwrap().health;
    assert_eq!((health.reason.as_str(), health.action), ("scope_not_granted", HealthAction::None), "over a restart");
    assert!(health.summary.ends_with("write") && health.detail.contains("3 logins"), "{health:?}");
    demand(&world, &["admin"]).await;
    assert_eq!(world.reason(), "insufficient_scope", "another scope is worth a try");
    demand(&world, &["write"]).await;
    world.with(|model| model.switches.scope_told = None);
    asked(&world).await;
    assert_eq!(world.reason(), "ok", "whoever tries all the same may be lucky");
    asked(&world).await;
    demand(&world, &["write"]).await;
    assert_eq!(world.reason(), "insufficient_scope", "a login that nobody demanded begins the count anew");
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_and_not_granted_is_told_at_login() {
    let world = world_with(OfflineAccess::Always, &["read", "write"]).await;
    world.with(|model| model.switches.scope_told = Some("read".into()));
    let started = world.app.start_login(&grant(), None).await.unwrap();
    let answer = world.answer_of_provider(&started.authorization_url);
    let finished = world.app.finish_login(answer).await.unwrap();
    assert_eq!(finished.scopes_not_granted, ["write"], "of offline_access the refresh token tells");
}
