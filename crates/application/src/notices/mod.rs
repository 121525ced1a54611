//! Telling people without being asked: when a login is needed, ends soon, or cannot be renewed.
//!
//! What is told, and that it is told once, is the domain's ([`everfresh_domain::notice`]). Here the
//! grants are looked at when they change and now and then, what befalls many at once is gathered
//! into one notice, and each sink gets it in a task of its own. Nothing here can delay the engine:
//! it listens to the same events as everybody else.

mod payload;
mod sink;
mod watcher;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use everfresh_domain::{Notice, NoticeId, NoticeKind, NoticePolicy};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::app::Application;
use crate::ports::{Delivered, Entropy, Metrics, NotDelivered, NoticeStore, Notifier};
use watcher::{Order, Watcher};

/// Orders that wait; they come one at a time, from a person.
const ORDERS: usize = 4;

/// What is told, and where to.
#[derive(Clone)]
pub struct NoticeSettings {
    /// The kinds that are told.
    pub kinds: BTreeSet<NoticeKind>,
    /// The numbers.
    pub policy: NoticePolicy,
    /// Where everfresh's page is.
    pub page: String,
    /// The ways out, each with a name of its own.
    pub sinks: Vec<Arc<dyn Notifier>>,
}

/// What the desk is made of.
pub struct NoticeParts {
    /// Where what was told outlives the process.
    pub store: Arc<dyn NoticeStore>,
    /// Randomness for ids.
    pub entropy: Arc<dyn Entropy>,
    /// What operators count.
    pub metrics: Arc<dyn Metrics>,
}

/// What a sink did with a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Which sink.
    pub sink: &'static str,
    /// What came of it.
    pub result: Result<Delivered, NotDelivered>,
}

struct Inner {
    application: Application,
    parts: NoticeParts,
    settings: ArcSwap<NoticeSettings>,
    orders: Mutex<Option<mpsc::Sender<Order>>>,
}

/// Where notices are made and sent. Cloning shares it.
#[derive(Clone)]
pub struct NoticeDesk {
    inner: Arc<Inner>,
}

impl NoticeDesk {
    /// A desk that sends tests, and nothing else before [`NoticeDesk::watch`].
    pub fn new(application: Application, parts: NoticeParts, settings: NoticeSettings) -> Self {
        let (settings, orders) = (ArcSwap::from_pointee(settings), Mutex::new(None));
        Self { inner: Arc::new(Inner { application, parts, settings, orders }) }
    }

    /// Begins to look at the grants, and to tell what there is to be told.
    pub fn watch(&self) {
        let (orders, received) = mpsc::channel(ORDERS);
        *self.inner.orders.lock().unwrap_or_else(PoisonError::into_inner) = Some(orders);
        tokio::spawn(Watcher::new(Arc::clone(&self.inner)).run(received));
    }

    /// Takes over new settings. What the sinks before still owe is sent by those of the same name.
    pub async fn configure(&self, settings: NoticeSettings) {
        self.inner.settings.store(Arc::new(settings));
        self.order(Order::Configured).await;
    }

    /// Sends a test through every sink, once, and tells what each did.
    pub async fn test(&self) -> Vec<Tried> {
        let settings = self.inner.settings.load_full();
        let notice = Notice::test(self.inner.new_id(), self.inner.application.now());
        let message = Arc::new(payload::message(notice, &settings.page));
        let mut tries = JoinSet::new();
        for notifier in settings.sinks.iter().cloned() {
            let message = Arc::clone(&message);
            tries.spawn(
                async move { Tried { sink: notifier.name(), result: sink::attempt(&*notifier, &message).await } },
            );
        }
        let mut tried = tries.join_all().await;
        tried.sort_by_key(|tried| tried.sink);
        tried
    }

    /// Looks no more, lets tries under way end within a few seconds, and keeps what is still owed.
    pub async fn shutdown(&self) {
        let (done, ended) = oneshot::channel();
        self.order(Order::Stop(done)).await;
        drop(ended.await);
    }

    async fn order(&self, order: Order) {
        let orders = self.inner.orders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(orders) = orders {
            // A watcher that is gone has nothing to do any more.
            drop(orders.send(order).await);
        }
    }
}

impl Inner {
    fn new_id(&self) -> NoticeId {
        let drawn = self.parts.entropy.bytes();
        NoticeId(u128::from_le_bytes(std::array::from_fn(|index| drawn[index])))
    }
}
