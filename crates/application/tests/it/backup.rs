//! Backups: what is taken out, what is put back, and what is left because it is newer.

use std::time::Duration;

use everfresh_application::backup::{Backup, PutBack};
use everfresh_application::ports::TokenStore;
use everfresh_application::{SecretSource, ServerSettings};
use everfresh_domain::GrantRecord;
use everfresh_testkit::memory::MemoryStore;
use everfresh_testkit::provider::Behaviour;

use crate::world::{HOUR, World, grant, pass, server};

async fn taken(store: &MemoryStore, world: &World) -> Backup {
    let (backup, unreadable) = Backup::take(store, world.app.now()).await.unwrap();
    assert!(unreadable.is_empty());
    backup
}

async fn put_back(backup: &Backup, store: &MemoryStore) -> PutBack {
    let outcomes = backup.put_back(store).await.unwrap();
    assert!(outcomes.differing.is_empty() && outcomes.refused.is_empty(), "{outcomes:?}");
    let [(restored, outcome)] = outcomes.grants.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(*restored, grant());
    *outcome
}

#[tokio::test(start_paused = true)]
async fn everything_is_in_a_backup_and_comes_back_into_an_empty_store() {
    let world = World::logged_in(Behaviour::default()).await;
    let backup = taken(&world.store, &world).await;
    assert_eq!((backup.servers.len(), backup.grants.len(), backup.registrations.len()), (1, 1, 1));
    let text = serde_json::to_string(&backup).unwrap();
    assert_eq!(serde_json::from_str::<Backup>(&text).unwrap(), backup);
    let other = MemoryStore::default();
    assert_eq!(put_back(&backup, &other).await, PutBack::Restored);
    assert_eq!(taken(&other, &world).await, Backup { taken_at: world.app.now(), ..backup });
}

#[tokio::test(start_paused = true)]
async fn what_is_newer_stays_and_what_was_lost_comes_back() {
    let world = World::logged_in(Behaviour::default()).await;
    let backup = taken(&world.store, &world).await;
    pass(2 * HOUR).await;
    let newest = world.store.on_disk(&grant()).unwrap();
    assert!(newest.generation > backup.grants[0].generation);
    assert_eq!(put_back(&backup, &world.store).await, PutBack::Newer);
    assert_eq!(world.store.on_disk(&grant()).unwrap(), newest);
    let later = taken(&world.store, &world).await;
    let older = MemoryStore::default();
    assert_eq!(put_back(&backup, &older).await, PutBack::Restored);
    assert_eq!(put_back(&later, &older).await, PutBack::Restored, "over an older one");
    assert_eq!(put_back(&later, &older).await, PutBack::Newer, "the same is left");
    assert_eq!(older.on_disk(&grant()).unwrap(), newest);
}

#[tokio::test(start_paused = true)]
async fn a_login_goes_on_where_it_was_put_back() {
    let world = World::logged_in(Behaviour::default()).await;
    let backup = taken(&world.store, &world).await;
    world.store.erase(&grant()).await.unwrap();
    assert_eq!(put_back(&backup, &world.store).await, PutBack::Restored);
    let world = world.restart().await;
    pass(HOUR + Duration::from_secs(60)).await;
    assert_eq!((world.reason(), world.counters().refreshes, world.counters().reuses), ("ok", 1, 0));
}

#[tokio::test(start_paused = true)]
async fn servers_of_the_same_name_and_other_settings_stay_and_are_named() {
    let world = World::logged_in(Behaviour::default()).await;
    let backup = taken(&world.store, &world).await;
    let other = MemoryStore::default();
    let changed = ServerSettings { enabled: false, ..server() };
    other.put_server(&changed).await.unwrap();
    let outcomes = backup.put_back(&other).await.unwrap();
    assert_eq!(outcomes.differing, [grant().server]);
    assert_eq!(other.servers().await.unwrap(), [changed]);
}

/// A login has more generations behind it than the one that was made after the store was lost.
#[tokio::test(start_paused = true)]
async fn a_login_that_lives_is_not_given_up_for_an_older_one_of_more_generations() {
    let world = World::logged_in(Behaviour::default()).await;
    pass(5 * HOUR).await;
    let backup = taken(&world.store, &world).await;
    world.store.erase(&grant()).await.unwrap();
    let world = world.restart().await;
    world.log_in().await;
    let living = world.store.on_disk(&grant()).unwrap();
    assert!(living.generation < backup.grants[0].generation);
    assert_eq!(put_back(&backup, &world.store).await, PutBack::OtherLogin);
    assert_eq!(world.store.on_disk(&grant()).unwrap(), living);

    // Once it is over, the one of the backup may have its place, as a later generation.
    for _ in 0..10 {
        world.app.logout(&grant()).await.unwrap();
    }
    let over = world.store.on_disk(&grant()).unwrap();
    assert!(over.generation > backup.grants[0].generation);
    assert_eq!(put_back(&backup, &world.store).await, PutBack::Restored);
    let restored = world.store.on_disk(&grant()).unwrap();
    assert_eq!((restored.generation, &restored.tokens), (over.generation.next(), &backup.grants[0].tokens));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_refused_here_does_not_come_back() {
    let world = World::logged_in(Behaviour::default()).await;
    let backup = taken(&world.store, &world).await;
    world.with(everfresh_testkit::provider::Model::revoke_all);
    pass(HOUR).await;
    assert_eq!(world.reason(), "refresh_token_rejected");
    assert_eq!(put_back(&backup, &world.store).await, PutBack::Newer);
    let elsewhere = GrantRecord { logged_in_at: None, ..backup.grants[0].clone() };
    let backup = Backup { grants: vec![elsewhere], ..backup };
    assert_eq!(put_back(&backup, &world.store).await, PutBack::Newer, "however it is described");
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_backup_is_run_and_no_odd_url_comes_back() {
    let command = SecretSource::Command(vec!["touch".into(), "owned".into()]);
    let hostile = |change: fn(&mut ServerSettings, SecretSource)| {
        let mut settings = server();
        change(&mut settings, command.clone());
        settings
    };
    let servers = [
        hostile(|server, command| server.oauth.client_secret = Some(command)),
        hostile(|server, command| server.oauth.private_key = Some(command)),
        hostile(|server, command| server.oauth.assertion = Some(command)),
        hostile(|server, _| server.url = "file:///etc/passwd".into()),
    ];
    let world = World::empty(Behaviour::default()).await;
    let nothing = taken(&world.store, &world).await;
    for server in servers {
        let backup = Backup { servers: vec![server], ..nothing.clone() };
        let outcomes = backup.put_back(&world.store).await.unwrap();
        assert_eq!(outcomes.refused.len(), 1, "{outcomes:?}");
        assert!(world.store.servers().await.unwrap().is_empty());
    }
}
