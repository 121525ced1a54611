//! Changes of the servers that come at the same time.

use std::time::Duration;

use everfresh_application::AppError;
use everfresh_domain::Generation;
use everfresh_testkit::provider::Behaviour;

use crate::world::{HOUR, World, grant, pass, server};

#[tokio::test(start_paused = true)]
async fn of_two_who_add_a_server_of_one_name_one_is_told_that_it_is_taken() {
    let world = World::empty(Behaviour::default()).await;
    let (one, other) = tokio::join!(world.app.add_server(server()), world.app.add_server(server()));
    let refused = if one.is_ok() { other } else { one };
    assert!(matches!(refused, Err(AppError::NameTaken(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_switched_while_it_is_removed_does_not_come_back() {
    for moments in 0..16 {
        let world = World::logged_in(Behaviour::default()).await;
        let name = server().name;
        let switch = async {
            for _ in 0..moments {
                tokio::task::yield_now().await;
            }
            drop(world.app.set_enabled(&name, false).await);
        };
        let (removed, ()) = tokio::join!(world.app.remove_server(&name), switch);
        removed.unwrap();
        assert!(world.app.servers().is_empty(), "after {moments}");
        assert!(world.restart().await.app.servers().is_empty(), "after {moments}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_that_begins_while_its_server_is_removed_leaves_nothing_behind() {
    let world = World::logged_in(Behaviour::default()).await;
    let (name, account) = (server().name, "linear@work".parse().unwrap());
    let (_, begun) = tokio::join!(world.app.remove_server(&name), world.app.start_login(&account, None));
    assert!(matches!(begun, Err(AppError::NoSuchServer(_))), "{begun:?}");
    assert!(world.app.servers().is_empty());
    assert!(world.store.on_disk(&grant()).is_none());
}

/// The newest tokens are only in memory, and the disk takes neither them nor the removal.
#[tokio::test(start_paused = true)]
async fn a_removal_that_fails_loses_no_token_and_leaves_the_login_in_use() {
    let world = World::logged_in(Behaviour::default()).await;
    world.with(|model| model.switches.delay_ms = 1_000);
    let refreshing = tokio::spawn({
        let app = world.app.clone();
        async move { app.refresh(&grant()).await }
    });
    pass(Duration::from_millis(500)).await;
    world.store.fail_writes(Some("no space left on device"));
    refreshing.await.unwrap().unwrap();
    let removed = world.app.remove_server(&server().name).await;
    assert!(matches!(removed, Err(AppError::Store(_))), "{removed:?}");
    assert_eq!(world.generation_of_pass().await, Some(2), "the newest token is used");
    world.store.fail_writes(None);
    pass(Duration::from_secs(20)).await;
    assert_eq!(world.store.on_disk(&grant()).unwrap().generation, Generation(2), "and is stored");
    pass(HOUR).await;
    assert_eq!((world.reason(), world.counters().reuses), ("ok", 0));
    world.app.remove_server(&server().name).await.unwrap();
    assert!(world.store.on_disk(&grant()).is_none());
}

#[tokio::test(start_paused = true)]
async fn of_a_removal_that_fails_halfway_what_is_erased_is_revoked_all_the_same() {
    let world = World::logged_in(Behaviour::default()).await;
    let work = "linear@work".parse().unwrap();
    world.log_in_as(&work).await;
    world.store.fail_erasing(Some(&work));
    let failed = world.app.remove_server(&server().name).await;
    assert!(matches!(failed, Err(AppError::Store(_))), "{failed:?}");
    assert_eq!(world.counters().revocations, 1);
    assert!(world.store.on_disk(&grant()).is_none() && world.store.on_disk(&work).is_some());
    world.store.fail_erasing(None);
    world.app.remove_server(&server().name).await.unwrap();
    assert_eq!(world.counters().revocations, 2);
    assert!(world.app.servers().is_empty());
}
