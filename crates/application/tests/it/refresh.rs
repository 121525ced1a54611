//! Refreshing, in a world of fakes: lost answers, full disks, restarts, and people in between.

use std::time::Duration;

use everfresh_application::RefreshOutcome;
use everfresh_domain::{Generation, LoginEnd};
use everfresh_testkit::provider::{Behaviour, Fault, Rotation};

use crate::world::{HOUR, World, grant, pass, server};

#[tokio::test(start_paused = true)]
async fn a_login_is_kept_fresh_for_days_without_anybody() {
    let world = World::logged_in(Behaviour::default()).await;
    pass(HOUR * 48).await;
    let counters = world.counters();
    assert!((59..=62).contains(&counters.refreshes), "one at 80 % of each hour: {}", counters.refreshes);
    assert_eq!((counters.reuses, counters.refusals, counters.authorizations), (0, 0, 1));
    assert_eq!(world.reason(), "ok");
    assert_eq!(world.metrics.count("linear success"), counters.refreshes);
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_whether_the_engine_lives_is_told_so_until_it_has_stopped() {
    let world = World::logged_in(Behaviour::default()).await;
    assert!(world.app.pulse().await);
    assert_eq!(world.counters().refreshes, 0, "asking changes nothing");
    world.app.shutdown().await;
    assert!(!world.app.pulse().await);
}

#[tokio::test(start_paused = true)]
async fn what_ended_while_the_process_was_dead_is_refreshed_at_start_and_requests_wait_for_it() {
    let world = World::logged_in(Behaviour::default()).await;
    world.app.shutdown().await;
    pass(HOUR * 10).await;
    let world = world.restart().await;
    assert_eq!(world.generation_of_pass().await, Some(2));
    assert_eq!(world.counters().refreshes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_endpoint_that_moved_is_found_again_where_its_issuer_says() {
    let world = World::logged_in(Behaviour::default()).await;
    let place = "https://as.example/v2/token";
    world.with(|model| {
        model.switches.old_token_endpoint_gone = true;
        model.switches.metadata_down = true;
    });
    pass(HOUR).await;
    let health = world.app.server(&grant()).unwrap().health;
    assert_eq!((health.reason.as_str(), world.counters().refreshes), ("retrying_provider", 0));
    assert!(health.detail.contains("may have moved") && health.detail.contains("everfresh login linear"), "{health:?}");
    world.with(|model| {
        model.switches.metadata_down = false;
        model.switches.token_endpoint_told = Some(place.to_owned());
        model.switches.issuer_told = Some("https://other.example".to_owned());
    });
    pass(HOUR).await;
    assert_eq!(
        (world.reason(), world.counters().refreshes),
        ("retrying_provider", 0),
        "another issuer's word is nothing"
    );
    world.with(|model| model.switches.issuer_told = None);
    pass(HOUR).await;
    assert_eq!((world.reason(), world.counters().authorizations, world.counters().reuses), ("ok", 1, 0));
    assert_eq!(world.store.on_disk(&grant()).unwrap().binding.token_endpoint, place);
    let (refreshes, world) = (world.counters().refreshes, world.restart().await);
    pass(HOUR).await;
    assert!(world.counters().refreshes > refreshes, "after a restart as well");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_its_issuer_still_names_is_asked_on_and_nothing_else_is() {
    let world = World::logged_in(Behaviour::default()).await;
    world.with(|model| model.switches.old_token_endpoint_gone = true);
    pass(HOUR).await;
    let health = world.app.server(&grant()).unwrap().health;
    assert!(health.detail.contains("still names this token endpoint"), "{health:?}");
    world.with(|model| model.switches.old_token_endpoint_gone = false);
    pass(Duration::from_secs(400)).await;
    assert_eq!((world.reason(), world.counters().reuses), ("ok", 0));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_once_more_and_then_told_by_its_name() {
    let world = World::logged_in(Behaviour::default()).await;
    world.with(|model| {
        model.switches.fault = Some(Fault::CloseAfter);
        model.switches.fault_count = Some(1);
    });
    pass(HOUR).await;
    let counters = world.counters();
    assert_eq!((counters.token_requests, counters.reuses), (3, 1), "the exchange, the lost one, and one more");
    assert_eq!(world.reason(), "rotation_lost");
    let asked = counters.token_requests;
    let world = world.restart().await;
    pass(HOUR * 5).await;
    assert_eq!(world.counters().token_requests, asked, "a refused token is never sent again");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_costs_nothing_where_the_provider_has_a_grace() {
    for rotation in [Rotation::PreviousUntilUsed, Rotation::SingleUse { grace: Duration::from_secs(30) }] {
        let world = World::logged_in(Behaviour { rotation, ..Behaviour::default() }).await;
        world.with(|model| {
            model.switches.fault = Some(Fault::CloseAfter);
            model.switches.fault_count = Some(1);
        });
        pass(HOUR * 3).await;
        assert_eq!((world.counters().reuses, world.reason()), (0, "ok"), "{rotation:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_request_and_answer_is_asked_again_after_the_spacing() {
    let world = World::logged_in(Behaviour { rotation: Rotation::PreviousUntilUsed, ..Behaviour::default() }).await;
    world.with(|model| model.switches.fault = Some(Fault::Hang));
    pass(HOUR - Duration::from_secs(720) + Duration::from_secs(1)).await;
    assert!(world.store.on_disk(&grant()).unwrap().attempt.is_some(), "the mark is durable");
    world.with(|model| model.switches.fault = None);
    let world = world.restart().await;
    pass(Duration::from_secs(30)).await;
    assert_eq!((world.counters().refreshes, world.reason()), (1, "ok"));
}

#[tokio::test(start_paused = true)]
async fn tokens_that_cannot_be_stored_are_served_from_memory_and_saved_later() {
    let world = World::logged_in(Behaviour::default()).await;
    // The mark is stored, the tokens are not.
    world.with(|model| model.switches.delay_ms = 1_000);
    let refreshing = tokio::spawn({
        let app = world.app.clone();
        async move { app.refresh(&grant()).await }
    });
    pass(Duration::from_millis(500)).await;
    world.store.fail_writes(Some("no space left on device"));
    assert!(matches!(refreshing.await.unwrap().unwrap(), RefreshOutcome::Refreshed(_)));
    assert_eq!(world.reason(), "store_write_failed");
    assert_eq!(world.generation_of_pass().await, Some(2), "the new token is used");
    assert_eq!(world.store.on_disk(&grant()).unwrap().generation, Generation(1));
    pass(HOUR).await;
    assert_eq!(world.counters().refreshes, 1, "what is not stored is never used to refresh again");
    world.store.fail_writes(None);
    pass(Duration::from_secs(20)).await;
    let stored: Vec<u64> = world.store.history().iter().map(|record| record.generation.0).collect();
    assert!(stored.contains(&2), "{stored:?}");
    pass(HOUR).await;
    assert_eq!((world.counters().reuses, world.reason()), (0, "ok"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_cancels_nothing() {
    let world = World::logged_in(Behaviour::default()).await;
    world.with(|model| model.switches.delay_ms = 5_000);
    let asking = tokio::spawn({
        let app = world.app.clone();
        async move { drop(app.refresh(&grant()).await) }
    });
    pass(Duration::from_secs(1)).await;
    asking.abort();
    pass(Duration::from_secs(10)).await;
    assert_eq!(world.store.on_disk(&grant()).unwrap().generation, Generation(2));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_the_answer_and_stores_it() {
    let world = World::logged_in(Behaviour::default()).await;
    world.with(|model| model.switches.delay_ms = 20_000);
    let asking = tokio::spawn({
        let app = world.app.clone();
        async move { drop(app.refresh(&grant()).await) }
    });
    pass(Duration::from_secs(1)).await;
    world.app.shutdown().await;
    assert_eq!(world.store.on_disk(&grant()).unwrap().generation, Generation(2));
    asking.abort();
}

#[tokio::test(start_paused = true)]
async fn a_logout_during_a_refresh_discards_its_answer_and_gives_the_tokens_back() {
    let world = World::logged_in(Behaviour::default()).await;
    world.with(|model| model.switches.delay_ms = 2_000);
    let refreshing = tokio::spawn({
        let app = world.app.clone();
        async move { drop(app.refresh(&grant()).await) }
    });
    pass(Duration::from_secs(1)).await;
    world.app.logout(&grant()).await.unwrap();
    refreshing.await.unwrap();
    pass(Duration::from_secs(5)).await;
    let record = world.store.on_disk(&grant()).unwrap();
    assert_eq!((record.tokens, record.ended), (None, Some(LoginEnd::LoggedOut)));
    assert_eq!(world.counters().revocations, 2, "the old tokens, and those that came late");
    assert_eq!(world.reason(), "logged_out");
    assert_eq!(world.generation_of_pass().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_refreshed_once_by_force_and_then_named_as_rejected() {
    let world = World::logged_in(Behaviour::default()).await;
    let (access, route) = (world.app.access().clone(), world.route());
    pass(Duration::from_secs(60)).await;
    let newer = access.pass_after_refusal(&route, Generation(1)).await.unwrap();
    assert_eq!(newer.generation, Generation(2));
    let late = access.pass_after_refusal(&route, Generation(1)).await.unwrap();
    assert_eq!((late.generation, world.counters().refreshes), (Generation(2), 1), "an older refusal needs no refresh");
    let denial = access.pass_after_refusal(&route, Generation(2)).await.unwrap_err();
    assert_eq!(denial.health.reason.as_str(), "rejected_after_refresh");
    pass(Duration::from_secs(600)).await;
    access.pass_after_refusal(&route, Generation(2)).await.unwrap_err();
    assert_eq!(world.counters().refreshes, 1, "no loop");
    access.accepted(&route, Generation(2));
    pass(Duration::from_secs(1)).await;
    assert_eq!(world.reason(), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_night_of_sleep_is_noticed_and_made_good() {
    let world = World::logged_in(Behaviour::default()).await;
    world.clock.jump(8 * 3_600_000);
    pass(Duration::from_secs(30)).await;
    assert_eq!((world.counters().refreshes, world.reason()), (1, "ok"));
    world.clock.jump(-2 * 3_600_000);
    pass(Duration::from_secs(120)).await;
    assert!(world.counters().refreshes <= 2, "a clock set back makes no storm");
    assert_eq!(world.status().retry_count, 0);
}

#[tokio::test(start_paused = true)]
async fn spacing_holds_over_a_restart() {
    let world = World::logged_in(Behaviour::default()).await;
    pass(Duration::from_secs(60)).await;
    world.app.refresh(&grant()).await.unwrap();
    let world = world.restart().await;
    let before = tokio::time::Instant::now();
    world.app.refresh(&grant()).await.unwrap();
    assert!(before.elapsed() >= Duration::from_secs(9), "{:?}", before.elapsed());
    assert_eq!(world.counters().refreshes, 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_moves_to_another_origin_gets_no_token() {
    let world = World::logged_in(Behaviour::default()).await;
    let mut moved = server();
    moved.url = "https://evil.example/mcp".into();
    world.app.replace_file_servers(vec![moved]).await.unwrap();
    assert_eq!((world.reason(), world.generation_of_pass().await), ("issuer_changed", None));
    let asked = world.counters().token_requests;
    pass(HOUR * 3).await;
    assert_eq!(world.counters().token_requests, asked);
    world.app.replace_file_servers(vec![]).await.unwrap();
    assert_eq!(world.generation_of_pass().await, Some(2), "back at its place the login counts again");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_off_by_an_hour_is_told_and_costs_no_token() {
    for ahead_s in [3_600, -3_600] {
        let world = World::logged_in(Behaviour::default()).await;
        world.with(|model| model.switches.clock_ahead_s = -ahead_s);
        pass(HOUR * 24).await;
        assert_eq!(world.reason(), "clock_skew");
        let told = world.status().clock_skew_s.unwrap();
        assert!((told - ahead_s).abs() <= 1, "{told}: the header has whole seconds");
        let counters = world.counters();
        assert!((29..=31).contains(&counters.refreshes), "one at 80 % of each hour: {}", counters.refreshes);
        world.with(|model| model.switches.clock_ahead_s = 0);
        pass(HOUR).await;
        assert_eq!(world.reason(), "ok");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_nobody_renews_is_warned_of_before_it_ends() {
    let month = HOUR * 24 * 30;
    let world = World::logged_in(Behaviour {
        rotation: Rotation::Never,
        refresh_lifetime: Some(month),
        tells_refresh_lifetime: true,
        ..Behaviour::default()
    })
    .await;
    pass(HOUR * 24 * 25).await;
    assert_eq!(world.reason(), "ok");
    pass(HOUR * 24).await;
    assert_eq!(world.reason(), "refresh_token_expiring");
    let asked = world.counters().token_requests;
    assert!((25..=40).contains(&(asked / 26)), "{asked} requests in 26 days");
    pass(HOUR * 24 * 5).await;
    assert_eq!(world.reason(), "refresh_token_rejected");
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_counts_from_the_moment_the_request_was_sent() {
    let world = World::logged_in(Behaviour::default()).await;
    world.with(|model| model.switches.delay_ms = 40_000);
    world.app.refresh(&grant()).await.unwrap();
    let status = world.status();
    let issued_at = status.tokens.unwrap().issued_at;
    assert_eq!(issued_at, status.last_attempt_at.unwrap(), "not 40 s later, when the answer came");
}
