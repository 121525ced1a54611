//! The event stream: a snapshot, what happens, a heartbeat, and where it was left off.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use everfresh_domain::Policy;
use everfresh_presentation::Server;
use everfresh_testkit::clock::VirtualClock;
use everfresh_testkit::provider::{Behaviour, Model, UpstreamFault};
use http::Method;
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use serde_json::Value;
use tower::ServiceExt;

use crate::home::{Home, KEY, TcpDialer, application, surfaces, within};

/// One event.
#[derive(Debug)]
pub(crate) struct Event {
    id: String,
    pub(crate) name: String,
    data: Value,
}

/// The stream, event by event. Comments are passed over.
pub(crate) struct Events<B> {
    body: B,
    text: String,
}

impl<B: Body<Data = Bytes> + Unpin> Events<B> {
    fn of(body: B) -> Self {
        Self { body, text: String::new() }
    }

    /// One block of lines.
    async fn block(&mut self) -> String {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return block;
            }
            let Some(Ok(frame)) = within("an event", self.body.frame()).await else { panic!("the stream ended") };
            self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    pub(crate) async fn next(&mut self) -> Event {
        loop {
            let block = self.block().await;
            let field = |name: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                line.map(|value| value.trim().to_owned())
            };
            if let (Some(id), Some(name), Some(data)) = (field("id"), field("event"), field("data")) {
                return Event { id, name, data: serde_json::from_str(&data).unwrap() };
            }
        }
    }

    /// Whether the stream ends, and nothing more is told.
    pub(crate) async fn is_over(&mut self) -> bool {
        let rest = within("the end of the stream", self.body.frame()).await;
        rest.is_none() && self.text.is_empty()
    }

    /// The next event of that name.
    async fn next_of(&mut self, name: &str) -> Event {
        let found = async {
            loop {
                let event = self.next().await;
                if event.name == name {
                    return event;
                }
            }
        };
        within(name, found).await
    }
}

pub(crate) async fn listen(home: &Home, last: Option<&str>) -> Events<hyper::body::Incoming> {
    let mut request = home.keyed(Method::GET, "/events").header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = home.open(request.body(Full::<Bytes>::default()).unwrap()).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    Events::of(response.into_body())
}

#[tokio::test]
async fn a_listener_gets_a_snapshot_and_then_what_happens() {
    let home = Home::logged_in().await;
    let mut events = listen(&home, None).await;
    let snapshot = events.next().await;
    assert_eq!((snapshot.name.as_str(), &snapshot.data["servers"][0]), ("snapshot", &home.shown("demo").await));
    home.application.refresh(&"demo".parse().unwrap()).await.unwrap();
    let refreshed = events.next_of("oauth.token_refreshed").await.data;
    assert_eq!((refreshed["grant"].as_str(), refreshed["detail"]["generation"].as_u64()), (Some("demo"), Some(2)));
    assert_eq!(refreshed["server"]["token"]["generation"], 2, "the state is that after the event");
    home.provider.with(|model| model.revoke_all());
    home.application.refresh(&"demo".parse().unwrap()).await.unwrap();
    // The token before the refused one is tried as well.
    let first = events.next_of("oauth.refresh_failed").await.data;
    assert_eq!(first["detail"]["reason"], "retrying_provider");
    let last = events.next_of("oauth.refresh_failed").await.data;
    assert_eq!(last["detail"]["reason"], "refresh_token_rejected");
    let ended = events.next_of("oauth.login_required").await.data;
    assert_eq!(ended["detail"]["reason"], "refresh_token_rejected");
    assert_eq!(ended["server"]["health"]["level"], "unhealthy");
}

#[tokio::test]
async fn a_listener_that_lost_its_connection_goes_on_where_it_was() {
    let home = Home::logged_in().await;
    let mut events = listen(&home, None).await;
    let snapshot = events.next().await;
    let name = "demo".parse().unwrap();
    home.application.set_enabled(&name, false).await.unwrap();
    let disabled = events.next_of("servers.changed").await;
    drop(events);
    home.application.set_enabled(&name, true).await.unwrap();
    let mut resumed = listen(&home, Some(&disabled.id)).await;
    let enabled = resumed.next().await;
    assert_eq!(enabled.name, "servers.changed", "no snapshot");
    assert_eq!(enabled.data["server"]["health"]["admin_state"], "enabled");
    let mut from_the_first = listen(&home, Some(&snapshot.id)).await;
    assert_eq!(from_the_first.next().await.id, disabled.id);
    assert_eq!(from_the_first.next().await.id, enabled.id);
    for strange in ["", "7", "zzz-1", &format!("{}9", disabled.id), "\u{e9}"] {
        assert_eq!(listen(&home, Some(strange)).await.next().await.name, "snapshot", "{strange:?}");
    }
}

#[tokio::test]
async fn a_change_is_told_within_a_second() {
    let home = Home::logged_in().await;
    let mut events = listen(&home, None).await;
    events.next().await;
    home.provider.with(|model| model.switches.upstream = UpstreamFault::WantsScope { scope: "write".into() });
    let (_, told) = tokio::join!(home.call("demo", "count"), async {
        let told = tokio::time::timeout(Duration::from_secs(1), events.next_of("servers.changed")).await;
        told.unwrap().data
    });
    assert_eq!(told["server"]["health"]["reason"], "insufficient_scope");
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_says_every_15_seconds_that_it_is_alive() {
    let model = Arc::new(Mutex::new(Model::new(Behaviour::default())));
    let application = application(model, Arc::new(VirtualClock::default()), Policy::default()).await;
    let parts = surfaces(&application, Some(KEY), Arc::new(TcpDialer::default()), "http://localhost:7411").await;
    let request = http::Request::get("/events").header("host", "localhost").header("x-everfresh-key", KEY);
    let response = Server::router(parts).oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
    let mut events = Events::of(response.into_body());
    assert_eq!(events.next().await.name, "snapshot");
    for _ in 0..3 {
        let before = tokio::time::Instant::now();
        let heartbeat = events.block().await;
        assert!(heartbeat.starts_with(':'), "{heartbeat}");
        assert_eq!(before.elapsed().as_secs(), 15);
    }
}

#[tokio::test]
async fn an_id_beyond_all_numbers_is_of_no_known_event() {
    let home = Home::logged_in().await;
    let id = listen(&home, None).await.next().await.id;
    let (run, _) = id.rsplit_once('-').unwrap();
    for number in [u64::MAX.to_string(), (u64::MAX - 1).to_string(), format!("{}0", u64::MAX), "-1".to_owned()] {
        assert_eq!(listen(&home, Some(&format!("{run}-{number}"))).await.next().await.name, "snapshot", "{number}");
    }
}

#[tokio::test]
async fn the_id_of_another_life_of_the_daemon_is_answered_by_a_snapshot() {
    // In a container, every life has the same process id.
    let (before, after) = (Home::logged_in().await, Home::logged_in().await);
    let id = listen(&before, None).await.next().await.id;
    assert_eq!(listen(&after, Some(&id)).await.next().await.name, "snapshot");
}

#[tokio::test]
async fn a_removed_server_is_gone_in_the_event_that_tells_of_it() {
    for _ in 0..20 {
        let home = Home::start().await;
        home.add_only("demo", &home.upstream.url()).await;
        let mut events = listen(&home, None).await;
        events.next_of("snapshot").await;
        home.application.remove_server(&"demo".parse().unwrap()).await.unwrap();
        let removed = events.next_of("servers.changed").await.data;
        assert_eq!((removed["grant"].as_str(), &removed["server"]), (Some("demo"), &Value::Null));
    }
}
