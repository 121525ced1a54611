//! The timeline of a login, over deaths of the daemon and nights without it.

use std::time::Duration;

use everfresh_application::Timeline;
use everfresh_domain::timeline::{Outcome, State};
use everfresh_testkit::provider::{Behaviour, Fault};

use crate::world::{HOUR, World, grant, pass};

const MINUTE: Duration = Duration::from_secs(60);

async fn timeline(world: &World) -> Timeline {
    world.app.timeline(&grant(), HOUR * 24).await.unwrap()
}

/// The states with their lengths in minutes.
fn states(timeline: &Timeline) -> Vec<(State, u64)> {
    timeline.spans.iter().map(|span| (span.state, (span.to.since(span.from).as_secs() + 30) / 60)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ends_while_the_daemon_is_off_is_told_as_off_and_as_lapsed_until_the_refresh() {
    let world = World::logged_in(Behaviour::default()).await;
    world.app.attend().await;
    pass(MINUTE * 30).await;
    world.app.shutdown().await;
    pass(HOUR * 5).await;
    // The provider is away for ten minutes more.
    world.with(|model| model.switches.fault = Some(Fault::CloseBefore));
    let world = world.restart().await;
    world.app.attend().await;
    pass(MINUTE * 10).await;
    world.with(|model| model.switches.fault = None);
    pass(MINUTE * 20).await;
    let timeline = timeline(&world).await;
    let told = states(&timeline);
    let names: Vec<State> = told.iter().map(|(state, _)| *state).collect();
    assert_eq!(names, [State::Unknown, State::Valid, State::Off, State::Lapsed, State::Valid], "{told:?}");
    assert_eq!((told[1].1, told[2].1), (30, 300), "{told:?}");
    assert!((10..=16).contains(&told[3].1), "{told:?}");
    let [outage] = timeline.outages[..] else { panic!("{:?}", timeline.outages) };
    let lapsed = &timeline.spans[3];
    assert_eq!((outage.reason.as_str(), outage.to), ("retrying_network", Some(lapsed.to)));
    assert!(outage.from.since(lapsed.from) < MINUTE, "{outage:?} {lapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn of_the_last_minute_of_a_killed_daemon_nothing_is_known() {
    let world = World::logged_in(Behaviour::default()).await;
    world.app.attend().await;
    pass(MINUTE * 30 + MINUTE / 2).await;
    let world = world.restart().await;
    assert_eq!(
        states(&timeline(&world).await).last().map(|(state, _)| *state),
        Some(State::Unknown),
        "noted by nobody"
    );
    pass(MINUTE * 30).await;
    world.app.attend().await;
    pass(MINUTE).await;
    assert_eq!(
        states(&timeline(&world).await)[1..],
        [(State::Valid, 30), (State::Unknown, 1), (State::Off, 30), (State::Valid, 1)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_switched_off_is_told_as_disabled_over_restarts() {
    let world = World::logged_in(Behaviour::default()).await;
    world.app.attend().await;
    pass(MINUTE * 30).await;
    world.app.set_enabled(&grant().server, false).await.unwrap();
    pass(HOUR * 2).await;
    world.app.shutdown().await;
    pass(HOUR).await;
    let world = world.restart().await;
    world.app.attend().await;
    pass(HOUR).await;
    world.app.set_enabled(&grant().server, true).await.unwrap();
    pass(MINUTE).await;
    let told = states(&timeline(&world).await);
    let expected = [
        (State::Valid, 30),
        (State::Disabled, 120),
        (State::Off, 60),
        (State::Disabled, 60),
        (State::Lapsed, 0),
        (State::Valid, 1),
    ];
    assert!(told[1..] == expected || told[1..] == [&expected[..4], &expected[5..]].concat(), "{told:?}");
}

/// As many as there are of tokens that live for a minute.
#[tokio::test(start_paused = true)]
async fn a_day_of_one_minute_tokens_is_told_whole() {
    let behaviour = Behaviour { access_lifetime: MINUTE, ..Behaviour::default() };
    let world = World::logged_in(behaviour).await;
    pass(HOUR * 26).await;
    let told = timeline(&world).await.attempts.len();
    assert!((1_780..=1_840).contains(&told), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_day_of_tokens_that_live_a_minute_is_one_span() {
    let world = World::logged_in(Behaviour { access_lifetime: MINUTE, ..Behaviour::default() }).await;
    world.app.attend().await;
    pass(HOUR * 24).await;
    let timeline = timeline(&world).await;
    assert_eq!(states(&timeline), [(State::Valid, 24 * 60)]);
    assert!(timeline.outages.is_empty(), "{:?}", timeline.outages);
    let record = world.store.on_disk(&grant()).unwrap();
    assert_eq!(record.history.stretches().len(), 2, "nobody, and then one login: {:?}", record.history);
    assert!(world.counters().refreshes > 1_500);
}

#[tokio::test(start_paused = true)]
async fn logins_and_logouts_and_refusals_are_seen() {
    let world = World::new(Behaviour::default()).await;
    world.app.attend().await;
    pass(MINUTE * 10).await;
    world.log_in().await;
    pass(MINUTE * 10).await;
    world.app.logout(&grant()).await.unwrap();
    pass(MINUTE * 10).await;
    world.log_in().await;
    world.with(|model| model.revoke_all());
    pass(HOUR * 2).await;
    world.log_in().await;
    pass(MINUTE * 10).await;
    let timeline = timeline(&world).await;
    assert_eq!(
        states(&timeline)[1..],
        [
            (State::LoggedOut, 10),
            (State::Valid, 10),
            (State::LoggedOut, 10),
            (State::Valid, 60),
            (State::LoggedOut, 60),
            (State::Valid, 10),
        ]
    );
    let outage = timeline.outages.last().unwrap();
    assert_eq!((outage.reason.as_str(), outage.to), ("refresh_token_rejected", Some(timeline.spans[6].from)));
    let failed = timeline.attempts.last().unwrap();
    assert!(matches!(failed.tried.outcome, Outcome::Failed(reason) if reason == outage.reason), "{failed:?}");
}
