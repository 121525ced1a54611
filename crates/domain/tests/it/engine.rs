//! The rules of one grant.

use everfresh_domain::engine::{AttemptOutcome, Event, Note, Trigger};
use everfresh_domain::failure::{Failure, FailureClass};
use everfresh_domain::status::{RefreshState, UpstreamVerdict};
use everfresh_domain::{Generation, GrantFacts, Policy, Timestamp};

use crate::kit::{HOUR, START, Stage, facts, grant, secs};

#[test]
fn a_token_is_refreshed_at_four_fifths_of_its_life_whatever_its_age_at_start() {
    for age in [0, 600, 2_500] {
        let mut stage = Stage::settled(secs(age), HOUR);
        stage.step();
        let attempt = stage.one();
        let part = attempt.started_at.since(START.before(secs(age))).as_secs_f64() / 3_600.0;
        assert!((0.78..=0.80).contains(&part), "{part}");
        assert_eq!(attempt.trigger, Trigger::Schedule);
    }
}

#[test]
fn what_expired_while_everfresh_was_off_is_refreshed_at_once() {
    let mut stage = Stage::settled(secs(7_200), HOUR);
    assert_eq!(stage.one().started_at, START);
}

#[test]
fn no_second_attempt_begins_while_one_is_under_way() {
    let mut stage = Stage::settled(secs(7_200), HOUR);
    let attempt = stage.one();
    for trigger in [Trigger::User, Trigger::Request, Trigger::Upstream] {
        stage.tell(Event::RefreshWanted { grant: grant("linear"), trigger });
    }
    stage.pass(secs(300));
    assert_eq!(stage.begun(), []);
    stage.succeed(&attempt, HOUR);
    assert_eq!(stage.begun(), []);
    assert_eq!(stage.status("linear").state, RefreshState::Scheduled);
}

#[test]
fn attempts_keep_ten_seconds_apart_whatever_asks_for_them() {
    let mut stage = Stage::settled(secs(7_200), HOUR);
    let first = stage.one();
    stage.succeed(&first, HOUR);
    stage.pass(secs(1));
    stage.tell(Event::RefreshWanted { grant: grant("linear"), trigger: Trigger::User });
    assert_eq!(stage.begun(), []);
    stage.step();
    assert_eq!(stage.one().started_at.since(first.started_at), secs(10));
}

#[test]
fn spacing_holds_over_a_restart() {
    let mut stage = Stage::new();
    let mut expired = facts(secs(7_200), HOUR);
    expired.last_attempt_at = Some(START.before(secs(4)));
    stage.load("linear", expired);
    assert_eq!(stage.begun(), []);
    stage.step();
    assert_eq!(stage.one().started_at, START.after(secs(6)));
}

#[test]
fn a_provider_that_is_down_is_tried_after_10_20_40_80_160_300_seconds_for_ever() {
    let mut stage = Stage::with(Policy { backoff_spread: 0.0, ..Policy::default() });
    stage.load("linear", facts(secs(0), HOUR));
    stage.step();
    let mut attempt = stage.one();
    let mut waits = vec![];
    for _ in 0..9 {
        stage.fail(&attempt, FailureClass::Provider);
        while stage.engine.in_flight() == 0 {
            stage.step();
        }
        let next = stage.one();
        waits.push(next.started_at.since(attempt.started_at).as_secs());
        attempt = next;
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300, 300]);
    stage.succeed(&attempt, HOUR);
    assert_eq!(stage.status("linear").retry_count, 0);
}

#[test]
fn retry_after_only_lengthens_the_wait() {
    for (asked, waited) in [(5, 10), (120, 120), (90_000, 3_600)] {
        let mut stage = Stage::with(Policy { backoff_spread: 0.0, ..Policy::default() });
        stage.load("linear", facts(secs(7_200), HOUR));
        let attempt = stage.one();
        let asked = Some(secs(asked));
        let failure = Failure { retry_after: asked, ..Failure::without_answer(FailureClass::RateLimited, "429") };
        stage.fail_with(&attempt, failure);
        stage.step();
        assert_eq!(stage.one().started_at.since(attempt.started_at), secs(waited));
    }
}

#[test]
fn just_after_start_an_unreachable_network_does_not_lengthen_the_wait() {
    let mut stage = Stage::settled(secs(7_200), HOUR);
    let mut attempt = stage.one();
    for _ in 0..4 {
        stage.fail(&attempt, FailureClass::Network);
        while stage.engine.in_flight() == 0 {
            stage.step();
        }
        let next = stage.one();
        assert!(next.started_at.since(attempt.started_at) <= secs(11));
        attempt = next;
    }
}

#[test]
fn a_request_does_not_end_a_backoff_but_a_person_does() {
    let mut stage = Stage::settled(secs(7_200), HOUR);
    for _ in 0..4 {
        let attempt = stage.one();
        stage.fail(&attempt, FailureClass::Provider);
        while stage.engine.in_flight() == 0 {
            stage.step();
        }
    }
    let attempt = stage.one();
    stage.fail(&attempt, FailureClass::Provider);
    stage.pass(secs(11));
    stage.tell(Event::RefreshWanted { grant: grant("linear"), trigger: Trigger::Request });
    assert_eq!(stage.begun(), []);
    stage.tell(Event::RefreshWanted { grant: grant("linear"), trigger: Trigger::User });
    assert_eq!(stage.one().trigger, Trigger::User);
}

#[test]
fn a_refused_refresh_token_ends_all_attempts() {
    let mut stage = Stage::settled(secs(7_200), HOUR);
    let attempt = stage.one();
    stage.fail(&attempt, FailureClass::Refused);
    assert!(matches!(stage.notes.as_slice(), [Note::LoginEnded { .. }]));
    stage.tell(Event::RefreshWanted { grant: grant("linear"), trigger: Trigger::User });
    stage.pass(HOUR);
    assert_eq!(stage.begun(), []);
    assert_eq!(stage.engine.next_wake(), None);
    assert_eq!(stage.status("linear").state, RefreshState::Failed);
}

#[test]
fn a_lost_answer_is_asked_for_again_once_as_soon_as_spacing_allows() {
    let mut stage = Stage::with(Policy { backoff_spread: 0.0, ..Policy::default() });
    stage.load("linear", facts(secs(7_200), HOUR));
    let first = stage.one();
    stage.fail(&first, FailureClass::AnswerLost);
    stage.step();
    let second = stage.one();
    assert_eq!(second.trigger, Trigger::LostAnswer);
    assert_eq!(second.started_at.since(first.started_at), secs(10));
    stage.pass(secs(3));
    stage.fail(&second, FailureClass::AnswerLost);
    stage.step();
    assert_eq!(stage.one().started_at.since(second.started_at), secs(3 + 20));
}

#[test]
fn an_attempt_that_a_crash_broke_off_is_made_again_even_if_the_token_is_good() {
    let mut stage = Stage::new();
    let mut broken_off = facts(secs(60), HOUR);
    broken_off.answer_lost = broken_off.sendable;
    broken_off.last_attempt_at = Some(START.before(secs(60)));
    stage.load("linear", broken_off);
    assert_eq!(stage.one().trigger, Trigger::LostAnswer);
}

#[test]
fn tokens_that_are_not_stored_are_never_used_to_refresh_again() {
    let mut stage = Stage::settled(secs(7_200), HOUR);
    let attempt = stage.one();
    let mut held = facts(secs(0), HOUR);
    held.generation = Generation(2);
    let cause = "no space left on device".to_owned();
    stage.report(&attempt, AttemptOutcome::Unsaved { facts: Box::new(held), cause });
    stage.pass(HOUR);
    stage.tell(Event::RefreshWanted { grant: grant("linear"), trigger: Trigger::User });
    assert_eq!(stage.begun(), []);
    stage.tell(Event::Saved { grant: grant("linear"), generation: Generation(2) });
    assert_eq!(stage.begun().len(), 1);
}

#[test]
fn an_answer_to_a_login_that_was_replaced_changes_nothing() {
    let mut stage = Stage::settled(secs(7_200), HOUR);
    let attempt = stage.one();
    let mut fresh = facts(secs(0), HOUR);
    fresh.generation = Generation(5);
    stage.tell(Event::LoggedIn { grant: grant("linear"), facts: Box::new(fresh), unsaved: None });
    let before = stage.status("linear");
    stage.fail(&attempt, FailureClass::Refused);
    let after = stage.status("linear");
    assert_eq!((after.ended, after.generation), (None, Generation(5)));
    assert_eq!(before.next_attempt_at, after.next_attempt_at);
}

#[test]
fn a_doubled_answer_changes_nothing() {
    let mut stage = Stage::settled(secs(7_200), HOUR);
    let attempt = stage.one();
    stage.succeed(&attempt, HOUR);
    let before = stage.status("linear");
    stage.fail(&attempt, FailureClass::Refused);
    assert_eq!(stage.status("linear"), before);
}

#[test]
fn after_removal_there_is_not_one_more_attempt() {
    let mut stage = Stage::settled(secs(7_200), HOUR);
    let attempt = stage.one();
    stage.tell(Event::Removed { grant: grant("linear") });
    stage.fail(&attempt, FailureClass::Network);
    stage.pass(HOUR);
    assert_eq!(stage.begun(), []);
    assert_eq!(stage.engine.next_wake(), None);
    assert_eq!(stage.engine.in_flight(), 0);
}

#[test]
fn a_server_that_is_switched_off_makes_no_attempt_but_keeps_an_answer() {
    let mut stage = Stage::settled(secs(7_200), HOUR);
    let attempt = stage.one();
    stage.tell(Event::Switched { grant: grant("linear"), enabled: false });
    stage.succeed(&attempt, HOUR);
    stage.pass(HOUR);
    assert_eq!(stage.begun(), []);
    assert_eq!(stage.status("linear").generation, Generation(2));
    stage.tell(Event::Switched { grant: grant("linear"), enabled: true });
    assert_eq!(stage.begun().len(), 1);
}

#[test]
fn a_401_forces_one_refresh_and_a_401_on_the_fresh_token_none() {
    let mut stage = Stage::settled(secs(60), HOUR);
    let refused = |generation| Event::UpstreamRefused { grant: grant("linear"), generation };
    stage.tell(refused(Generation(1)));
    let attempt = stage.one();
    assert_eq!(attempt.trigger, Trigger::Upstream);
    stage.tell(refused(Generation(1)));
    stage.succeed(&attempt, HOUR);
    stage.tell(refused(Generation(1)));
    stage.pass(secs(20));
    stage.tell(refused(Generation(2)));
    stage.pass(secs(20));
    assert_eq!(stage.begun(), []);
    assert_eq!(stage.status("linear").upstream, UpstreamVerdict::RejectsFresh(Generation(2)));
    stage.tell(Event::UpstreamAccepted { grant: grant("linear"), generation: Generation(2) });
    assert_eq!(stage.status("linear").upstream, UpstreamVerdict::Accepts);
}

#[test]
fn missing_scopes_are_shown_and_never_refreshed_for() {
    let mut stage = Stage::settled(secs(60), HOUR);
    let demanded = |generation: u64, scopes: &[&str]| Event::ScopesDemanded {
        grant: grant("linear"),
        generation: Generation(generation),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
    };
    stage.tell(demanded(1, &["read", "write"]));
    assert_eq!(stage.begun(), []);
    assert_eq!(stage.status("linear").missing_scopes, ["write"]);
    stage.tell(demanded(1, &["read"]));
    assert_eq!(stage.status("linear").missing_scopes, ["read"], "granted by one side, refused by the other");
    stage.tell(demanded(0, &["admin"]));
    assert_eq!(stage.status("linear").missing_scopes, ["read"], "the answer to a token from before");
}

#[test]
fn without_a_refresh_token_there_are_no_attempts() {
    let mut stage = Stage::new();
    let mut unrefreshable = facts(secs(0), HOUR);
    unrefreshable.sendable = None;
    unrefreshable.tokens.as_mut().unwrap().refresh_token = None;
    stage.load("linear", unrefreshable);
    for _ in 0..2 {
        stage.step();
    }
    stage.pass(HOUR);
    assert_eq!(stage.begun(), []);
    assert_eq!(stage.status("linear").state, RefreshState::Idle);
}

#[test]
fn refusals_in_unclear_words_become_hourly_after_a_quarter_of_an_hour() {
    let mut stage = Stage::settled(secs(7_200), HOUR);
    let mut attempts = 0;
    let end = START.after(HOUR.saturating_mul(24));
    while stage.now < end {
        for attempt in stage.begun() {
            attempts += 1;
            stage.fail(&attempt, FailureClass::Suspect);
        }
        stage.step();
    }
    assert!(stage.status("linear").suspected_dead);
    assert!((24..=34).contains(&attempts), "{attempts}");
}

#[test]
fn waking_too_often_changes_nothing() {
    let mut stage = Stage::settled(secs(60), HOUR);
    let before = stage.status("linear");
    for _ in 0..100 {
        stage.tell(Event::Woke);
    }
    assert_eq!(stage.begun(), []);
    assert_eq!(stage.status("linear"), before);
}

#[test]
fn a_clock_set_back_neither_loops_nor_stops_the_refreshing() {
    let mut stage = Stage::settled(secs(60), HOUR);
    stage.now = START.before(HOUR.saturating_mul(5));
    stage.tell(Event::ClockJumped);
    let mut attempts = 0;
    let end = stage.now.after(HOUR);
    while stage.now < end && stage.engine.next_wake().is_some() {
        stage.step();
        for attempt in stage.begun() {
            attempts += 1;
            stage.succeed(&attempt, HOUR);
        }
    }
    assert!((1..=3).contains(&attempts), "{attempts}");
}

#[test]
fn no_impatience_makes_more_than_thirty_attempts_in_an_hour() {
    let mut stage = Stage::with(Policy { backoff_cap: secs(10), breaker_threshold: u32::MAX, ..Policy::default() });
    stage.load("linear", facts(secs(7_200), HOUR));
    let mut starts = Vec::new();
    while stage.now < START.after(HOUR * 6) {
        for attempt in stage.begun() {
            starts.push(stage.now);
            stage.fail(&attempt, FailureClass::Provider);
        }
        stage.tell(Event::RefreshWanted { grant: grant("linear"), trigger: Trigger::Request });
        stage.step();
    }
    let within_an_hour =
        |start: &Timestamp| starts.iter().filter(|at| **at >= *start && at.since(*start) < HOUR).count();
    let busiest = starts.iter().map(within_an_hour).max();
    assert!(busiest.is_some_and(|count| (25..=31).contains(&count)), "{busiest:?}");
}

#[test]
fn the_budget_holds_over_a_restart_and_silences_neither_the_schedule_nor_people() {
    let mut stage = Stage::with(Policy { backoff_cap: secs(10), breaker_threshold: u32::MAX, ..Policy::default() });
    stage.load("linear", facts(secs(7_200), HOUR));
    for _ in 0..20 {
        let attempt = stage.one();
        stage.fail(&attempt, FailureClass::Provider);
        stage.step();
    }
    let attempt = stage.one();
    stage.fail(&attempt, FailureClass::Provider);
    let spent = stage.facts_of("linear");
    let mut next_life = Stage::new();
    next_life.now = stage.now;
    next_life.load("linear", GrantFacts { answer_lost: spent.sendable, ..spent.clone() });
    assert!(next_life.begun().is_empty(), "a lost answer is paid from the budget");
    next_life.load("linear", spent.clone());
    assert!(next_life.begun().is_empty(), "so is an attempt after one that failed in another life");
    next_life.now = next_life.now.after(secs(10));
    next_life.tell(Event::RefreshWanted { grant: grant("linear"), trigger: Trigger::User });
    assert_eq!(next_life.one().trigger, Trigger::User);
    next_life.load("github", GrantFacts { last_success_at: spent.last_attempt_at, ..spent });
    assert_eq!(next_life.one().trigger, Trigger::Schedule);
}

#[test]
fn a_clock_set_back_keeps_spacing_and_no_more_than_that() {
    let mut stage = Stage::settled(secs(3_000), HOUR);
    let attempt = stage.one();
    stage.fail(&attempt, FailureClass::Network);
    stage.step();
    let attempt = stage.one();
    stage.succeed(&attempt, HOUR);
    let before = stage.now;
    stage.now = before.before(HOUR);
    stage.tell(Event::ClockJumped);
    let noticed = stage.now;
    stage.step();
    let attempt = stage.one();
    let waited = attempt.started_at.since(noticed);
    assert!((secs(10)..=secs(20)).contains(&waited), "{waited:?}");
    let mut next_life = Stage::new();
    next_life.now = before.before(HOUR);
    let failed_ahead = GrantFacts { last_attempt_at: Some(before), ..facts(secs(7_200), HOUR) };
    next_life.load("linear", failed_ahead);
    next_life.step();
    assert_eq!(next_life.one().started_at.since(before.before(HOUR)), secs(10));
}

#[test]
fn a_resume_ends_a_backoff() {
    let mut stage = Stage::settled(secs(3_000), HOUR);
    for _ in 0..14 {
        let attempt = stage.next();
        stage.fail(&attempt, FailureClass::Network);
    }
    stage.pass(secs(20));
    assert!(stage.status("linear").next_attempt_at.is_some_and(|at| at.since(stage.now) >= secs(200)));
    stage.tell(Event::ClockJumped);
    let woke = stage.now;
    assert!(stage.next().started_at.since(woke) <= secs(10));
}
