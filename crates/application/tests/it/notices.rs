//! Notices in virtual time: who is told, how often, in which order, and what a bad sink can do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use everfresh_application::ports::{
    Again, Delivered, MockNoticeStore, MockNotifier, NotDelivered, NoticeMessage, NoticeStore, Notifier, StoreError,
};
use everfresh_application::{NoticeDesk, NoticeParts, NoticeSettings, PublicEventKind};
use everfresh_domain::{GrantId, NoticeId, NoticeKind, NoticePolicy};
use everfresh_testkit::clock::SeededEntropy;
use everfresh_testkit::provider::Behaviour;
use mockall::Sequence;
use tokio::time::Instant;

use crate::world::{HOUR, World, grant, pass, server};

const SECOND: Duration = Duration::from_secs(1);

/// A sink that notes what arrives, and does with it what a test wants.
struct Recorder {
    name: &'static str,
    told: Mutex<Vec<NoticeMessage>>,
    answer: fn() -> Result<Delivered, NotDelivered>,
}

impl Recorder {
    fn new(name: &'static str) -> Arc<Self> {
        Self::answering(name, || Ok(Delivered::Done("noted".into())))
    }

    fn answering(name: &'static str, answer: fn() -> Result<Delivered, NotDelivered>) -> Arc<Self> {
        Arc::new(Self { name, told: Mutex::default(), answer })
    }

    fn told(&self) -> Vec<NoticeMessage> {
        self.told.lock().unwrap().clone()
    }

    fn kinds(&self) -> Vec<NoticeKind> {
        self.told().iter().map(|message| message.notice.kind).collect()
    }
}

#[async_trait]
impl Notifier for Recorder {
    fn name(&self) -> &'static str {
        self.name
    }

    fn time_limit(&self) -> Duration {
        10 * SECOND
    }

    async fn deliver(&self, message: &NoticeMessage) -> Result<Delivered, NotDelivered> {
        self.told.lock().unwrap().push(message.clone());
        (self.answer)()
    }
}

fn settings(sinks: Vec<Arc<dyn Notifier>>) -> NoticeSettings {
    let kinds = NoticeKind::ALL.into_iter().filter(|kind| *kind != NoticeKind::Restored).collect();
    NoticeSettings { kinds, policy: NoticePolicy::default(), page: "http://127.0.0.1:7411/".into(), sinks }
}

fn desk_over(world: &World, store: Arc<dyn NoticeStore>, seed: u64, sinks: Vec<Arc<dyn Notifier>>) -> NoticeDesk {
    let entropy = Arc::new(SeededEntropy::new(seed));
    let parts = NoticeParts { store, entropy, metrics: Arc::clone(&world.metrics) as _ };
    let desk = NoticeDesk::new(world.app.clone(), parts, settings(sinks));
    desk.watch();
    desk
}

fn desk(world: &World, sinks: Vec<Arc<dyn Notifier>>) -> NoticeDesk {
    /// No two lives of the process draw the same ids.
    static LIVES: AtomicU64 = AtomicU64::new(0);
    desk_over(world, Arc::new(world.store.clone()), LIVES.fetch_add(1, Ordering::Relaxed), sinks)
}

/// The provider ends the login, and everfresh finds out.
async fn die(world: &World) {
    world.with(|model| model.revoke_all());
    drop(world.app.refresh(&grant()).await);
}

const NEEDED: NoticeKind = NoticeKind::LoginNeeded;

#[tokio::test(start_paused = true)]
async fn a_dead_login_is_told_once_by_every_sink_also_after_a_restart_and_the_next_one_anew() {
    let world = World::logged_in(Behaviour::default()).await;
    let (first, second) = (Recorder::new("command"), Recorder::new("webhook"));
    let sinks = || vec![Arc::clone(&first) as Arc<dyn Notifier>, Arc::clone(&second) as _];
    let told = desk(&world, sinks());
    pass(60 * SECOND).await;
    die(&world).await;
    let died = Instant::now();
    while first.kinds().is_empty() {
        pass(SECOND / 10).await;
    }
    assert!(died.elapsed() < 5 * SECOND, "{:?}", died.elapsed());
    pass(HOUR).await;
    assert_eq!((first.kinds(), second.kinds()), (vec![NEEDED], vec![NEEDED]));
    assert_eq!(first.told(), second.told());
    told.shutdown().await;
    let world = world.restart().await;
    let told = desk(&world, sinks());
    pass(HOUR).await;
    assert_eq!(first.kinds(), [NEEDED], "a restart tells nothing anew");
    world.log_in().await;
    pass(60 * SECOND).await;
    die(&world).await;
    pass(HOUR).await;
    assert_eq!((first.kinds().len(), second.kinds().len()), (2, 2));
    assert_ne!(first.told()[0].notice.id, first.told()[1].notice.id);
    assert_eq!(world.metrics.count("webhook login_needed delivered"), 2);
    told.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_befalls_many_at_once_is_one_notice() {
    let world = World::logged_in(Behaviour::default()).await;
    let sink = Recorder::new("command");
    let grants: Vec<GrantId> = (0..20).map(|n| format!("linear@a{n}").parse().unwrap()).collect();
    for grant in &grants {
        world.log_in_as(grant).await;
    }
    let desk = desk(&world, vec![Arc::clone(&sink) as _]);
    pass(60 * SECOND).await;
    world.with(|model| model.revoke_all());
    let mut refreshes = tokio::task::JoinSet::new();
    for grant in grants {
        let app = world.app.clone();
        refreshes.spawn(async move { app.refresh(&grant).await.is_ok() });
    }
    refreshes.join_all().await;
    pass(60 * SECOND).await;
    let told = sink.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].notice.concerns.len(), 20);
    desk.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn logins_found_dead_one_by_one_are_gathered_after_the_first() {
    let world = World::logged_in(Behaviour::default()).await;
    let sink = Recorder::new("command");
    let grants: Vec<GrantId> = (0..20).map(|n| format!("linear@a{n}").parse().unwrap()).collect();
    for grant in &grants {
        world.log_in_as(grant).await;
    }
    let desk = desk(&world, vec![Arc::clone(&sink) as _]);
    pass(60 * SECOND).await;
    world.with(|model| model.revoke_all());
    for (seen, grant) in grants.iter().enumerate() {
        drop(world.app.refresh(grant).await);
        pass(60 * SECOND).await;
        assert!(seen > 0 || sink.told().len() == 1, "the first is told at once");
    }
    pass(HOUR).await;
    let told = sink.told();
    let named: usize = told.iter().map(|message| message.notice.concerns.len()).sum();
    assert!(named >= 20 && told.len() <= 6, "{named} in {}", told.len());
    desk.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_nobody_uses_is_quiet_until_a_client_calls_it() {
    let world = World::new(Behaviour::default()).await;
    let sink = Recorder::new("command");
    let told = desk(&world, vec![Arc::clone(&sink) as _]);
    pass(24 * HOUR).await;
    assert!(sink.told().is_empty());
    for _ in 0..5 {
        world.app.access().turned_away(&world.route());
        pass(HOUR).await;
    }
    assert_eq!(sink.kinds(), [NEEDED]);
    assert!(sink.told()[0].json.contains("\"reason\":\"login_required\""), "{}", sink.told()[0].json);
    told.shutdown().await;
    let world = world.restart().await;
    let told = desk(&world, vec![Arc::clone(&sink) as _]);
    world.app.access().turned_away(&world.route());
    pass(HOUR).await;
    assert_eq!(sink.kinds(), [NEEDED], "a restart tells nothing anew");
    told.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn logging_out_disabling_and_removing_tell_nothing() {
    let world = World::logged_in(Behaviour::default()).await;
    let sink = Recorder::new("command");
    let desk = desk(&world, vec![Arc::clone(&sink) as _]);
    world.app.logout(&grant()).await.unwrap();
    world.app.access().turned_away(&world.route());
    pass(HOUR).await;
    world.log_in().await;
    world.app.set_enabled(&server().name, false).await.unwrap();
    pass(HOUR).await;
    world.app.remove_server(&server().name).await.unwrap();
    pass(HOUR).await;
    assert!(sink.told().is_empty(), "{:?}", sink.kinds());
    desk.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_delays_neither_the_other_nor_a_refresh() {
    let world = World::logged_in(Behaviour::default()).await;
    let mut hanging = MockNotifier::new();
    hanging.expect_name().return_const("command");
    hanging.expect_time_limit().return_const(10 * SECOND);
    hanging.expect_deliver().times(5).returning(|_| Err(NotDelivered { cause: "x".into(), again: Again::Later(None) }));
    let quick = Recorder::new("webhook");
    let desk = desk(&world, vec![Arc::new(Hanging(hanging)), Arc::clone(&quick) as _]);
    die(&world).await;
    pass(5 * SECOND).await;
    assert_eq!(quick.kinds(), [NEEDED]);
    world.log_in().await;
    assert!(world.app.token(&grant()).await.is_ok());
    pass(HOUR).await;
    assert_eq!(world.metrics.count("command login_needed failed"), 1);
    desk.shutdown().await;
}

/// Hangs for ever after it was asked.
struct Hanging(MockNotifier);

#[async_trait]
impl Notifier for Hanging {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn time_limit(&self) -> Duration {
        self.0.time_limit()
    }

    async fn deliver(&self, message: &NoticeMessage) -> Result<Delivered, NotDelivered> {
        drop(self.0.deliver(message).await);
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn tries_are_bounded_spaced_and_all_the_same() {
    let cases = [
        (Again::Never, 1, Duration::ZERO),
        (Again::Later(None), 5, 455 * SECOND),
        (Again::Later(Some(60 * SECOND)), 5, 540 * SECOND),
        (Again::Later(Some(24 * HOUR)), 5, 2_400 * SECOND),
    ];
    for (again, expected, span) in cases {
        let world = World::logged_in(Behaviour::default()).await;
        let tries: Arc<Mutex<Vec<(Instant, NoticeMessage)>>> = Arc::default();
        let seen = Arc::clone(&tries);
        let mut sink = MockNotifier::new();
        sink.expect_name().return_const("webhook");
        sink.expect_time_limit().return_const(10 * SECOND);
        sink.expect_deliver().returning(move |message| {
            seen.lock().unwrap().push((Instant::now(), message.clone()));
            Err(NotDelivered { cause: "it answered 503".into(), again })
        });
        let desk = desk(&world, vec![Arc::new(sink)]);
        die(&world).await;
        pass(2 * HOUR).await;
        desk.shutdown().await;
        let tries = tries.lock().unwrap();
        assert_eq!(tries.len(), expected, "{again:?}");
        assert_eq!((tries[expected - 1].0 - tries[0].0).as_secs(), span.as_secs(), "{again:?}");
        assert!(tries.iter().all(|(_, message)| *message == tries[0].1), "every try is the same");
    }
}

#[tokio::test(start_paused = true)]
async fn a_notice_is_written_down_before_it_goes_out_and_struck_out_after() {
    let world = World::logged_in(Behaviour::default()).await;
    let (mut store, mut sink, mut order) = (MockNoticeStore::new(), MockNotifier::new(), Sequence::new());
    store.expect_notices().times(1).in_sequence(&mut order).returning(|| Ok(None));
    let owes = |ledger: &_, owed: bool| {
        let json = serde_json::to_string(ledger).unwrap();
        json.contains("login_needed") && json.contains("\"owed\":[\"command\"]") == owed
    };
    store
        .expect_put_notices()
        .withf(move |ledger| owes(ledger, true))
        .times(1)
        .in_sequence(&mut order)
        .returning(|_| Ok(()));
    sink.expect_name().return_const("command");
    sink.expect_time_limit().return_const(10 * SECOND);
    sink.expect_deliver().times(1).in_sequence(&mut order).returning(|_| Ok(Delivered::Done("told".into())));
    store
        .expect_put_notices()
        .withf(move |ledger| owes(ledger, false))
        .times(1)
        .in_sequence(&mut order)
        .returning(|_| Ok(()));
    let desk = desk_over(&world, Arc::new(store), 5, vec![Arc::new(sink)]);
    die(&world).await;
    pass(HOUR).await;
    desk.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_or_cannot_be_read_keeps_no_notice_back() {
    let world = World::logged_in(Behaviour::default()).await;
    let mut store = MockNoticeStore::new();
    let error = || StoreError::Unwritable { what: "what was told".into(), cause: "no space left".into() };
    store.expect_notices().returning(move || Err(error()));
    store.expect_put_notices().times(2..).returning(move |_| Err(error()));
    let sink = Recorder::new("command");
    let desk = desk_over(&world, Arc::new(store), 5, vec![Arc::clone(&sink) as _]);
    die(&world).await;
    pass(HOUR).await;
    assert_eq!(sink.kinds(), [NEEDED], "told once, in this life");
    desk.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_still_owed_at_a_stop_is_sent_under_the_same_id_by_whom_it_was_owed() {
    let world = World::logged_in(Behaviour::default()).await;
    let later = || Err(NotDelivered { cause: "unreachable".into(), again: Again::Later(None) });
    let (done, failing) = (Recorder::new("command"), Recorder::answering("webhook", later));
    let told = desk(&world, vec![Arc::clone(&done) as _, Arc::clone(&failing) as _]);
    die(&world).await;
    pass(10 * SECOND).await;
    let began = Instant::now();
    told.shutdown().await;
    assert!(began.elapsed() < 5 * SECOND, "a stop waits for no further try");
    let id = failing.told()[0].notice.id;
    let world = world.restart().await;
    let working = Recorder::new("webhook");
    let told = desk(&world, vec![Arc::clone(&done) as _, Arc::clone(&working) as _]);
    pass(HOUR).await;
    let ids: Vec<NoticeId> = working.told().iter().map(|message| message.notice.id).collect();
    assert_eq!((ids, done.told().len()), (vec![id], 1));
    assert_eq!(working.told()[0].json, failing.told()[0].json);
    told.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn where_there_was_nobody_to_be_told_the_next_start_looks_for_somebody() {
    let world = World::logged_in(Behaviour::default()).await;
    let nobody = || Ok(Delivered::Nobody("no desktop".into()));
    let (absent, other) = (Recorder::answering("desktop", nobody), Recorder::new("command"));
    let told = desk(&world, vec![Arc::clone(&absent) as _, Arc::clone(&other) as _]);
    die(&world).await;
    pass(HOUR).await;
    told.shutdown().await;
    let world = world.restart().await;
    let present = Recorder::new("desktop");
    let told = desk(&world, vec![Arc::clone(&present) as _, Arc::clone(&other) as _]);
    pass(HOUR).await;
    assert_eq!((absent.told().len(), present.told().len(), other.told().len()), (1, 1, 1));
    told.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn new_settings_are_in_force_at_once() {
    let world = World::logged_in(Behaviour::default()).await;
    let (before, after) = (Recorder::new("command"), Recorder::new("webhook"));
    let desk = desk(&world, vec![Arc::clone(&before) as _]);
    pass(SECOND).await;
    desk.configure(settings(vec![Arc::clone(&after) as _])).await;
    die(&world).await;
    pass(60 * SECOND).await;
    assert_eq!((before.told().len(), after.told().len()), (0, 1));
    let none = NoticeSettings { kinds: Default::default(), ..settings(vec![Arc::clone(&after) as _]) };
    desk.configure(none).await;
    world.log_in().await;
    pass(60 * SECOND).await;
    die(&world).await;
    pass(HOUR).await;
    assert_eq!(after.told().len(), 1, "what is not asked for is not told");
    desk.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_test_tells_what_each_sink_did_and_listeners_hear_of_notices() {
    let world = World::logged_in(Behaviour::default()).await;
    let never = || Err(NotDelivered { cause: "it answered 401".into(), again: Again::Never });
    let (good, bad) = (Recorder::new("command"), Recorder::answering("webhook", never));
    let desk = desk(&world, vec![Arc::clone(&bad) as _, Arc::clone(&good) as _]);
    let tried = desk.test().await;
    let told: Vec<_> = tried.iter().map(|tried| (tried.sink, tried.result.is_ok())).collect();
    assert_eq!(told, [("command", true), ("webhook", false)]);
    assert_eq!(good.kinds(), [NoticeKind::Test]);
    let mut live = world.app.events().subscribe(None).live;
    die(&world).await;
    pass(60 * SECOND).await;
    let mut heard = Vec::new();
    while let Ok(event) = live.try_recv() {
        if let PublicEventKind::Notice { kind, .. } = event.kind {
            heard.push((event.grant.to_string(), kind));
        }
    }
    assert_eq!(heard, [("linear".to_owned(), NEEDED)]);
    desk.shutdown().await;
}

/// The members of a document, with the kinds of their values.
fn shape(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;

    match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::String(_) => "text".into(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_manual_shows_the_document_as_it_is_sent() {
    let manual = include_str!("../../../../docs/NOTIFICATIONS.md");
    let (_, rest) = manual.split_once("```json\n").unwrap();
    let example: serde_json::Value = serde_json::from_str(rest.split_once("```").unwrap().0).unwrap();
    let world = World::logged_in(Behaviour::default()).await;
    let sink = Recorder::new("command");
    let desk = desk(&world, vec![Arc::clone(&sink) as _]);
    die(&world).await;
    pass(60 * SECOND).await;
    let sent: serde_json::Value = serde_json::from_str(&sink.told()[0].json).unwrap();
    assert_eq!(shape(&sent), shape(&example));
    for member in ["title", "text", "servers"] {
        assert_eq!(sent["data"][member], example["data"][member]);
    }
    for kind in NoticeKind::ALL.map(NoticeKind::as_str) {
        assert!(manual.contains(&format!("| `{kind}` |")), "{kind} is not in the manual");
    }
    desk.shutdown().await;
}
