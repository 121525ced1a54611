//! Logins of other programs: moved here, kept, refused, and moved back.

use std::sync::Arc;
use std::time::Duration;

use everfresh_application::ports::TokenStore;
use everfresh_application::{
    AppError, ForeignLogin, ImportError, MoveOutcome, MoveTerms, Moved, RefreshOutcome, ServerSettings,
};
use everfresh_domain::{GrantId, NotUndoable, Secret};
use everfresh_testkit::provider::{Behaviour, Fault, Rotation};

use crate::world::{HOUR, World, grant, pass};

const URL: &str = "https://mcp.example/mcp";
const LEAVE: MoveTerms = MoveTerms { replace: false, leave: true };
const REPLACE: MoveTerms = MoveTerms { replace: true, leave: false };

/// A login that another program made, and nobody here knows of: made here, taken out of the store,
/// and its server removed.
async fn foreign(world: &World) -> ForeignLogin {
    let name: GrantId = "elsewhere".parse().unwrap();
    world.app.add_server(ServerSettings::new(name.server.clone(), URL)).await.unwrap();
    world.log_in_as(&name).await;
    let record = world.store.read(&name).await.unwrap().unwrap();
    world.store.erase(&name).await.unwrap();
    let tokens = record.tokens.unwrap();
    ForeignLogin {
        name: Some("linear".into()),
        client_id: Some(record.binding.client.client_id),
        client_secret: record.binding.client.client_secret,
        refresh_token: tokens.refresh_token,
        access_token: Some(tokens.access_token),
        issued_at: Some(tokens.issued_at),
        expires_at: tokens.lifetime.map(|lifetime| tokens.issued_at.after(lifetime)),
        ..ForeignLogin::of(URL)
    }
}

/// A world without a server of its own, and a login that was made elsewhere.
async fn world_and_login(behaviour: Behaviour) -> (World, ForeignLogin) {
    let world = World::empty(behaviour).await;
    let login = foreign(&world).await;
    let world = world.restart().await;
    world.app.remove_server(&"elsewhere".parse().unwrap()).await.unwrap();
    (world, login)
}

fn refused(result: Result<Moved, AppError>) -> ImportError {
    match result {
        Err(AppError::Import(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_that_comes_is_refreshed_at_once_and_kept_fresh() {
    let (world, login) = world_and_login(Behaviour::default()).await;
    let moved = world.app.move_in(login.clone(), MoveTerms::default()).await.unwrap();
    assert!(matches!(moved.outcome, MoveOutcome::Refresh(RefreshOutcome::Refreshed(_))), "{moved:?}");
    assert!(moved.rotated && moved.added_server);
    assert_eq!((world.counters().refreshes, world.reason()), (1, "ok"));
    let record = world.store.read(&grant()).await.unwrap().unwrap();
    assert!(record.knows(login.refresh_token.unwrap().fingerprint()));
    pass(5 * HOUR).await;
    assert!(world.counters().refreshes > 4);
    assert_eq!((world.counters().reuses, world.reason()), (0, "ok"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_the_login_is_stored() {
    let (world, login) = world_and_login(Behaviour::default()).await;
    world.store.fail_writes(Some("disk full"));
    let result = world.app.move_in(login.clone(), MoveTerms::default()).await;
    assert!(matches!(result, Err(AppError::Store(_))), "{result:?}");
    assert_eq!(world.counters().refreshes, 0);
    world.store.fail_writes(None);
    assert!(world.app.server(&grant()).is_err(), "nothing is left of it");
    world.app.move_in(login, MoveTerms::default()).await.unwrap();
    assert_eq!(world.counters().refreshes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_between_store_and_refresh_goes_on_after_its_restart() {
    let (world, login) = world_and_login(Behaviour::default()).await;
    world.app.move_in(login, LEAVE).await.unwrap();
    let world = world.restart().await;
    assert_eq!((world.reason(), world.counters().refreshes), ("ok", 0));
    pass(HOUR).await;
    assert_eq!((world.reason(), world.counters().refreshes, world.counters().reuses), ("ok", 1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_same_login_never_comes_twice_however_old_its_copy_is() {
    let (world, login) = world_and_login(Behaviour::default()).await;
    world.app.move_in(login.clone(), MoveTerms::default()).await.unwrap();
    for hours in [0, 1, 24] {
        pass(hours * HOUR).await;
        for name in ["linear", "other", "linear@work"] {
            let again = ForeignLogin { name: Some(name.into()), ..login.clone() };
            let error = refused(world.app.move_in(again, REPLACE).await);
            assert!(matches!(&error, ImportError::AlreadyHere(here) if *here == grant()), "{error:?}");
        }
    }
    assert_eq!((world.counters().reuses, world.reason()), (0, "ok"));
}

#[tokio::test(start_paused = true)]
async fn a_login_that_lives_makes_room_only_if_that_is_wanted() {
    let (world, login) = world_and_login(Behaviour::default()).await;
    world.app.add_server(crate::world::server()).await.unwrap();
    world.log_in().await;
    let error = refused(world.app.move_in(login.clone(), MoveTerms::default()).await);
    assert!(matches!(error, ImportError::LoggedIn(_)), "{error:?}");
    assert_eq!(world.counters().refreshes, 0);
    let moved = world.app.move_in(login, REPLACE).await.unwrap();
    assert!(!moved.added_server && moved.rotated && world.reason() == "ok");
}

#[tokio::test(start_paused = true)]
async fn a_spent_token_is_said_to_be_refused_and_stays_out() {
    let (world, login) = world_and_login(Behaviour::default()).await;
    world.with(everfresh_testkit::provider::Model::revoke_all);
    let moved = world.app.move_in(login.clone(), MoveTerms::default()).await.unwrap();
    assert!(matches!(moved.outcome, MoveOutcome::Refresh(RefreshOutcome::Failed(_))), "{moved:?}");
    assert_eq!(world.reason(), "refresh_token_rejected");
    let asked = world.counters().token_requests;
    let error = refused(world.app.move_in(login, REPLACE).await);
    assert!(matches!(error, ImportError::AlreadyHere(_)), "{error:?}");
    assert_eq!(world.counters().token_requests, asked);
    world.log_in().await;
    assert_eq!(world.reason(), "ok", "the next login registers a client of its own");
}

#[tokio::test(start_paused = true)]
async fn where_the_provider_is_down_the_login_waits_for_it() {
    let (world, login) = world_and_login(Behaviour::default()).await;
    world.with(|model| model.switches.fault = Some(Fault::CloseBefore));
    let moved = world.app.move_in(login, MoveTerms::default()).await.unwrap();
    assert!(matches!(moved.outcome, MoveOutcome::Refresh(RefreshOutcome::Failed(_))) && !moved.rotated, "{moved:?}");
    assert_eq!(world.reason(), "retrying_network");
    world.with(|model| model.switches.fault = None);
    pass(Duration::from_secs(60)).await;
    assert_eq!((world.reason(), world.counters().refreshes), ("ok", 1));
}

#[tokio::test(start_paused = true)]
async fn where_nobody_can_say_who_issued_it_nothing_is_done() {
    let (world, login) = world_and_login(Behaviour::default()).await;
    world.with(|model| model.switches.metadata_down = true);
    let result = world.app.move_in(login.clone(), MoveTerms::default()).await;
    assert!(matches!(result, Err(AppError::Login(_))), "{result:?}");
    assert!(world.app.servers().is_empty() && world.counters().refreshes == 0);
    world.with(|model| model.switches.metadata_down = false);
    world.app.move_in(login, MoveTerms::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_move_is_taken_back_without_revoking_anything() {
    let (world, login) = world_and_login(Behaviour::default()).await;
    world.app.move_in(login.clone(), LEAVE).await.unwrap();
    world.app.move_back(&grant()).await.unwrap();
    assert!(world.app.server(&grant()).is_err(), "its server was added for it");
    assert!(world.store.read(&grant()).await.unwrap().is_none());
    pass(2 * HOUR).await;
    assert_eq!(world.counters().refreshes, 0);
    let token = login.refresh_token.clone().unwrap();
    assert!(world.with(|model| model.would_refresh(world.app.now(), token.expose())), "the copy is good");
    world.app.move_in(login, MoveTerms::default()).await.unwrap();
    let error = world.app.move_back(&grant()).await.unwrap_err();
    assert!(matches!(error, AppError::Import(ImportError::NotUndoable { why: NotUndoable::Changed, .. })), "{error:?}");
    pass(2 * HOUR).await;
    assert!(world.counters().refreshes > 1 && world.reason() == "ok", "it is kept fresh all the same");
}

#[tokio::test(start_paused = true)]
async fn a_move_into_a_server_of_the_user_leaves_that_server_when_it_is_taken_back() {
    let (world, login) = world_and_login(Behaviour::default()).await;
    world.app.add_server(crate::world::server()).await.unwrap();
    world.app.move_in(login, LEAVE).await.unwrap();
    world.app.move_back(&grant()).await.unwrap();
    assert_eq!(world.reason(), "login_required");
}

#[tokio::test(start_paused = true)]
async fn a_token_goes_only_to_who_issued_it() {
    let (world, login) = world_and_login(Behaviour::default()).await;
    world.app.add_server(crate::world::server()).await.unwrap();
    let asked = world.counters().token_requests;
    for wrong in [
        ForeignLogin { issuer: Some("https://evil.example".into()), ..login.clone() },
        ForeignLogin { token_endpoint: Some("https://as.example/other".into()), ..login.clone() },
    ] {
        let error = refused(world.app.move_in(wrong, MoveTerms::default()).await);
        assert!(matches!(error, ImportError::OtherIssuer { .. }), "{error:?}");
    }
    let elsewhere = ForeignLogin { url: "https://other.example/mcp".into(), ..login.clone() };
    let error = refused(world.app.move_in(elsewhere, MoveTerms::default()).await);
    assert!(matches!(error, ImportError::OtherServer { .. }), "{error:?}");
    assert_eq!(world.counters().token_requests, asked);
    let right = ForeignLogin { issuer: Some("https://as.example/".into()), ..login };
    world.app.move_in(right, MoveTerms::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_used_is_told_and_changes_nothing() {
    let (world, login) = world_and_login(Behaviour::default()).await;
    let bare = ForeignLogin { refresh_token: None, access_token: None, ..login.clone() };
    let odd = |text: &str| Some(Secret::new(text));
    let cases = [
        (bare, "no tokens"),
        (ForeignLogin { client_id: None, ..login.clone() }, "client_id is missing"),
        (ForeignLogin { access_token: odd("a\nb"), ..login.clone() }, "access_token"),
        (ForeignLogin { refresh_token: odd(""), ..login.clone() }, "refresh_token"),
        (ForeignLogin { refresh_token: odd(&"x".repeat(20_000)), ..login.clone() }, "too long"),
        (ForeignLogin { token_type: Some("DPoP".into()), ..login.clone() }, "DPoP"),
        (ForeignLogin { name: Some("No Name".into()), ..login.clone() }, "No Name"),
        (ForeignLogin { name: None, ..login.clone() }, "no name"),
    ];
    for (login, words) in cases {
        let error = refused(world.app.move_in(login, MoveTerms::default()).await);
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(world.app.servers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_login_without_refresh_token_lasts_as_long_as_its_access_token() {
    let (world, login) = world_and_login(Behaviour::default()).await;
    let login = ForeignLogin { refresh_token: None, client_id: None, ..login };
    let moved = world.app.move_in(login, MoveTerms::default()).await.unwrap();
    assert!(matches!(moved.outcome, MoveOutcome::WithoutRefreshToken), "{moved:?}");
    assert_eq!(world.reason(), "no_refresh_token");
    assert_eq!(world.generation_of_pass().await, Some(1));
    pass(HOUR).await;
    assert_eq!((world.reason(), world.counters().refreshes), ("expired_no_refresh_token", 0));
}

#[tokio::test(start_paused = true)]
async fn a_login_without_access_token_is_waited_for() {
    let (world, login) = world_and_login(Behaviour::default()).await;
    let login = ForeignLogin { access_token: None, expires_at: None, issued_at: None, ..login };
    world.app.move_in(login, LEAVE).await.unwrap();
    assert_eq!(world.generation_of_pass().await, Some(2), "the empty token was never sent");
    assert_eq!(world.reason(), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_keeps_its_refresh_tokens_leaves_the_copy_alive_and_that_is_told() {
    let behaviour = Behaviour { rotation: Rotation::Never, ..Behaviour::default() };
    let (world, login) = world_and_login(behaviour).await;
    let moved = world.app.move_in(login, MoveTerms::default()).await.unwrap();
    assert!(matches!(moved.outcome, MoveOutcome::Refresh(RefreshOutcome::Refreshed(_))) && !moved.rotated);
}

#[tokio::test(start_paused = true)]
async fn of_two_that_come_at_once_one_is_taken() {
    let (world, login) = world_and_login(Behaviour::default()).await;
    let other = ForeignLogin { name: Some("other".into()), ..login.clone() };
    let app = Arc::new(world.app.clone());
    let (one, two) = tokio::join!(app.move_in(login, MoveTerms::default()), app.move_in(other, MoveTerms::default()));
    assert!(one.is_ok(), "{one:?}");
    assert!(matches!(refused(two), ImportError::AlreadyHere(_)));
    assert_eq!(world.counters().reuses, 0);
}

#[tokio::test(start_paused = true)]
async fn the_same_login_again_completes_a_move_that_was_cut_short() {
    let (world, login) = world_and_login(Behaviour::default()).await;
    world.app.move_in(login.clone(), LEAVE).await.unwrap();
    let world = world.restart().await;
    assert!(matches!(refused(world.app.move_in(login, MoveTerms::default()).await), ImportError::AlreadyHere(_)));
    world.app.complete_move(&grant(), LEAVE).await.unwrap();
    assert_eq!(world.counters().refreshes, 0, "it is to be left");
    for _ in 0..2 {
        world.app.complete_move(&grant(), MoveTerms::default()).await.unwrap();
        assert_eq!(world.counters().refreshes, 1, "once");
    }
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_cannot_be_stored_leaves_the_login_in_use() {
    let (world, login) = world_and_login(Behaviour::default()).await;
    world.app.move_in(login, LEAVE).await.unwrap();
    world.store.fail_writes(Some("disk full"));
    let undone = world.app.move_back(&grant()).await;
    assert!(matches!(undone, Err(AppError::Store(_))), "{undone:?}");
    world.store.fail_writes(None);
    assert_eq!(world.generation_of_pass().await, Some(1));
    pass(HOUR).await;
    assert_eq!((world.reason(), world.counters().refreshes), ("ok", 1), "and is kept fresh");
}
