//! What a login was at each moment of the past: recorded facts, and one pure function from them to
//! what is drawn.
//!
//! Three things are recorded, each where it costs nothing: the record of a login carries the
//! [`History`] of its access tokens, written with the tokens themselves; the daemon notes when it
//! [`Runs`]; and the journal has the attempts. A healthy login adds nothing to its history, however
//! often it is refreshed, so a week of it is a few stretches.

mod history;
mod record;
mod runs;

use std::time::Duration;

use serde::Serialize;

pub use history::{History, Holding, STRETCHES_KEPT, Stretch};
pub use record::Parting;
pub use runs::{RUNS_KEPT, Run, Runs};

use crate::health::Reason;
use crate::ids::ServerName;
use crate::time::Timestamp;

/// How far back a timeline can reach; what is older is forgotten.
pub const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a login was for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A usable access token was at hand.
    Valid,
    /// Logged in, but the access token had ended: requests would have failed.
    Lapsed,
    /// There was no login.
    LoggedOut,
    /// Its server was switched off, so nobody wanted a token.
    Disabled,
    /// The daemon did not run, or the machine slept.
    Off,
    /// Nothing is recorded; or the daemon was killed, and may have run for up to a minute more.
    Unknown,
}

impl State {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Lapsed => "lapsed",
            Self::LoggedOut => "logged_out",
            Self::Disabled => "disabled",
            Self::Off => "off",
            Self::Unknown => "unknown",
        }
    }
}

/// One state, as long as it lasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first moment.
    pub from: Timestamp,
    /// The first moment after it.
    pub to: Timestamp,
    /// What the login was.
    pub state: State,
}

/// A time in which no attempt succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When the first attempt that failed began.
    pub from: Timestamp,
    /// When it was over, or the daemon ended; `None` while it lasts.
    pub to: Option<Timestamp>,
    /// Why the attempts failed.
    pub reason: Reason,
}

/// How an attempt ended, as far as a timeline is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// New tokens are at hand.
    Succeeded,
    /// Its answer was of no use to anybody: it says nothing about the provider.
    Discarded,
    /// It failed, for this reason.
    Failed(Reason),
}

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// When it began.
    pub at: Timestamp,
    /// How long its request took.
    pub duration: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

impl Tried {
    fn ended_at(&self) -> Timestamp {
        self.at.after(self.duration)
    }
}

/// What is recorded of one login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its access tokens.
    pub history: History,
    /// When the daemon ran.
    pub runs: Runs,
    /// Which server it is of: it may have been switched off.
    pub server: Option<ServerName>,
    /// The attempts that are kept, in any order.
    pub attempts: Vec<Tried>,
}

impl Facts {
    /// The states from `from` to `to`: contiguous, in order, and without a gap.
    pub fn spans(&self, from: Timestamp, to: Timestamp) -> Vec<Span> {
        if from >= to {
            return Vec::new();
        }
        let runs = self.proven_runs();
        let changes = self.history.changes().chain(runs.changes());
        let mut moments: Vec<Timestamp> = changes.filter(|at| (from..to).contains(at)).chain([from, to]).collect();
        moments.sort_unstable();
        moments.dedup();
        let mut spans: Vec<Span> = Vec::new();
        for (&from, &to) in moments.iter().zip(moments.iter().skip(1)) {
            let state = self.state_at(&runs, from);
            match spans.last_mut() {
                Some(last) if last.state == state => last.to = to,
                Some(_) | None => spans.push(Span { from, to, state }),
            }
        }
        spans
    }

    /// When the daemon ran, also where only its attempts show that.
    fn proven_runs(&self) -> Runs {
        let mut runs = self.runs.clone();
        let mut ends: Vec<Timestamp> = self.attempts.iter().map(Tried::ended_at).collect();
        ends.sort_unstable();
        ends.into_iter().for_each(|end| runs.prove(end));
        runs
    }

    fn state_at(&self, runs: &Runs, at: Timestamp) -> State {
        if runs.begin().is_none_or(|begin| at < begin) {
            return State::Unknown;
        }
        if !runs.ran_at(at) {
            return if runs.may_have_run_at(at) { State::Unknown } else { State::Off };
        }
        if self.server.as_ref().is_some_and(|server| runs.had_disabled_at(server, at)) {
            return State::Disabled;
        }
        match self.history.holding_at(at) {
            None => State::Unknown,
            Some(Holding::Token { until }) if until.is_none_or(|until| at < until) => State::Valid,
            Some(Holding::Token { .. }) => State::Lapsed,
            Some(Holding::LoggedOut | Holding::Ended) => State::LoggedOut,
        }
    }

    /// The times between `from` and `to` in which no attempt succeeded, oldest first.
    pub fn outages(&self, from: Timestamp, to: Timestamp) -> Vec<Outage> {
        if from >= to {
            return Vec::new();
        }
        let runs = self.proven_runs();
        let mut attempts = self.attempts.clone();
        attempts.sort_by_key(|tried| (tried.at, tried.duration));
        let mut outages: Vec<Outage> = Vec::new();
        let mut failed_at = from;
        for tried in attempts.iter().filter(|tried| tried.at < to) {
            let lasting = outages.last_mut().filter(|outage| outage.to.is_none());
            let broken_off = lasting.as_ref().and_then(|_| self.broken_off(&runs, failed_at, tried.at));
            match (tried.outcome, lasting) {
                (Outcome::Discarded, _) | (Outcome::Succeeded, None) => {}
                (Outcome::Succeeded, Some(outage)) => outage.end(broken_off.unwrap_or_else(|| tried.ended_at())),
                (Outcome::Failed(reason), lasting) => {
                    failed_at = tried.at;
                    match lasting {
                        Some(outage) if outage.reason == reason && broken_off.is_none() => continue,
                        Some(outage) => outage.end(broken_off.unwrap_or(tried.at)),
                        None => {}
                    }
                    let free_from = outages.last().and_then(|outage| outage.to).unwrap_or(tried.at);
                    outages.push(Outage { from: tried.at.max(free_from), to: None, reason });
                }
            }
        }
        if let Some(outage) = outages.last_mut().filter(|outage| outage.to.is_none()) {
            let end = self.broken_off(&runs, failed_at, to);
            end.into_iter().for_each(|end| outage.end(end));
        }
        outages.retain(|outage| outage.to.is_none_or(|end| end > from));
        outages.into_iter().map(|outage| outage.clipped(from, to)).collect()
    }

    /// When an outage that was seen at `failed_at` ended without an attempt, before `to`: by a login,
    /// a logout, or the end of the daemon.
    fn broken_off(&self, runs: &Runs, failed_at: Timestamp, to: Timestamp) -> Option<Timestamp> {
        let by_person = self.history.by_person();
        by_person.chain(runs.ends()).filter(|at| (failed_at..to).contains(at)).min()
    }
}

impl Outage {
    /// Attempts do not overlap; where records say they do, outages still follow each other.
    fn end(&mut self, at: Timestamp) {
        self.to = Some(at.max(self.from));
    }

    fn clipped(self, from: Timestamp, to: Timestamp) -> Self {
        Self { from: self.from.clamp(from, to), to: self.to.map(|end| end.min(to)), ..self }
    }
}
