//! When the daemon ran.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::KEPT;
use crate::ids::ServerName;
use crate::time::Timestamp;

/// Runs that are kept; the oldest go where a daemon is started and stopped all the time.
pub const RUNS_KEPT: usize = 256;

/// A daemon that was not seen for so long did not run: the machine slept. So long it may also have run
/// after it was last seen, where nobody saw it end.
const UNSEEN: Duration = Duration::from_secs(60);

/// One time in which the daemon ran, with the same servers switched on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When it began, or the machine woke, or a server was switched.
    pub started_at: Timestamp,
    /// When it was last seen.
    pub seen_at: Timestamp,
    /// Whether nobody saw it end: it goes on, or was killed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
    /// The servers that were switched off.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub disabled: BTreeSet<ServerName>,
}

impl Run {
    /// One that was seen to end, with every server on.
    pub const fn between(started_at: Timestamp, seen_at: Timestamp) -> Self {
        Self { started_at, seen_at, open: false, disabled: BTreeSet::new() }
    }

    fn covers(&self, at: Timestamp) -> bool {
        (self.started_at..self.seen_at).contains(&at)
    }

    /// From when on nothing is known of it, and until when.
    fn unseen(&self) -> Option<Range<Timestamp>> {
        self.open.then(|| self.seen_at..self.seen_at.after(UNSEEN))
    }
}

/// The times in which the daemon ran, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Runs(Vec<Run>);

impl Runs {
    /// The daemon begins.
    pub fn start(&mut self, now: Timestamp) {
        self.push(now, BTreeSet::new());
    }

    fn push(&mut self, now: Timestamp, disabled: BTreeSet<ServerName>) {
        self.0.push(Run { started_at: now, seen_at: now, open: true, disabled });
        let horizon = now.before(KEPT);
        let too_old = self.0.iter().filter(|run| run.seen_at <= horizon).count().saturating_sub(1);
        let surplus = self.0.len().saturating_sub(RUNS_KEPT);
        self.0.drain(..too_old.max(surplus));
    }

    /// The daemon still runs. Where the clock went back, nothing is said of that time twice.
    pub fn see(&mut self, now: Timestamp) {
        match self.0.last_mut() {
            Some(run) if now.since(run.seen_at) <= UNSEEN && now >= run.started_at => {
                run.seen_at = run.seen_at.max(now);
            }
            Some(run) => {
                run.open = false;
                let disabled = run.disabled.clone();
                self.push(now, disabled);
            }
            None => self.start(now),
        }
    }

    /// The daemon still runs, and from `now` on these servers, and no others, are switched off.
    pub fn switch(&mut self, now: Timestamp, disabled: BTreeSet<ServerName>) {
        self.see(now);
        match self.0.last_mut() {
            Some(run) if run.disabled == disabled => {}
            Some(run) if run.started_at >= now => run.disabled = disabled,
            Some(run) => {
                run.open = false;
                self.push(now, disabled);
            }
            None => {}
        }
    }

    /// The daemon ends.
    pub fn end(&mut self, now: Timestamp) {
        self.see(now);
        if let Some(run) = self.0.last_mut() {
            run.open = false;
        }
    }

    /// It ran at `at`, as something else shows: one that was killed is seen until then.
    pub(super) fn prove(&mut self, at: Timestamp) {
        if self.ran_at(at) {
            return;
        }
        let killed = self.0.iter_mut().filter(|run| run.unseen().is_some_and(|unseen| unseen.contains(&at)));
        if let Some(run) = killed.max_by_key(|run| (run.seen_at, run.started_at)) {
            run.seen_at = at;
        }
    }

    /// The runs, oldest first.
    pub fn runs(&self) -> &[Run] {
        &self.0
    }

    pub(super) fn begin(&self) -> Option<Timestamp> {
        self.0.iter().map(|run| run.started_at).min()
    }

    pub(super) fn ran_at(&self, at: Timestamp) -> bool {
        self.0.iter().any(|run| run.covers(at))
    }

    /// Whether it may have run at `at`, and was killed before anybody saw it.
    pub(super) fn may_have_run_at(&self, at: Timestamp) -> bool {
        self.0.iter().filter_map(Run::unseen).any(|unseen| unseen.contains(&at))
    }

    /// Whether it ran at `at` with `server` switched off.
    pub(super) fn had_disabled_at(&self, server: &ServerName, at: Timestamp) -> bool {
        self.0.iter().any(|run| run.covers(at) && run.disabled.contains(server))
    }

    /// Each moment at which it began or ended, or a server was switched.
    pub(super) fn changes(&self) -> impl Iterator<Item = Timestamp> {
        let unseen = self.0.iter().filter_map(Run::unseen).map(|unseen| unseen.end);
        self.0.iter().flat_map(|run| [run.started_at, run.seen_at]).chain(unseen)
    }

    /// When it ended. Where a server was switched it went on.
    pub(super) fn ends(&self) -> impl Iterator<Item = Timestamp> {
        let goes_on = |run: &Run| self.0.iter().any(|next| next.started_at == run.seen_at);
        self.0.iter().filter(move |run| !goes_on(run)).map(|run| run.seen_at)
    }
}

impl FromIterator<Run> for Runs {
    fn from_iter<T: IntoIterator<Item = Run>>(runs: T) -> Self {
        Self(runs.into_iter().collect())
    }
}
