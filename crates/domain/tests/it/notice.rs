//! What is told unasked, and that it is told once: over flapping, restarts and years.

use std::collections::BTreeSet;
use std::time::Duration;

use everfresh_domain::failure::{Failure, FailureClass};
use everfresh_domain::grant::{GrantType, LoginEnd};
use everfresh_domain::notice::ledger::Ledger;
use everfresh_domain::notice::{Concern, Notice, NoticeId, NoticeKind, NoticePolicy, Situation};
use everfresh_domain::status::{GrantStatus, LastFailure, RefreshState, UpstreamVerdict};
use everfresh_domain::{AttemptId, Generation, Policy, Reason, Timestamp, TokenFacts};
use proptest::prelude::*;

use crate::kit::{HOUR, START, facts, grant, secs};

const DAY: Duration = Duration::from_secs(24 * 3_600);
const SINKS: [&str; 2] = ["command", "webhook"];
/// An id that no notice has had.
const FRESH: NoticeId = NoticeId(99);

fn connected() -> GrantStatus {
    GrantStatus {
        generation: Generation(1),
        tokens: facts(secs(60), HOUR).tokens,
        state: RefreshState::Scheduled,
        next_attempt_at: Some(START.after(DAY)),
        logged_in_at: Some(START.before(HOUR)),
        ..GrantStatus::unknown(grant("linear"))
    }
}

fn dead() -> GrantStatus {
    let ended = Some(LoginEnd::Refused { code: "invalid_grant".into() });
    GrantStatus { state: RefreshState::Failed, next_attempt_at: None, ended, ..connected() }
}

fn expired(status: GrantStatus) -> GrantStatus {
    GrantStatus { tokens: facts(secs(7_200), HOUR).tokens, ..status }
}

fn retrying(class: FailureClass) -> GrantStatus {
    let failure = Failure::without_answer(class, "connection timed out");
    let last_failure = Some(LastFailure { attempt: AttemptId { run: 1, number: 4 }, at: START, failure });
    GrantStatus { state: RefreshState::Retrying, retry_count: 3, last_failure, ..connected() }
}

/// A login whose access token is good for ever, and whose refresh token ends after `lifetime`.
fn lasting(lifetime: Duration) -> GrantStatus {
    let mut status = connected();
    if let Some(tokens) = &mut status.tokens {
        tokens.lifetime = None;
        tokens.refresh_token_issued_at = Some(START);
        tokens.refresh_token_lifetime = Some(lifetime);
    }
    status
}

/// A login that is no more than its access token.
fn unrefreshable(lifetime: Duration) -> GrantStatus {
    let mut status = connected();
    if let Some(tokens) = &mut status.tokens {
        (tokens.issued_at, tokens.lifetime, tokens.refresh_token) = (START, Some(lifetime), None);
    }
    GrantStatus { state: RefreshState::Idle, next_attempt_at: None, ..status }
}

/// The same after its tokens were issued so long ago.
fn aged(status: GrantStatus, age: Duration) -> GrantStatus {
    let tokens = status.tokens.map(|tokens| TokenFacts { issued_at: START.before(age), ..tokens });
    GrantStatus { tokens, ..status }
}

fn at(status: &GrantStatus, now: Timestamp) -> Situation {
    status.situation(now, &Policy::default(), &NoticePolicy::default(), false)
}

fn concern(status: &GrantStatus) -> Option<(NoticeKind, Reason)> {
    match at(status, START) {
        Situation::Concern(concern) => Some((concern.kind, concern.reason)),
        Situation::Well(_) | Situation::Dismissed | Situation::Open => None,
    }
}

#[test]
fn told_is_what_a_person_can_act_on() {
    let cases = [
        (dead(), Some((NoticeKind::LoginNeeded, Reason::RefreshTokenRejected))),
        (aged(unrefreshable(HOUR), HOUR), Some((NoticeKind::LoginNeeded, Reason::ExpiredNoRefreshToken))),
        (expired(connected()), None),
        (expired(retrying(FailureClass::Network)), Some((NoticeKind::Outage, Reason::RetryingNetwork))),
        (expired(retrying(FailureClass::Provider)), Some((NoticeKind::Outage, Reason::RetryingProvider))),
        (expired(retrying(FailureClass::RateLimited)), Some((NoticeKind::Outage, Reason::RateLimited))),
        (retrying(FailureClass::Network), None),
        (
            GrantStatus { unsaved: Some("disk full".into()), ..connected() },
            Some((NoticeKind::StoreFailed, Reason::StoreWriteFailed)),
        ),
        (
            GrantStatus { unreadable: Some("damaged".into()), ..connected() },
            Some((NoticeKind::StoreFailed, Reason::StoreUnreadable)),
        ),
        (
            GrantStatus { upstream: UpstreamVerdict::RejectsFresh(Generation(1)), ..connected() },
            Some((NoticeKind::LoginNeeded, Reason::RejectedAfterRefresh)),
        ),
        (
            GrantStatus { grant_type: GrantType::ClientCredentials, ..dead() },
            Some((NoticeKind::CredentialRefused, Reason::RefreshTokenRejected)),
        ),
        (GrantStatus { missing_scopes: vec!["write".into()], ..connected() }, None),
        (GrantStatus { clock_skew_s: Some(90), ..connected() }, None),
        (connected(), None),
    ];
    for (status, expected) in cases {
        assert_eq!(concern(&status), expected, "{status:?}");
    }
}

#[test]
fn what_a_person_wants_or_never_used_is_not_told() {
    let logged_out = GrantStatus { tokens: None, ended: Some(LoginEnd::LoggedOut), ..connected() };
    for dismissed in [GrantStatus { enabled: false, ..dead() }, logged_out] {
        assert_eq!(at(&dismissed, START), Situation::Dismissed);
    }
    let never = GrantStatus::unknown(grant("linear"));
    let called = |called| never.situation(START, &Policy::default(), &NoticePolicy::default(), called);
    assert_eq!(called(false), Situation::Open);
    assert!(matches!(called(true), Situation::Concern(concern) if concern.kind == NoticeKind::LoginNeeded));
}

/// How long before the end each warning is told, minute by minute.
fn warned(status: &GrantStatus, end: Timestamp) -> Vec<(u8, Duration)> {
    let minutes = (0..).map(|minute| START.after(secs(60) * minute)).take_while(|now| *now < end);
    let mut found: Vec<(u8, Duration)> = Vec::new();
    for now in minutes {
        if let Situation::Concern(concern) = at(status, now)
            && concern.kind == NoticeKind::LoginEnding
            && found.last().is_none_or(|(warning, _)| *warning < concern.warning)
        {
            assert_eq!(concern.ends_at, Some(end));
            found.push((concern.warning, end.since(now)));
        }
    }
    found
}

#[test]
fn an_end_is_warned_of_in_time_and_late_in_a_short_life() {
    let cases = [
        (lasting(90 * DAY), 90 * DAY, vec![(1, 3 * DAY), (2, DAY)]),
        // 15 % of ten days are a day and a half.
        (lasting(10 * DAY), 10 * DAY, vec![(1, DAY * 3 / 2), (2, DAY)]),
        (lasting(2 * DAY), 2 * DAY, vec![(1, secs(25_920))]),
        (unrefreshable(30 * DAY), 30 * DAY, vec![(1, 3 * DAY), (2, DAY)]),
        (unrefreshable(HOUR), HOUR, vec![(1, secs(720))]),
        (unrefreshable(secs(240)), secs(240), vec![]),
    ];
    for (status, lifetime, expected) in cases {
        assert_eq!(warned(&status, START.after(lifetime)), expected, "{lifetime:?}");
    }
}

/// A ledger and the notices that went out.
struct Desk {
    ledger: Ledger,
    now: Timestamp,
    kinds: BTreeSet<NoticeKind>,
    told: Vec<NoticeKind>,
}

impl Desk {
    fn new() -> Self {
        let kinds = NoticeKind::ALL.into_iter().filter(|kind| *kind != NoticeKind::Restored).collect();
        Self { ledger: Ledger::default(), now: START, kinds, told: Vec::new() }
    }

    fn look(&mut self, status: &GrantStatus) -> Option<Concern> {
        let situation = at(status, self.now);
        self.ledger.look(self.now, &status.id, situation, &self.kinds, &NoticePolicy::default())
    }

    /// `status` is seen for so long, minute by minute, and what is due goes out at once.
    fn see(&mut self, status: &GrantStatus, time: Duration) -> &mut Self {
        for _ in 0..=time.as_secs() / 60 {
            if let Some(concern) = self.look(status) {
                self.told.push(concern.kind);
                let id = NoticeId(self.told.len() as u128);
                let concerns = vec![(status.id.clone(), concern.clone())];
                let notice = Notice { id, kind: concern.kind, at: self.now, concerns };
                self.ledger.told(&notice, &SINKS.map(str::to_owned).into());
            }
            self.now = self.now.after(secs(60));
        }
        self
    }

    /// What is to be handed out of what sinks owe, where every grant is as `status` is.
    fn owed(&mut self, status: &GrantStatus) -> Vec<(NoticeId, usize, Vec<String>)> {
        let (now, rules) = (self.now, NoticePolicy::default());
        let owed = self.ledger.owed(now, &rules, |_| Some(at(status, now)), || FRESH);
        let tuple = |(notice, sinks): (Notice, BTreeSet<String>)| {
            (notice.id, notice.concerns.len(), sinks.into_iter().collect())
        };
        owed.into_iter().map(tuple).collect()
    }

    fn restart(&mut self) -> &mut Self {
        let json = serde_json::to_string(&self.ledger).expect("a ledger is JSON");
        self.ledger = serde_json::from_str(&json).expect("it reads what it wrote");
        self
    }

    fn expect(&mut self, told: &[NoticeKind]) -> &mut Self {
        assert_eq!(self.told, told);
        self
    }
}

fn eternal(status: GrantStatus) -> GrantStatus {
    let tokens = status.tokens.map(|tokens| TokenFacts { lifetime: None, ..tokens });
    GrantStatus { tokens, ..status }
}

#[test]
fn a_dead_login_is_told_once_also_over_a_restart_and_the_next_one_anew() {
    let (well, dead) = (eternal(connected()), dead());
    let again = GrantStatus { logged_in_at: Some(START.after(DAY)), ..dead.clone() };
    let needed = NoticeKind::LoginNeeded;
    let mut desk = Desk::new();
    desk.see(&well, HOUR).expect(&[]).see(&dead, 3 * DAY).expect(&[needed]);
    desk.restart().see(&dead, 3 * DAY).expect(&[needed]);
    desk.see(&GrantStatus { logged_in_at: again.logged_in_at, ..well }, secs(60)).see(&again, DAY);
    desk.restart().see(&again, DAY).expect(&[needed, needed]);
}

#[test]
fn a_login_that_dies_again_unseen_in_between_is_told() {
    let mut desk = Desk::new();
    desk.see(&dead(), HOUR).see(&GrantStatus { logged_in_at: Some(START.after(HOUR)), ..dead() }, HOUR);
    desk.expect(&[NoticeKind::LoginNeeded; 2]);
}

#[test]
fn one_death_whose_reason_becomes_clearer_is_one_event() {
    let suspected = GrantStatus { suspected_dead: true, ..expired(retrying(FailureClass::Suspect)) };
    let mut desk = Desk::new();
    desk.see(&suspected, HOUR).see(&dead(), HOUR).expect(&[NoticeKind::LoginNeeded]);
}

#[test]
fn an_outage_is_told_after_a_while_and_flapping_once_a_day() {
    let (out, well) = (expired(retrying(FailureClass::Network)), eternal(connected()));
    let mut desk = Desk::new();
    desk.see(&out, secs(540)).expect(&[]).see(&well, secs(60)).see(&out, secs(540)).expect(&[]);
    for _ in 0..8 {
        desk.see(&out, HOUR).see(&well, HOUR).restart();
    }
    desk.expect(&[NoticeKind::Outage]);
    // It came back within the day and stays: told once more after it.
    desk.see(&out, 3 * DAY).expect(&[NoticeKind::Outage; 2]);
}

#[test]
fn after_a_sleep_an_outage_gets_its_time_anew() {
    let out = expired(retrying(FailureClass::Network));
    let mut desk = Desk::new();
    desk.see(&out, secs(60)).now = START.after(DAY);
    desk.ledger.clock_jumped();
    desk.see(&out, secs(540)).expect(&[]).see(&out, secs(120)).expect(&[NoticeKind::Outage]);
}

#[test]
fn both_warnings_of_one_end_are_told_and_a_renewed_login_is_not_warned_of() {
    let mut desk = Desk::new();
    let status = lasting(30 * DAY);
    desk.now = START.after(26 * DAY);
    desk.see(&status, DAY * 3 / 2).expect(&[NoticeKind::LoginEnding]).restart();
    desk.see(&status, 2 * DAY).expect(&[NoticeKind::LoginEnding; 2]);
}

#[test]
fn that_all_is_well_again_is_told_to_those_who_asked_for_it() {
    for asked in [false, true] {
        let mut desk = Desk::new();
        if asked {
            desk.kinds.insert(NoticeKind::Restored);
        }
        let well = GrantStatus { logged_in_at: Some(START.after(HOUR)), ..eternal(connected()) };
        desk.see(&eternal(connected()), HOUR).see(&dead(), HOUR).restart().see(&well, HOUR).restart().see(&well, HOUR);
        let expected = [NoticeKind::LoginNeeded, NoticeKind::Restored];
        desk.expect(if asked { &expected } else { &expected[..1] });
        // What was told of is over: dying again is told again.
        let again = GrantStatus { logged_in_at: well.logged_in_at, ..dead() };
        assert!(desk.look(&again).is_some());
    }
}

#[test]
fn what_a_sink_owes_is_sent_again_as_long_as_it_is_so() {
    let mut desk = Desk::new();
    desk.see(&dead(), secs(60));
    assert!(desk.owed(&dead()).is_empty(), "the sinks have it in hand");
    desk.ledger.settled(NoticeId(1), "command");
    desk.restart();
    assert!(desk.owed(&connected()).is_empty(), "it is not so any more");
    let rest = [(NoticeId(1), 1, vec!["webhook".to_owned()])];
    assert_eq!(desk.owed(&dead()), rest);
    assert!(desk.owed(&dead()).is_empty(), "handed out once");
    desk.ledger.take_back();
    assert_eq!(desk.owed(&dead()), rest, "the sinks have stopped");
    desk.ledger.settled(NoticeId(1), "webhook");
    desk.restart();
    assert!(desk.owed(&dead()).is_empty());
    assert!(desk.look(&dead()).is_none(), "delivered is told");
}

#[test]
fn what_is_owed_of_something_unclear_waits_and_goes_to_none_but_those_who_owe_it() {
    let (out, pending) = (expired(retrying(FailureClass::Network)), expired(connected()));
    let mut desk = Desk::new();
    desk.see(&out, HOUR).expect(&[NoticeKind::Outage]);
    desk.ledger.settled(NoticeId(1), "webhook");
    desk.restart();
    assert!(desk.owed(&pending).is_empty(), "it is not clear yet");
    desk.see(&pending, secs(60)).see(&out, secs(480));
    assert!(desk.owed(&out).is_empty(), "it may heal by itself");
    desk.see(&out, HOUR).expect(&[NoticeKind::Outage]);
    assert_eq!(desk.owed(&out), [(NoticeId(1), 1, vec!["command".to_owned()])]);
}

#[test]
fn grants_that_are_clear_later_than_others_of_their_notice_go_out_under_an_id_of_their_own() {
    let mut desk = Desk::new();
    let Situation::Concern(concern) = at(&dead(), START) else { panic!("it is a concern") };
    let concerns = ["a", "b"].map(|name| (grant(name), (*concern).clone())).into();
    let notice = Notice { id: NoticeId(1), kind: NoticeKind::LoginNeeded, at: START, concerns };
    desk.ledger.told(&notice, &["webhook".to_owned()].into());
    desk.restart();
    let clear = |name: &str| {
        let clear = grant(name);
        move |asked: &_| Some(if *asked == clear { at(&dead(), START) } else { Situation::Open })
    };
    let mut send = |name: &str| {
        let owed = desk.ledger.owed(START, &NoticePolicy::default(), clear(name), || FRESH);
        owed.into_iter().map(|(notice, _)| (notice.id, notice.concerns[0].0.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(send("a"), [(NoticeId(1), "a".to_owned())]);
    assert!(send("a").is_empty());
    assert_eq!(send("b"), [(FRESH, "b".to_owned())]);
}

#[test]
fn many_grants_make_one_text() {
    let Situation::Concern(concern) = at(&dead(), START) else { panic!("it is a concern") };
    let notice = |count: usize| {
        let concerns = (0..count).map(|n| (grant(&format!("s{n}")), (*concern).clone())).collect();
        Notice { id: NoticeId(7), kind: NoticeKind::LoginNeeded, at: START, concerns }
    };
    let one = notice(1);
    assert_eq!(one.title(), "s0: login needed");
    assert_eq!(one.text(), "Refresh token expired - re-authentication required\neverfresh login s0");
    let many = notice(20);
    assert_eq!(many.title(), "20 logins needed");
    assert!(many.text().ends_with("and 15 more: everfresh list"), "{}", many.text());
    assert_eq!(many.text().lines().count(), 6);
    assert_eq!(serde_json::to_string(&NoticeId(10)).ok().as_deref(), Some("\"msg_0000000000000000000000000000000a\""));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever one login goes through, minute by minute for some days, and however often the
    /// daemon restarts: at most one notice of each kind and reason a day.
    #[test]
    fn no_weather_makes_a_storm(weather in prop::collection::vec((0usize..6, any::<bool>(), 1u64..900), 1..60)) {
        let statuses = [
            eternal(connected()),
            dead(),
            expired(retrying(FailureClass::Network)),
            expired(retrying(FailureClass::Provider)),
            GrantStatus { enabled: false, ..connected() },
            GrantStatus { unsaved: Some("disk full".into()), ..eternal(connected()) },
        ];
        let mut desk = Desk::new();
        for (which, restart, minutes) in weather {
            desk.see(&statuses[which], secs(60) * u32::try_from(minutes).expect("few"));
            if restart {
                desk.restart();
            }
        }
        let days = 1 + desk.now.since(START).as_secs() / DAY.as_secs();
        for kind in NoticeKind::ALL {
            let told = desk.told.iter().filter(|told| **told == kind).count() as u64;
            prop_assert!(told <= days, "{kind:?} {told} times in {days} days");
        }
    }
}
