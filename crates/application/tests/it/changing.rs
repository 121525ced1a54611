//! Changes of the servers that come at the same time.

use everfresh_application::AppError;
use everfresh_testkit::provider::Behaviour;

use crate::world::{World, grant, server};

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
