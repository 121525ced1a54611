//! Tokens that are to last: renewed before they are handed out, or denied in words.

use std::time::Duration;

use everfresh_application::AppError;
use everfresh_testkit::provider::{Behaviour, Fault};

use crate::world::{World, grant};

const MINUTE: Duration = Duration::from_secs(60);

fn hourly() -> Behaviour {
    Behaviour { access_lifetime: MINUTE * 60, ..Behaviour::default() }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_short_of_what_is_wanted_is_renewed_first() {
    let world = World::logged_in(hourly()).await;
    let first = world.app.token_lasting(&grant(), MINUTE * 30).await.unwrap();
    tokio::time::sleep(MINUTE * 29).await;
    let same = world.app.token_lasting(&grant(), MINUTE * 600).await.unwrap();
    assert_eq!((same.access_token, world.counters().refreshes), (first.access_token.clone(), 0), "half is enough");
    tokio::time::sleep(MINUTE * 2).await;
    assert_eq!(world.app.token_lasting(&grant(), MINUTE * 10).await.unwrap().access_token, first.access_token);
    let newer = world.app.token_lasting(&grant(), MINUTE * 30).await.unwrap();
    assert_ne!(newer.access_token, first.access_token);
    assert_eq!(world.counters().refreshes, 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_renewed_is_denied_and_stays_good_for_whoever_wants_less() {
    let world = World::logged_in(hourly()).await;
    tokio::time::sleep(MINUTE * 31).await;
    world.model.lock().unwrap().switches.fault = Some(Fault::Html);
    let denied = world.app.token_lasting(&grant(), MINUTE * 30).await.unwrap_err();
    assert!(
        matches!(&denied, AppError::Denied(denial) if denial.health.reason.as_str() == "retrying_provider"),
        "{denied:?}"
    );
    assert!(world.app.token_lasting(&grant(), MINUTE * 10).await.is_ok());
    assert!(world.app.token(&grant()).await.is_ok());
}
