//! One sink's task: a bounded queue, a bounded time for each try, and a bounded number of tries. It
//! delays nobody but itself.

use std::sync::Arc;
use std::time::Duration;

use everfresh_domain::NoticeId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::ports::{Again, Delivered, Metrics, NotDelivered, NoticeMessage, Notifier};

/// Notices that wait for a slow sink. Each gathers all servers, so that more means a defect.
const QUEUE: usize = 32;

/// The waits between tries: five tries in some eight minutes.
const WAITS: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(300)];

/// The longest wait that the other side may ask for.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// What came of a notice where there was nobody to be told.
const NOBODY: &str = "nobody";

/// That a sink is done with a notice: it has delivered it, or given up.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) sink: &'static str,
    pub(super) notice: NoticeId,
}

/// A running sink.
pub(super) struct Sink {
    pub(super) name: &'static str,
    queue: mpsc::Sender<Arc<NoticeMessage>>,
    stopping: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Sink {
    pub(super) fn start(
        notifier: Arc<dyn Notifier>,
        settled: mpsc::UnboundedSender<Settled>,
        metrics: Arc<dyn Metrics>,
    ) -> Self {
        let (queue, messages) = mpsc::channel(QUEUE);
        let (stopping, stopped) = watch::channel(false);
        let name = notifier.name();
        let task = tokio::spawn(Worker { notifier, settled, metrics, stopped }.run(messages));
        Self { name, queue, stopping, task }
    }

    /// Hands over a notice; whether there was room for it.
    pub(super) fn send(&self, message: &Arc<NoticeMessage>) -> bool {
        self.queue.try_send(Arc::clone(message)).is_ok()
    }

    /// Lets the try under way end, for no longer than `limit`; what is left is still owed.
    pub(super) async fn stop(self, limit: Duration) {
        self.stopping.send_replace(true);
        drop(self.queue);
        let mut task = self.task;
        if tokio::time::timeout(limit, &mut task).await.is_err() {
            task.abort();
        }
    }
}

struct Worker {
    notifier: Arc<dyn Notifier>,
    settled: mpsc::UnboundedSender<Settled>,
    metrics: Arc<dyn Metrics>,
    stopped: watch::Receiver<bool>,
}

impl Worker {
    async fn run(mut self, mut messages: mpsc::Receiver<Arc<NoticeMessage>>) {
        while let Some(message) = messages.recv().await {
            if *self.stopped.borrow() || !self.deliver(&message).await {
                return;
            }
        }
    }

    /// Delivers, with all tries; `false` where it was stopped before the end.
    async fn deliver(&mut self, message: &NoticeMessage) -> bool {
        let (sink, kind) = (self.notifier.name(), message.notice.kind.as_str());
        let id = message.notice.id;
        let mut waits = WAITS.iter();
        let result = loop {
            match attempt(&*self.notifier, message).await {
                Ok(Delivered::Done(what)) => {
                    tracing::info!(sink, kind, notice = %id, what, "notice delivered");
                    break "delivered";
                }
                Ok(Delivered::Nobody(why)) => {
                    tracing::debug!(sink, kind, notice = %id, why, "nobody to be told");
                    break NOBODY;
                }
                Err(NotDelivered { cause, again }) => {
                    let wait = match again {
                        Again::Never => None,
                        Again::Later(asked) => waits.next().map(|wait| asked.unwrap_or_default().max(*wait)),
                    };
                    let Some(wait) = wait else {
                        tracing::error!(sink, kind, notice = %id, cause, "notice not delivered");
                        break "failed";
                    };
                    if waits.len() + 1 == WAITS.len() {
                        tracing::warn!(sink, kind, notice = %id, cause, "notice not delivered yet; it is tried again");
                    }
                    if self.is_stopped_within(wait.min(WAIT_MAX)).await {
                        return false;
                    }
                }
            }
        };
        self.metrics.noticed(sink, kind, result);
        // What reached nobody is still owed: the next start may find somebody.
        if result != NOBODY {
            // Nobody listens any more when the desk is gone.
            drop(self.settled.send(Settled { sink, notice: id }));
        }
        true
    }

    async fn is_stopped_within(&mut self, wait: Duration) -> bool {
        tokio::time::timeout(wait, self.stopped.wait_for(|stopped| *stopped)).await.is_ok()
    }
}

/// One try, within its time.
pub(super) async fn attempt(notifier: &dyn Notifier, message: &NoticeMessage) -> Result<Delivered, NotDelivered> {
    let limit = notifier.time_limit();
    let late = || NotDelivered { cause: format!("no end within {limit:?}"), again: Again::Later(None) };
    tokio::time::timeout(limit, notifier.deliver(message)).await.unwrap_or_else(|_| Err(late()))
}
