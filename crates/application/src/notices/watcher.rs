//! The task that looks at the grants and hands out what there is to be told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use everfresh_domain::notice::ledger::Ledger;
use everfresh_domain::{Concern, GrantId, Notice, NoticeKind, Situation, Timestamp};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::sink::{Settled, Sink};
use super::{Inner, NoticeSettings, payload};
use crate::access::Route;
use crate::clock_watch::ClockWatch;
use crate::events::{PublicEvent, PublicEventKind};
use crate::ports::NoticeMessage;

/// How long what befalls others at the same time is waited for.
const GATHER: Duration = Duration::from_secs(3);

/// How long more of the same kind is gathered after a notice: a provider that ends all logins at once is
/// found out server by server, as each comes to its refresh.
const GATHER_MORE: Duration = Duration::from_secs(300);

/// How often all grants are looked at: ends come near although nothing happens.
const LOOK: Duration = Duration::from_secs(30);

/// Grants that are looked at in one go; the driver shares this thread.
const AT_ONCE: usize = 256;

/// How long a notice waits for being written down; one that may be repeated is better than none.
const SAVE: Duration = Duration::from_secs(5);

/// How long a stop waits for deliveries under way.
const LAST_TRY: Duration = Duration::from_secs(3);

/// What the watcher is told.
pub(super) enum Order {
    /// There are new settings.
    Configured,
    /// Stop, and answer when it is done.
    Stop(oneshot::Sender<()>),
}

pub(super) struct Watcher {
    desk: Arc<Inner>,
    settings: Arc<NoticeSettings>,
    ledger: Ledger,
    save_failed: bool,
    sinks: Vec<Sink>,
    settled: mpsc::UnboundedSender<Settled>,
    reports: mpsc::UnboundedReceiver<Settled>,
    look_at: Instant,
    /// When a notice of each kind last went out.
    told_at: BTreeMap<NoticeKind, Instant>,
    clock: ClockWatch,
}

impl Watcher {
    pub(super) fn new(desk: Arc<Inner>) -> Self {
        // One report for each notice that a sink took from its bounded queue.
        let (settled, reports) = mpsc::unbounded_channel();
        let clock = ClockWatch::new(desk.application.now(), desk.application.monotonic());
        Self {
            settings: desk.settings.load_full(),
            desk,
            ledger: Ledger::default(),
            save_failed: false,
            sinks: Vec::new(),
            settled,
            reports,
            look_at: Instant::now() + GATHER,
            told_at: BTreeMap::new(),
            clock,
        }
    }

    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let application = self.desk.application.clone();
        let mut events = application.events().subscribe(None).live;
        self.load().await;
        self.open().await;
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => self.heard(&event),
                    Err(RecvError::Lagged(_)) => self.gather(),
                    Err(RecvError::Closed) => return,
                },
                () = application.access().login_missed() => self.gather(),
                Some(Settled { sink, notice }) = self.reports.recv() => {
                    self.ledger.settled(notice, sink);
                }
                order = orders.recv() => match order {
                    Some(Order::Configured) => self.reopen().await,
                    Some(Order::Stop(done)) => {
                        self.close().await;
                        // Whoever asked may have gone.
                        let _ = done.send(());
                        return;
                    }
                    None => return,
                },
                () = tokio::time::sleep_until(self.look_at) => self.look_at_all().await,
            }
            if self.reports.is_empty() {
                self.save().await;
            }
        }
    }

    async fn load(&mut self) {
        match self.desk.parts.store.notices().await {
            Ok(stored) => self.ledger = stored.unwrap_or_default(),
            Err(error) => tracing::warn!(%error, "what was told before is not known; it may be told once more"),
        }
    }

    /// Starts the sinks, and sends what is owed.
    async fn open(&mut self) {
        self.settings = self.desk.settings.load_full();
        let start = |notifier: &Arc<_>| {
            Sink::start(Arc::clone(notifier), self.settled.clone(), Arc::clone(&self.desk.parts.metrics))
        };
        self.sinks = self.settings.sinks.iter().map(start).collect();
        for sink in &self.sinks {
            self.settings.kinds.iter().for_each(|kind| self.desk.parts.metrics.notices_begin(sink.name, kind.as_str()));
        }
        self.ledger.take_back();
        self.ledger.keep_sinks(&self.sink_names());
        self.send_owed(self.desk.application.now());
    }

    /// Hands out what sinks owe from before, where it is clear that it is still so.
    fn send_owed(&mut self, now: Timestamp) {
        let (desk, settings) = (Arc::clone(&self.desk), Arc::clone(&self.settings));
        let look = |grant: &GrantId| {
            let route = desk.application.access().route(&grant.to_string())?;
            Some(situation(&desk, &settings, &route, now))
        };
        let owed = self.ledger.owed(now, &settings.policy, look, || desk.new_id());
        for (notice, sinks) in owed {
            self.hand_out(notice, &sinks);
        }
    }

    async fn reopen(&mut self) {
        self.close().await;
        self.open().await;
        self.gather();
    }

    /// Stops the sinks, and keeps what they still owe.
    async fn close(&mut self) {
        let deadline = Instant::now() + LAST_TRY;
        for sink in self.sinks.drain(..) {
            sink.stop(deadline.saturating_duration_since(Instant::now())).await;
        }
        self.take_reports();
        self.save().await;
    }

    fn take_reports(&mut self) {
        while let Ok(Settled { sink, notice }) = self.reports.try_recv() {
            self.ledger.settled(notice, sink);
        }
    }

    fn sink_names(&self) -> BTreeSet<String> {
        self.sinks.iter().map(|sink| sink.name.to_owned()).collect()
    }

    /// Looks at the grant of an event; where there is something to be told, others are waited for.
    fn heard(&mut self, event: &PublicEvent) {
        if let PublicEventKind::Notice { .. } = event.kind {
            return;
        }
        let Some(route) = self.desk.application.access().route(&event.grant.to_string()) else { return };
        if self.look(&route, self.desk.application.now()).is_some() {
            self.gather();
        }
    }

    fn gather(&mut self) {
        self.look_at = self.look_at.min(Instant::now() + GATHER);
    }

    fn look(&mut self, route: &Route, now: Timestamp) -> Option<Concern> {
        let situation = situation(&self.desk, &self.settings, route, now);
        self.ledger.look(now, &route.grant, situation, &self.settings.kinds, &self.settings.policy)
    }

    /// Looks at every grant, and tells what there is: one notice for each kind.
    async fn look_at_all(&mut self) {
        self.look_at = Instant::now() + LOOK;
        if self.save_failed {
            self.ledger.set_changed();
        }
        let application = self.desk.application.clone();
        let now = application.now();
        if self.clock.jumped(now, application.monotonic()) {
            self.ledger.clock_jumped();
        }
        self.ledger.keep_grants(|grant| application.access().route(&grant.to_string()).is_some());
        let mut due: BTreeMap<NoticeKind, Vec<(GrantId, Concern)>> = BTreeMap::new();
        for routes in application.access().routes().chunks(AT_ONCE) {
            for route in routes {
                if let Some(concern) = self.look(route, now) {
                    due.entry(concern.kind).or_default().push((route.grant.clone(), concern));
                }
            }
            tokio::task::yield_now().await;
        }
        self.send_owed(now);
        for (kind, concerns) in due {
            if let Some(until) = self.held_until(kind) {
                self.look_at = self.look_at.min(until);
                continue;
            }
            self.tell(Notice { id: self.desk.new_id(), kind, at: now, concerns }).await;
        }
    }

    /// Until when further concerns of `kind` are gathered, where one was told just before.
    fn held_until(&self, kind: NoticeKind) -> Option<Instant> {
        let until = *self.told_at.get(&kind)? + GATHER_MORE;
        (Instant::now() < until).then_some(until)
    }

    /// Writes down that a notice goes out, and sends it.
    async fn tell(&mut self, notice: Notice) {
        self.told_at.insert(notice.kind, Instant::now());
        let sinks = self.sink_names();
        self.ledger.told(&notice, &sinks);
        self.save().await;
        let events = self.desk.application.events();
        for (grant, concern) in &notice.concerns {
            let (id, kind) = (notice.id, notice.kind.as_str());
            let reason = concern.reason.as_str();
            let summary = &concern.summary;
            tracing::info!(server = %grant, kind, reason, notice = %id, summary, "notice of a login");
            let Concern { kind, reason, ends_at, .. } = *concern;
            let summary = concern.summary.clone();
            let told = PublicEventKind::Notice { id, kind, reason, summary, ends_at };
            events.publish(notice.at, grant.clone(), told);
        }
        self.hand_out(notice, &sinks);
    }

    fn hand_out(&mut self, notice: Notice, sinks: &BTreeSet<String>) {
        let message: Arc<NoticeMessage> = Arc::new(payload::message(notice, &self.settings.page));
        let notice = &message.notice;
        for sink in self.sinks.iter().filter(|sink| sinks.contains(sink.name)) {
            if !sink.send(&message) {
                let kind = notice.kind.as_str();
                tracing::error!(sink = sink.name, kind, notice = %notice.id, "notice dropped: too many wait");
                self.desk.parts.metrics.noticed(sink.name, kind, "dropped");
                self.ledger.settled(notice.id, sink.name);
            }
        }
    }

    /// Stores the ledger where it has changed. A failure is told once, and made good at the next look.
    async fn save(&mut self) {
        if !self.ledger.take_changed() {
            return;
        }
        let saving = self.desk.parts.store.put_notices(&self.ledger);
        let cause = match tokio::time::timeout(SAVE, saving).await {
            Ok(Ok(())) => {
                self.save_failed = false;
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the store does not answer".to_owned(),
        };
        if !self.save_failed {
            tracing::error!(cause, "what was told cannot be saved; it may be told once more after a restart");
        }
        self.save_failed = true;
    }
}

fn situation(desk: &Inner, settings: &NoticeSettings, route: &Route, now: Timestamp) -> Situation {
    let policy = desk.application.policy();
    route.seat.status().situation(now, &policy, &settings.policy, route.seat.was_called_in_vain())
}
