//! When the daemon ran.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::KEPT;
use crate::time::Timestamp;

/// Runs that are kept; the oldest go where a daemon is started and stopped all the time.
pub const RUNS_KEPT: usize = 256;

/// A daemon that was not seen for so long did not run: the machine slept.
const SLEEP: Duration = Duration::from_secs(60);

/// One time in which the daemon ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When it began, or the machine woke.
    pub started_at: Timestamp,
    /// When it was last seen.
    pub seen_at: Timestamp,
}

/// The times in which the daemon ran, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Runs(Vec<Run>);

impl Runs {
    /// The daemon begins.
    pub fn start(&mut self, now: Timestamp) {
        self.0.push(Run { started_at: now, seen_at: now });
        let horizon = now.before(KEPT);
        let too_old = self.0.iter().filter(|run| run.seen_at <= horizon).count().saturating_sub(1);
        let surplus = self.0.len().saturating_sub(RUNS_KEPT);
        self.0.drain(..too_old.max(surplus));
    }

    /// The daemon still runs. Where the clock went back, nothing is said of that time twice.
    pub fn see(&mut self, now: Timestamp) {
        match self.0.last_mut() {
            Some(run) if now.since(run.seen_at) <= SLEEP && now >= run.started_at => run.seen_at = run.seen_at.max(now),
            Some(_) | None => self.start(now),
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
        self.0.iter().any(|run| (run.started_at..run.seen_at).contains(&at))
    }

    /// Each moment at which it began or ended.
    pub(super) fn changes(&self) -> impl Iterator<Item = Timestamp> {
        self.0.iter().flat_map(|run| [run.started_at, run.seen_at])
    }

    pub(super) fn ends(&self) -> impl Iterator<Item = Timestamp> {
        self.0.iter().map(|run| run.seen_at)
    }
}

impl FromIterator<Run> for Runs {
    fn from_iter<T: IntoIterator<Item = Run>>(runs: T) -> Self {
        Self(runs.into_iter().collect())
    }
}
