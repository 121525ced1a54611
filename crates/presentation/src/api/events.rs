//! What happens, as server-sent events: a snapshot first, then each event, resumable.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use everfresh_application::{PublicEvent, PublicEventKind, Subscription};
use futures_util::{Stream, StreamExt, stream};
use http::HeaderMap;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;

use super::Shared;
use super::views::{Server, Servers};

/// How often a silent stream says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// One event's data: what happened, and the grant as it is after it.
#[derive(Serialize)]
struct Data<'a> {
    at: everfresh_domain::Timestamp,
    grant: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a PublicEventKind>,
    /// Null where it is no more.
    server: Option<Server>,
}

/// The stream, which ends once there is another local key. `Last-Event-ID` of this run resumes it; any other begins with a snapshot.
#[utoipa::path(get, path = "/events", responses((status = 200, content_type = "text/event-stream")))]
pub(super) async fn events(
    State(shared): State<Shared>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let asked = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let after = asked.and_then(|id| id.strip_prefix(&*shared.run)?.strip_prefix('-')?.parse().ok());
    let hub = shared.application.events();
    let last_id = hub.last_id();
    let Subscription { missed, resumed, live } = hub.subscribe(after);
    let fresh = (!resumed).then(|| snapshot(&shared, last_id));
    let first: Vec<Event> = fresh.into_iter().chain(missed.iter().map(|event| told(&shared, event))).collect();
    let opened_under = shared.guard.keys().local();
    let problems = shared.application.problems();
    let later = stream::unfold((live, problems, shared), move |(mut live, mut problems, shared)| async move {
        let received = tokio::select! {
            received = live.recv() => received.map(Some),
            // What is wrong with the daemon itself is about no grant.
            Ok(()) = problems.changed() => Ok(None),
        };
        if shared.guard.keys().local() != opened_under {
            return None;
        }
        let event = match received {
            Ok(Some(event)) => told(&shared, &event),
            // Too slow a listener has missed some: the snapshot says where things stand.
            Ok(None) | Err(RecvError::Lagged(_)) => snapshot(&shared, shared.application.events().last_id()),
            Err(RecvError::Closed) => return None,
        };
        Some((event, (live, problems, shared)))
    });
    Sse::new(stream::iter(first).chain(later).map(Ok)).keep_alive(KeepAlive::new().interval(HEARTBEAT))
}

fn event_id(shared: &Shared, id: u64) -> String {
    format!("{}-{id}", shared.run)
}

fn snapshot(shared: &Shared, id: u64) -> Event {
    let servers = shared.application.servers().iter().map(Server::from).collect();
    let data = Servers { servers, problems: shared.application.not_ready() };
    Event::default().event("snapshot").id(event_id(shared, id)).json_data(data).unwrap_or_default()
}

fn told(shared: &Shared, event: &Arc<PublicEvent>) -> Event {
    let detail = (event.kind != PublicEventKind::ServersChanged).then_some(&event.kind);
    let server = shared.application.server(&event.grant).ok().map(|view| Server::from(&view));
    let data = Data { at: event.at, grant: event.grant.to_string(), detail, server };
    Event::default().event(event.kind.name()).id(event_id(shared, event.id)).json_data(data).unwrap_or_default()
}
