//! What happened, for everybody who listens: the API's event stream, the page, notifications.
//!
//! The last events are kept, so that a listener who lost its connection resumes where it was.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everfresh_domain::{AttemptId, Generation, GrantId, NoticeId, NoticeKind, Reason, Timestamp};
use serde::Serialize;
use tokio::sync::broadcast;

/// How many events are kept for listeners that resume: some minutes of a busy day.
const KEPT: usize = 256;

/// One event.
#[derive(Clone, Debug, Serialize)]
pub struct PublicEvent {
    /// Counts the events of this run.
    pub id: u64,
    /// When it happened.
    pub at: Timestamp,
    /// Which grant it is about.
    pub grant: GrantId,
    /// What happened.
    pub kind: PublicEventKind,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum PublicEventKind {
    /// The status of a grant changed.
    ServersChanged,
    /// New tokens were stored.
    TokenRefreshed {
        /// Their generation.
        generation: Generation,
        /// The attempt that brought them.
        attempt_id: AttemptId,
        /// How long the real request took, in milliseconds.
        duration_ms: u64,
        /// When the new access token ends.
        expires_at: Option<Timestamp>,
    },
    /// An attempt failed.
    RefreshFailed {
        /// The attempt.
        attempt_id: AttemptId,
        /// Why, as in health.
        reason: Reason,
        /// Why, for people.
        message: String,
        /// When the next one is due.
        next_attempt_at: Option<Timestamp>,
    },
    /// A login is needed.
    LoginRequired {
        /// Why, as in health.
        reason: Reason,
        /// Why, for people.
        summary: String,
    },
    /// A person is told something, once for each event.
    Notice {
        /// The notice; others of the same id are about other grants.
        id: NoticeId,
        /// What it is about.
        kind: NoticeKind,
        /// Why, as in health.
        reason: Reason,
        /// Why, for people.
        summary: String,
        /// When the login ends, where it is about that.
        ends_at: Option<Timestamp>,
    },
}

impl PublicEventKind {
    /// The event's name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ServersChanged => "servers.changed",
            Self::TokenRefreshed { .. } => "oauth.token_refreshed",
            Self::RefreshFailed { .. } => "oauth.refresh_failed",
            Self::LoginRequired { .. } => "oauth.login_required",
            Self::Notice { .. } => "notice",
        }
    }
}

/// What a listener gets.
#[derive(Debug)]
pub struct Subscription {
    /// What happened since the id that was asked for.
    pub missed: Vec<Arc<PublicEvent>>,
    /// Whether `missed` is complete; if not, only a fresh snapshot tells the state.
    pub resumed: bool,
    /// What happens from here on.
    pub live: broadcast::Receiver<Arc<PublicEvent>>,
}

/// Where events are published and listened to.
#[derive(Debug)]
pub struct EventHub {
    kept: Mutex<Kept>,
    live: broadcast::Sender<Arc<PublicEvent>>,
}

#[derive(Debug, Default)]
struct Kept {
    last_id: u64,
    events: VecDeque<Arc<PublicEvent>>,
}

impl Default for EventHub {
    fn default() -> Self {
        Self { kept: Mutex::default(), live: broadcast::channel(KEPT).0 }
    }
}

impl EventHub {
    /// Tells all listeners. Nobody listening is fine.
    pub(crate) fn publish(&self, at: Timestamp, grant: GrantId, kind: PublicEventKind) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.last_id += 1;
        let event = Arc::new(PublicEvent { id: kept.last_id, at, grant, kind });
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(Arc::clone(&event));
        // Sent under the lock, so that no listener sees events out of order.
        drop(self.live.send(event));
    }

    /// Listens, from the event after `after` where that is still known.
    pub fn subscribe(&self, after: Option<u64>) -> Subscription {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live.subscribe();
        let Some(after) = after else {
            return Subscription { missed: Vec::new(), resumed: false, live };
        };
        let oldest = kept.events.front().map_or(kept.last_id + 1, |event| event.id);
        let resumed = after.saturating_add(1) >= oldest && after <= kept.last_id;
        let missed =
            if resumed { kept.events.iter().filter(|event| event.id > after).cloned().collect() } else { vec![] };
        Subscription { missed, resumed, live }
    }

    /// The id of the newest event.
    pub fn last_id(&self) -> u64 {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).last_id
    }
}

/// Milliseconds for events and logs.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub_with(events: u64) -> EventHub {
        let hub = EventHub::default();
        for n in 0..events {
            hub.publish(Timestamp::from_millis(n as i64), "linear".parse().unwrap(), PublicEventKind::ServersChanged);
        }
        hub
    }

    #[test]
    fn a_listener_resumes_where_it_was() {
        let subscription = hub_with(5).subscribe(Some(3));
        assert!(subscription.resumed);
        assert_eq!(subscription.missed.iter().map(|event| event.id).collect::<Vec<_>>(), [4, 5]);
    }

    #[test]
    fn an_id_that_is_too_old_or_of_another_run_needs_a_snapshot() {
        let hub = hub_with(KEPT as u64 + 10);
        assert!(!hub.subscribe(Some(3)).resumed);
        assert!(!hub.subscribe(Some(9_999)).resumed);
        assert!(!hub.subscribe(Some(u64::MAX)).resumed);
        assert!(hub.subscribe(Some(hub.last_id())).resumed);
    }
}
