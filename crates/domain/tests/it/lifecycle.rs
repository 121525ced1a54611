//! Grants that come, go and change while something is under way.

use everfresh_domain::engine::{Event, Trigger};
use everfresh_domain::failure::FailureClass;
use everfresh_domain::status::RefreshState;
use everfresh_domain::{Generation, GrantFacts, Policy, Reason};

use crate::kit::{HOUR, START, Stage, facts, grant, secs};

#[test]
fn a_difference_of_the_clocks_is_noted_beyond_a_minute_either_way() {
    let mut stage = Stage::settled(secs(60), HOUR);
    for (ahead_s, noted) in [(60, None), (61, Some(61)), (-60, None), (-61, Some(-61)), (0, None)] {
        stage.tell(Event::ClockSkewSeen { grant: grant("linear"), ahead_s });
        assert_eq!(stage.status("linear").clock_skew_s, noted, "{ahead_s}");
    }
}

#[test]
fn a_grant_that_is_loaded_anew_takes_no_answer_from_before() {
    let mut stage = Stage::settled(secs(3_000), HOUR);
    let attempt = stage.next();
    stage.load("linear", facts(secs(10), HOUR));
    stage.succeed(&attempt, HOUR * 5);
    let status = stage.status("linear");
    assert_eq!((status.generation, status.state), (Generation(1), RefreshState::Scheduled));
    assert_eq!(status.tokens.and_then(|tokens| tokens.lifetime), Some(HOUR));
}

#[test]
fn new_numbers_move_every_schedule() {
    let mut stage = Stage::settled(secs(60), HOUR);
    let before = stage.status("linear").next_attempt_at.expect("a schedule");
    let policy = Policy { threshold: 0.5, ..Policy::default() };
    stage.tell(Event::PolicyChanged(Box::new(policy.clone())));
    let after = stage.status("linear").next_attempt_at.expect("a schedule");
    assert!((secs(1_000)..=secs(1_100)).contains(&before.since(after)), "{:?}", before.since(after));
    assert_eq!(stage.engine.next_wake().map(|wake| wake.at), Some(after));
    assert_eq!(*stage.engine.policy(), policy);
}

#[test]
fn nothing_is_left_of_a_removed_grant() {
    let mut stage = Stage::settled(secs(60), HOUR);
    assert_eq!(stage.engine.grants().collect::<Vec<_>>(), [&grant("linear")]);
    stage.tell(Event::Removed { grant: grant("linear") });
    assert_eq!((stage.engine.next_wake(), stage.engine.grants().count()), (None, 0));
}

#[test]
fn nothing_is_left_of_a_removed_grant_that_waited_for_its_provider() {
    let mut stage = Stage::settled(secs(3_000), HOUR);
    for _ in 0..8 {
        let attempt = stage.next();
        stage.fail(&attempt, FailureClass::Provider);
    }
    stage.load("github", facts(secs(7_200), HOUR));
    assert!(stage.begun().is_empty(), "the breaker of their provider holds it back");
    stage.tell(Event::Removed { grant: grant("linear") });
    assert!(stage.engine.next_wake().is_some(), "it waits for its turn to probe");
    stage.tell(Event::Removed { grant: grant("github") });
    assert_eq!(stage.engine.next_wake(), None);
}

#[test]
fn a_wish_is_forgotten_when_its_server_is_switched_off() {
    let mut stage = Stage::settled(secs(3_000), HOUR);
    let attempt = stage.next();
    stage.succeed(&attempt, HOUR);
    stage.tell(Event::RefreshWanted { grant: grant("linear"), trigger: Trigger::User });
    for enabled in [false, true] {
        stage.tell(Event::Switched { grant: grant("linear"), enabled });
    }
    stage.pass(secs(60));
    assert!(stage.begun().is_empty(), "nobody wants it any more");
    stage.tell(Event::RefreshWanted { grant: grant("linear"), trigger: Trigger::User });
    stage.tell(Event::Switched { grant: grant("linear"), enabled: true });
    assert_eq!(stage.begun().len(), 1, "switching on what is on forgets nothing");
}

#[test]
fn only_scopes_that_the_login_lacks_are_missing_and_all_that_were_demanded_are_asked_for() {
    let mut stage = Stage::settled(secs(60), HOUR);
    let scopes = ["read", "write"].map(str::to_owned).to_vec();
    let generation = Generation(1);
    stage.tell(Event::ScopesDemanded { grant: grant("linear"), generation, scopes });
    let scopes = ["admin", "write"].map(str::to_owned).to_vec();
    stage.tell(Event::ScopesDemanded { grant: grant("linear"), generation, scopes });
    let status = stage.status("linear");
    assert_eq!(status.missing_scopes, ["admin", "write"]);
    assert_eq!(status.needed_scopes, ["read", "write", "admin"], "each once, in the order they were demanded");
}

#[test]
fn the_warning_of_a_client_secret_comes_without_anything_happening() {
    let day = HOUR * 24;
    let mut stage = Stage::new();
    let year = GrantFacts { client_secret_expires_at: Some(START.after(day * 30)), ..facts(secs(0), day * 365) };
    stage.load("linear", year);
    assert_eq!(stage.engine.next_wake().map(|wake| wake.at), Some(START.after(day * 23)));
    assert_eq!(stage.health("linear").reason, Reason::Ok);
    stage.step();
    assert_eq!(stage.health("linear").reason, Reason::ClientSecretExpiring);
    assert!(stage.engine.next_wake().is_some_and(|wake| wake.at > stage.now), "and is told once");
}

#[test]
fn restarts_forgive_no_refusals_of_an_unclear_kind() {
    let mut stage = Stage::settled(secs(3_000), HOUR);
    let (mut made, end) = (0, START.after(HOUR * 24));
    while stage.now < end {
        let attempt = stage.next();
        made += 1;
        stage.fail(&attempt, FailureClass::Suspect);
        // The process dies after each of them, and starts again at once.
        let (now, known) = (stage.now, stage.facts_of("linear"));
        stage = Stage::new();
        stage.now = now;
        stage.load("linear", known);
    }
    assert!((24..=64).contains(&made), "{made} requests in a day of restarts: hourly, once they suffice");
    assert!(stage.status("linear").suspected_dead);
    assert_eq!(stage.health("linear").reason, Reason::SuspectedRejected);
    stage.tell(Event::RefreshWanted { grant: grant("linear"), trigger: Trigger::Request });
    stage.pass(secs(20));
    assert!(stage.begun().is_empty(), "a request does not end the wait");
    stage.tell(Event::RefreshWanted { grant: grant("linear"), trigger: Trigger::User });
    assert_eq!(stage.one().trigger, Trigger::User);
}

#[test]
fn what_everfresh_itself_holds_back_climbs_no_ladder() {
    let mut stage = Stage::settled(secs(3_000), HOUR);
    for _ in 0..6 {
        let attempt = stage.next();
        stage.fail(&attempt, FailureClass::HeldBack);
        let wait = stage.status("linear").next_attempt_at.expect("another attempt").since(stage.now);
        assert!(wait <= secs(11), "{wait:?}");
    }
    assert_eq!(stage.health("linear").reason, Reason::HeldBack);
    let attempt = stage.next();
    stage.fail(&attempt, FailureClass::Network);
    let wait = stage.status("linear").next_attempt_at.expect("another attempt").since(stage.now);
    assert!(wait <= secs(11), "the first failure that is the provider's: {wait:?}");
}

/// Whatever is spared by the budget followed a success: who only fails is paid for.
#[test]
fn a_provider_that_only_fails_sees_the_budget_and_one_attempt_on_schedule() {
    let policy = Policy { backoff_cap: secs(10), ..Policy::default() };
    let mut stage = Stage::with(policy);
    stage.load("linear", facts(secs(20), secs(30)));
    let mut made = std::collections::VecDeque::new();
    while stage.now < START.after(HOUR * 6) {
        let attempt = stage.next();
        made.push_back(stage.now);
        while made.front().is_some_and(|first| stage.now.since(*first) >= HOUR) {
            made.pop_front();
        }
        assert!(made.len() <= 31, "{} attempts in an hour", made.len());
        stage.fail(&attempt, FailureClass::Suspect);
        stage.tell(Event::RefreshWanted { grant: grant("linear"), trigger: Trigger::Request });
    }
}
