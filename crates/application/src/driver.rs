//! The one loop that runs the engine: events in, attempts out, status published.
//!
//! It alone owns the engine. Attempts are tasks of its own, so that no caller's disconnect cancels
//! one, and a shutdown waits for them. It never sleeps long without looking at the clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use everfresh_domain::engine::trace::TraceLine;
use everfresh_domain::engine::{Action, Attempt, AttemptOutcome, AttemptReport, Engine, Event, Note};
use everfresh_domain::status::RefreshState;
use everfresh_domain::{Failure, FailureClass, GrantId, GrantStatus, LoginEnd, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::attempt::{Attempts, Ended};
use crate::board::Board;
use crate::clock_watch::ClockWatch;
use crate::ports::Clock;

/// Messages that wait for the driver; each is handled in microseconds, so a full mailbox means
/// that the callers should slow down.
const MAILBOX_BOUND: usize = 1024;

/// The longest sleep without a look at the clock.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(10);

/// How often the last gate forgets grants that made no attempt lately.
const FORGET_IDLE: Duration = Duration::from_secs(3600);

/// The log's target for lines that the engine can be run again from.
const TRACE: &str = "everfresh::engine";

/// What the driver is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Something happened; the sender is answered once it is handled and published.
    Tell(Event, Option<oneshot::Sender<()>>),
    /// Somebody waits for the end of the grant's next attempt, or for there being none.
    AwaitAttempt(GrantId, oneshot::Sender<Option<AttemptReport>>),
    /// Begin nothing more; the sender is answered when all attempts have ended.
    Shutdown(oneshot::Sender<()>),
}

/// The driver's address. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    sender: mpsc::Sender<Message>,
}

impl Mailbox {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Message>) {
        let (sender, receiver) = mpsc::channel(MAILBOX_BOUND);
        (Self { sender }, receiver)
    }

    /// Tells the driver, and returns when the event is handled and its effects are published.
    ///
    /// A driver that is gone handles nothing any more, and nobody needs to know.
    pub(crate) async fn tell(&self, event: Event) {
        let (handled, done) = oneshot::channel();
        if self.sender.send(Message::Tell(event, Some(handled))).await.is_ok() {
            drop(done.await);
        }
    }

    /// Tells the driver without waiting. A full mailbox drops the event: only for hints.
    pub(crate) fn try_tell(&self, event: Event) {
        drop(self.sender.try_send(Message::Tell(event, None)));
    }

    /// The report on the grant's next attempt; `None` where none is under way or due soon.
    pub(crate) async fn next_attempt(&self, grant: &GrantId) -> Option<AttemptReport> {
        let (answer, report) = oneshot::channel();
        self.sender.send(Message::AwaitAttempt(grant.clone(), answer)).await.ok()?;
        report.await.ok().flatten()
    }

    /// Waits until the driver has taken and handled something; false where it is gone.
    pub(crate) async fn pulse(&self) -> bool {
        let (handled, done) = oneshot::channel();
        // Woken for nothing, the engine does nothing.
        self.sender.send(Message::Tell(Event::Woke, Some(handled))).await.is_ok() && done.await.is_ok()
    }

    /// Returns when every attempt under way has ended.
    pub(crate) async fn shutdown(&self) {
        let (ended, done) = oneshot::channel();
        if self.sender.send(Message::Shutdown(ended)).await.is_ok() {
            drop(done.await);
        }
    }
}

pub(crate) struct Driver {
    pub(crate) engine: Engine,
    pub(crate) mailbox: mpsc::Receiver<Message>,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) board: Board,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) under_way: JoinSet<Ended>,
    pub(crate) waiters: BTreeMap<GrantId, Vec<oneshot::Sender<Option<AttemptReport>>>>,
}

impl Driver {
    /// Runs until told to shut down, or until nobody can tell it anything any more.
    pub(crate) async fn run(mut self) {
        let mut watch = ClockWatch::new(self.clock.now(), self.clock.monotonic());
        let mut forget_at = self.clock.monotonic() + FORGET_IDLE;
        loop {
            let sleep = self.sleep();
            // In this order: what ended is known before anything else is decided, and a run is a
            // function of its input. Attempts are bounded in number, so that nobody starves.
            tokio::select! {
                biased;
                Some(ended) = self.under_way.join_next() => self.ended(ended),
                message = self.mailbox.recv() => match message {
                    Some(Message::Tell(event, handled)) => {
                        self.handle(event);
                        if let Some(handled) = handled {
                            let _ = handled.send(());
                        }
                    }
                    Some(Message::AwaitAttempt(grant, answer)) => self.await_attempt(grant, answer),
                    Some(Message::Shutdown(ended)) => {
                        self.drain().await;
                        let _ = ended.send(());
                        return;
                    }
                    None => return self.drain().await,
                },
                () = tokio::time::sleep(sleep) => self.handle(Event::Woke),
            }
            if watch.jumped(self.clock.now(), self.clock.monotonic()) {
                tracing::info!("the clock jumped; every login is looked at again");
                self.handle(Event::ClockJumped);
            }
            if self.clock.monotonic() >= forget_at {
                forget_at = self.clock.monotonic() + FORGET_IDLE;
                self.attempts.forget_idle();
            }
        }
    }

    fn sleep(&self) -> Duration {
        let now = self.clock.now();
        self.engine.next_wake().map_or(LOOK_AT_CLOCK, |wake| wake.at.since(now)).min(LOOK_AT_CLOCK)
    }

    fn handle(&mut self, event: Event) {
        for note in self.take_in(event) {
            self.note(&note);
        }
    }

    /// Handles an event but for its notes, which are returned.
    fn take_in(&mut self, event: Event) -> Vec<Note> {
        let mut notes = Vec::new();
        let now = self.clock.now();
        for action in self.advance(now, event) {
            match action {
                Action::Attempt(attempt) => {
                    self.under_way.spawn(report_on(Arc::clone(&self.attempts), attempt));
                }
                Action::Publish(grant) => self.publish(&grant),
                Action::Note(note) => notes.push(note),
            }
        }
        self.board.in_flight(self.engine.in_flight());
        notes
    }

    /// At the most detailed level of the log, every step can be run again from it.
    fn advance(&mut self, now: Timestamp, event: Event) -> Vec<Action> {
        if !tracing::enabled!(target: TRACE, tracing::Level::TRACE) {
            return self.engine.handle(now, event);
        }
        let actions = self.engine.handle(now, event.clone());
        tell_trace(&TraceLine::told(now, event, &actions));
        actions
    }

    fn publish(&mut self, grant: &GrantId) {
        let now = self.clock.now();
        match self.engine.status(grant, now) {
            Some(status) => {
                self.answer_those_in_vain(&status);
                self.board.publish(now, status);
            }
            None => self.board.remove(now, grant),
        }
    }

    fn note(&self, note: &Note) {
        match note {
            Note::Scheduled { grant, at } => {
                tracing::info!(server = %grant, next_attempt_at = %at, "OAuth token refresh scheduled");
            }
            Note::RetryScheduled { grant, at, failures } => {
                tracing::info!(server = %grant, next_attempt_at = %at, failures, "OAuth token refresh retry scheduled");
            }
            // No login is required where none helps; that the attempt failed is told with it.
            Note::LoginEnded { end: LoginEnd::CredentialRefused { .. }, .. } => {}
            Note::LoginEnded { grant, .. } => self.board.login_required(self.clock.now(), grant),
        }
    }

    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let Ok(ended) = ended else { return };
        let report = ended.report.clone();
        // Taken before the end is handled: those who wait for it do not wait in vain.
        let waiters = self.waiters.remove(&report.grant).unwrap_or_default();
        // First how it ended, then what follows from that.
        let notes = self.take_in(Event::AttemptEnded(report.clone()));
        self.board.attempt_ended(self.clock.now(), &ended);
        notes.iter().for_each(|note| self.note(note));
        for waiter in waiters {
            drop(waiter.send(Some(report.clone())));
        }
    }

    /// Registers a waiter for the grant's next attempt, unless none will come soon.
    fn await_attempt(&mut self, grant: GrantId, answer: oneshot::Sender<Option<AttemptReport>>) {
        let now = self.clock.now();
        let soon = now.after(self.engine.policy().min_spacing);
        let coming = self.engine.status(&grant, now).is_some_and(|status| attempt_is_coming(&status, soon));
        if coming {
            self.waiters.entry(grant).or_default().push(answer);
        } else {
            drop(answer.send(None));
        }
    }

    /// Who waits for an attempt that will not come is told so.
    fn answer_those_in_vain(&mut self, status: &GrantStatus) {
        if status.next_attempt_at.is_none() && !is_refreshing(status) {
            for waiter in self.waiters.remove(&status.id).unwrap_or_default() {
                drop(waiter.send(None));
            }
        }
    }

    /// Waits for the attempts under way: their tokens must be stored.
    async fn drain(&mut self) {
        self.mailbox.close();
        while let Some(ended) = self.under_way.join_next().await {
            let Ok(ended) = ended else { continue };
            self.board.attempt_ended(self.clock.now(), &ended);
        }
        self.attempts.settle().await;
    }
}

/// One line that [`everfresh_domain::engine::trace::replay`] takes.
pub(crate) fn tell_trace(line: &TraceLine) {
    if tracing::enabled!(target: TRACE, tracing::Level::TRACE)
        && let Ok(step) = serde_json::to_string(line)
    {
        tracing::trace!(target: TRACE, step, "engine");
    }
}

/// Makes an attempt, and reports on it even where a defect in it panics: the engine waits for one
/// report, and a refresh token may be spent.
async fn report_on(attempts: Arc<Attempts>, attempt: Attempt) -> Ended {
    let (id, grant) = (attempt.id, attempt.grant.clone());
    match tokio::spawn(async move { attempts.run(attempt).await }).await {
        Ok(ended) => ended,
        Err(_) => {
            tracing::error!(server = %grant, attempt_id = %id, "a refresh attempt broke off by a defect");
            let failure = Failure::without_answer(FailureClass::AnswerLost, "the attempt broke off by a defect");
            let outcome = AttemptOutcome::Failed { failure, facts: None };
            Ended { report: AttemptReport { attempt: id, grant, outcome }, duration: Duration::ZERO }
        }
    }
}

fn is_refreshing(status: &GrantStatus) -> bool {
    status.state == RefreshState::Refreshing
}

fn attempt_is_coming(status: &GrantStatus, soon: Timestamp) -> bool {
    is_refreshing(status) || status.next_attempt_at.is_some_and(|at| at <= soon)
}
