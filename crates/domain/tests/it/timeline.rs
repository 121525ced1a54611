//! Timelines, drawn from what is recorded.

use everfresh_domain::grant::LoginEnd;
use everfresh_domain::timeline::{
    Facts, History, Holding, KEPT, Outage, Outcome, Parting, RUNS_KEPT, Run, Runs, STRETCHES_KEPT, State, Stretch,
    Tried,
};
use everfresh_domain::{Failure, FailureClass, GrantRecord, Reason, ServerName, Timestamp};
use proptest::prelude::*;

use crate::kit::{HOUR, START, secs};
use crate::record::{logged_in, response};

/// The moment so many seconds after `START`.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(START.as_millis() + seconds * 1000)
}

fn ran(runs: &[(i64, i64)]) -> Runs {
    runs.iter().map(|&(from, to)| Run::between(at(from), at(to))).collect()
}

/// The states from 0 s to 100 s, each with its first second.
fn states(history: &History, runs: &[(i64, i64)]) -> Vec<(i64, &'static str)> {
    let facts = Facts { history: history.clone(), runs: ran(runs), ..Facts::default() };
    let second = |moment: Timestamp| (moment.as_millis() - START.as_millis()) / 1000;
    facts.spans(at(0), at(100)).iter().map(|span| (second(span.from), span.state.as_str())).collect()
}

#[track_caller]
fn check(history: &History, runs: &[(i64, i64)], expected: &[(i64, &str)]) {
    assert_eq!(states(history, runs), expected);
}

fn history(steps: impl FnOnce(&mut History)) -> History {
    let mut history = History::of_none();
    steps(&mut history);
    history
}

#[test]
fn a_login_is_valid_while_its_tokens_follow_each_other() {
    let fresh = history(|history| {
        history.log_in(at(10), Some(at(40)));
        history.hold(at(34), Some(at(64)));
        history.hold(at(58), Some(at(120)));
    });
    check(&fresh, &[(0, 100)], &[(0, "logged_out"), (10, "valid")]);
    assert_eq!(fresh.stretches().len(), 2, "{fresh:?}");
}

#[test]
fn a_token_that_ends_before_the_next_one_lapses() {
    let lapsed = history(|history| {
        history.log_in(at(10), Some(at(40)));
        history.hold(at(50), Some(at(80)));
    });
    check(&lapsed, &[(0, 100)], &[(0, "logged_out"), (10, "valid"), (40, "lapsed"), (50, "valid"), (80, "lapsed")]);
}

#[test]
fn a_token_that_ended_while_the_daemon_was_off_shows_off_and_then_lapsed_until_its_refresh() {
    let expired = history(|history| {
        history.log_in(at(0), Some(at(40)));
        history.hold(at(75), Some(at(200)));
    });
    check(&expired, &[(0, 30), (70, 100)], &[(0, "valid"), (30, "off"), (70, "lapsed"), (75, "valid")]);
    check(
        &expired,
        &[(0, 30), (35, 50), (70, 100)],
        &[(0, "valid"), (30, "off"), (35, "valid"), (40, "lapsed"), (50, "off"), (70, "lapsed"), (75, "valid")],
    );
}

#[test]
fn before_anything_was_recorded_nothing_is_known() {
    let since = history(|history| history.log_in(at(50), None));
    check(&since, &[], &[(0, "unknown")]);
    check(&since, &[(20, 100)], &[(0, "unknown"), (20, "logged_out"), (50, "valid")]);
    check(&History::default(), &[(20, 60)], &[(0, "unknown"), (60, "off")]);
}

#[test]
fn a_login_that_a_person_ends_is_out_at_once_and_one_that_the_provider_ends_with_its_token() {
    let left = history(|history| {
        history.log_in(at(0), Some(at(90)));
        history.log_out(at(30));
        history.log_in(at(60), Some(at(150)));
    });
    check(&left, &[(0, 100)], &[(0, "valid"), (30, "logged_out"), (60, "valid")]);
    let ended = history(|history| {
        history.log_in(at(0), Some(at(50)));
        history.end(at(40), Some(at(50)));
        history.log_in(at(70), Some(at(150)));
    });
    check(&ended, &[(0, 100)], &[(0, "valid"), (50, "logged_out"), (70, "valid")]);
    let revoked = history(|history| {
        history.log_in(at(0), Some(at(90)));
        history.end(at(40), None);
        history.end(at(45), Some(at(90)));
    });
    check(&revoked, &[(0, 100)], &[(0, "valid"), (40, "logged_out")]);
    let again_before_its_end = history(|history| {
        history.log_in(at(0), Some(at(90)));
        history.end(at(40), Some(at(90)));
        history.log_in(at(60), Some(at(150)));
    });
    check(&again_before_its_end, &[(0, 100)], &[(0, "valid")]);
}

#[test]
fn a_clock_that_goes_back_leaves_one_past() {
    let stepped = history(|history| {
        history.log_in(at(80), Some(at(90)));
        history.hold(at(20), Some(at(40)));
    });
    check(&stepped, &[(0, 100)], &[(0, "logged_out"), (20, "valid"), (40, "lapsed")]);
    let mut runs = Runs::default();
    for second in [10, 50, 5, 30, 60] {
        runs.see(at(second));
    }
    runs.end(at(60));
    assert_eq!(runs, ran(&[(10, 50), (5, 60)]));
}

#[test]
fn a_machine_that_sleeps_runs_no_daemon() {
    let mut runs = Runs::default();
    for second in [0, 10, 20, 3_000, 3_010] {
        runs.see(at(second));
    }
    runs.end(at(3_010));
    assert_eq!(runs, ran(&[(0, 20), (3_000, 3_010)]));
}

/// So much of a run may have been noted nowhere.
#[test]
fn what_a_killed_daemon_did_in_its_last_minute_is_not_known() {
    let login = history(|history| history.log_in(at(0), None));
    let mut runs = Runs::default();
    runs.start(at(0));
    runs.see(at(20));
    runs.start(at(300));
    runs.end(at(320));
    runs.start(at(330));
    runs.see(at(340));
    let facts = Facts { history: login, runs, ..Facts::default() };
    let told = |facts: &Facts| -> Vec<(i64, &'static str)> {
        let spans = facts.spans(at(0), at(400));
        spans.iter().map(|span| ((span.from.as_millis() - at(0).as_millis()) / 1000, span.state.as_str())).collect()
    };
    let rest = [(300, "valid"), (320, "off"), (330, "valid"), (340, "unknown")];
    assert_eq!(told(&facts), [&[(0, "valid"), (20, "unknown"), (80, "off")], &rest[..]].concat());
    // An attempt that was made in that minute shows that the daemon was there.
    let proven = Facts { attempts: vec![tried(40, Outcome::Succeeded)], ..facts.clone() };
    assert_eq!(told(&proven), [&[(0, "valid"), (42, "unknown"), (102, "off")], &rest[..]].concat());
    let later = Facts { attempts: vec![tried(100, Outcome::Succeeded)], ..facts.clone() };
    assert_eq!(told(&later), told(&facts), "and one of another time nothing");
    let failed = Facts { attempts: vec![tried(40, NETWORK)], ..facts };
    assert_eq!(failed.outages(at(0), at(400))[0].to, Some(at(42)), "with the daemon its outage ended");
}

#[test]
fn a_server_that_is_switched_off_is_not_without_a_token_but_disabled() {
    let server = |name: &str| name.parse::<ServerName>().expect("a name");
    let mut runs = Runs::default();
    runs.start(at(0));
    runs.switch(at(10), [server("linear"), server("other")].into());
    runs.see(at(50));
    runs.switch(at(60), [server("other")].into());
    runs.switch(at(60), [server("other")].into());
    runs.see(at(70));
    runs.end(at(80));
    assert_eq!(runs.runs().len(), 3, "{runs:?}");
    let told = |name: &str| -> Vec<(i64, &'static str)> {
        let history = history(|history| history.log_in(at(0), Some(at(40))));
        let attempts = vec![tried(5, NETWORK), tried(65, Outcome::Succeeded)];
        let facts = Facts { history, runs: runs.clone(), server: Some(server(name)), attempts };
        assert_eq!(facts.outages(at(0), at(100)).len(), 1, "switching ends no outage");
        assert_eq!(facts.outages(at(0), at(100))[0].to, Some(at(67)));
        let spans = facts.spans(at(0), at(100));
        spans.iter().map(|span| ((span.from.as_millis() - at(0).as_millis()) / 1000, span.state.as_str())).collect()
    };
    assert_eq!(told("linear"), [(0, "valid"), (10, "disabled"), (60, "lapsed"), (80, "off")]);
    assert_eq!(told("other"), [(0, "valid"), (10, "disabled"), (80, "off")]);
    assert_eq!(told("third"), [(0, "valid"), (40, "lapsed"), (80, "off")]);
}

#[test]
fn runs_of_earlier_versions_are_read() {
    let text = r#"[{"started_at":"2026-11-18T11:06:40.000Z","seen_at":"2026-11-18T11:06:50.000Z"}]"#;
    let runs: Runs = serde_json::from_str(text).expect("readable");
    assert_eq!(runs.runs(), [Run::between(runs.runs()[0].started_at, runs.runs()[0].seen_at)]);
    assert_eq!(serde_json::to_string(&runs).expect("writable"), text);
}

#[test]
fn what_is_kept_is_bounded_and_says_how_it_began() {
    let mut flapping = History::of_none();
    let mut runs = Runs::default();
    for number in 0..1_000 {
        flapping.hold(at(number * 10), Some(at(number * 10 + 5)));
        runs.start(at(number * 10));
    }
    assert_eq!((flapping.stretches().len(), runs.runs().len()), (STRETCHES_KEPT, RUNS_KEPT));
    let mut old = History::of_none();
    old.log_in(at(0), Some(at(60)));
    let later = at(0).after(KEPT * 2);
    old.hold(later, None);
    assert_eq!(old.stretches().len(), 2, "the last one before the horizon stays: {old:?}");
    let mut runs = ran(&[(0, 10), (20, 30)]);
    runs.start(later);
    assert_eq!(runs.runs().len(), 2);
}

fn tried(second: i64, outcome: Outcome) -> Tried {
    Tried { at: at(second), duration: secs(2), outcome }
}

const NETWORK: Outcome = Outcome::Failed(Reason::RetryingNetwork);
const PROVIDER: Outcome = Outcome::Failed(Reason::RetryingProvider);

/// The outages from 0 s to 100 s: first second, last second, reason.
fn outages(attempts: &[Tried], history: &History, runs: &[(i64, i64)]) -> Vec<(i64, Option<i64>, &'static str)> {
    let facts = Facts { history: history.clone(), runs: ran(runs), attempts: attempts.to_vec(), server: None };
    let second = |moment: Timestamp| (moment.as_millis() - START.as_millis()) / 1000;
    let told = |outage: &Outage| (second(outage.from), outage.to.map(second), outage.reason.as_str());
    facts.outages(at(0), at(100)).iter().map(told).collect()
}

#[test]
fn an_outage_lasts_from_the_first_failure_to_the_end_of_the_first_success() {
    let none = History::default();
    let attempts = [
        tried(50, Outcome::Succeeded),
        tried(10, NETWORK),
        tried(30, Outcome::Discarded),
        tried(20, NETWORK),
        tried(60, Outcome::Succeeded),
        tried(70, NETWORK),
        tried(80, PROVIDER),
    ];
    assert_eq!(
        outages(&attempts, &none, &[(0, 100)]),
        [(10, Some(52), "retrying_network"), (70, Some(80), "retrying_network"), (80, None, "retrying_provider"),]
    );
}

#[test]
fn an_outage_is_not_told_of_a_time_that_nobody_saw() {
    let none = History::default();
    let attempts = [tried(10, NETWORK), tried(70, NETWORK), tried(90, Outcome::Succeeded)];
    let runs = [(0, 20), (60, 100)];
    assert_eq!(
        outages(&attempts, &none, &runs),
        [(10, Some(20), "retrying_network"), (70, Some(92), "retrying_network"),]
    );
    assert_eq!(outages(&attempts[..1], &none, &[(0, 20)]), [(10, Some(20), "retrying_network")]);
}

#[test]
fn a_person_ends_an_outage() {
    let refused = tried(20, Outcome::Failed(Reason::RefreshTokenRejected));
    let again = history(|history| {
        history.log_in(at(0), Some(at(50)));
        history.end(at(22), Some(at(50)));
        history.log_in(at(70), None);
    });
    assert_eq!(outages(&[refused], &again, &[(0, 100)]), [(20, Some(70), "refresh_token_rejected")]);
    let while_valid = history(|history| {
        history.log_in(at(0), Some(at(90)));
        history.log_in(at(40), Some(at(200)));
    });
    assert_eq!(outages(&[tried(20, PROVIDER)], &while_valid, &[(0, 100)]), [(20, Some(40), "retrying_provider")]);
    let left = history(|history| {
        history.log_in(at(0), Some(at(30)));
        history.log_out(at(60));
    });
    assert_eq!(outages(&[tried(20, NETWORK)], &left, &[(0, 100)]), [(20, Some(60), "retrying_network")]);
}

#[test]
fn an_outage_from_before_the_timeline_begins_with_it() {
    let attempts = [tried(-500, NETWORK), tried(-400, Outcome::Succeeded), tried(-90, NETWORK), tried(30, NETWORK)];
    assert_eq!(outages(&attempts, &History::default(), &[(-600, 100)]), [(0, None, "retrying_network")]);
}

/// A record at `START`, whose token lives for an hour.
fn record() -> GrantRecord {
    let record = logged_in();
    record.continuing(History::of_none(), START)
}

fn holdings(record: &GrantRecord) -> Vec<Holding> {
    record.history.stretches().iter().map(|stretch| stretch.holding).collect()
}

#[test]
fn a_record_notes_its_past_with_every_change() {
    let first = record();
    let issued = first.tokens.as_ref().unwrap().issued_at;
    let end = first.tokens.as_ref().unwrap().expires_at().unwrap();
    assert_eq!(holdings(&first), [Holding::LoggedOut, Holding::Token { until: Some(end) }]);
    let next = issued.after(HOUR / 2);
    let renewed = first.renewed(response(None), next).noted(next, Parting::TokenWorks);
    let renewed_end = renewed.tokens.as_ref().unwrap().expires_at();
    assert_eq!(holdings(&renewed), [Holding::LoggedOut, Holding::Token { until: renewed_end }]);
    let out = renewed.logged_out().noted(next.after(secs(9)), Parting::TokenWorks);
    let left = Holding::Token { until: Some(next.after(secs(9))) };
    assert_eq!(holdings(&out), [Holding::LoggedOut, left, Holding::LoggedOut]);
}

#[test]
fn a_refusal_ends_a_login_with_its_token_or_at_once_where_the_upstream_refuses_that_too() {
    let refused = GrantRecord { ended: Some(LoginEnd::Refused { code: "invalid_grant".into() }), ..record() };
    let tokens = refused.tokens.clone().unwrap();
    let (now, end) = (tokens.issued_at.after(secs(60)), tokens.expires_at().unwrap());
    for (parting, at) in [(Parting::TokenWorks, end), (Parting::TokenRefused, now)] {
        let noted = refused.clone().noted(now, parting);
        let last = *noted.history.stretches().last().unwrap();
        assert_eq!(last, Stretch { from: at, holding: Holding::Ended, login: false }, "{parting:?}");
    }
}

#[test]
fn a_record_from_before_there_were_histories_has_its_tokens_since_they_were_issued() {
    let before = GrantRecord { history: History::default(), ..record() };
    let mut json = serde_json::to_value(&before).unwrap();
    json.as_object_mut().unwrap().remove("history");
    let read: GrantRecord = serde_json::from_value(json).unwrap();
    let tokens = read.tokens.clone().unwrap();
    assert_eq!(
        read.past().stretches(),
        [Stretch { from: tokens.issued_at, holding: Holding::Token { until: tokens.expires_at() }, login: false }]
    );
}

#[test]
fn each_way_to_fail_has_the_reason_that_health_gives_while_it_is_retried() {
    for class in [FailureClass::Network, FailureClass::Provider, FailureClass::RateLimited, FailureClass::HeldBack] {
        let mut stage = crate::kit::Stage::settled(HOUR, HOUR);
        let attempt = stage.one();
        stage.fail_with(&attempt, Failure::without_answer(class, "so"));
        assert_eq!(stage.health("linear").reason, class.reason(), "{class:?}");
    }
}

fn moments() -> impl Strategy<Value = Timestamp> {
    (-50_i64..150).prop_map(at)
}

fn facts() -> impl Strategy<Value = Facts> {
    let holding = prop_oneof![
        prop::option::of(moments()).prop_map(|until| Holding::Token { until }),
        Just(Holding::LoggedOut),
        Just(Holding::Ended),
    ];
    let stretch =
        (moments(), holding, any::<bool>()).prop_map(|(from, holding, login)| Stretch { from, holding, login });
    let run = (moments(), moments(), any::<bool>())
        .prop_map(|(started_at, seen_at, open)| Run { open, ..Run::between(started_at, seen_at) });
    let outcome = prop_oneof![Just(Outcome::Succeeded), Just(Outcome::Discarded), Just(NETWORK), Just(PROVIDER)];
    let tried = (moments(), outcome).prop_map(|(at, outcome)| Tried { at, duration: secs(3), outcome });
    let parts =
        (prop::collection::vec(stretch, 0..12), prop::collection::vec(run, 0..8), prop::collection::vec(tried, 0..20));
    parts.prop_map(|(stretches, runs, attempts)| Facts {
        history: stretches.into_iter().collect(),
        runs: runs.into_iter().collect(),
        server: None,
        attempts,
    })
}

proptest! {
    /// Whatever is recorded, in whatever order.
    #[test]
    fn spans_are_ordered_and_cover_all_without_a_gap(facts in facts(), from in moments(), to in moments()) {
        let spans = facts.spans(from, to);
        prop_assert_eq!(spans.is_empty(), from >= to);
        prop_assert!(spans.iter().all(|span| span.from < span.to), "{:?}", spans);
        prop_assert!(spans.windows(2).all(|two| two[0].to == two[1].from && two[0].state != two[1].state), "{:?}", spans);
        if let (Some(first), Some(last)) = (spans.first(), spans.last()) {
            prop_assert_eq!((first.from, last.to), (from, to));
        }
    }

    #[test]
    fn no_state_but_off_is_told_of_a_time_without_a_daemon(facts in facts()) {
        for span in facts.spans(at(0), at(100)) {
            let ran = |moment: Timestamp| {
                // Attempts may show that one which was killed ran for longer.
                let until = |run: &Run| if run.open { run.seen_at.after(secs(600)) } else { run.seen_at };
                facts.runs.runs().iter().any(|run| run.started_at <= moment && moment < until(run))
            };
            let seen = matches!(span.state, State::Valid | State::Lapsed | State::LoggedOut);
            prop_assert!(!seen || ran(span.from), "{:?}", span);
        }
    }

    /// Timelines do not depend on the order in which attempts, stretches of different moments and runs
    /// come.
    #[test]
    fn the_order_of_what_is_recorded_says_nothing(facts in facts()) {
        let mut stretches = facts.history.stretches().to_vec();
        stretches.sort_by_key(|stretch| stretch.from);
        stretches.dedup_by_key(|stretch| stretch.from);
        let runs: Vec<Run> = facts.runs.runs().to_vec();
        let told = |stretches: Vec<Stretch>, runs: Vec<Run>, attempts: Vec<Tried>| {
            let facts = Facts { history: stretches.into_iter().collect(), runs: runs.into_iter().collect(), attempts, server: None };
            (facts.spans(at(0), at(100)), facts.outages(at(0), at(100)))
        };
        let mut attempts = facts.attempts.clone();
        attempts.sort_by_key(|tried| tried.at);
        attempts.dedup_by_key(|tried| tried.at);
        let forth = told(stretches.clone(), runs.clone(), attempts.clone());
        let reversed = |stretches: &[Stretch]| stretches.iter().rev().copied().collect();
        let back = told(
            reversed(&stretches),
            runs.iter().rev().cloned().collect(),
            attempts.iter().rev().copied().collect(),
        );
        prop_assert_eq!(forth, back);
    }

    #[test]
    fn outages_are_ordered_do_not_overlap_and_only_the_last_one_lasts(
        facts in facts(), from in moments(), to in moments()
    ) {
        let outages = facts.outages(from, to);
        prop_assert!(outages.is_empty() || from < to);
        prop_assert!(outages.windows(2).all(|two| two[0].to.is_some_and(|end| end <= two[1].from)), "{:?}", outages);
        prop_assert!(outages.iter().all(|outage| outage.to.is_none_or(|end| end >= outage.from)), "{:?}", outages);
    }

    /// However a login lives, its history keeps its order and its bound.
    #[test]
    fn a_history_stays_in_order(steps in prop::collection::vec((0..4_u8, 0..200_i64, -20..100_i64), 0..60)) {
        let mut history = History::of_none();
        for (step, now, lasts) in steps {
            let until = Some(at(now + lasts));
            match step {
                0 => history.log_in(at(now), until),
                1 => history.hold(at(now), until),
                2 => history.log_out(at(now)),
                _ => history.end(at(now), until),
            }
            let stretches = history.stretches();
            prop_assert!(stretches.windows(2).all(|two| two[0].from <= two[1].from), "{:?}", history);
            prop_assert!(stretches.len() <= STRETCHES_KEPT);
        }
    }
}
