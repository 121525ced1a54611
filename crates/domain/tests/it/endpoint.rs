//! Rules that many grants of one provider share.

use everfresh_domain::engine::{AttemptOutcome, Event};
use everfresh_domain::failure::{Failure, FailureClass};
use everfresh_domain::grant::GrantFacts;
use everfresh_domain::{Policy, Reason};

use crate::kit::{HOUR, START, Stage, facts, secs};

fn with_grants(count: usize, policy: Policy) -> Stage {
    let mut stage = Stage::with(policy);
    for n in 0..count {
        stage.load(&format!("server-{n}"), facts(secs(7_200), HOUR));
    }
    stage
}

#[test]
fn one_provider_gets_only_so_many_attempts_at_once() {
    let mut stage = with_grants(50, Policy::default());
    let mut largest = 0;
    let mut done = 0;
    loop {
        let begun = stage.begun();
        if begun.is_empty() {
            break;
        }
        largest = largest.max(begun.len());
        for attempt in begun {
            stage.succeed(&attempt, HOUR);
            done += 1;
        }
    }
    assert_eq!((largest, done), (8, 50));
}

#[test]
fn a_hanging_provider_delays_no_other() {
    let mut stage = Stage::with(Policy { concurrency: 64, ..Policy::default() });
    for n in 0..40 {
        let mut hanging = facts(secs(7_200), HOUR);
        hanging.endpoint = "hangs.example".into();
        stage.load(&format!("hanging-{n}"), hanging);
    }
    stage.begun();
    stage.load("linear", facts(secs(7_200), HOUR));
    assert_eq!(stage.one().grant.to_string(), "linear");
}

#[test]
fn while_a_provider_is_down_one_probe_stands_for_all_its_grants() {
    let mut stage = with_grants(20, Policy::default());
    let end = START.after(HOUR);
    let mut requests = 0;
    let mut at_once_max = 0;
    while stage.now < end {
        let begun = stage.begun();
        at_once_max = if requests > 20 { at_once_max.max(begun.len()) } else { at_once_max };
        for attempt in begun {
            requests += 1;
            stage.fail(&attempt, FailureClass::Provider);
        }
        stage.step();
    }
    assert_eq!(at_once_max, 1);
    assert!(requests < 40, "{requests} requests in an hour");
}

/// Figures: run with `--success-output immediate`.
#[test]
#[expect(clippy::print_stdout, reason = "the rate is a figure of this project")]
fn a_provider_that_is_dead_for_a_month_sees_one_probe_every_five_minutes() {
    for (class, grants) in [(FailureClass::Network, 20), (FailureClass::Provider, 20), (FailureClass::Provider, 1)] {
        let mut stage = with_grants(grants, Policy::default());
        let (mut requests, mut busiest_hour, mut hour, mut in_hour) = (0_u32, 0, START, 0);
        while stage.now < START.after(HOUR * 24 * 30) {
            for attempt in stage.begun() {
                requests += 1;
                in_hour += 1;
                stage.fail(&attempt, class);
            }
            stage.step();
            if stage.now.since(hour) >= HOUR {
                busiest_hour = busiest_hour.max(in_hour);
                (hour, in_hour) = (stage.now, 0);
            }
        }
        let hourly = f64::from(requests) / (30.0 * 24.0);
        println!(
            "{grants} grants, {class:?} for 30 days: {requests} requests, {hourly:.1} an hour, {busiest_hour} in the first"
        );
        assert!((11.0..=12.0).contains(&hourly), "{class:?}: {hourly} requests an hour");
        assert!(busiest_hour <= 35, "{class:?}: {busiest_hour} requests in one hour");
    }
}

#[test]
fn a_login_whose_token_endpoint_moved_is_not_held_back_by_the_one_it_left() {
    let mut stage = with_grants(8, Policy::default());
    let mut begun = stage.begun();
    let moved = begun.pop().expect("all begin");
    for attempt in &begun {
        stage.fail(attempt, FailureClass::Provider);
    }
    let facts = GrantFacts {
        endpoint: "new.example".into(),
        last_attempt_at: Some(moved.started_at),
        ..stage.facts_of(&moved.grant.to_string())
    };
    let failure = Failure { endpoint_gone: true, ..Failure::without_answer(FailureClass::Provider, "404") };
    stage.report(&moved, AttemptOutcome::Failed { failure, facts: Some(Box::new(facts)) });
    stage.pass(secs(12));
    let next = stage.begun();
    assert_eq!(next.len(), 2, "one stands for the old endpoint, and one goes to the new: {next:?}");
    assert!(next.iter().any(|attempt| attempt.grant == moved.grant));
}

#[test]
fn a_grant_that_the_breaker_holds_back_says_why() {
    let mut stage = with_grants(20, Policy::default());
    for attempt in stage.begun() {
        stage.fail(&attempt, FailureClass::Provider);
    }
    for attempt in stage.begun() {
        stage.fail(&attempt, FailureClass::Provider);
    }
    let reasons: Vec<Reason> = (0..20).map(|n| stage.health(&format!("server-{n}")).reason).collect();
    assert_eq!(reasons, [Reason::RetryingProvider; 20]);
}

#[test]
fn when_the_provider_is_back_all_its_grants_are_fresh_within_seconds() {
    let mut stage = with_grants(20, Policy::default());
    while stage.now < START.after(HOUR) {
        for attempt in stage.begun() {
            stage.fail(&attempt, FailureClass::Provider);
        }
        stage.step();
    }
    let back = stage.now;
    let mut fresh = 0;
    let mut first = None;
    while fresh < 20 {
        for attempt in stage.begun() {
            first.get_or_insert(stage.now);
            stage.succeed(&attempt, HOUR);
            fresh += 1;
        }
        if fresh < 20 && stage.engine.in_flight() == 0 {
            stage.step();
        }
    }
    assert!(first.unwrap().since(back) <= secs(330));
    assert!(stage.now.since(first.unwrap()) <= secs(15), "{:?}", stage.now.since(first.unwrap()));
}

#[test]
fn after_a_resume_everything_is_due_within_ten_seconds() {
    let mut stage = Stage::new();
    for n in 0..50 {
        stage.load(&format!("server-{n}"), facts(secs(0), HOUR));
    }
    stage.now = START.after(HOUR.saturating_mul(8));
    let woke = stage.now;
    stage.tell(Event::ClockJumped);
    let mut fresh = 0;
    while fresh < 50 {
        for attempt in stage.begun() {
            stage.succeed(&attempt, HOUR);
            fresh += 1;
        }
        if fresh < 50 && stage.engine.in_flight() == 0 {
            stage.step();
        }
    }
    assert!(stage.now.since(woke) <= secs(10), "{:?}", stage.now.since(woke));
}

#[test]
fn after_a_resume_attempts_are_spread() {
    let mut stage = Stage::new();
    for n in 0..50 {
        let mut elsewhere = facts(secs(0), HOUR);
        elsewhere.endpoint = format!("as{n}.example");
        stage.load(&format!("server-{n}"), elsewhere);
    }
    stage.now = START.after(HOUR.saturating_mul(8));
    let woke = stage.now;
    stage.tell(Event::ClockJumped);
    let mut soon = 0;
    while stage.now.since(woke) < secs(2) {
        soon += stage.begun().len();
        stage.step();
    }
    assert!((1..25).contains(&soon), "{soon} of 50 in the first two seconds");
}

#[test]
fn who_only_waits_for_a_place_has_no_failure_to_show() {
    let mut stage = Stage::with(Policy { endpoint_concurrency: 1, ..Policy::default() });
    stage.load("unlucky", facts(secs(7_200), HOUR));
    let attempt = stage.one();
    stage.fail(&attempt, FailureClass::Provider);
    stage.load("busy", facts(secs(7_200), HOUR));
    assert_eq!(stage.one().grant.to_string(), "busy");
    stage.load("patient", facts(secs(7_200), HOUR));
    assert!(stage.begun().is_empty(), "there is one place");
    assert_eq!(stage.status("patient").last_failure, None);
    assert_eq!(stage.health("patient").reason, Reason::Refreshing);
}
