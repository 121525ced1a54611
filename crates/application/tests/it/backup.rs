//! Backups: what is taken out, what is put back, and what is left because it is newer.

use std::time::Duration;

use everfresh_application::ServerSettings;
use everfresh_application::backup::{Backup, PutBack};
use everfresh_application::ports::TokenStore;
use everfresh_testkit::memory::MemoryStore;
use everfresh_testkit::provider::Behaviour;

use crate::world::{HOUR, World, grant, pass, server};

async fn taken(store: &MemoryStore, world: &World) -> Backup {
    let (backup, unreadable) = Backup::take(store, world.app.now()).await.unwrap();
    assert!(unreadable.is_empty());
    backup
}

async fn put_back(backup: &Backup, store: &MemoryStore) -> PutBack {
    let (outcomes, differing) = backup.put_back(store).await.unwrap();
    assert!(differing.is_empty() && outcomes.len() == 1, "{outcomes:?}");
    assert_eq!(outcomes[0].0, grant());
    outcomes[0].1
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
    let (_, differing) = backup.put_back(&other).await.unwrap();
    assert_eq!(differing, [grant().server]);
    assert_eq!(other.servers().await.unwrap(), [changed]);
}
