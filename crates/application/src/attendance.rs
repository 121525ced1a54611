//! Notes when the daemon runs, and draws from that and what else is recorded the timeline of a login.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use everfresh_domain::timeline::{Facts, Outage, Outcome, Runs, Span, Tried};
use everfresh_domain::{GrantId, LoginEnd, Timestamp};
use tokio::task::JoinHandle;

use crate::access::Access;
use crate::app::{AppError, Application};
use crate::journal::{OLDER_KEPT, RECENT_KEPT};
use crate::ports::{Clock, JournalEntry, JournalOutcome, TokenStore};

/// How often a running daemon looks whether the machine slept.
const LOOK: Duration = Duration::from_secs(10);

/// How often it is stored that the daemon runs: so much of a run is lost where it is killed.
const LOOKS_PER_WRITE: u32 = 6;

/// Attempts that a timeline is drawn from: all that a journal has.
const ATTEMPTS: usize = 2 * (RECENT_KEPT + OLDER_KEPT);

/// The past of one login.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// Its first moment.
    pub from: Timestamp,
    /// Its last one: the moment of asking.
    pub to: Timestamp,
    /// What the login was, without a gap.
    pub spans: Vec<Span>,
    /// When no attempt succeeded.
    pub outages: Vec<Outage>,
    /// The attempts that are kept, oldest first.
    pub attempts: Vec<Attempted>,
}

/// One attempt of a timeline.
#[derive(Clone, Debug)]
pub struct Attempted {
    /// When it began, how long it took, and how it ended.
    pub tried: Tried,
    /// How it ended, as journals name it.
    pub result: &'static str,
}

/// When this daemon and those before it ran.
pub(crate) struct Attendance {
    store: Arc<dyn TokenStore>,
    clock: Arc<dyn Clock>,
    /// Which servers are switched off.
    access: Access,
    /// Nothing in a process that is no daemon.
    attending: Mutex<Option<Attending>>,
}

struct Attending {
    runs: Runs,
    task: JoinHandle<()>,
}

impl Attendance {
    pub(crate) fn new(store: Arc<dyn TokenStore>, clock: Arc<dyn Clock>, access: Access) -> Self {
        Self { store, clock, access, attending: Mutex::default() }
    }

    /// The runs up to `now`.
    async fn runs(&self, now: Timestamp) -> Runs {
        match self.seen(now) {
            Some(runs) => runs,
            None => self.stored().await,
        }
    }

    /// What cannot be read is not known; that is no reason for anything to fail.
    async fn stored(&self) -> Runs {
        self.store.runs().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "when everfresh ran before is not known");
            Runs::default()
        })
    }

    /// Notes that this daemon runs, and which servers are switched off; nothing in a process that is
    /// none.
    fn seen(&self, now: Timestamp) -> Option<Runs> {
        let routes = self.access.routes();
        let off = routes.iter().filter(|route| !route.settings.enabled).map(|route| route.grant.server.clone());
        let mut attending = self.attending.lock().unwrap_or_else(PoisonError::into_inner);
        attending.as_mut().map(|attending| {
            attending.runs.switch(now, off.collect());
            attending.runs.clone()
        })
    }

    /// Looks at once, since servers may have been switched on or off.
    pub(crate) fn look(&self) {
        drop(self.seen(self.clock.now()));
    }

    async fn write(&self) {
        if let Some(runs) = self.seen(self.clock.now()) {
            self.put(&runs).await;
        }
    }

    async fn put(&self, runs: &Runs) {
        if let Err(error) = self.store.put_runs(runs).await {
            tracing::debug!(%error, "that everfresh runs could not be noted");
        }
    }

    /// Goes on until there is nobody any more who attends.
    async fn attend(attendance: Weak<Self>) {
        for look in 0_u32.. {
            let Some(attendance) = attendance.upgrade() else { return };
            if look.is_multiple_of(LOOKS_PER_WRITE) {
                attendance.write().await;
            } else {
                attendance.look();
            }
            drop(attendance);
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn begin(self: &Arc<Self>) {
        let mut runs = self.stored().await;
        runs.start(self.clock.now());
        let mut attending = self.attending.lock().unwrap_or_else(PoisonError::into_inner);
        if attending.is_none() {
            *attending = Some(Attending { runs, task: tokio::spawn(Self::attend(Arc::downgrade(self))) });
        }
    }

    /// Notes that the daemon ends.
    pub(crate) async fn end(&self) {
        let attending = self.attending.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Attending { mut runs, task }) = attending else { return };
        task.abort();
        runs.end(self.clock.now());
        self.put(&runs).await;
    }
}

impl Application {
    /// From this moment on the daemon runs, and notes that it does. Without this, what is done here is
    /// done while no daemon runs.
    pub async fn attend(&self) {
        self.attendance().begin().await;
    }

    /// The past of a login, so far back from this moment.
    pub async fn timeline(&self, grant: &GrantId, back: Duration) -> Result<Timeline, AppError> {
        let entries = self.journal(grant, ATTEMPTS).await?;
        // Of what cannot be read nothing is known: that is not the same as not logged in.
        let history = self.past(grant).await.unwrap_or_default();
        let to = self.now();
        let from = to.before(back);
        let runs = self.attendance().runs(to).await;
        let attempts: Vec<Attempted> = entries.iter().map(Attempted::from).collect();
        let tried = attempts.iter().map(|attempt| attempt.tried).collect();
        let facts = Facts { history, runs, server: Some(grant.server.clone()), attempts: tried };
        let within = |attempt: &Attempted| (from..=to).contains(&attempt.tried.at);
        let mut shown: Vec<Attempted> = attempts.into_iter().filter(within).collect();
        shown.sort_by_key(|attempt| attempt.tried.at);
        Ok(Timeline { from, to, spans: facts.spans(from, to), outages: facts.outages(from, to), attempts: shown })
    }
}

impl From<&JournalEntry> for Attempted {
    fn from(entry: &JournalEntry) -> Self {
        let outcome = match &entry.outcome {
            JournalOutcome::Refreshed { .. } | JournalOutcome::Adopted => Outcome::Succeeded,
            JournalOutcome::Discarded => Outcome::Discarded,
            JournalOutcome::Failed { failure, ended } => {
                Outcome::Failed(ended.as_ref().map_or_else(|| failure.class.reason(), LoginEnd::reason))
            }
        };
        let tried = Tried { at: entry.started_at, duration: entry.duration, outcome };
        Self { tried, result: entry.outcome.as_str() }
    }
}
